package session

import (
	"cmp"
	"errors"
	"log/slog"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/oauth/tokenstore"
)

// memoryStore is the value of --token-store that stores nothing.
const memoryStore = "memory"

// StateDir returns the directory of --state-dir, or the system's.
func StateDir(settings cli.Store, env environment.Environment) string {
	return cmp.Or(settings.StateDir, env.StateDir())
}

// OpenStore opens the token store, and makes its directories if they are missing. It returns nil if
// the settings ask for none. The error is a *cli.UsageError if there is no place for the store, or
// if --token-store keyring finds no keyring. A key that is not in a keyring lies in the directory
// of the configuration, so that a copy of the state directory alone cannot be decrypted.
func OpenStore(settings cli.Store, env environment.Environment, log *slog.Logger) (*tokenstore.Store, error) {
	return openStore(tokenstore.Open, settings, env, log)
}

// LookAtStore opens the token store for reading alone (tokenstore.Look). The errors are those of
// OpenStore and of Look.
func LookAtStore(settings cli.Store, env environment.Environment, log *slog.Logger) (*tokenstore.Store, error) {
	return openStore(tokenstore.Look, settings, env, log)
}

// openStore opens the store of a session. One that only looks has an empty store where there is
// none that can be read.
func (c *Config) openStore() (*tokenstore.Store, error) {
	if !c.OnlyLooks {
		return OpenStore(c.Settings.Store, c.Env, c.Log)
	}
	store, err := LookAtStore(c.Settings.Store, c.Env, c.Log)
	if err != nil {
		return tokenstore.Memory(c.Log), nil
	}
	return store, nil
}

// opener is tokenstore.Open or tokenstore.Look.
type opener func(dir, keyDir string, ring tokenstore.Keyring, log *slog.Logger) (*tokenstore.Store, error)

// openStore opens the store at the place that the settings name.
func openStore(open opener, settings cli.Store, env environment.Environment, log *slog.Logger) (*tokenstore.Store, error) {
	if settings.TokenStore == memoryStore {
		return nil, nil
	}
	dir, keyDir := StateDir(settings, env), env.ConfigDir()
	if dir == "" || keyDir == "" {
		return nil, &cli.UsageError{
			Text:  "no home directory to keep tokens in",
			Hints: []string{"set HOME, or use --token-store memory"},
		}
	}
	store, err := open(dir, keyDir, tokenstore.Keyring{Use: settings.TokenStore, Bus: env.SessionBus()}, log)
	if _, ok := errors.AsType[*tokenstore.KeyringError](err); ok {
		return nil, &cli.UsageError{Text: "--token-store keyring: " + err.Error(), Hints: []string{
			"unlock it by logging in to the desktop, or start its service (gnome-keyring, KWallet, KeePassXC)",
			"--token-store auto keeps the key in a file where there is no keyring",
		}}
	}
	return store, err
}
