package command

import (
	"fmt"
	"io"
	"os"
	"strings"

	"sallyport/cmd/sallyport/internal/install"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
)

// hostReport is one host in what `sallyport install --list --json` prints.
type hostReport struct {
	// Client is its name for --client, and Title what its makers call it.
	Client string `json:"client"`
	Title  string `json:"title"`
	// Here says that its program is in PATH or that it has a file.
	Here bool `json:"here"`
	// Program is the path of its program. It is empty if PATH has none.
	Program string `json:"program,omitempty"`
	// Files are those of its scopes. A host whose file is not edited has none.
	Files []fileReport `json:"files"`
}

// fileReport is one file of a host.
type fileReport struct {
	// Scope and Path say which one, and Exists whether it is there.
	Scope  install.Scope `json:"scope"`
	Path   string        `json:"path"`
	Exists bool          `json:"exists"`
	// Problem is why it cannot be read.
	Problem string `json:"problem,omitempty"`
	// Entries are those that start sallyport.
	Entries []entryReport `json:"entries"`
	// Candidates are entries of other programs that --replace could replace.
	Candidates []entryReport `json:"candidates,omitempty"`
}

// entryReport is one entry.
type entryReport struct {
	// Name is that of the entry, and Program what the host starts.
	Name    string `json:"name"`
	Program string `json:"program"`
	// Found says that the program is there. A name without a folder is looked for in PATH.
	Found bool `json:"found"`
	// Upstream is the URL, without its query.
	Upstream string `json:"upstream,omitempty"`
	// Kind is "sallyport", "mcp-oauth2-proxy" or "mcp-remote".
	Kind install.Kind `json:"kind"`
	// Disabled says that the host does not start it.
	Disabled bool `json:"disabled,omitempty"`
}

// listReport is what `sallyport install --list --json` prints.
type listReport struct {
	// Version is that of this form. It changes if a member changes its meaning.
	Version int          `json:"version"`
	Hosts   []hostReport `json:"hosts"`
}

// isHere reports whether a host is on this machine.
func isHere(host *install.Host, place install.Place) bool {
	if host.Program(place) != "" {
		return true
	}
	for _, file := range install.List(host, place) {
		if file.Exists && file.Scope == install.User {
			return true
		}
	}
	return false
}

// listHosts prints which hosts are here, and where sallyport is in their configuration.
func listHosts(a *app, place install.Place, asJSON bool) error {
	report := listReport{Version: 1, Hosts: []hostReport{}}
	self, _ := install.Self(place)
	for i := range install.Hosts {
		report.Hosts = append(report.Hosts, newHostReport(a, place, &install.Hosts[i], self))
	}
	if asJSON {
		return person.WriteJSON(a.std.Out, report)
	}
	return report.write(a.std.Out)
}

// newHostReport looks at one host.
func newHostReport(a *app, place install.Place, host *install.Host, self string) hostReport {
	report := hostReport{Client: host.Name, Title: host.Title, Here: isHere(host, place), Program: host.Program(place), Files: []fileReport{}}
	for _, file := range install.List(host, place) {
		f := fileReport{Scope: file.Scope, Path: file.Path, Exists: file.Exists, Entries: []entryReport{}}
		if file.Err != nil {
			f.Problem = a.words.Error(file.Err).Text
		}
		for _, s := range file.Servers {
			kind := s.Kind(self)
			if kind == install.Foreign || kind == install.Direct {
				continue
			}
			entry := entryReport{Name: s.Name, Program: s.Command[0], Upstream: session.BeforeQuery(s.Upstream()), Kind: kind, Disabled: s.Disabled}
			entry.Found = isProgram(place, s.Command[0])
			if kind == install.Ours {
				f.Entries = append(f.Entries, entry)
			} else {
				f.Candidates = append(f.Candidates, entry)
			}
		}
		report.Files = append(report.Files, f)
	}
	return report
}

// isProgram reports whether a host finds a program.
func isProgram(place install.Place, program string) bool {
	if !strings.ContainsAny(program, `/\`) {
		return place.LookPath(program) != ""
	}
	fi, err := os.Stat(program)
	return err == nil && fi.Mode().IsRegular()
}

// write prints the report for people: the hosts that are here, and those with an entry.
func (r listReport) write(out io.Writer) error {
	var b strings.Builder
	for _, host := range r.Hosts {
		if !host.Here && !host.hasEntry() {
			continue
		}
		writeTitle(&b, fmt.Sprintf("%s (--client %s)", host.Title, host.Client))
		writeRow(&b, "program", host.Program)
		for _, file := range host.Files {
			file.write(&b)
		}
	}
	if b.Len() == 0 {
		b.WriteString("no MCP host that is known was found here\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// hasEntry reports whether one of the host's files has an entry of ours.
func (h hostReport) hasEntry() bool {
	for _, file := range h.Files {
		if len(file.Entries) > 0 {
			return true
		}
	}
	return false
}

// write prints one file. One of a project that is not there is left out.
func (f fileReport) write(b *strings.Builder) {
	if !f.Exists && f.Scope != install.User {
		return
	}
	path := f.Path
	if !f.Exists {
		path += " (not there yet)"
	}
	writeRow(b, string(f.Scope), path)
	if f.Problem != "" {
		writeRow(b, "problem", f.Problem)
	}
	for _, e := range f.Entries {
		e.write(b, "entry")
	}
	for _, e := range f.Candidates {
		e.write(b, string(e.Kind))
	}
}

// write prints one entry.
func (e entryReport) write(b *strings.Builder, word string) {
	text := fmt.Sprintf("%s -> %s", e.Name, e.Upstream)
	if word == "entry" {
		text += ", by " + e.Program
		if !e.Found {
			text += ", which is not there"
		}
	}
	if e.Disabled {
		text += " (disabled)"
	}
	writeRow(b, word, text)
}
