package main

import (
	"cmp"
	"path/filepath"
	"runtime"
	"sallyport/oauth"
)

// openStore opens the token store; nil keeps tokens in memory only.
func (a *app) openStore(f *upstreamFlags) (*oauth.Store, error) {
	if f.TokenStore == "memory" {
		return nil, nil
	}
	dir := cmp.Or(f.StateDir, stateDir(a.env))
	keyDir := configDir(a.env)
	if dir == "" || keyDir == "" {
		return nil, &usageError{text: "no home directory to keep tokens in", hints: []string{"set HOME, or use --token-store memory"}}
	}
	store, err := oauth.OpenStore(dir, keyDir, a.log)
	if err != nil {
		a.log.Warn("tokens are kept in memory only", "err", err)
		return nil, nil
	}
	return store, nil
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
