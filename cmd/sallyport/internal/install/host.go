package install

import (
	"cmp"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"sallyport/cmd/sallyport/internal/environment"
)

// Place is the machine and the folder that a host's configuration is looked for in.
type Place struct {
	// Env gives the home directory and the variables that move a host's files.
	Env environment.Environment
	// Dir is the folder of the project: the working directory, without symbolic links.
	Dir string
	// GOOS is the system, as runtime.GOOS names it.
	GOOS string
}

// Here is the place of a process with this environment.
func Here(env environment.Environment) (Place, error) {
	dir, err := os.Getwd()
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	return Place{Env: env, Dir: dir, GOOS: runtime.GOOS}, err
}

// home returns a path below the home directory.
func (p Place) home(parts ...string) string { return environment.Under(p.Env.Home, parts...) }

// under returns a path below the directory that a variable names, or below the fallback if it is
// not set.
func (p Place) under(variable, fallback string, parts ...string) string {
	return environment.Under(cmp.Or(p.Env.Getenv(variable), fallback), parts...)
}

// xdg returns a path below the configuration directory of programs that know only that of Linux.
func (p Place) xdg(parts ...string) string {
	return p.under("XDG_CONFIG_HOME", p.home(".config"), parts...)
}

// application returns a path below the system's directory for the settings of applications.
func (p Place) application(parts ...string) string {
	switch p.GOOS {
	case "windows":
		return p.under("APPDATA", p.home("AppData", "Roaming"), parts...)
	case "darwin":
		return environment.Under(p.home("Library", "Application Support"), parts...)
	}
	return p.xdg(parts...)
}

// project returns a path below the folder of the project.
func (p Place) project(parts ...string) string { return environment.Under(p.Dir, parts...) }

// firstOf returns the first of some paths that exists, and the last one if none does.
func firstOf(paths ...string) string {
	for _, path := range paths[:len(paths)-1] {
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return paths[len(paths)-1]
}

// Scope says for whom an entry counts.
type Scope string

// The scopes. Which of them a host has, its row in the table says; the first one is the default.
const (
	// User is every folder of this user.
	User Scope = "user"
	// Local is one folder, for this user alone.
	Local Scope = "local"
	// Project is one folder, for everybody who works in it.
	Project Scope = "project"
)

// Host is an MCP host, and how it is configured.
type Host struct {
	// Name is what --client calls it. Aliases are other names that people try.
	Name    string
	Aliases []string
	// Title is what its makers call it.
	Title string
	// Programs are those that show, in PATH, that the host is here.
	Programs []string
	// Scopes are those that it has, the default one first.
	Scopes []Scope
	// Paste says where its window takes an entry that is pasted. The file of such a host is not
	// meant to be edited, and is not.
	Paste string
	// OnlyReads says that the health check reads the entry and starts no server.
	OnlyReads bool

	file      func(p Place, scope Scope) string
	container func(p Place, scope Scope) []string
	format    format
	// form is the entry as this host writes it.
	form func(e Entry) object
	// drops reports whether the host keeps a variable of its own environment from its servers,
	// although form has a way to pass it on. A nil drops means that it passes all on.
	drops func(variable string) bool
	// next says what the host still wants from the person.
	next func(scope Scope, name string) []string
	// check are the arguments of the host's own health check. It is nil if there is none.
	check func(name string) []string
	// lock is the suffix of the directory that the host makes beside its file while it writes it.
	// It is empty if the host takes no lock.
	lock string
}

// Hosts returns all hosts that are known, in the order of their names. The slice is shared. It is
// made when it is first needed, because most processes are proxies and need none of them.
var Hosts = sync.OnceValue(func() []*Host {
	var hosts []*Host
	for _, group := range [][]Host{claudeHosts(), codexHosts(), geminiHosts(), openHosts(), editorHosts(), agentHosts(), moreAgentHosts()} {
		for i := range group {
			hosts = append(hosts, &group[i])
		}
	}
	return hosts
})

// Find returns the host that is called by name, which may be one of its aliases.
func Find(name string) (*Host, bool) {
	name = strings.ToLower(name)
	for _, host := range Hosts() {
		if host.Name == name || slices.Contains(host.Aliases, name) {
			return host, true
		}
	}
	return nil, false
}

// Names lists the names of all hosts.
func Names() []string {
	var names []string
	for _, host := range Hosts() {
		names = append(names, host.Name)
	}
	return names
}

// Nearest returns the host whose name, or alias, the function picks for a word. The function gets
// all of them.
func Nearest(word string, pick func(word string, names []string) string) (*Host, bool) {
	var names []string
	for _, host := range Hosts() {
		names = append(append(names, host.Name), host.Aliases...)
	}
	return Find(pick(strings.ToLower(word), names))
}

// File returns the path of the host's file for a scope. It is empty if there is no home directory.
func (h *Host) File(p Place, scope Scope) string { return h.file(p, scope) }

// Drops reports whether the host keeps a variable of its own environment from its servers.
func (h *Host) Drops(variable string) bool { return h.drops != nil && h.drops(variable) }

// passes lists which of the wanted variables the host must be told to pass on.
func (h *Host) passes(wanted []string) []string {
	if h.drops == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(wanted), func(variable string) bool { return !h.drops(variable) })
}

// value is the entry in the host's form.
func (h *Host) value(e Entry) object {
	e.Pass = h.passes(e.Pass)
	return h.form(e)
}

// Next says what the host still wants from the person, one thing a line.
func (h *Host) Next(scope Scope, name string) []string { return h.next(scope, name) }

// Check returns the command of the host's own health check. It is nil if the host has none, or is
// not in PATH.
func (h *Host) Check(p Place, name string) []string {
	if h.check == nil {
		return nil
	}
	program := h.Program(p)
	if program == "" {
		return nil
	}
	return append([]string{program}, h.check(name)...)
}

// Program returns the path of the host's program. It is empty if PATH has none.
func (h *Host) Program(p Place) string {
	for _, name := range h.Programs {
		if path := p.LookPath(name); path != "" {
			return path
		}
	}
	return ""
}

// LookPath looks a program up in the PATH of the environment. It returns "" if it is not there.
func (p Place) LookPath(name string) string {
	suffixes := []string{""}
	if p.GOOS == "windows" {
		suffixes = strings.Split(cmp.Or(p.Env.Getenv("PATHEXT"), ".COM;.EXE;.BAT;.CMD"), ";")
	}
	for _, dir := range filepath.SplitList(p.Env.Getenv("PATH")) {
		for _, suffix := range suffixes {
			path := filepath.Join(dir, name+suffix)
			fi, err := os.Stat(path)
			if filepath.IsAbs(dir) && err == nil && fi.Mode().IsRegular() && (p.GOOS == "windows" || fi.Mode()&0o111 != 0) {
				return path
			}
		}
	}
	return ""
}

// fixed returns a container that does not depend on the scope.
func fixed(path ...string) func(Place, Scope) []string {
	return func(Place, Scope) []string { return path }
}

// lines returns advice that does not depend on the scope.
func lines(text ...string) func(Scope, string) []string {
	return func(Scope, string) []string { return text }
}

// userOrProject returns the file function of a host with these two scopes.
func userOrProject(user func(Place) string, project ...string) func(Place, Scope) string {
	return func(p Place, scope Scope) string {
		if scope == Project {
			return p.project(project...)
		}
		return user(p)
	}
}

// commandAndArgs is the form that most hosts have.
func commandAndArgs(e Entry) object {
	value := object{{"command", e.Command}, {"args", e.Args}}
	if len(e.Env) > 0 {
		value = append(value, member{"env", e.Env})
	}
	return value
}

// typed puts a type in front of the members of commandAndArgs.
func typed(kind string) func(Entry) object {
	return func(e Entry) object { return append(object{{"type", kind}}, commandAndArgs(e)...) }
}
