package tokenstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

const (
	keyName     = "store.key"
	ringName    = "store.keyring"
	keyringWait = 2 * time.Second // where Keyring.Wait is 0
)

// keys are the keys of one store. Its methods may be called concurrently.
type keys struct {
	// file is the path of the key's file.
	file string
	log  *slog.Logger
	// found holds the keys that values can be opened with. The first one seals. It is nil until a
	// key is found.
	found atomic.Pointer[[]key]
	// ready is closed when no further key will be found.
	ready chan struct{}
}

// known returns the keys found so far.
func (k *keys) known() []key {
	if found := k.found.Load(); found != nil {
		return *found
	}
	return nil
}

// add sets the keys that were found; nil secrets are left out.
func (k *keys) add(secrets ...[]byte) {
	var found []key
	for _, s := range secrets {
		if s != nil {
			found = append(found, newKey(s))
		}
	}
	k.found.Store(&found)
}

// addFromFile sets the key from the file, if there is one, before the keyring has answered.
func (k *keys) addFromFile() {
	if secret, err := readPrivate(k.file); err == nil && len(secret) == keyLen {
		k.add(secret)
	}
}

// complete reports whether no further key will be found.
func (k *keys) complete() bool {
	select {
	case <-k.ready:
		return true
	default:
		return false
	}
}

// sealing returns the key to seal with. If no key is known yet, it waits for the keyring. It
// returns nil if there will be none.
func (k *keys) sealing() *key {
	if len(k.known()) == 0 {
		<-k.ready
	}
	if known := k.known(); len(known) > 0 {
		return &known[0]
	}
	return nil
}

// of returns the known key that sealed a value, or nil.
func (k *keys) of(sealed []byte) *key {
	id := keyIDOf(sealed)
	for _, one := range k.known() {
		if bytes.Equal(one.id, id) {
			return &one
		}
	}
	return nil
}

// open decrypts the value of a file. If its key is not known yet, it waits for the keyring. The
// error is errDamaged or errOtherKey.
func (k *keys) open(file string, sealed []byte) ([]byte, error) {
	if keyIDOf(sealed) == nil {
		return nil, errDamaged
	}
	one := k.of(sealed)
	if one == nil {
		<-k.ready
		one = k.of(sealed)
	}
	if one == nil {
		return nil, errOtherKey
	}
	return one.open(file, sealed)
}

// search is one search for the keys of a store.
type search struct {
	keys *keys
	ring Keyring
	// inFile and inRing are the keys that lie in the file and in the keyring. Nil means none.
	inFile, inRing []byte
	// ringErr says why the keyring is not used. It is nil if the keyring answered.
	ringErr error
	// lost says that neither place had a key: what was sealed so far cannot be read any more.
	lost bool
}

// search finds the keys, or makes the first one, and moves the file's key to a keyring that has
// none. lost says that the key of the files so far is nowhere. The error is a *KeyringError if the
// keyring must be used and cannot.
func (k *keys) search(ring Keyring) (lost bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(ring.Wait, keyringWait))
	defer cancel()
	s := &search{keys: k, ring: ring, ringErr: errors.New("not asked")}
	if ring.Use != KeyInFile || k.ringID() != nil && !k.hasFile() {
		s.inRing, s.ringErr = ring.get(ctx) // before the lock: others wait for nothing but the disk
	}
	if ring.Use == KeyInKeyring && s.ringErr != nil {
		return false, &KeyringError{s.ringErr}
	}
	lock := openLock(k.file + lockSuffix) // two first starts at once agree on one key
	if err := lock.Lock(); err != nil {
		return false, fmt.Errorf("lock %s: %w", k.file, err)
	}
	defer lock.Unlock()
	if err := s.underLock(ctx); err != nil {
		return false, err
	}
	if ring.Use == KeyInKeyring {
		k.add(s.inRing, s.inFile)
	} else {
		k.add(s.inFile, s.inRing)
	}
	k.log.Debug("key of the token store", "keyring", s.inRing != nil, "file", s.inFile != nil, "err", s.ringErr)
	return s.lost, nil
}

// underLock reads the file, makes a key if there is none, and puts the key where it belongs.
func (s *search) underLock(ctx context.Context) (err error) {
	if s.inFile, err = s.keys.readFile(); err != nil {
		return err
	}
	mayMove := s.ringErr == nil && s.inRing == nil && s.ring.Use != KeyInFile
	if mayMove { // another process may have moved the key meanwhile
		s.inRing, s.ringErr = s.ring.get(ctx)
	}
	secret := s.inFile
	if s.inFile == nil && s.inRing == nil {
		secret, s.lost = make([]byte, keyLen), true
		rand.Read(secret)
	}
	if mayMove && s.ringErr == nil && s.inRing == nil {
		if s.ringErr = s.ring.set(ctx, secret); s.ringErr == nil {
			s.inRing = secret
		} else if s.ring.Use == KeyInKeyring {
			return &KeyringError{s.ringErr}
		}
	}
	if s.inRing != nil {
		if err := s.keys.noteRing(s.inRing); err != nil {
			return err
		}
	}
	return s.tidyFile(secret)
}

// tidyFile removes the file of a key that lies in the keyring now, and writes the file where the
// key is to lie there and does not.
func (s *search) tidyFile(secret []byte) error {
	if s.inRing != nil && bytes.Equal(s.inFile, s.inRing) && s.ring.Use != KeyInFile {
		s.inFile = nil
		if err := os.Remove(s.keys.file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if s.inFile != nil || s.inRing != nil && s.ring.Use != KeyInFile {
		return nil
	}
	if s.inFile = secret; s.inRing != nil {
		s.inFile = s.inRing
	}
	return writeFile(s.keys.file, s.inFile)
}

func (k *keys) hasFile() bool {
	_, err := os.Lstat(k.file)
	return err == nil
}

// readFile returns the file's key, or nil if there is no file. A file that holds no key is set
// aside.
func (k *keys) readFile() ([]byte, error) {
	secret, err := readPrivate(k.file)
	switch {
	case err == nil && len(secret) == keyLen:
		return secret, nil
	case err == nil:
		k.log.Warn("key of the token store is lost", "err", setAside(k.file, fmt.Errorf("not a key of %d bytes", keyLen)))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return nil, nil
}

// ringID returns the ID of the key that lies in the keyring, whether the keyring answers or not. It
// is nil if none does. What that key sealed is not lost.
func (k *keys) ringID() []byte {
	id, err := readPrivate(filepath.Join(filepath.Dir(k.file), ringName))
	if err != nil || len(id) != keyIDLen {
		return nil
	}
	return id
}

// noteRing writes down which key lies in the keyring.
func (k *keys) noteRing(secret []byte) error {
	id := newKey(secret).id
	if bytes.Equal(k.ringID(), id) {
		return nil
	}
	return writeFile(filepath.Join(filepath.Dir(k.file), ringName), id)
}

// ofRing reports whether a value was sealed with the key that lies in the keyring.
func (k *keys) ofRing(sealed []byte) bool {
	id := k.ringID()
	return id != nil && bytes.Equal(keyIDOf(sealed), id)
}
