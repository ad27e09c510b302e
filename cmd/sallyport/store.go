package main

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"sallyport/oauth/tokenstore"
)

// openStore opens the token store; nil keeps tokens in memory only.
func (a *app) openStore(f *upstreamFlags) (*tokenstore.Store, error) {
	if f.TokenStore == "memory" {
		return nil, nil
	}
	dir := cmp.Or(f.StateDir, stateDir(a.env))
	keyDir := configDir(a.env)
	if dir == "" || keyDir == "" {
		return nil, &usageError{text: "no home directory to keep tokens in", hints: []string{"set HOME, or use --token-store memory"}}
	}
	store, err := tokenstore.Open(dir, keyDir, tokenstore.Keyring{Use: f.TokenStore, Bus: sessionBus(a.env)}, a.log)
	if _, ok := errors.AsType[*tokenstore.KeyringError](err); ok {
		return nil, &usageError{text: "--token-store keyring: " + oneLine(err.Error()), hints: []string{
			"unlock it by logging in to the desktop, or start its service (gnome-keyring, KWallet, KeePassXC)",
			"--token-store auto keeps the key in a file where there is no keyring",
		}}
	}
	return store, err
}

// sessionBus is the address of the D-Bus session bus; "" none. One that is not there is not started.
func sessionBus(env environment) string {
	if addr := env.Getenv("DBUS_SESSION_BUS_ADDRESS"); addr != "" {
		return addr
	}
	socket := under(env.Getenv("XDG_RUNTIME_DIR"), "bus")
	if fi, err := os.Stat(socket); err != nil || fi.Mode().Type() != fs.ModeSocket {
		return ""
	}
	return "unix:path=" + socket
}

// stateDir is the system's place for state, and sallyport's folder there.
func stateDir(env environment) string {
	switch {
	case runtime.GOOS == "windows":
		return under(env.Getenv("LocalAppData"), "sallyport")
	case runtime.GOOS == "darwin":
		return under(env.Home, "Library", "Application Support", "sallyport")
	case filepath.IsAbs(env.Getenv("XDG_STATE_HOME")):
		return filepath.Join(env.Getenv("XDG_STATE_HOME"), "sallyport")
	}
	return under(env.Home, ".local", "state", "sallyport")
}

// configDir is the system's place for configuration, apart from stateDir wherever there are two.
func configDir(env environment) string {
	switch {
	case runtime.GOOS == "windows":
		return under(env.Getenv("AppData"), "sallyport")
	case runtime.GOOS == "darwin":
		return under(env.Home, "Library", "Preferences", "sallyport")
	case filepath.IsAbs(env.Getenv("XDG_CONFIG_HOME")):
		return filepath.Join(env.Getenv("XDG_CONFIG_HOME"), "sallyport")
	}
	return under(env.Home, ".config", "sallyport")
}

func under(base string, parts ...string) string {
	if base == "" {
		return ""
	}
	return filepath.Join(append([]string{base}, parts...)...)
}
