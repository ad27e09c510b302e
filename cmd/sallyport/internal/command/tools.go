package command

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/cmd/sallyport/internal/toolreport"
	"sallyport/relay"
	"sallyport/relay/pins"
)

// errPinsNeedStore refuses settings that would forget the tools at each start.
var errPinsNeedStore = &cli.UsageError{
	Text:  "--pin-tools remembers nothing with --token-store memory",
	Hints: []string{"leave out --token-store memory, or --pin-tools"},
}

// tools shows what is remembered of the upstream's tools, and what has changed. It asks the
// upstream, and signs nobody in for that.
func tools(ctx context.Context, a *app, c *cli.ToolsCommand) error {
	if c.TokenStore == "memory" {
		return errPinsNeedStore
	}
	s, err := a.openSession(ctx, c.Remote, true)
	if err != nil {
		return err
	}
	defer s.Close()
	stored, err := s.Load(relay.MemoryPins)
	if err != nil {
		return err
	}
	record, err := pins.Read(stored)
	if err != nil && !c.Accept { // what cannot be read is replaced
		return err
	}
	report := toolreport.New(session.PlainURL(s.Upstream), s.Realm.Profile, record)
	now, failed := presentTools(ctx, a, s, c)
	if failed == nil {
		report.Compare(record, now)
	} else {
		report.Failure = person.OneLine(a.words.Error(failed).Text)
	}
	if failed == nil && c.Accept {
		if err := accept(s, now); err != nil {
			return err
		}
		report.Accepted = true
	}
	if err := writeTools(a, report, c.JSON); err != nil {
		return err
	}
	if failed == nil && len(report.Changes) > 0 && !c.Accept {
		a.messages.Say("to accept the tools as they are now: %s", toolsCommand(s, c.Remote, c.Common, "--accept"))
	}
	return failed
}

func writeTools(a *app, report *toolreport.Report, asJSON bool) error {
	if asJSON {
		return person.WriteJSON(a.std.Out, report)
	}
	return report.Write(a.std.Out)
}

// presentTools asks the upstream for its tools. It brings the tunnel up first, because a person
// waits who may be asked.
func presentTools(ctx context.Context, a *app, s *session.Session, c *cli.ToolsCommand) ([]pins.Tool, error) {
	if err := s.Connect(ctx); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var cause error // the last error of a request, which says more than its words
	list, err := relay.ListTools(ctx, relay.Config{
		URL: s.Upstream, Header: s.Header, Send: s.SignIn.Background(),
		Transport: c.Transport, IgnoreTools: c.IgnoreTool, ProtocolVersion: c.ProtocolVersion, NoServerStream: true,
		Timeout: min(time.Duration(c.Timeout), listTimeout),
		Explain: func(err error) relay.Explanation {
			mu.Lock()
			defer mu.Unlock()
			cause = err
			e := a.words.Error(err)
			return relay.Explanation{Kind: e.Kind, Text: e.Text, Hints: e.Hints, NotRun: e.NotRun}
		},
		Mask: func(text string) string { return person.Lines(s.Mask(text)) }, Version: a.env.Version, Log: a.log,
	})
	if err == nil {
		return pins.List(list), nil
	}
	if status, ok := errors.AsType[*relay.StatusError](cause); ok && status.Status == http.StatusUnauthorized {
		return nil, &session.SignInWantedError{Upstream: session.PlainURL(s.Upstream)}
	}
	return nil, cmp.Or(cause, err)
}

// listTimeout is how long each request of tools may take.
const listTimeout = 60 * time.Second

// accept remembers the tools as those of this account.
func accept(s *session.Session, now []pins.Tool) error {
	record := pins.NewRecord(time.Now())
	for _, t := range now {
		record.Add(t) // one that cannot be remembered stays hidden, which the report says
	}
	return s.Update(relay.MemoryPins, func([]byte) []byte { return record.Bytes() })
}

// toolsHints say what to type about tools that are hidden.
func toolsHints(s *session.Session, settings cli.Remote, common cli.Common) []string {
	return []string{
		toolsCommand(s, settings, common, "") + " shows the difference",
		toolsCommand(s, settings, common, "--accept") + " accepts it",
	}
}

// toolsCommand returns the command line of `sallyport tools` for this account. A query of the URL
// may hold a secret, so it is not in it.
func toolsCommand(s *session.Session, settings cli.Remote, common cli.Common, flag string) string {
	words := []string{"sallyport tools", flag}
	for _, option := range []struct{ name, value, unset string }{
		{"--config", common.Config, ""}, {"--via", settings.Via, ""}, {"--profile", settings.Profile, "default"}, {"--state-dir", settings.StateDir, ""},
	} {
		if option.value != option.unset {
			words = append(words, option.name, session.ShellWord(option.value))
		}
	}
	upstream := session.ShellWord(session.PlainURL(s.Upstream))
	if s.Upstream.RawQuery != "" {
		upstream = "URL"
	}
	return strings.Join(strings.Fields(strings.Join(append(words, upstream), " ")), " ")
}
