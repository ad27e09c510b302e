package tokenstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Look opens the store in dir for reading alone: nothing on the disk or in the keyring is made,
// moved, locked or removed. What is saved in it stays in memory, and its locks are always free. It
// waits for the keyring where the key may lie there. A nil log discards.
//
// The error wraps fs.ErrNotExist if there is no store yet. It is a *KeyringError for a keyring that
// must be used and cannot. Otherwise it says why a directory or the key's file is not used.
func Look(dir, keyDir string, ring Keyring, log *slog.Logger) (*Store, error) {
	s := Memory(log)
	s.onlyReads, s.keys.file = true, filepath.Join(keyDir, keyName)
	if err := s.keys.look(ring); err != nil {
		return nil, err
	}
	for _, path := range []string{dir, keyDir} {
		fi, err := os.Stat(path)
		if err == nil && !fi.IsDir() {
			err = fmt.Errorf("%s is not a directory", path)
		}
		if err == nil {
			err = checkOwner(path, fi, 0o022)
		}
		if err != nil {
			return nil, err
		}
	}
	s.dir = dir
	return s, nil
}

// look finds the keys as search does, and changes nothing.
func (k *keys) look(ring Keyring) error {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(ring.Wait, keyringWait))
	defer cancel()
	var inRing []byte
	if ring.Use == KeyAuto || ring.Use == KeyInKeyring || k.ringID() != nil && !k.hasFile() {
		var err error
		if inRing, err = ring.get(ctx); err != nil && ring.Use == KeyInKeyring {
			return &KeyringError{err}
		}
	}
	inFile, err := readPrivate(k.file)
	switch {
	case err == nil && len(inFile) != keyLen:
		return fmt.Errorf("%s: not a key of %d bytes", k.file, keyLen)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	k.add(inFile, inRing)
	return nil
}

// KeyPlaces says where the keys of a store lie that Look has opened.
func (s *Store) KeyPlaces() (inFile, inKeyring bool) {
	inFile = s.keys.hasFile()
	return inFile, len(s.keys.known()) > 0 && (!inFile || len(s.keys.known()) > 1)
}
