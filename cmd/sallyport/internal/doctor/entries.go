package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/install"
)

// Entry is an entry of sallyport in the file of an MCP host.
type Entry struct {
	// Host is the MCP host, and File its file.
	Host *install.Host
	File string
	install.Server
	// desktop says that the host looks for programs in the PATH of the desktop.
	desktop bool
	// path is the PATH of this process.
	path string
}

// Entries returns the entries of sallyport in the files of all MCP hosts that are known. The errors
// are those of files that cannot be read.
func Entries(env environment.Environment) (entries []Entry, unread []error) {
	place, err := install.Here(env)
	if err != nil {
		return nil, []error{err}
	}
	self, _ := install.Self(place)
	for _, host := range install.Hosts() {
		for _, file := range install.List(host, place) {
			if file.Err != nil {
				unread = append(unread, file.Err)
			}
			for _, server := range file.Servers {
				if server.Kind(self) == install.Ours {
					entries = append(entries, Entry{Host: host, File: file.Path, Server: server, desktop: habits[host.Name].desktop, path: env.Getenv("PATH")})
				}
			}
		}
	}
	return entries, unread
}

// EntriesOf returns those entries of one host, named as --client names it, that are not disabled.
func EntriesOf(env environment.Environment, client string) []Entry {
	name, _, _ := clientOf(client)
	entries, _ := Entries(env)
	return slices.DeleteFunc(entries, func(e Entry) bool { return e.Host.Name != name || e.Disabled })
}

// Args are the arguments of sallyport in the entry. The name of the default command is left out.
func (e Entry) Args() []string {
	isProgram := func(word string) bool {
		return strings.TrimSuffix(strings.ToLower(filepath.Base(filepath.ToSlash(word))), ".exe") == "sallyport"
	}
	args := e.Command[min(1, len(e.Command)):]
	if i := slices.IndexFunc(e.Command, isProgram); i >= 0 { // a launcher may stand before it
		args = e.Command[i+1:]
	}
	if len(args) > 0 && args[0] == "proxy" {
		args = args[1:]
	}
	return args
}

// fault says what is wrong with the program of the entry, or nothing.
func (e Entry) fault() string {
	if len(e.Command) == 0 {
		return "it names no program"
	}
	program := e.Command[0]
	if filepath.IsAbs(program) {
		if fi, err := os.Stat(program); err != nil || fi.IsDir() {
			return program + " is not there"
		}
		return ""
	}
	path := e.path
	if e.desktop {
		path = shortPath(path)
	}
	if !strings.ContainsAny(program, `/\\`) && !inPath(path, program) && !inPath(path, program+".exe") {
		return program + " is in no directory of its PATH"
	}
	return ""
}
