package install

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Request is an entry that is to come into a host's configuration.
type Request struct {
	// Host, Place and Scope say which file.
	Host  *Host
	Place Place
	Scope Scope
	// Entry is what the host is to start. Its name is used unless an entry for the same upstream is
	// there already under another one.
	Entry Entry
	// Upstream is the URL that it leads to.
	Upstream string
	// Named says that the person has chosen the name.
	Named bool
	// Replace permits to replace another program's entry for the same upstream.
	Replace bool
	// DryRun writes nothing.
	DryRun bool
	// Records remembers what was made. It may be empty with DryRun.
	Records Records
}

// Outcome says what became of an entry.
type Outcome string

// The outcomes.
const (
	Added     Outcome = "added"
	Updated   Outcome = "updated"
	Replaced  Outcome = "replaced"
	Unchanged Outcome = "unchanged"
	Removed   Outcome = "removed"
	Absent    Outcome = "absent"
)

// Result is what Install or Uninstall has done.
type Result struct {
	// Outcome says it in a word, and Name is that of the entry.
	Outcome Outcome
	Name    string
	// Scope and Path say where. Target is the file if Path is a link to it, else it is Path.
	Scope        Scope
	Path, Target string
	// Edited holds the texts, and the path of the backup.
	Edited
	// Was is what an entry was that has been replaced: another program's.
	Was Server
	// Lost are arguments of that entry that are not in the new one.
	Lost []string
	// Server is the entry that was removed.
	Server Server
}

// TakenError says that a host has an entry already that is not replaced unasked.
type TakenError struct {
	// Name is that of the entry, in the file at Path.
	Name, Path string
	// Kind is what the entry is, and Upstream where it leads.
	Kind     Kind
	Upstream string
	// SameUpstream says that it leads where the new one would.
	SameUpstream bool
	// Free is a name that no entry has.
	Free string
}

// Error says what has the name.
func (e *TakenError) Error() string {
	what := "another program"
	switch {
	case e.Kind == Direct:
		what = "the host's own connection"
	case e.Kind != Foreign:
		what = string(e.Kind)
	}
	if e.SameUpstream {
		return fmt.Sprintf("%s: %q already leads to this URL, by %s", e.Path, e.Name, what)
	}
	if e.Upstream != "" {
		what += " to another URL"
	}
	return fmt.Sprintf("%s: the name %q is that of %s", e.Path, e.Name, what)
}

// Install puts an entry into a host's configuration. The errors are *TakenError, *SyntaxError,
// *BusyError, and those of the files.
func Install(ctx context.Context, r Request) (Result, error) {
	f, err := openFile(r.Host.File(r.Place, r.Scope), r.Host.lock, r.Scope)
	if err != nil {
		return Result{}, err
	}
	container := r.Host.container(r.Place, r.Scope)
	result := Result{Scope: r.Scope, Path: f.path, Target: f.target}
	var made []Made
	result.Edited, err = f.edit(ctx, r.DryRun, func(old []byte) ([]byte, error) {
		servers, err := r.Host.format.servers(old, container)
		if err != nil {
			return nil, inFile(f.path, err)
		}
		plan, err := r.plan(servers, f.path)
		if err != nil {
			return nil, err
		}
		result.Name, result.Outcome, result.Was, result.Lost = plan.entry.Name, plan.outcome, plan.was, plan.lost
		if plan.outcome == Unchanged {
			return old, nil
		}
		text := old
		if plan.outcome == Replaced {
			if text, err = r.Host.format.remove(old, container, plan.was.Name, nil); err != nil {
				return nil, inFile(f.path, err)
			}
		}
		change, err := r.Host.format.put(text, container, plan.entry.Name, r.Host.value(plan.entry))
		if err != nil {
			return nil, inFile(f.path, err)
		}
		made = change.Made
		after, err := r.Host.format.servers(change.New, container)
		if err != nil || !onlyDiffer(servers, after, plan.entry.Name, plan.was.Name) {
			return nil, errEdit(f.path)
		}
		return change.New, nil
	})
	if err == nil && !r.DryRun && len(made) > 0 {
		err = r.Records.add(f.path, container, made)
	}
	return result, err
}

// onlyDiffer reports whether two lists of servers are the same, apart from those with the names. It
// is the last look at an edit before the file is replaced.
func onlyDiffer(before, after []Server, names ...string) bool {
	others := func(servers []Server) []Server {
		return slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return slices.Contains(names, s.Name) })
	}
	return slices.EqualFunc(others(before), others(after), func(a, b Server) bool { return a.Name == b.Name && equal(a.value, b.value) })
}

// errEdit says that an edit would have changed something else, too.
func errEdit(path string) error {
	return &SyntaxError{Path: path, Text: "it is written in a way that is not edited here"}
}

// inFile adds the path to a syntax error.
func inFile(path string, err error) error {
	if syntax, ok := err.(*SyntaxError); ok {
		syntax.Path = path
	}
	return err
}

// plan is what Install does with one text of the file.
type plan struct {
	entry   Entry
	outcome Outcome
	was     Server
	lost    []string
}

// plan decides by the servers that the host has.
func (r Request) plan(servers []Server, path string) (plan, error) {
	p := plan{entry: r.Entry, outcome: Added}
	self := r.Entry.Command
	byName := func(name string) (Server, bool) {
		i := slices.IndexFunc(servers, func(s Server) bool { return s.Name == name })
		if i < 0 {
			return Server{}, false
		}
		return servers[i], true
	}
	taken := func(s Server) (plan, error) {
		return plan{}, &TakenError{
			Name: s.Name, Path: path, Kind: s.Kind(self), Upstream: s.Upstream(), SameUpstream: sameURL(s.Upstream(), r.Upstream),
			Free: freeName(p.entry.Name, servers),
		}
	}
	var others []Server // another program's, for the same upstream
	for _, s := range servers {
		switch isOurs := s.Kind(self) == Ours; {
		case !sameURL(s.Upstream(), r.Upstream):
		case !isOurs:
			others = append(others, s)
		case !r.Named && sameProfile(s, r.Entry):
			p.entry.Name = s.Name
		}
	}
	if len(others) > 0 && r.Replace {
		return r.replace(p, others[0]), nil
	}
	there, ok := byName(p.entry.Name)
	if !ok {
		if len(others) > 0 && !r.Named {
			return taken(others[0])
		}
		return p, nil
	}
	isOurs := there.Kind(self) == Ours
	switch sameUpstream := sameURL(there.Upstream(), r.Upstream); {
	case !isOurs, !sameUpstream && !r.Named:
		return taken(there)
	case has(there.value, r.Host.value(p.entry)):
		p.outcome = Unchanged
	default:
		p.outcome = Updated
	}
	return p, nil
}

// sameProfile reports whether two entries are for the same account.
func sameProfile(s Server, e Entry) bool { return s.Profile() == profileOf(e.Args) }

// Profile returns the name of the account that the server uses.
func (s Server) Profile() string { return profileOf(s.Command) }

// Flag returns the value that the server's command line has for a flag of sallyport, such as
// "--state-dir". It is empty if the flag is not there.
func (s Server) Flag(name string) string {
	for i, arg := range s.Command {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return value
		}
		if arg == name && i+1 < len(s.Command) {
			return s.Command[i+1]
		}
	}
	return ""
}

// profileOf returns the value of --profile in a command line.
func profileOf(args []string) string {
	return cmp.Or(Server{Command: args}.Flag("--profile"), "default")
}

// freeName finds a name that no server has.
func freeName(name string, servers []Server) string {
	for n := 2; ; n++ {
		free := fmt.Sprintf("%s-%d", name, n)
		if !slices.ContainsFunc(servers, func(s Server) bool { return s.Name == free }) {
			return free
		}
	}
}

// replace plans the replacement of another program's entry. Its variables are kept, and so is its
// name unless the person has chosen one.
func (r Request) replace(p plan, was Server) plan {
	p.outcome, p.was = Replaced, was
	if !r.Named {
		p.entry.Name = was.Name
	}
	for _, name := range slices.Sorted(maps.Keys(was.Env)) {
		if !slices.ContainsFunc(p.entry.Env, func(m member) bool { return m.key == name }) {
			p.entry.Env = append(p.entry.Env, member{name, was.Env[name]})
		}
	}
	if was.Kind("") == MCPRemote {
		p.entry.Args, p.lost = fromMCPRemote(p.entry.Args, was.Command)
	}
	return p
}

// fromMCPRemote takes over what mcp-remote's arguments and ours have in common: headers, without a
// secret in them. It returns the new arguments, and the flags that are lost.
func fromMCPRemote(args, was []string) (merged, lost []string) {
	var headers []string
	for i := 0; i < len(was); i++ {
		flag := was[i]
		if !strings.HasPrefix(flag, "--") {
			continue
		}
		value := ""
		if i+1 < len(was) && !strings.HasPrefix(was[i+1], "--") {
			value = was[i+1]
		}
		switch {
		case flag == "--header" && strings.Contains(value, "${") && !slices.Contains(args, "--header"):
			headers = append(headers, flag, value)
		case flag == "--allow-http" && !slices.Contains(args, "--allow-insecure-http"):
			headers = append(headers, "--allow-insecure-http")
		default:
			lost = append(lost, flag)
		}
	}
	return append(headers, args...), lost
}

// Removal is an entry that is to leave a host's configuration.
type Removal struct {
	// Host and Place say which files. An empty Scope means all that the host has.
	Host  *Host
	Place Place
	Scope Scope
	// Name and Upstream say which entry, if there are several. Empty ones match all of ours.
	Name, Upstream string
	// Self is the path of this program.
	Self string
	// DryRun writes nothing.
	DryRun bool
	// Records remembers what was made.
	Records Records
}

// SeveralError says that more than one entry matches.
type SeveralError struct {
	// Found are those that match.
	Found []Found
}

// Error names them.
func (e *SeveralError) Error() string {
	names := make([]string, len(e.Found))
	for i, f := range e.Found {
		names[i] = fmt.Sprintf("%s (%s)", f.Server.Name, f.Scope)
	}
	return "several entries start sallyport: " + strings.Join(names, ", ")
}

// Found is an entry in a file.
type Found struct {
	// Scope and Path say where it is.
	Scope Scope
	Path  string
	// Server is the entry.
	Server Server
}

// Uninstall takes an entry of ours out of a host's configuration. It is no error if there is none.
// The errors are *SeveralError, *TakenError, *SyntaxError, *BusyError, and those of the files.
func Uninstall(ctx context.Context, r Removal) (Result, error) {
	found, err := r.find()
	if err != nil || len(found) == 0 {
		return Result{Outcome: Absent, Name: r.Name}, err
	}
	if len(found) > 1 {
		return Result{}, &SeveralError{Found: found}
	}
	at := found[0]
	f, err := openFile(at.Path, r.Host.lock, at.Scope)
	if err != nil {
		return Result{}, err
	}
	container := r.Host.container(r.Place, at.Scope)
	made := r.Records.of(f.path, container)
	result := Result{Outcome: Removed, Name: at.Server.Name, Scope: at.Scope, Path: f.path, Target: f.target, Server: at.Server}
	isLast := false
	result.Edited, err = f.edit(ctx, r.DryRun, func(old []byte) ([]byte, error) {
		text, err := r.Host.format.remove(old, container, at.Server.Name, made)
		if err != nil {
			return nil, inFile(f.path, err)
		}
		before, err := r.Host.format.servers(old, container)
		if err != nil {
			return nil, inFile(f.path, err)
		}
		left, err := r.Host.format.servers(text, container)
		isGone := !slices.ContainsFunc(left, func(s Server) bool { return s.Name == at.Server.Name })
		if err != nil || !isGone || !onlyDiffer(before, left, at.Server.Name) {
			return nil, errEdit(f.path)
		}
		isLast = !slices.ContainsFunc(left, func(s Server) bool { return s.Kind(r.Self) == Ours })
		return text, nil
	})
	if err == nil && isLast && !r.DryRun {
		err = r.Records.forget(f.path, container)
	}
	return result, err
}

// find lists the entries that match. The error of a name that another program has counts only where
// no entry of ours has it, in whatever scope.
func (r Removal) find() ([]Found, error) {
	var found []Found
	var taken error
	for _, file := range List(r.Host, r.Place) {
		if r.Scope != "" && file.Scope != r.Scope {
			continue
		}
		if file.Err != nil {
			return nil, file.Err
		}
		for _, s := range file.Servers {
			switch isOurs := s.Kind(r.Self) == Ours; {
			case r.Name != "" && s.Name != r.Name, r.Upstream != "" && !sameURL(s.Upstream(), r.Upstream):
			case isOurs:
				found = append(found, Found{Scope: file.Scope, Path: file.Path, Server: s})
			case r.Name != "" && taken == nil:
				taken = &TakenError{Name: s.Name, Path: file.Path, Kind: s.Kind(r.Self), Upstream: s.Upstream()}
			}
		}
	}
	if len(found) > 0 {
		taken = nil
	}
	return found, taken
}

// File is a configuration file of a host, as it was found.
type File struct {
	// Scope and Path say which one.
	Scope Scope
	Path  string
	// Exists says that it is there.
	Exists bool
	// Servers are those in it.
	Servers []Server
	// Err is why it cannot be read. It is a *SyntaxError, or that of the file.
	Err error
}

// List reads the files of a host. Those whose path is not known are left out, and so is that of a
// folder which is the user's own at the same time: the home directory.
func List(h *Host, p Place) []File {
	var files []File
	for _, scope := range h.Scopes {
		path := h.File(p, scope)
		isSame := func(f File) bool {
			return f.Path == path && slices.Equal(h.container(p, f.Scope), h.container(p, scope))
		}
		if path == "" || slices.ContainsFunc(files, isSame) {
			continue
		}
		file := File{Scope: scope, Path: path}
		f, err := openFile(path, "", scope)
		var text []byte
		if err == nil {
			text, err = f.read()
		}
		if file.Exists = text != nil; file.Exists {
			file.Servers, err = h.format.servers(text, h.container(p, scope))
		}
		file.Err = inFile(path, err)
		files = append(files, file)
	}
	return files
}

// Shown returns the entry as a person pastes it into the host.
func (h *Host) Shown(p Place, e Entry) (string, error) {
	change, err := h.format.put(nil, h.container(p, h.Scopes[0]), e.Name, h.value(e))
	return string(change.New), err
}
