package oauth

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
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
	"time"

	"github.com/gofrs/flock"
)

const (
	sealedSuffix = ".sealed" // sealedMagic, nonce, AES-256-GCM of the value; the file's name is authenticated with it
	badSuffix    = ".bad"    // a file that could not be read, set aside
	lockSuffix   = ".lock"   // empty; only the kernel's lock on it counts
	tempPrefix   = ".tmp-"
	keyName      = "store.key"
	sealedMagic  = "sallyport1\n"
	maxSealed    = 4 << 20   // bytes of one file
	staleTemp    = time.Hour // age at which a temporary file is a crashed writer's
	lockRetry    = 20 * time.Millisecond
)

// Store keeps tokens, client registrations and other small values between runs: one
// AES-256-GCM file each, mode 0600, in a directory of mode 0700. The key lies in
// another directory, so that a copy of one alone says nothing.
//
// Trouble with the disk is never fatal: it is warned about, and values are then held
// in memory only. A file that cannot be decrypted is set aside (*.bad). Methods may
// be called concurrently, by several processes too.
type Store struct {
	dir  string // "" memory only
	aead cipher.AEAD
	log  *slog.Logger

	mu  sync.Mutex
	mem map[string][]byte // by file name: values that could not be written
}

// OpenStore opens (and makes) the store in dir; the key lies in keyDir (and is made
// there). A directory or key that others can read or own is not used: OpenStore warns
// and the Store lives in memory. The error is for an empty dir or keyDir only.
func OpenStore(dir, keyDir string, log *slog.Logger) (*Store, error) {
	if dir == "" || keyDir == "" {
		return nil, errors.New("token store: no directory given")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := memoryStore(log)
	if err := s.open(dir, keyDir); err != nil {
		log.Warn("token store is not used, tokens are kept in memory only", "err", err)
	}
	return s, nil
}

func memoryStore(log *slog.Logger) *Store {
	return &Store{log: log, mem: make(map[string][]byte)}
}

func (s *Store) open(dir, keyDir string) error {
	for _, d := range []string{dir, keyDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	dir, err := filepath.EvalSymlinks(dir) // a link is as good as what it leads to
	if err != nil {
		return err
	}
	if err := private(dir); err != nil {
		return err
	}
	key, err := s.key(keyDir)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		return err
	}
	temps, _ := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	for _, t := range temps {
		if fi, err := os.Lstat(t); err == nil && time.Since(fi.ModTime()) > staleTemp {
			os.Remove(t)
		}
	}
	s.dir = dir
	return nil
}

// key reads the key, or makes one. Two first starts at once agree by the lock.
func (s *Store) key(keyDir string) ([]byte, error) {
	file := filepath.Join(keyDir, keyName)
	lock := flock.New(file+lockSuffix, flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", file, err)
	}
	defer lock.Unlock()
	key, err := readPrivate(file)
	switch {
	case err == nil && len(key) == 32:
		return key, nil
	case err == nil:
		s.log.Warn("key of the token store is lost", "err", setAside(file, errors.New("not a key of 32 bytes")))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	key = make([]byte, 32)
	rand.Read(key)
	return key, writeFile(file, key)
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
	path := filepath.Join(s.dir, file)
	sealed, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if b, err = s.unseal(file, sealed); err != nil {
		return nil, setAside(path, err)
	}
	return b, nil
}

// Save puts b under name: atomic, and on the disk when it returns. If it cannot be
// written, it is warned about and held in memory.
func (s *Store) Save(name string, b []byte) error {
	file := fileName(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir != "" {
		err := writeFile(filepath.Join(s.dir, file), s.seal(file, b))
		if err == nil {
			delete(s.mem, file)
			return nil
		}
		s.log.Warn("value could not be stored, it is kept in memory only", "err", err)
	}
	s.mem[file] = bytes.Clone(b)
	return nil
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
		if strings.HasPrefix(n, prefix) && (strings.HasSuffix(n, sealedSuffix) || strings.HasSuffix(n, badSuffix)) {
			if err := os.Remove(filepath.Join(s.dir, n)); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	syncDir(s.dir)
	return errors.Join(errs...)
}

// lock takes the lock of name among all processes, waiting as long as ctx. A lock that
// cannot be had for another reason is warned about and done without.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	if s.dir == "" {
		return func() {}, nil
	}
	l := flock.New(filepath.Join(s.dir, fileName(name)+lockSuffix), flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, lockRetry); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.log.Warn("token store cannot be locked", "err", err)
	}
	return func() { l.Unlock() }, nil
}

func (s *Store) seal(file string, b []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce)
	out := append([]byte(sealedMagic), nonce...)
	return s.aead.Seal(out, nonce, b, []byte(file))
}

func (s *Store) unseal(file string, sealed []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, []byte(sealedMagic))
	if !ok || len(rest) < s.aead.NonceSize() {
		return nil, errors.New("not a file of this store")
	}
	n := s.aead.NonceSize()
	b, err := s.aead.Open(nil, rest[:n], rest[n:], []byte(file))
	if err != nil {
		return nil, errors.New("cannot be decrypted: damaged, or of another key")
	}
	return b, nil
}

// setAside renames path out of the way. Its error is the reason, why.
func setAside(path string, why error) error {
	if err := os.Rename(path, path+badSuffix); err != nil {
		return fmt.Errorf("%s: %w, and it cannot be set aside: %v", path, why, err)
	}
	return fmt.Errorf("%s: %w, it is set aside", path+badSuffix, why)
}

// readPrivate reads a file that only we can read and that is ours.
func readPrivate(path string) ([]byte, error) {
	if err := private(path); err != nil {
		return nil, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxSealed {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, maxSealed)
	}
	return os.ReadFile(path)
}

// writeFile replaces path: a reader, and a crash at any instruction, finds the old
// content or the new. Both content and name are on the disk when it returns.
func writeFile(path string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix+"*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(dir)
}
