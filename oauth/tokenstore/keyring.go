package tokenstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// Values of Keyring.Use.
const (
	// KeyInFile: the key lies in a file.
	KeyInFile = "file"
	// KeyAuto: the key lies in the keyring if that answers, else in a file. If both hold one, the
	// file's key seals.
	KeyAuto = "auto"
	// KeyInKeyring: the key lies in the keyring, or Open fails.
	KeyInKeyring = "keyring"
)

// Keyring says whether the store's key lies in the system's keyring: the Secret Service, the
// Keychain or the Credential Manager. A keyring that is locked, or does not answer in time, counts
// as none. It is never made to ask the person.
type Keyring struct {
	// Use is one of the Key constants. Empty is KeyInFile.
	Use string
	// Bus is the address of the D-Bus session bus, on systems with the Secret Service. Empty means
	// that there is no bus, and so no keyring.
	Bus string
	// Wait is the time for everything that one Open asks the keyring. 0 is 2 seconds.
	Wait time.Duration
}

// KeyringError reports that the store's key must lie in the keyring and cannot.
type KeyringError struct {
	// Err says why.
	Err error
}

// Error returns one line.
func (e *KeyringError) Error() string { return "keyring: " + e.Err.Error() }

// Unwrap returns the reason.
func (e *KeyringError) Unwrap() error { return e.Err }

// What the key is called in a keyring.
const (
	keyringService = "sallyport"
	keyringUser    = "token store"
)

// get returns the keyring's key, or nil without an error if the keyring answers and has none.
func (r Keyring) get(ctx context.Context) ([]byte, error) {
	text, err := within(ctx, func() (string, error) { return keyringGet(ctx, r.Bus) })
	if err != nil || text == "" {
		return nil, err
	}
	secret, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(secret) != keyLen {
		return nil, errors.New("its entry is no key")
	}
	return secret, nil
}

// set puts a key into the keyring, and looks whether it is there: some keyrings accept an entry and
// forget it.
func (r Keyring) set(ctx context.Context, secret []byte) error {
	text := base64.StdEncoding.EncodeToString(secret)
	_, err := within(ctx, func() (string, error) { return "", keyringSet(ctx, r.Bus, text) })
	if err != nil {
		return err
	}
	if got, err := r.get(ctx); err != nil || !bytes.Equal(got, secret) {
		return fmt.Errorf("it does not keep what it is given (%v)", err)
	}
	return nil
}

// within returns what f returns, or an error if f takes longer than ctx: some keyrings know no
// deadline.
func within(ctx context.Context, f func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() { // ends when the keyring answers, at the latest with the process
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
