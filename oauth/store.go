package oauth

import (
	"bytes"
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
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

const (
	sealedSuffix = ".sealed" // sealedMagic, key ID, nonce, AES-256-GCM of the value; the file's name is authenticated with it
	badSuffix    = ".bad"    // a file that could not be read, set aside
	lockSuffix   = ".lock"   // empty; only the kernel's lock on it counts
	keyName      = "store.key"
	sealedMagic  = "sallyport2\n"
	keyIDLen     = 8
	staleTemp    = time.Hour // age at which a temporary file is a crashed writer's
)

// owned matches the names of our files with values; the directory may hold others'.
var owned = regexp.MustCompile(`^[0-9a-f]{24}-[0-9a-f]{24}\.sealed(\.bad|\.tmp-[0-9]+)?$`)

var (
	errDamaged  = errors.New("damaged, or none of the token store's files")
	errOtherKey = errors.New("sealed with another key than")
)

// Store keeps tokens, client registrations and other small values between runs: one
// AES-256-GCM file each, mode 0600. The key lies in another directory, so that a copy
// of one alone says nothing.
//
// Trouble with the disk is never fatal: it is warned about, and values are then held
// in memory only. A damaged file is set aside (*.bad), all files if the key was lost.
// A file sealed with another key, that of another configuration directory, is neither
// used nor replaced. Methods may be called concurrently, by several processes too.
type Store struct {
	dir     string // "" memory only
	keyFile string
	keyID   []byte // keyIDLen bytes that tell keys apart
	aead    cipher.AEAD
	log     *slog.Logger

	broken error // why dir is "" though one was given; nil it was not

	mu      sync.Mutex
	warned  sync.Map          // texts of trouble that lasts
	mem     map[string][]byte // by file name: values that could not be written
	unsaved map[string]error  // why
}

// OpenStore opens (and makes) the store in dir; the key lies in keyDir (and is made
// there). A directory that others own or can write to and a key that others can read
// are not used: OpenStore warns and the Store lives in memory. The error is for an
// empty dir or keyDir only.
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
		s.broken = err
	}
	return s, nil
}

func memoryStore(log *slog.Logger) *Store {
	return &Store{log: log, mem: make(map[string][]byte), unsaved: make(map[string]error)}
}

func (s *Store) open(dir, keyDir string) error {
	dir, err := privateDir(dir)
	if err != nil {
		return err
	}
	if keyDir, err = privateDir(keyDir); err != nil {
		return err
	}
	s.keyFile = filepath.Join(keyDir, keyName)
	lock := flock.New(s.keyFile+lockSuffix, flock.SetPermissions(0o600)) // two first starts at once agree on the key
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("lock %s: %w", s.keyFile, err)
	}
	defer lock.Unlock()
	key, made, err := s.key()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(append([]byte("sallyport key ID "), key...))
	s.keyID = sum[:keyIDLen]
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		return err
	}
	s.dir = dir
	s.sweep(made)
	return nil
}

// key reads the key, or makes one.
func (s *Store) key() (key []byte, made bool, err error) {
	key, err = readPrivate(s.keyFile)
	switch {
	case err == nil && len(key) == 32:
		return key, false, nil
	case err == nil:
		s.log.Warn("key of the token store is lost", "err", setAside(s.keyFile, errors.New("not a key of 32 bytes")))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, err
	}
	key = make([]byte, 32)
	rand.Read(key)
	return key, true, writeFile(s.keyFile, key)
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
		case lost && strings.HasSuffix(e.Name(), sealedSuffix):
			s.log.Warn("stored value is lost", "err", setAside(path, errors.New("its key is gone")))
		}
	}
	for _, t := range temps {
		if fi, err := os.Lstat(t); err == nil && time.Since(fi.ModTime()) > staleTemp {
			os.Remove(t)
		}
	}
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
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, errDamaged):
		return nil, setAside(filepath.Join(s.dir, file), err)
	}
	return b, err
}

// Save puts b under name: atomic, and on the disk when it returns. If it cannot be
// written, it is warned about and held in memory.
func (s *Store) Save(name string, b []byte) error {
	file := fileName(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir != "" {
		_, err := s.read(file)
		if !errors.Is(err, errOtherKey) { // it is as good where that key is as ours is here
			err = writeFile(filepath.Join(s.dir, file), s.seal(file, b))
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
	if _, ok := s.mem[file]; ok && s.dir == "" {
		return s.broken
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

func (s *Store) seal(file string, b []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce)
	out := slices.Concat([]byte(sealedMagic), s.keyID, nonce)
	return s.aead.Seal(out, nonce, b, []byte(file))
}

func (s *Store) unseal(file string, sealed []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, []byte(sealedMagic))
	n := s.aead.NonceSize()
	if !ok || len(rest) < keyIDLen+n {
		return nil, errDamaged
	}
	id, rest := rest[:keyIDLen], rest[keyIDLen:]
	if !bytes.Equal(id, s.keyID) {
		return nil, errOtherKey
	}
	b, err := s.aead.Open(nil, rest[:n], rest[n:], []byte(file))
	if err != nil {
		return nil, errDamaged
	}
	return b, nil
}
