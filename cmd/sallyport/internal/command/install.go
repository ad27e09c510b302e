package command

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/install"
	"sallyport/cmd/sallyport/internal/session"
)

// installEntry puts the entry for an upstream into the configuration of an MCP host, signs in, and
// asks the host whether it gets through.
func installEntry(ctx context.Context, a *app, c *cli.InstallCommand) error {
	place, err := install.Here(a.env)
	if err != nil {
		return err
	}
	if c.List {
		return listHosts(a, place, c.JSON)
	}
	upstream, err := session.Endpoint(c.Upstream)
	if c.Client == "" {
		return chooseHost(a, place, upstream)
	}
	host, scope, scopeErr := findHost(c.Client, c.ClientScope)
	if scopeErr != nil {
		return scopeErr
	}
	if err != nil {
		return err
	}
	entry, err := newEntry(a, c, place, upstream)
	if err != nil {
		return err
	}
	if host.Paste != "" {
		return showEntry(a, place, host, entry)
	}
	if !host.IsHere(place) {
		a.messages.Say("%s was not found on this machine; its file gets the entry all the same", host.Title)
	}
	result, err := install.Install(ctx, install.Request{
		Host: host, Place: place, Scope: scope, Entry: entry, Upstream: upstream.String(),
		Named: c.Name != "", Replace: c.Replace, DryRun: c.DryRun, Records: installRecords(a, c.Store),
	})
	if err != nil {
		return err
	}
	tellInstalled(a, host, result, c.DryRun)
	if c.DryRun {
		return nil
	}
	if !c.NoLogin {
		if err := a.login(ctx, c.Remote); err != nil {
			return err
		}
	}
	return checkHost(ctx, a, place, host, result)
}

// installRecords is where install remembers what it has made.
func installRecords(a *app, settings cli.Store) install.Records {
	dir := session.StateDir(settings, a.env)
	if dir == "" {
		return ""
	}
	return install.Records(filepath.Join(dir, "installed.json"))
}

// findHost finds the host of --client and the scope of --client-scope. The errors are
// *cli.UsageError.
func findHost(name, scope string) (*install.Host, install.Scope, error) {
	host, ok := install.Find(name)
	if !ok {
		e := &cli.UsageError{Text: fmt.Sprintf("--client %q is no MCP host that is known here", name)}
		if near, ok := install.Nearest(name, cli.Nearest); ok {
			e.Hints = append(e.Hints, "did you mean --client "+near.Name+"?")
		}
		e.Hints = append(e.Hints, "known are: "+strings.Join(install.Names(), ", "))
		return nil, "", e
	}
	if scope == "" {
		return host, host.Scopes[0], nil
	}
	var scopes []string
	for _, s := range host.Scopes {
		if string(s) == scope {
			return host, s, nil
		}
		scopes = append(scopes, string(s))
	}
	return nil, "", &cli.UsageError{
		Text:  fmt.Sprintf("--client-scope %q: %s has no such scope", scope, host.Title),
		Hints: []string{"--client-scope takes: " + strings.Join(scopes, ", ")},
	}
}

// chooseHost says what to type for each host that is here. It is an error, because nothing was
// installed.
func chooseHost(a *app, place install.Place, upstream *url.URL) error {
	target := "URL"
	if upstream != nil {
		target = session.PlainURL(upstream)
	}
	e := &cli.UsageError{Text: "which MCP host? --client names it"}
	for _, host := range install.Hosts() {
		if host.IsHere(place) {
			e.Hints = append(e.Hints, fmt.Sprintf("%s: sallyport install --client %s %s", host.Title, host.Name, target))
		}
	}
	if len(e.Hints) == 0 {
		e.Hints = []string{"none was found here; known are: " + strings.Join(install.Names(), ", ")}
	}
	return e
}

// newEntry makes the entry. Secrets go into files of their own.
func newEntry(a *app, c *cli.InstallCommand, place install.Place, upstream *url.URL) (install.Entry, error) {
	program, warning := install.Self(place)
	if program == "" {
		return install.Entry{}, &cli.UsageError{
			Text:  "a program that go run builds is gone when the host wants to start it",
			Hints: []string{"make build leaves it in bin/sallyport: copy that to a folder of your PATH and run it from there"},
		}
	}
	if warning != "" {
		a.messages.Report(fmt.Sprintf("the entry names %s: %s", program, warning), []string{"copy it to a folder of your PATH and install from there"})
	}
	entry := install.Entry{Name: c.Name, Command: program}
	if c.Name == "" {
		entry.Name = install.NameOf(upstream, c.Profile)
	} else if !install.IsName(c.Name) {
		return entry, &cli.UsageError{
			Text: fmt.Sprintf("--name %q: some hosts refuse such a name", c.Name), Hints: []string{"use at most 64 letters, digits, - and _"},
		}
	}
	args, err := keptSettings{app: a, command: c, upstream: upstream, name: entry.Name}.arguments()
	if err != nil {
		return entry, err
	}
	entry.Args = append(args, upstream.String())
	entry.Pass = install.Wanted(place, c.Via != "" || c.CallbackVia != "", references(c.Header))
	return entry, nil
}

// references lists the variables that headers refer to.
func references(headers []string) []string {
	var names []string
	for _, header := range headers {
		for _, match := range cli.VariableReference().FindAllStringSubmatch(header, -1) {
			names = append(names, match[1])
		}
	}
	return names
}

// showEntry prints what to paste into a host whose file is not edited.
func showEntry(a *app, place install.Place, host *install.Host, entry install.Entry) error {
	text, err := host.Shown(place, entry)
	if err != nil {
		return err
	}
	a.messages.Report(fmt.Sprintf("%s keeps its servers in a file of its own: paste this there", host.Title),
		append([]string{host.Paste}, host.Next(host.Scopes[0], entry.Name)...))
	_, err = fmt.Fprint(a.std.Out, text)
	return err
}

// tellInstalled shows the change, and says what the host still wants.
func tellInstalled(a *app, host *install.Host, result install.Result, dryRun bool) {
	showChange(a, result)
	next := host.Next(result.Scope, result.Name)
	would := ""
	if dryRun {
		would, next = "would be ", []string{"this was --dry-run: nothing is written"}
	}
	if result.Scope == install.Project && !dryRun {
		next = append(next, "everybody who works in this folder gets the entry: they need sallyport at the same path")
	}
	where := fmt.Sprintf("%s (%s), %s", host.Title, result.Scope, result.Path)
	switch result.Outcome {
	case install.Unchanged:
		a.messages.Say("%q is already there as it should be: %s", result.Name, where)
		return
	case install.Replaced:
		if len(result.Lost) > 0 {
			next = append(next, fmt.Sprintf("these flags of %s have no counterpart and are left out: %s", result.Was.Kind(""), strings.Join(result.Lost, " ")))
		}
		a.messages.Report(fmt.Sprintf("%q %sreplaced, which was %s: %s", result.Name, would, result.Was.Kind(""), where), next)
	default:
		a.messages.Report(fmt.Sprintf("%q %s%s: %s", result.Name, would, result.Outcome, where), next)
	}
	tellBackup(a, result)
}

// showChange prints the difference.
func showChange(a *app, result install.Result) {
	if text := install.Diff(result.Path, result.Old, result.New); text != "" {
		fmt.Fprintln(a.std.Out, text)
	}
}

// tellBackup names the copy of the file, and the file itself if the path is a link.
func tellBackup(a *app, result install.Result) {
	if result.Target != result.Path {
		a.messages.Say("that is a link, which stays one, to %s", result.Target)
	}
	if result.Backup != "" {
		a.messages.Say("the file as it was: %s", result.Backup)
	}
}

// checkTimeout is how long a host's health check may take. Hosts start all their servers for it.
const checkTimeout = 30 * time.Second

// checkHost asks the host's own health check, if it has one and is here, and tells what it says. It
// is no error if the host is not content: the entry is there.
func checkHost(ctx context.Context, a *app, place install.Place, host *install.Host, result install.Result) error {
	command := host.Check(place, result.Name)
	if command == nil {
		return nil
	}
	shown := strings.Join(append([]string{host.Programs[0]}, command[1:]...), " ")
	a.messages.Say("asking %s (at most %s)", shown, checkTimeout)
	limited, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	health := install.Ask(limited, place, command, result.Name)
	next := host.Next(result.Scope, result.Name)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case limited.Err() != nil:
		a.messages.Report(fmt.Sprintf("%s gave no answer in %s", shown, checkTimeout), []string{"type it yourself"})
	case health.Said == "" && health.Err != nil:
		a.messages.Report(fmt.Sprintf("%s failed: %v", shown, health.Err), []string{"type it yourself to see why"})
	case health.Said == "":
		a.messages.Report(fmt.Sprintf("%s says nothing of %q", shown, result.Name), next)
	case health.Bad:
		a.messages.Report(fmt.Sprintf("%s says: %s", shown, health.Said), append(next, "sallyport doctor --client "+host.Name+" URL looks for the cause"))
	case host.OnlyReads:
		a.messages.Say("%s says: %s (it has read the entry; only a session starts the server)", shown, health.Said)
	default:
		a.messages.Say("%s says: %s", shown, health.Said)
	}
	return nil
}
