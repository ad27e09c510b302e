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
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// lockWait is how long another process of ours may hold a known_hosts file. It does so for one
	// write; ssh itself takes no lock, so after that we do without as well.
	lockWait  = 5 * time.Second
	lockPause = 20 * time.Millisecond
)

var errLocked = errors.New("another process holds the lock")

// withKnownHostsLock runs f while no other process of ours writes in the directory of file. Where
// the system has no such lock (some network file systems), f runs without.
func withKnownHostsLock(ctx context.Context, file string, f func() error) error {
	timeout := time.NewTimer(lockWait)
	defer timeout.Stop()
	for {
		unlock, err := lockDir(filepath.Dir(file))
		if err == nil {
			defer unlock()
			return f()
		}
		if !errors.Is(err, errLocked) {
			return f()
		}
		select {
		case <-time.After(lockPause):
		case <-timeout.C:
			return f()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// knownHostLine is a line for known_hosts, with its newline. names are host names or addresses; hashed, each
// has a line of its own.
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

// appendKnownHost adds key for names to file as ssh does: the directory is made with mode 0700, the
// file with 0600, and a last line without a newline is ended first. One write, so that lines of
// other processes are not torn. Names that have the key by now are left out.
func appendKnownHost(ctx context.Context, file string, key ssh.PublicKey, hash bool, names ...string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return withKnownHostsLock(ctx, file, func() (err error) {
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
		if st.Mode().IsRegular() && st.Size() > 0 { // not /dev/null
			entries, err := readKnownHosts(file, f)
			if err != nil {
				return err
			}
			if names = unknownNames(entries, key, names); len(names) == 0 {
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

// unknownNames returns those of names under which no entry holds key.
func unknownNames(entries []knownEntry, key ssh.PublicKey, names []string) []string {
	var left []string
	for _, name := range names {
		known := false
		for i := range entries {
			e := &entries[i]
			known = known || e.marker == "" && SameKey(e.key, key) && e.matches(name)
		}
		if !known {
			left = append(left, name)
		}
	}
	return left
}

// replaceKnownHost makes keys the plain keys that file has for name and, unless it is "", for the
// address ip: what hostfile_replace_entries does. Lines of other names, markers, comments and lines that
// cannot be parsed stay as they are. The file is replaced as a whole, by one of mode 0600; the
// former one is kept as FILE.old.
func replaceKnownHost(ctx context.Context, file, name, ip string, keys []ssh.PublicKey, hash bool) error {
	// Many keep known_hosts as a link into another directory; ssh would put a file in place of the link.
	file, err := filepath.EvalSymlinks(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return withKnownHostsLock(ctx, file, func() error {
		old, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text, changed := replacedKnownHosts(string(old), name, ip, keys, hash)
		if !changed {
			return nil
		}
		return replaceFile(file, text)
	})
}

// replacedKnownHosts is the text of a known_hosts file after replaceKnownHost.
func replacedKnownHosts(old, name, ip string, keys []ssh.PublicKey, hash bool) (text string, changed bool) {
	var out strings.Builder
	hasName, hasIP := make([]bool, len(keys)), make([]bool, len(keys))
	for line := range strings.Lines(old) {
		keep := true
		if e, ok := parseKnownHost(line); ok && e.marker == "" {
			forName, forIP := e.matches(name), ip != "" && e.matches(ip)
			keep = !forName && !forIP
			for i, k := range keys {
				if (forName || forIP) && SameKey(k, e.key) {
					keep = true
					hasName[i], hasIP[i] = hasName[i] || forName, hasIP[i] || forIP
				}
			}
		}
		if !keep {
			changed = true
			continue
		}
		out.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	for i, k := range keys {
		var missing []string
		if !hasName[i] {
			missing = append(missing, name)
		}
		if ip != "" && !hasIP[i] {
			missing = append(missing, ip)
		}
		if len(missing) > 0 {
			changed = true
			out.WriteString(knownHostLine(k, hash, missing...))
		}
	}
	return out.String(), changed
}

// replaceFile puts text in the place of file at once, and keeps what was there as file.old.
func replaceFile(file, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".") // of mode 0600
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
