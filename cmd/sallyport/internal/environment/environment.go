// Package environment holds what the process was given besides its arguments: the variables, the
// person's name and home, and the directories that follow from them.
package environment

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Environment is what the process was given besides its arguments. Its functions may be called
// concurrently.
type Environment struct {
	// Version is the version of this build. An empty one is printed as "devel".
	Version string
	// Manual is the Go source whose package comment is the manual. It may be empty.
	Manual string
	// Getenv returns the value of a variable. It is empty if the variable is not set.
	Getenv func(name string) string
	// Hide keeps a variable from the programs that this process starts. Getenv still returns it.
	Hide func(name string)
	// Set gives this process, and the programs that it starts, a variable.
	Set func(name, value string)
	// Home is the person's home directory. It is empty if nothing names one.
	Home string
	// AccountHome is the home directory in the user database. It is the ~ of SSH, whatever HOME
	// says. It is empty if nothing names one.
	AccountHome string
	// User is the person's login name. It is empty if nothing names one.
	User string
	// Hostname is the name of this machine.
	Hostname string
	// UserRuntimeDir stands in for an XDG_RUNTIME_DIR that is not set, because many MCP hosts do
	// not pass that on. It is empty if the system has no such directory for this user.
	UserRuntimeDir string
	// Environ lists what the programs that this process starts inherit, as os.Environ does.
	Environ func() []string
	// Executable is the file of this program. It is empty if the program must not start itself.
	Executable string
}

// OfProcess returns the environment of this process, with its secret variables hidden.
//
// The name in the user database counts more than USER, as in ssh, and the home directory there
// replaces a HOME that is not set: services and MCP hosts may leave out both. For a user who is not
// in the database, HOME is the account's home, too. A missing home directory is no error here. The
// settings that need one report it.
func OfProcess() Environment {
	dropUnexpanded()
	env := Environment{User: os.Getenv("USER")}
	env.Getenv, env.Hide = hiddenVariables()
	env.Set = func(name, value string) { os.Setenv(name, value) }
	env.Home, _ = os.UserHomeDir()
	if u, err := user.Current(); err == nil {
		_, name, domain := strings.Cut(u.Username, `\`) // Windows writes DOMAIN\name
		if !domain {
			name = u.Username
		}
		env.User, env.Home, env.AccountHome = cmp.Or(name, env.User), cmp.Or(env.Home, u.HomeDir), u.HomeDir
	}
	env.AccountHome = cmp.Or(env.AccountHome, env.Home)
	env.Hostname, _ = os.Hostname()
	if _, set := os.LookupEnv("XDG_RUNTIME_DIR"); !set {
		env.UserRuntimeDir = userRuntimeDir()
	}
	env.Environ = os.Environ
	env.Executable, _ = os.Executable()
	return env
}

// dropUnexpanded takes the variables away that an MCP host meant to pass on and has not: their
// value is still the reference to the variable, as "$SSH_AUTH_SOCK" is where the host has no such
// variable itself. An agent's socket is an absolute path, so no value of SSH_AUTH_SOCK begins with
// a dollar sign.
func dropUnexpanded() {
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		references := []string{"$" + name, "${" + name + "}", "${env:" + name + "}", "%" + name + "%"}
		if name != "" && (slices.Contains(references, value) || name == "SSH_AUTH_SOCK" && strings.HasPrefix(value, "$")) {
			os.Unsetenv(name)
		}
	}
}

// Fixed returns an environment that consists of the given variables and home directory. Tests use
// it.
func Fixed(variables map[string]string, home string) Environment {
	return Environment{
		Getenv:  func(name string) string { return variables[name] },
		Hide:    func(string) {},
		Set:     func(name, value string) { variables[name] = value },
		Environ: func() (list []string) { return appendVariables(list, variables) },
		Home:    home, User: "person", Hostname: "workbench",
	}
}

// appendVariables appends variables as os.Environ lists them.
func appendVariables(list []string, variables map[string]string) []string {
	for name, value := range variables {
		list = append(list, name+"="+value)
	}
	return list
}

// secretVariables never reach a child process, such as the browser, SSH_ASKPASS, a ProxyCommand or
// the command of a Match exec.
var secretVariables = []string{
	"OAUTH2_CLIENT_SECRET", "SALLYPORT_IDP_CLIENT_SECRET", "OAUTH2_REFRESH_TOKEN", "OAUTH2_AUTHORIZATION_CODE", "OAUTH2_CODE_VERIFIER",
	"OAUTH2_EXTRA_PARAMS", "SALLYPORT_HEADER",
}

// SecretVariables lists the variables that programs started by this process never inherit.
func SecretVariables() []string { return slices.Clone(secretVariables) }

// hiddenVariables takes the secret variables out of what child processes inherit. The function get
// looks up any variable, hidden or not. The function hide hides one more. It must be called before
// other goroutines call get, and before a child process is started.
func hiddenVariables() (get func(string) string, hide func(string)) {
	hidden := map[string]string{}
	hide = func(name string) {
		if value, ok := os.LookupEnv(name); ok {
			hidden[name] = value
			os.Unsetenv(name)
		}
	}
	for _, name := range secretVariables {
		hide(name)
	}
	return func(name string) string { return cmp.Or(hidden[name], os.Getenv(name)) }, hide
}

// StateDir returns sallyport's directory in the system's place for state. It is empty if there is
// no home directory.
func (e Environment) StateDir() string {
	if dir := e.Getenv("XDG_STATE_HOME"); runtime.GOOS != "windows" && runtime.GOOS != "darwin" && filepath.IsAbs(dir) {
		return filepath.Join(dir, "sallyport")
	}
	return e.UsualStateDir()
}

// UsualStateDir returns StateDir of a session in which no variable moves it. It is empty if there
// is no home directory.
func (e Environment) UsualStateDir() string {
	switch runtime.GOOS {
	case "windows":
		return Under(e.Getenv("LocalAppData"), "sallyport")
	case "darwin":
		return Under(e.Home, "Library", "Application Support", "sallyport")
	}
	return Under(e.Home, ".local", "state", "sallyport")
}

// ConfigDir returns sallyport's directory in the system's place for configuration. It differs from
// StateDir on every system. It is empty if there is no home directory.
func (e Environment) ConfigDir() string {
	switch {
	case runtime.GOOS == "windows":
		return Under(e.Getenv("AppData"), "sallyport")
	case runtime.GOOS == "darwin":
		return Under(e.Home, "Library", "Preferences", "sallyport")
	case filepath.IsAbs(e.Getenv("XDG_CONFIG_HOME")):
		return filepath.Join(e.Getenv("XDG_CONFIG_HOME"), "sallyport")
	}
	return Under(e.Home, ".config", "sallyport")
}

// userRuntimeDir returns the directory that systemd makes for this user. It is empty if there is
// none.
func userRuntimeDir() string {
	dir := fmt.Sprintf("/run/user/%d", os.Getuid())
	if fi, err := os.Stat(dir); runtime.GOOS != "linux" || err != nil || !fi.IsDir() || !isOurs(fi) {
		return ""
	}
	return dir
}

// RuntimeDir returns the directory for sockets of the person's session: XDG_RUNTIME_DIR or
// UserRuntimeDir. It is empty if there is none.
func (e Environment) RuntimeDir() string {
	if dir := e.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return dir
	}
	return e.UserRuntimeDir
}

// SessionBus returns the address of the D-Bus session bus. It is empty if no bus runs: sallyport
// starts none. A socket in RuntimeDir must be ours, because the bus would get our secrets.
func (e Environment) SessionBus() string {
	if addr := e.Getenv("DBUS_SESSION_BUS_ADDRESS"); addr != "" {
		return addr
	}
	socket := Under(e.RuntimeDir(), "bus")
	if fi, err := os.Stat(socket); err != nil || fi.Mode().Type() != fs.ModeSocket || !isOurs(fi) {
		return ""
	}
	return "unix:path=" + socket
}

// Under joins parts to the directory base. It returns "" if base is empty, where filepath.Join
// would return a path relative to the working directory.
func Under(base string, parts ...string) string {
	if base == "" {
		return ""
	}
	return filepath.Join(append([]string{base}, parts...)...)
}
