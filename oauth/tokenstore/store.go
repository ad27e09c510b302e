package tokenstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	sealedSuffix   = ".sealed" // of a value
	badSuffix      = ".bad"    // of a file that could not be read and is set aside
	lockSuffix     = ".lock"   // of an empty file; only the kernel's lock on it counts
	shortHashBytes = 12
	staleTemp      = time.Hour // age at which a temporary file is a crashed writer's
)

// Warnings that would come again and again, and are logged once.
const (
	notStored = "values cannot be stored, they are kept in memory only"
	notLocked = "token store cannot be locked"
)

// isOwnFile reports whether a name is that of one of our files with values, which is two short
// hashes with a hyphen between them, sealedSuffix, and maybe badSuffix or tempInfix and a number.
// The directory may hold files of others.
func isOwnFile(name string) bool {
	hashes, rest, ok := strings.Cut(name, sealedSuffix)
	group, value, both := strings.Cut(hashes, "-")
	if !ok || !both || !isShortHash(group) || !isShortHash(value) {
		return false
	}
	number, isTemp := strings.CutPrefix(rest, tempInfix)
	return rest == "" || rest == badSuffix || isTemp && number != "" && strings.Trim(number, "0123456789") == ""
}

// isShortHash reports whether text could have been returned by shortHash.
func isShortHash(text string) bool {
	return len(text) == hex.EncodedLen(shortHashBytes) && strings.Trim(text, "0123456789abcdef") == ""
}

// Store keeps values under names. Its methods may be called concurrently, and by several processes.
// It needs no Close. See the package comment for what becomes of trouble with the disk.
type Store struct {
	// dir is empty for a store that lives in memory.
	dir  string
	keys *keys
	log  *slog.Logger
	// onlyReads says that nothing on the disk is changed. Look sets it.
	onlyReads bool
	// broken says why a directory that was given is not used. It is nil if there is no such reason.
	broken atomic.Pointer[error]
	// warned has the texts of trouble that was logged and still lasts.
	warned sync.Map

	// mu guards what follows.
	mu sync.Mutex
	// mem holds the values that are not on the disk, by file name.
	mem map[string][]byte
	// unsaved says of values in mem why they could not be written.
	unsaved map[string]error
}

// Open opens the store in dir, and makes it if it is not there. The key lies in keyDir, and is made
// there, or in the keyring; Open waits for the keyring only where ring.Use is KeyInKeyring. A nil
// log discards.
//
// A directory or a key that others can use is not used: the store warns, and lives in memory. Open
// returns an error for an empty dir or keyDir, and a *KeyringError for a keyring that must be used
// and cannot.
func Open(dir, keyDir string, ring Keyring, log *slog.Logger) (*Store, error) {
	if dir == "" || keyDir == "" {
		return nil, errors.New("token store: no directory given")
	}
	if ring.Use == "" {
		ring.Use = KeyInFile
	}
	s := Memory(log)
	if err := s.openDirs(dir, keyDir); err != nil {
		s.giveUp(err)
		return s, nil
	}
	s.keys.ready = make(chan struct{})
	if ring.Use == KeyAuto && ring.Bus != "" {
		s.keys.addFromFile()
		go s.findKeys(ring) // ends within ring.Wait
		return s, nil
	}
	if err := s.findKeys(ring); err != nil {
		return nil, err
	}
	return s, nil
}

// Memory returns a store that writes nothing to the disk: its values end with the process. A nil
// log discards.
func Memory(log *slog.Logger) *Store {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ready := make(chan struct{})
	close(ready)
	return &Store{log: log, keys: &keys{log: log, ready: ready}, mem: make(map[string][]byte), unsaved: make(map[string]error)}
}

func (s *Store) openDirs(dir, keyDir string) (err error) {
	if dir, err = privateDir(dir); err != nil {
		return err
	}
	if keyDir, err = privateDir(keyDir); err != nil {
		return err
	}
	s.dir, s.keys.file = dir, filepath.Join(keyDir, keyName)
	return nil
}

// findKeys finds the keys, and then tidies the directory. Its error is a *KeyringError; after any
// other error the store lives in memory.
func (s *Store) findKeys(ring Keyring) error {
	defer close(s.keys.ready)
	lost, err := s.keys.search(ring)
	if e, ok := errors.AsType[*KeyringError](err); ok {
		return e
	}
	if err != nil {
		s.giveUp(err)
		return nil
	}
	s.sweep(lost)
	return nil
}

// giveUp makes the store live in memory.
func (s *Store) giveUp(err error) {
	s.broken.Store(&err)
	s.log.Warn("token store is not used, tokens are kept in memory only", "err", err)
}

// whyBroken returns why a directory that was given is not used, or nil.
func (s *Store) whyBroken() error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// warnOnce logs trouble that would be logged again and again.
func (s *Store) warnOnce(text string, err error) {
	if _, known := s.warned.Swap(text, true); !known {
		s.log.Warn(text, "err", err)
	}
}

// sweep removes what crashed writers left. With lost, the key of all older files is gone, and they
// are set aside.
func (s *Store) sweep(lost bool) {
	temps, _ := filepath.Glob(s.keys.file + tempInfix + "*")
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		switch {
		case !isOwnFile(e.Name()):
		case strings.Contains(e.Name(), tempInfix):
			temps = append(temps, path)
		case lost && strings.HasSuffix(e.Name(), sealedSuffix) && !s.sealedByRing(path):
			s.log.Warn("stored value is lost", "err", setAside(path, errors.New("its key is gone")))
		}
	}
	for _, t := range temps {
		if fi, err := os.Lstat(t); err == nil && time.Since(fi.ModTime()) > staleTemp {
			os.Remove(t)
		}
	}
}

// sealedByRing reports whether a file was sealed with the key that lies in the keyring.
func (s *Store) sealedByRing(path string) bool {
	sealed, err := readPrivate(path)
	return err == nil && s.keys.ofRing(sealed)
}

// fileName returns the name of the file for a value's name: a hash of the group, which is the part
// before the first slash, then a hash of the rest. So all files of one group can be found.
func fileName(name string) string {
	group, rest, _ := strings.Cut(name, "/")
	return shortHash(group) + "-" + shortHash(rest) + sealedSuffix
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:shortHashBytes])
}

// Pending reports whether the value of name cannot be read before the keyring answers. It does not
// wait.
func (s *Store) Pending(name string) bool {
	if s.keys.complete() {
		return false
	}
	sealed, err := readPrivate(filepath.Join(s.dir, fileName(name)))
	return err == nil && s.keys.of(sealed) == nil
}

// Await waits until the value of name can be read, or until ctx ends. The error is the cause of
// ctx's end.
func (s *Store) Await(ctx context.Context, name string) error {
	if !s.Pending(name) {
		return nil
	}
	select {
	case <-s.keys.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Load returns the value that was saved under name, or nil without an error if there is none. The
// error says why there is a value that is not used: the file is damaged, and is set aside, or it is
// not ours to read, and stays.
func (s *Store) Load(name string) ([]byte, error) {
	file := fileName(name)
	s.mu.Lock()
	b, ok := s.mem[file]
	s.mu.Unlock()
	if ok || s.dir == "" {
		return bytes.Clone(b), nil
	}
	b, err := s.read(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errOtherKey) && s.keys.sealing() == nil:
		return nil, nil
	case errors.Is(err, errDamaged) && s.onlyReads:
		return nil, fmt.Errorf("%s: %w", filepath.Join(s.dir, file), err)
	case errors.Is(err, errDamaged):
		return nil, setAside(filepath.Join(s.dir, file), err)
	}
	return b, err
}

// Values returns the values on the disk that were saved under a name without a slash. A file that
// cannot be read is left out, and named in the error, which comes beside the other values.
func (s *Store) Values() ([][]byte, error) {
	if s.dir == "" {
		return nil, s.whyBroken()
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var values [][]byte
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "-"+shortHash("")+sealedSuffix) || !isOwnFile(e.Name()) {
			continue
		}
		b, err := s.read(e.Name())
		if errors.Is(err, errDamaged) {
			err = fmt.Errorf("%s: %w", filepath.Join(s.dir, e.Name()), err)
		}
		switch {
		case err == nil:
			values = append(values, b)
		case !errors.Is(err, fs.ErrNotExist): // else another process has just removed it
			errs = append(errs, err)
		}
	}
	return values, errors.Join(errs...)
}

// read returns the value of a file. errDamaged or errOtherKey is beneath the error if it is one of
// these.
func (s *Store) read(file string) ([]byte, error) {
	path := filepath.Join(s.dir, file)
	sealed, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	b, err := s.keys.open(file, sealed)
	if err == errOtherKey {
		err = fmt.Errorf("%s: %w %s", path, err, s.keys.file)
	}
	return b, err
}

// Save puts b under name. The change is atomic, and on the disk when Save returns. A value that
// cannot be written stays in memory, and the log says so once; Unsaved says why. The error is
// always nil: Save has one to fit where a func(name string, b []byte) error is wanted.
func (s *Store) Save(name string, b []byte) error {
	file := fileName(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys.sealing(); k != nil && !s.onlyReads {
		err := s.write(k, file, b)
		if err == nil {
			delete(s.mem, file)
			delete(s.unsaved, file)
			s.warned.Delete(notStored)
			return nil
		}
		s.unsaved[file] = err
		s.warnOnce(notStored, err)
	}
	s.mem[file] = bytes.Clone(b)
	return nil
}

// write seals b into a file. A file that was sealed with a key that we do not have is left alone,
// unless that key is the keyring's: whoever reads the keyring's key has ours too.
func (s *Store) write(k *key, file string, b []byte) error {
	path := filepath.Join(s.dir, file)
	if _, err := s.read(file); errors.Is(err, errOtherKey) && !s.sealedByRing(path) {
		return err
	}
	return writeFile(path, k.seal(file, b))
}

// Unsaved returns why the value that was saved under name is in memory only. It returns nil if the
// value is on the disk, if there is none, and for a store that Memory made.
func (s *Store) Unsaved(name string) error {
	file := fileName(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.mem[file]; ok && s.unsaved[file] == nil {
		return s.whyBroken()
	}
	return s.unsaved[file]
}

// Forget removes the value of group, and all values of group + "/" + REST.
func (s *Store) Forget(group string) error { return s.remove(shortHash(group) + "-") }

// ForgetAll removes every value that the store holds, and the files that were set aside.
func (s *Store) ForgetAll() error { return s.remove("") }

// remove removes the files whose names begin with prefix, and their values in memory.
func (s *Store) remove(prefix string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for file := range s.mem {
		if strings.HasPrefix(file, prefix) {
			delete(s.mem, file)
			delete(s.unsaved, file)
		}
	}
	if s.dir == "" || s.onlyReads {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		n := e.Name()
		if strings.HasPrefix(n, prefix) && isOwnFile(n) {
			if err := os.Remove(filepath.Join(s.dir, n)); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	syncDir(s.dir)
	return errors.Join(errs...)
}
