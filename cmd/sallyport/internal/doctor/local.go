package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"sallyport/cmd/sallyport/internal/control"
	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/cmd/sallyport/internal/share"
)

// localRows makes the rows of what else of sallyport is on this machine.
type localRows struct{ *walk }

// tell looks at what else of sallyport is on this machine.
func (w localRows) tell(ctx context.Context) {
	w.begin(idShared)
	w.tellShared(ctx)
	w.begin(idProxies)
	w.tellProxies(ctx)
	w.begin(idEntries)
	w.tellEntries()
}

// tellShared makes the row of the shared connections. One that does not answer is a warning.
func (w localRows) tellShared(ctx context.Context) {
	sockets, refused := share.Sockets(share.Dirs(w.SocketDirs))
	if w.warnRefused(idShared, refused) {
		return
	}
	var lines []string
	silent := error(nil)
	for _, shown := range share.AskAll(ctx, sockets) {
		if shown.Err != nil {
			silent = shown.Err
			lines = append(lines, shown.Err.Error())
			continue
		}
		s := shown.Status
		lines = append(lines, fmt.Sprintf("process %d: %s is %s, round trip %v, %s", s.PID, strings.Join(s.Hops, " > "), s.Phase, s.RoundTrip, count(s.Attached, "process")+" attached"))
	}
	switch {
	case silent != nil:
		e := w.Words.Error(silent)
		w.add(Check{ID: idShared, Result: Warn, Summary: e.Text, Evidence: lines, Next: e.Hints})
	case len(lines) == 0:
		w.skip(idShared, "there is none")
	default:
		w.ok(idShared, count(len(lines), "shared connection"), lines...)
	}
}

// warnRefused makes the row of directories that are not used.
func (w localRows) warnRefused(id string, refused []error) bool {
	if len(refused) == 0 {
		return false
	}
	e := w.Words.Error(refused[0])
	w.add(Check{ID: id, Result: Warn, Summary: e.Text, Next: e.Hints})
	return true
}

// tellProxies makes the row of the proxies that run here, with what is in their way.
func (w localRows) tellProxies(ctx context.Context) {
	sockets, refused := control.Sockets(w.SocketDirs)
	if w.warnRefused(idProxies, refused) {
		return
	}
	var lines, troubled []string
	for _, a := range control.AskAll(ctx, sockets) {
		if _, foreign := errors.AsType[*localsock.PeerError](a.Err); foreign || a.Err != nil {
			continue // a socket that a killed proxy has left
		}
		line := fmt.Sprintf("process %d to %s", a.Status.PID, a.Status.Upstream)
		if p := a.Status.Problem; p != nil {
			line += ": " + p.Text
			if w.s != nil && a.Status.Upstream == session.PlainURL(w.s.Upstream) {
				troubled = append(troubled, line)
			}
		}
		lines = append(lines, line)
	}
	switch {
	case len(troubled) > 0:
		w.add(Check{ID: idProxies, Result: Warn, Summary: troubled[0], Evidence: lines})
	case len(lines) == 0:
		w.skip(idProxies, "none runs here")
	default:
		w.ok(idProxies, count(len(lines), "proxy")+" here", lines...)
	}
}

// tellEntries makes the row of the entries of sallyport in the files of MCP hosts.
func (w localRows) tellEntries() {
	entries, unread := Entries(w.Env)
	var lines []string
	var wrong []string
	for _, err := range unread {
		wrong = append(wrong, err.Error())
	}
	for _, e := range entries {
		line := fmt.Sprintf("%s: %s in %s leads to %s", e.Host.Title, e.Name, e.File, cmp.Or(session.BeforeQuery(e.Upstream()), "an upstream that the entry does not name"))
		if e.Disabled {
			line += ", and is disabled"
		}
		if fault := e.fault(); fault != "" {
			line += ": " + fault
			wrong = append(wrong, line)
		}
		lines = append(lines, line)
	}
	switch {
	case len(wrong) > 0:
		w.add(Check{ID: idEntries, Result: Warn, Summary: wrong[0], Evidence: append(lines, wrong[1:]...),
			Next: []string{"sallyport install --client NAME, with the same settings, writes the entry anew"}})
	case len(lines) == 0:
		w.skip(idEntries, "no MCP host here has an entry of sallyport", "sallyport install --list shows the MCP hosts of this machine")
	default:
		w.ok(idEntries, "entries: "+fmt.Sprint(len(lines)), lines...)
	}
}
