package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/install"
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
	if upstream := result.Server.Upstream(); upstream != "" {
		hints = append(hints, "the sign-in stays; to end it, too: sallyport logout "+upstream)
	}
	a.messages.Report(fmt.Sprintf("%q is removed: %s (%s), %s", result.Name, host.Title, result.Scope, result.Path), hints)
	tellBackup(a, result)
	return nil
}

// removeSecrets removes the files with secrets that only this entry has named.
func removeSecrets(a *app, place install.Place, removed install.Server) {
	var others []string
	for i := range install.Hosts {
		for _, file := range install.List(&install.Hosts[i], place) {
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
