package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// keptBackups is how many backups of a file stay beside it.
	keptBackups = 3
	// maxAttempts is how often an edit begins again because somebody else has changed the file.
	maxAttempts = 5
	// staleLock is the age at which a lock counts as left behind, as with proper-lockfile, the
	// library that Claude Code uses.
	staleLock = 10 * time.Second
	// lockPoll is how long to wait between two looks at a lock.
	lockPoll = 50 * time.Millisecond
)

// BusyError says that the host changes its file all the time, or holds its lock.
type BusyError struct {
	// Path is the file.
	Path string
	// Text says what was seen.
	Text string
}

// Error returns the file and the text.
func (e *BusyError) Error() string { return e.Path + ": " + e.Text }

// ReadOnlyError says that a file, or its folder, is not meant to be written.
type ReadOnlyError struct {
	// Path is where the host looks, and Target the file that it leads to.
	Path, Target string
	// Err is what the system says. It is nil if the mode of the file says it.
	Err error
}

// Error returns the file, and what the system says.
func (e *ReadOnlyError) Error() string {
	text := e.Target + " is read-only"
	if e.Path != e.Target {
		text += ", to which " + e.Path + " is a link"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns what the system says.
func (e *ReadOnlyError) Unwrap() error { return e.Err }

// configFile is a host's file.
type configFile struct {
	// path is where the host looks for it, and target is what that leads to through links.
	path, target string
	// lock is the directory that keeps the host from writing. It is empty if the host takes none.
	lock string
	// mode is that of a file that is made anew, and dirMode that of its directories.
	mode, dirMode fs.FileMode
}

// openFile follows the links at path. Nothing needs to be there.
func openFile(path, lockSuffix string, scope Scope) (configFile, error) {
	f := configFile{path: path, target: path, mode: 0o600, dirMode: 0o700}
	if scope == Project {
		f.mode, f.dirMode = 0o644, 0o755
	}
	if lockSuffix != "" {
		f.lock = path + lockSuffix
	}
	for range 40 {
		link, err := os.Readlink(f.target)
		if err != nil {
			return f, nil // no link, or nothing
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(f.target), link)
		}
		f.target = link
	}
	return f, &SyntaxError{Path: path, Text: "its symbolic links lead in a circle"}
}

// read returns the text of the file. It is nil if the file does not exist.
func (f configFile) read() ([]byte, error) {
	text, err := os.ReadFile(f.target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && text == nil {
		text = []byte{}
	}
	return text, err
}

// Edited is what became of a file.
type Edited struct {
	// Old is the text before, and New the text now. A nil one is no file.
	Old, New []byte
	// Backup is the path of the copy of Old. It is empty if there was no file, or no change.
	Backup string
}

// edit replaces the text by what the function makes of it, unless that is the same. If somebody
// else changes the file meanwhile, it begins again with the new text. With dryRun, nothing is
// written.
func (f configFile) edit(ctx context.Context, dryRun bool, change func(old []byte) ([]byte, error)) (Edited, error) {
	if !dryRun {
		if err := f.prepare(); err != nil {
			return Edited{}, err
		}
		unlock, err := f.takeLock(ctx)
		if err != nil {
			return Edited{}, err
		}
		defer unlock()
	}
	for range maxAttempts {
		old, err := f.read()
		if err != nil {
			return Edited{}, err
		}
		edited := Edited{Old: old}
		if edited.New, err = change(old); err != nil {
			return Edited{}, err
		}
		if dryRun || bytes.Equal(edited.Old, edited.New) && (old == nil) == (edited.New == nil) {
			return edited, nil
		}
		done, err := f.replace(&edited)
		if err != nil || done {
			return edited, err
		}
	}
	return Edited{}, &BusyError{Path: f.path, Text: "another program changes it all the time"}
}

// prepare makes the directory, and returns a *ReadOnlyError if the file must not be replaced. A
// rename would not ask: only the directory needs to be writable.
func (f configFile) prepare() error {
	if fi, err := os.Stat(f.target); err == nil && fi.Mode().Perm()&0o200 == 0 {
		return &ReadOnlyError{Path: f.path, Target: f.target}
	}
	err := os.MkdirAll(filepath.Dir(f.target), f.dirMode)
	var probe *os.File
	if err == nil {
		probe, err = os.CreateTemp(filepath.Dir(f.target), "."+filepath.Base(f.target)+".sallyport-*")
	}
	if err == nil {
		return errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if errors.Is(err, fs.ErrPermission) || isReadOnly(err) {
		return &ReadOnlyError{Path: f.path, Target: f.target, Err: err}
	}
	return err
}

// replace writes the new text in place of the old one. It returns false if the file has changed
// since it was read.
func (f configFile) replace(edited *Edited) (bool, error) {
	temp, err := f.write(edited.New)
	if err != nil {
		return false, err
	}
	if temp != "" {
		defer os.Remove(temp) // gone already if all went well
	}
	if edited.Old != nil {
		if edited.Backup, err = f.backUp(edited.Old); err != nil {
			return false, err
		}
	}
	now, err := f.read()
	if err != nil {
		return false, err
	}
	if !bytes.Equal(now, edited.Old) || (now == nil) != (edited.Old == nil) {
		if edited.Backup != "" {
			os.Remove(edited.Backup)
		}
		return false, nil
	}
	if temp == "" {
		err = os.Remove(f.target)
	} else {
		err = os.Rename(temp, f.target)
	}
	return err == nil, err
}

// write puts text into a new file beside the target, with its mode and owner. A nil text is none.
func (f configFile) write(text []byte) (temp string, err error) {
	if text == nil {
		return "", nil
	}
	file, err := os.CreateTemp(filepath.Dir(f.target), "."+filepath.Base(f.target)+".sallyport-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			os.Remove(file.Name())
		}
	}()
	mode := f.mode
	if fi, err := os.Stat(f.target); err == nil {
		mode = fi.Mode().Perm()
		if err := keepOwner(file, fi); err != nil {
			return "", err
		}
	}
	if err := os.Chmod(file.Name(), mode); err != nil {
		return "", err
	}
	if _, err := file.Write(text); err != nil {
		return "", err
	}
	return file.Name(), file.Sync()
}

// backUp copies the old text beside the target, and removes all but the newest copies.
func (f configFile) backUp(old []byte) (string, error) {
	dir, base := filepath.Split(f.target)
	prefix := base + ".sallyport-"
	copied := configFile{target: filepath.Join(dir, prefix+time.Now().UTC().Format("20060102-150405.000000")+".bak"), mode: 0o600}
	temp, err := copied.write(old)
	if err != nil {
		return "", err
	}
	if fi, err := os.Stat(f.target); err == nil {
		if err := os.Chmod(temp, fi.Mode().Perm()); err != nil {
			return "", err
		}
	}
	if err := os.Rename(temp, copied.target); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(filepath.Clean(dir + "."))
	if err != nil {
		return "", err
	}
	var backups []string
	for _, entry := range entries {
		if name := entry.Name(); strings.HasPrefix(name, prefix) && strings.HasSuffix(name, ".bak") {
			backups = append(backups, filepath.Join(dir, name))
		}
	}
	slices.Sort(backups) // the oldest first
	for len(backups) > keptBackups {
		os.Remove(backups[0]) // one that stays does no harm
		backups = backups[1:]
	}
	return copied.target, nil
}

// takeLock makes the directory of the host's lock. It waits for a host that holds it, and takes a
// lock that was left behind.
func (f configFile) takeLock(ctx context.Context) (unlock func(), err error) {
	if f.lock == "" {
		return func() {}, nil
	}
	deadline := time.Now().Add(staleLock + time.Second)
	for {
		err := os.Mkdir(f.lock, 0o700)
		if err == nil {
			return func() { os.Remove(f.lock) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if fi, err := os.Stat(f.lock); err == nil && time.Since(fi.ModTime()) > staleLock {
			os.Remove(f.lock) // another attempt follows, whoever has removed it
			continue
		}
		if time.Now().After(deadline) {
			return nil, &BusyError{Path: f.path, Text: fmt.Sprintf("the host holds its lock, %s", f.lock)}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lockPoll):
		}
	}
}
