package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/install"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
)

// uninstallEntry takes the entry out of the configuration of an MCP host. Files with secrets that
// no other entry names go with it.
func uninstallEntry(ctx context.Context, a *app, c *cli.UninstallCommand) error {
	place, err := install.Here(a.env)
	if err != nil {
		return err
	}
	if c.Client == "" {
		return &cli.UsageError{
			Text:  "which MCP host? --client names it",
			Hints: []string{"sallyport install --list shows where sallyport is configured"},
		}
	}
	host, scope, err := findHost(c.Client, c.ClientScope)
	if err != nil {
		return err
	}
	if c.ClientScope == "" {
		scope = "" // any
	}
	if host.Paste != "" {
		return &cli.UsageError{Text: host.Title + " keeps its servers in a file of its own", Hints: []string{"remove the server there: " + host.Paste}}
	}
	self, _ := install.Self(place)
	result, err := install.Uninstall(ctx, install.Removal{
		Host: host, Place: place, Scope: scope, Name: c.Name, Upstream: c.URL, Self: self, DryRun: c.DryRun, Records: installRecords(a, c.Store),
	})
	if err != nil {
		return err
	}
	if result.Outcome == install.Absent {
		a.messages.Say("nothing to take out: no such entry of sallyport is in the configuration of %s", host.Title)
		return nil
	}
	showChange(a, result)
	if c.DryRun {
		a.messages.Report(fmt.Sprintf("%q would be removed: %s", result.Name, result.Path), []string{"this was --dry-run: nothing is written"})
		return nil
	}
	removeSecrets(a, place, result.Server)
	hints := []string{"a session of " + host.Title + " that runs already still has it"}
	if upstream := session.BeforeQuery(result.Server.Upstream()); upstream != "" {
		hints = append(hints, "the sign-in stays; to end it, too: "+signOutCommand(upstream, accountFlags(result.Server)))
	}
	a.messages.Report(fmt.Sprintf("%q is removed: %s (%s), %s", result.Name, host.Title, result.Scope, result.Path), hints)
	tellBackup(a, result)
	return nil
}

// accountFlags returns the flags of an entry that say where its account is stored.
func accountFlags(s install.Server) string {
	var flags []string
	if name := s.Profile(); name != "default" {
		flags = append(flags, "--profile", session.ShellWord(name))
	}
	if dir := s.Flag("--state-dir"); dir != "" {
		flags = append(flags, "--state-dir", session.ShellWord(dir))
	}
	return strings.Join(flags, " ")
}

// removeSecrets removes the files with secrets that only this entry has named.
func removeSecrets(a *app, place install.Place, removed install.Server) {
	var others []string
	for _, host := range install.Hosts() {
		for _, file := range install.List(host, place) {
			for _, s := range file.Servers {
				others = append(others, s.Command...)
			}
		}
	}
	for _, word := range removed.Command {
		if dir := secretDir(a.env); dir != "" && filepath.Dir(word) == dir && !slices.Contains(others, word) {
			if err := os.Remove(word); err != nil {
				a.log.Warn("a file with a secret is left", "err", err)
			}
		}
	}
}

// listHosts prints which hosts are here, and where sallyport is in their configuration.
func listHosts(a *app, place install.Place, asJSON bool) error {
	self, _ := install.Self(place)
	report := install.NewReport(place, self)
	if asJSON {
		return person.WriteJSON(a.std.Out, report)
	}
	return writeHosts(a.std.Out, report)
}

// writeHosts prints the report for people: the hosts that are here, and those with an entry.
func writeHosts(out io.Writer, r install.Report) error {
	var b strings.Builder
	for _, host := range r.Hosts {
		if !host.Here && !hasEntry(host) {
			continue
		}
		writeTitle(&b, fmt.Sprintf("%s (--client %s)", host.Title, host.Client))
		writeRow(&b, "program", host.Program)
		for _, file := range host.Files {
			writeFile(&b, file)
		}
	}
	if b.Len() == 0 {
		b.WriteString("no MCP host that is known was found here\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// hasEntry reports whether one of the host's files has an entry of ours.
func hasEntry(h install.HostReport) bool {
	for _, file := range h.Files {
		if len(file.Entries) > 0 {
			return true
		}
	}
	return false
}

// writeFile prints one file. One of a project that is not there is left out.
func writeFile(b *strings.Builder, f install.FileReport) {
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
		writeEntry(b, "entry", e)
	}
	for _, e := range f.Candidates {
		writeEntry(b, string(e.Kind), e)
	}
}

// writeEntry prints one entry.
func writeEntry(b *strings.Builder, word string, e install.EntryReport) {
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
