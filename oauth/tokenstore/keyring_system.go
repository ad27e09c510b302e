//go:build !unix || darwin

package tokenstore

import (
	"context"
	"errors"

	"github.com/zalando/go-keyring"
)

// The keyring is the Keychain or the Credential Manager. They know neither contexts nor a bus.

// keyringGet returns the entry, or "" if the keyring answers and has none.
func keyringGet(context.Context, string) (string, error) {
	text, err := keyring.Get(keyringService, keyringUser)
	if errors.Is(err, keyring.ErrNotFound) {
		return "", nil
	}
	return text, err
}

// keyringSet writes the entry.
func keyringSet(_ context.Context, _, value string) error {
	return keyring.Set(keyringService, keyringUser, value)
}
