package install

import (
	"os"
	"strings"
)

// HostReport is one host in what `sallyport install --list --json` prints.
type HostReport struct {
	// Client is its name for --client, and Title what its makers call it.
	Client string `json:"client"`
	Title  string `json:"title"`
	// Here says that its program is in PATH or that it has a file.
	Here bool `json:"here"`
	// Program is the path of its program. It is empty if PATH has none.
	Program string `json:"program,omitempty"`
	// Files are those of its scopes. A host whose file is not edited has none.
	Files []FileReport `json:"files"`
}

// FileReport is one file of a host.
type FileReport struct {
	// Scope and Path say which one, and Exists whether it is there.
	Scope  Scope  `json:"scope"`
	Path   string `json:"path"`
	Exists bool   `json:"exists"`
	// Problem is why it cannot be read.
	Problem string `json:"problem,omitempty"`
	// Entries are those that start sallyport.
	Entries []EntryReport `json:"entries"`
	// Candidates are entries of other programs that --replace could replace.
	Candidates []EntryReport `json:"candidates,omitempty"`
}

// EntryReport is one entry.
type EntryReport struct {
	// Name is that of the entry, and Program what the host starts.
	Name    string `json:"name"`
	Program string `json:"program"`
	// Found says that the program is there. A name without a folder is looked for in PATH.
	Found bool `json:"found"`
	// Upstream is the URL, without its query.
	Upstream string `json:"upstream,omitempty"`
	// Kind is "sallyport", "mcp-oauth2-proxy" or "mcp-remote".
	Kind Kind `json:"kind"`
	// Disabled says that the host does not start it.
	Disabled bool `json:"disabled,omitempty"`
}

// Report is what `sallyport install --list --json` prints.
type Report struct {
	// Version is that of this form. It changes if a member changes its meaning.
	Version int          `json:"version"`
	Hosts   []HostReport `json:"hosts"`
}

// IsHere reports whether the host is on this machine: its program is in PATH, or it has a file of
// the user's.
func (h *Host) IsHere(p Place) bool {
	if h.Program(p) != "" {
		return true
	}
	for _, file := range List(h, p) {
		if file.Exists && file.Scope == User {
			return true
		}
	}
	return false
}

// NewReport looks at all hosts. The argument self is the path of this program.
func NewReport(p Place, self string) Report {
	report := Report{Version: 1, Hosts: []HostReport{}}
	for _, host := range Hosts() {
		report.Hosts = append(report.Hosts, newHostReport(p, host, self))
	}
	return report
}

// newHostReport looks at one host.
func newHostReport(place Place, host *Host, self string) HostReport {
	report := HostReport{Client: host.Name, Title: host.Title, Here: host.IsHere(place), Program: host.Program(place), Files: []FileReport{}}
	for _, file := range List(host, place) {
		f := FileReport{Scope: file.Scope, Path: file.Path, Exists: file.Exists, Entries: []EntryReport{}}
		if file.Err != nil {
			f.Problem = file.Err.Error()
		}
		for _, s := range file.Servers {
			kind := s.Kind(self)
			if kind == Foreign || kind == Direct {
				continue
			}
			entry := EntryReport{Name: s.Name, Program: s.Command[0], Upstream: withoutQuery(s.Upstream()), Kind: kind, Disabled: s.Disabled}
			entry.Found = isProgram(place, s.Command[0])
			if kind == Ours {
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
func isProgram(place Place, program string) bool {
	if !strings.ContainsAny(program, `/\`) {
		return place.LookPath(program) != ""
	}
	fi, err := os.Stat(program)
	return err == nil && fi.Mode().IsRegular()
}

// withoutQuery cuts the query of a URL, which may hold a secret.
func withoutQuery(text string) string {
	before, _, _ := strings.Cut(text, "?")
	return before
}
