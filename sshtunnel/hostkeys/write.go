package hostkeys

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// knownHostLine returns a line for known_hosts, with its newline. names are host names or
// addresses. If they are hashed, each has a line of its own.
func knownHostLine(key ssh.PublicKey, hash bool, names ...string) string {
	text := string(ssh.MarshalAuthorizedKey(key))
	if !hash {
		return strings.Join(names, ",") + " " + text
	}
	var lines string
	for _, name := range names {
		salt := make([]byte, sha1.Size)
		rand.Read(salt)
		lines += hashedName(salt, name) + " " + text
	}
	return lines
}

// appendKnownHost adds key for names to file as ssh does. It makes the directory with mode 0700 and
// the file with 0600, and ends a last line that has no newline. Names that have the key by now are
// left out. All is one write, so that lines of other processes are not torn.
func appendKnownHost(ctx context.Context, file string, key ssh.PublicKey, hash bool, names ...string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return withLock(ctx, file, func() (err error) {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		var text string
		if st.Mode().IsRegular() && st.Size() > 0 { // it may also be /dev/null
			entries, err := readKnownHosts(file, SourceUserFile, f)
			if err != nil {
				return err
			}
			if names = namesWithout(entries, key, names); len(names) == 0 {
				return nil
			}
			last := make([]byte, 1)
			if _, err := f.ReadAt(last, st.Size()-1); err == nil && last[0] != '\n' {
				text = "\n"
			}
		}
		_, err = f.WriteString(text + knownHostLine(key, hash, names...))
		return err
	})
}

// namesWithout returns those of names under which no line holds key.
func namesWithout(entries []knownEntry, key ssh.PublicKey, names []string) []string {
	var without []string
	for _, name := range names {
		known := false
		for i := range entries {
			e := &entries[i]
			known = known || e.marker == "" && SameKey(e.key, key) && e.matches(name)
		}
		if !known {
			without = append(without, name)
		}
	}
	return without
}

// replacement says which plain keys a file is to hold for a host.
type replacement struct {
	// name and address are the host's names in known_hosts. An address of "" is none.
	name, address string
	keys          []ssh.PublicKey
	// hash says that new names are hashed.
	hash bool
}

// replaceKnownHost makes r.keys the plain keys that file holds for the host
// (hostfile_replace_entries of OpenSSH). Lines of other names, lines with markers, comments and
// lines that cannot be parsed stay as they are. The file is replaced as a whole, by one of mode
// 0600. The former one stays as FILE.old. A missing file stays missing.
func replaceKnownHost(ctx context.Context, file string, r replacement) error {
	// Many people have known_hosts as a symbolic link into another directory. ssh would put a file
	// in the place of the link.
	file, err := filepath.EvalSymlinks(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return withLock(ctx, file, func() error {
		old, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text, changed := r.apply(string(old))
		if !changed {
			return nil
		}
		return replaceFile(file, text)
	})
}

// apply returns the text of a known_hosts file after the replacement.
func (r *replacement) apply(old string) (text string, changed bool) {
	var out strings.Builder
	hasName, hasAddress := make([]bool, len(r.keys)), make([]bool, len(r.keys))
	for line := range strings.Lines(old) {
		keep := true
		if e, ok := parseKnownHost(line); ok && e.marker == "" {
			forName, forAddress := e.matches(r.name), r.address != "" && e.matches(r.address)
			keep = !forName && !forAddress
			if i := indexOf(r.keys, e.key); i >= 0 && !keep {
				keep = true
				hasName[i], hasAddress[i] = hasName[i] || forName, hasAddress[i] || forAddress
			}
		}
		if !keep {
			changed = true
			continue
		}
		out.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	for i, k := range r.keys {
		var missing []string
		if !hasName[i] {
			missing = append(missing, r.name)
		}
		if r.address != "" && !hasAddress[i] {
			missing = append(missing, r.address)
		}
		if len(missing) > 0 {
			changed = true
			out.WriteString(knownHostLine(k, r.hash, missing...))
		}
	}
	return out.String(), changed
}

// replaceFile puts text in the place of file in one step. What was there stays as file.old.
func replaceFile(file, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.WriteString(text); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	backup := file + ".old"
	if err = os.Remove(backup); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backup: %w", err)
	}
	if err = os.Link(file, backup); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return os.Rename(f.Name(), file)
}
