//go:build !unix || darwin

package tokenstore

import (
	"context"
	"errors"

	"github.com/zalando/go-keyring"
)

// The Keychain and the Credential Manager.

func keyringGet(context.Context, string) (string, error) {
	text, err := keyring.Get(keyringService, keyringUser)
	if errors.Is(err, keyring.ErrNotFound) {
		return "", nil
	}
	return text, err
}

func keyringSet(_ context.Context, _, value string) error {
	return keyring.Set(keyringService, keyringUser, value)
}
