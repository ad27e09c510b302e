package tokenstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	keyName     = "store.key"
	ringName    = "store.keyring" // ID of the key that lies in the keyring
	keyLen      = 32              // AES-256
	keyIDLen    = 8
	keyringWait = 2 * time.Second
)

// Values of Keyring.Use.
const (
	KeyInFile    = "file"
	KeyAuto      = "auto"    // in the keyring if it answers, else in a file; where both hold one, the file's
	KeyInKeyring = "keyring" // or Open fails
)

// Keyring says whether the store's key lies in the system's keyring: Secret Service,
// Keychain, Credential Manager. A keyring that is locked, or does not answer in time,
// counts as none; it is never made to ask the person.
type Keyring struct {
	Use string // "" KeyInFile
	Bus string // address of the D-Bus session bus, where there is the Secret Service; "" none

	// Wait is for all that is asked of it at one start; 0: 2 s.
	Wait time.Duration
}

// KeyringError reports that there is no keyring to keep the store's key in.
type KeyringError struct{ Err error }

func (e *KeyringError) Error() string { return "keyring: " + e.Err.Error() }
func (e *KeyringError) Unwrap() error { return e.Err }

var errKeyringLocked = errors.New("it is locked")

// storeKey is one key, and the ID that tells what it sealed.
type storeKey struct {
	id   []byte
	aead cipher.AEAD
}

func newStoreKey(key []byte) storeKey {
	sum := sha256.Sum256(append([]byte("sallyport key ID "), key...))
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // keys are of keyLen
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size of GCM
	}
	return storeKey{sum[:keyIDLen], aead}
}

// settle finds the keys, or makes the first one, and moves one from the file to a keyring
// that has none. lost: the key of the files so far is nowhere.
func (s *Store) settle(ring Keyring) (lost bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(ring.Wait, keyringWait))
	defer cancel()
	var inRing []byte
	ringErr := errors.New("not asked")
	if ring.Use != KeyInFile || s.marked() != nil && !s.hasKeyFile() {
		inRing, ringErr = ring.get(ctx) // not under the lock: others wait for nothing but the disk
	}
	if ring.Use == KeyInKeyring && ringErr != nil {
		return false, &KeyringError{ringErr}
	}
	lock := openLock(s.keyFile + lockSuffix) // two first starts at once agree on the key
	if err := lock.Lock(); err != nil {
		return false, fmt.Errorf("lock %s: %w", s.keyFile, err)
	}
	defer lock.Unlock()
	inFile, err := s.readKey()
	if err != nil {
		return false, err
	}
	if ringErr == nil && inRing == nil && ring.Use != KeyInFile {
		inRing, ringErr = ring.get(ctx) // another process may have put it there meanwhile
	}
	key := inFile
	if inFile == nil && inRing == nil {
		key, lost = make([]byte, keyLen), true
		rand.Read(key)
	}
	if ringErr == nil && inRing == nil && ring.Use != KeyInFile {
		if ringErr = ring.set(ctx, key); ringErr == nil {
			inRing = key
		} else if ring.Use == KeyInKeyring {
			return false, &KeyringError{ringErr}
		}
	}
	if inRing != nil {
		if err := s.mark(inRing); err != nil {
			return false, err
		}
	}
	switch {
	case inRing != nil && bytes.Equal(inFile, inRing) && ring.Use != KeyInFile:
		inFile = nil
		if err := os.Remove(s.keyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	case inFile == nil && (inRing == nil || ring.Use == KeyInFile):
		if inFile = key; inRing != nil {
			inFile = inRing
		}
		if err := writeFile(s.keyFile, inFile); err != nil {
			return false, err
		}
	}
	places := [][]byte{inFile, inRing}
	if ring.Use == KeyInKeyring {
		places = [][]byte{inRing, inFile}
	}
	s.know(places...)
	s.log.Debug("key of the token store", "keyring", inRing != nil, "file", inFile != nil, "err", ringErr)
	return lost, nil
}

// know sets the keys; nil ones are left out.
func (s *Store) know(keys ...[]byte) {
	var known []storeKey
	for _, k := range keys {
		if k != nil {
			known = append(known, newStoreKey(k))
		}
	}
	s.known.Store(&known)
}

func (s *Store) hasKeyFile() bool {
	_, err := os.Lstat(s.keyFile)
	return err == nil
}

// readKey reads the key's file; nil: there is none, or it was not one and is set aside.
func (s *Store) readKey() ([]byte, error) {
	key, err := readPrivate(s.keyFile)
	switch {
	case err == nil && len(key) == keyLen:
		return key, nil
	case err == nil:
		s.log.Warn("key of the token store is lost", "err", setAside(s.keyFile, fmt.Errorf("not a key of %d bytes", keyLen)))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return nil, nil
}

// marked returns the ID of the key that lies in the keyring, whether that answers or not;
// nil: none does. What that key sealed is not lost.
func (s *Store) marked() []byte {
	id, err := readPrivate(filepath.Join(filepath.Dir(s.keyFile), ringName))
	if err != nil || len(id) != keyIDLen {
		return nil
	}
	return id
}

func (s *Store) mark(key []byte) error {
	id := newStoreKey(key).id
	if bytes.Equal(s.marked(), id) {
		return nil
	}
	return writeFile(filepath.Join(filepath.Dir(s.keyFile), ringName), id)
}

// Where the key lies in a keyring.
const (
	keyringService = "sallyport"
	keyringUser    = "token store"
)

// get returns the keyring's key, nil without an error if it answers and has none.
func (r Keyring) get(ctx context.Context) ([]byte, error) {
	text, err := within(ctx, func() (string, error) { return keyringGet(ctx, r.Bus) })
	if err != nil || text == "" {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != keyLen {
		return nil, errors.New("its entry is no key")
	}
	return key, nil
}

// set puts key into the keyring, and looks whether it is there.
func (r Keyring) set(ctx context.Context, key []byte) error {
	text := base64.StdEncoding.EncodeToString(key)
	_, err := within(ctx, func() (string, error) { return "", keyringSet(ctx, r.Bus, text) })
	if err != nil {
		return err
	}
	if got, err := r.get(ctx); err != nil || !bytes.Equal(got, key) {
		return fmt.Errorf("it does not keep what it is given (%v)", err)
	}
	return nil
}

// within returns what f does, or that it did not answer: some keyrings know no deadline.
func within(ctx context.Context, f func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	// Ends when the keyring answers, at the latest with the process.
	go func() {
		text, err := f()
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		if ctx.Err() == nil {
			return a.text, a.err
		}
	case <-ctx.Done():
	}
	return "", errors.New("no answer in time")
}
