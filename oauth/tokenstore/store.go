package tokenstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	sealedSuffix = ".sealed" // sealedMagic, key ID, nonce, AES-256-GCM of the value; the file's name is authenticated with it
	badSuffix    = ".bad"    // a file that could not be read, set aside
	lockSuffix   = ".lock"   // empty; only the kernel's lock on it counts
	sealedMagic  = "sallyport2\n"
	staleTemp    = time.Hour // age at which a temporary file is a crashed writer's
)

// owned matches the names of our files with values; the directory may hold others'.
var owned = regexp.MustCompile(`^[0-9a-f]{24}-[0-9a-f]{24}\.sealed(\.bad|\.tmp-[0-9]+)?$`)

var (
	errDamaged  = errors.New("damaged, or none of the token store's files")
	errOtherKey = errors.New("sealed with another key than")
)

// Store keeps tokens, client registrations and other small values between runs: one
// AES-256-GCM file each, mode 0600. The key lies in the keyring or another directory, so
// that a copy of one alone says nothing.
//
// Trouble with the disk is never fatal: it is warned about, and values are then held
// in memory only. A damaged file is set aside (*.bad), all files if the key was lost.
// A file sealed with another key, that of another configuration directory, is neither
// used nor replaced. Methods may be called concurrently, by several processes too.
type Store struct {
	dir     string // "" memory only
	keyFile string
	log     *slog.Logger

	known atomic.Pointer[[]storeKey] // what was sealed with any of them can be read, the first seals; nil: none yet
	ready chan struct{}              // closed once the keyring has answered, or will not: no key comes later

	broken atomic.Pointer[error] // why dir is not used; nil: it is, or none was given
	warned sync.Map              // texts of trouble that lasts

	mu      sync.Mutex
	mem     map[string][]byte // by file name: values that could not be written
	unsaved map[string]error  // why
}

// Open opens (and makes) the store in dir; the key lies in keyDir (and is made
// there) or in the keyring, which is waited for only where a value needs it. A
// directory that others own or can write to and a key that others can read are not used:
// the Store warns and lives in memory. The error is for an empty dir or keyDir, and a
// KeyringError for a keyring that must be used and cannot.
func Open(dir, keyDir string, ring Keyring, log *slog.Logger) (*Store, error) {
	if dir == "" || keyDir == "" {
		return nil, errors.New("token store: no directory given")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if ring.Use == "" {
		ring.Use = KeyInFile
	}
	s := Memory(log)
	if err := s.open(dir, keyDir); err != nil {
		s.unused(err)
		return s, nil
	}
	s.ready = make(chan struct{})
	settle := func() error {
		defer close(s.ready)
		lost, err := s.settle(ring)
		if _, ok := errors.AsType[*KeyringError](err); err != nil && !ok {
			s.unused(err)
		} else if err == nil {
			s.sweep(lost)
		}
		return err
	}
	if ring.Use == KeyAuto && ring.Bus != "" {
		if key, err := readPrivate(s.keyFile); err == nil && len(key) == keyLen {
			s.know(key)
		}
		go settle() // ends within ring.Wait
		return s, nil
	}
	if e, ok := errors.AsType[*KeyringError](settle()); ok {
		return nil, e
	}
	return s, nil
}

// Memory returns a store that writes nothing to the disk: its values end with the process. A nil log
// discards what the store has to say.
func Memory(log *slog.Logger) *Store {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ready := make(chan struct{})
	close(ready)
	return &Store{log: log, mem: make(map[string][]byte), unsaved: make(map[string]error), ready: ready}
}

func (s *Store) unused(err error) {
	s.broken.Store(&err)
	s.log.Warn("token store is not used, tokens are kept in memory only", "err", err)
}

// why says why a directory that was given is not used; nil if it is.
func (s *Store) why() error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Store) open(dir, keyDir string) (err error) {
	if dir, err = privateDir(dir); err != nil {
		return err
	}
	if keyDir, err = privateDir(keyDir); err != nil {
		return err
	}
	s.dir, s.keyFile = dir, filepath.Join(keyDir, keyName)
	return nil
}

// Pending reports whether the value of name cannot be read before the keyring answers. It does not
// wait.
func (s *Store) Pending(name string) bool {
	select {
	case <-s.ready:
		return false
	default:
	}
	sealed, err := readPrivate(filepath.Join(s.dir, fileName(name)))
	return err == nil && s.keyOf(sealed) == nil
}

// Await waits until the value of name can be read, or until ctx ends. The error is the cause of
// ctx's end.
func (s *Store) Await(ctx context.Context, name string) error {
	if !s.Pending(name) {
		return nil
	}
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sealing returns the key to seal with, waiting for the keyring if there is none yet; nil: memory only.
func (s *Store) sealing() *storeKey {
	if known := s.known.Load(); known != nil {
		return &(*known)[0]
	}
	<-s.ready
	if known := s.known.Load(); known != nil {
		return &(*known)[0]
	}
	return nil
}

// keyOf returns the known key that sealed carries the ID of; nil: none.
func (s *Store) keyOf(sealed []byte) *storeKey {
	rest, ok := bytes.CutPrefix(sealed, []byte(sealedMagic))
	if known := s.known.Load(); ok && known != nil {
		for _, k := range *known {
			if bytes.HasPrefix(rest, k.id) {
				return &k
			}
		}
	}
	return nil
}

// sweep removes what crashed writers left. lost: the key of all older files is gone,
// they are set aside.
func (s *Store) sweep(lost bool) {
	temps, _ := filepath.Glob(s.keyFile + tempInfix + "*")
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		switch {
		case !owned.MatchString(e.Name()):
		case strings.Contains(e.Name(), tempInfix):
			temps = append(temps, path)
		case lost && strings.HasSuffix(e.Name(), sealedSuffix) && !s.inKeyring(path):
			s.log.Warn("stored value is lost", "err", setAside(path, errors.New("its key is gone")))
		}
	}
	for _, t := range temps {
		if fi, err := os.Lstat(t); err == nil && time.Since(fi.ModTime()) > staleTemp {
			os.Remove(t)
		}
	}
}

// inKeyring reports whether a file was sealed with the key that lies in the keyring.
func (s *Store) inKeyring(path string) bool {
	sealed, _ := readPrivate(path)
	id, ok := bytes.CutPrefix(sealed, []byte(sealedMagic))
	marked := s.marked()
	return ok && marked != nil && bytes.HasPrefix(id, marked)
}

// fileName hashes name: the part before the first slash, then the rest, so that all of
// one key can be found.
func fileName(name string) string {
	key, rest, _ := strings.Cut(name, "/")
	return shortHash(key) + "-" + shortHash(rest) + sealedSuffix
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:12])
}

// Load returns the value saved under name, nil without an error if there is none. The
// error says why there is one that is not used: a damaged file, which is set aside, or
// one that is not ours to read, which stays.
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
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errOtherKey) && s.sealing() == nil:
		return nil, nil
	case errors.Is(err, errDamaged):
		return nil, setAside(filepath.Join(s.dir, file), err)
	}
	return b, err
}

// Values returns the values on the disk that were saved under a name without a slash. A file that
// cannot be read is left out, and named in the error, which comes beside the other values.
func (s *Store) Values() ([][]byte, error) {
	if s.dir == "" {
		return nil, s.why()
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var values [][]byte
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "-"+shortHash("")+sealedSuffix) || !owned.MatchString(e.Name()) {
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

// Save puts b under name: atomic, and on the disk when it returns. If it cannot be
// written, it is warned about and held in memory.
func (s *Store) Save(name string, b []byte) error {
	file := fileName(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.sealing(); k != nil {
		_, err := s.read(file)
		// It is as good where that key is as ours is here; only the keyring's, when it answers again,
		// comes together with ours.
		if !errors.Is(err, errOtherKey) || s.inKeyring(filepath.Join(s.dir, file)) {
			err = writeFile(filepath.Join(s.dir, file), k.seal(file, b))
		}
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

// Unsaved says why the value that was saved under name is in memory only: nil if it is
// on the disk, if there is none, or if memory was asked for.
func (s *Store) Unsaved(name string) error {
	file := fileName(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.mem[file]; ok && s.unsaved[file] == nil {
		return s.why()
	}
	return s.unsaved[file]
}

const (
	notStored = "values cannot be stored, they are kept in memory only"
	notLocked = "token store cannot be locked"
)

// warnOnce warns of trouble that would be told of again and again.
func (s *Store) warnOnce(text string, err error) {
	if _, known := s.warned.Swap(text, true); !known {
		s.log.Warn(text, "err", err)
	}
}

// Forget removes the value of key and all values of key + "/" + NAME.
func (s *Store) Forget(key string) error { return s.remove(shortHash(key) + "-") }

// ForgetAll removes every value that the store holds, set-aside files included.
func (s *Store) ForgetAll() error { return s.remove("") }

func (s *Store) remove(prefix string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for file := range s.mem {
		if strings.HasPrefix(file, prefix) {
			delete(s.mem, file)
			delete(s.unsaved, file)
		}
	}
	if s.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		n := e.Name()
		if strings.HasPrefix(n, prefix) && owned.MatchString(n) {
			if err := os.Remove(filepath.Join(s.dir, n)); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	syncDir(s.dir)
	return errors.Join(errs...)
}

// read returns the value of file. The error is errDamaged or errOtherKey beneath where
// it is that.
func (s *Store) read(file string) ([]byte, error) {
	path := filepath.Join(s.dir, file)
	sealed, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	b, err := s.unseal(file, sealed)
	if err == errOtherKey {
		err = fmt.Errorf("%s: %w %s", path, err, s.keyFile)
	}
	return b, err
}

func (k *storeKey) seal(file string, b []byte) []byte {
	nonce := make([]byte, k.aead.NonceSize())
	rand.Read(nonce)
	out := slices.Concat([]byte(sealedMagic), k.id, nonce)
	return k.aead.Seal(out, nonce, b, []byte(file))
}

func (s *Store) unseal(file string, sealed []byte) ([]byte, error) {
	if rest, ok := bytes.CutPrefix(sealed, []byte(sealedMagic)); !ok || len(rest) < keyIDLen {
		return nil, errDamaged
	}
	k := s.keyOf(sealed)
	if k == nil {
		<-s.ready
		k = s.keyOf(sealed)
	}
	if k == nil {
		return nil, errOtherKey
	}
	rest, n := sealed[len(sealedMagic)+keyIDLen:], k.aead.NonceSize()
	if len(rest) < n {
		return nil, errDamaged
	}
	b, err := k.aead.Open(nil, rest[:n], rest[n:], []byte(file))
	if err != nil {
		return nil, errDamaged
	}
	return b, nil
}
