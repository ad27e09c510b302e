package person

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"

	"sallyport/cmd/sallyport/internal/farbrowser"
	"sallyport/oauth"
)

// FarSide is the network behind an SSH connection, for login servers that only it reaches.
type FarSide struct {
	// Name is the far side for people: the host of --via.
	Name string
	// Key names the person's account there. Each key has a browser profile of its own.
	Key string
	// Dial dials through the connection.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// StateDir is the directory below which browser profiles are kept. If it is empty, there are
	// none.
	StateDir string
	// Log must not be nil.
	Log *slog.Logger
}

// openFar opens the login page through the far side if this machine does not reach its server. It
// reports false if the page may be opened as any other.
func (l Login) openFar(ctx context.Context, p oauth.Prompt) bool {
	if l.Far == nil {
		return false
	}
	result, err := farbrowser.Open(ctx, farbrowser.Config{
		Link: p.AuthorizeURL, Start: p.BrowserURL, Far: l.Far.Dial, Key: l.Far.Key, Until: p.Expires,
		NoBrowser: l.NoBrowser, Named: BrowserPrograms(l.Browser), NamedOnly: IsBrowserChosen(l.Env, l.Browser),
		Env: l.Env, StateDir: l.Far.StateDir, Log: l.Far.Log,
	})
	switch {
	case ctx.Err() != nil:
		return true // the login was withdrawn
	case err != nil:
		l.Far.Log.Debug("the login page is opened as any other", "err", err)
	case result.Way == farbrowser.Nowhere:
		l.Messages.hint("%s is reached neither from this machine nor through %s: the page may not open (%v)", result.Host, l.Far.Name, result.Why)
	case result.Way == farbrowser.Opened:
		l.Messages.hint("%s is reached only through %s: the page is open in %s, in a window of sallyport's own that goes there", result.Host, l.Far.Name, result.Browser)
		return true
	case result.Way == farbrowser.ByPAC:
		l.sayPAC(p, result)
		// The browser that the person has named may run on a machine that reaches the server.
		return l.Browser == ""
	}
	return false
}

// sayPAC tells how to reach the page with a browser that openFar could not start.
func (l Login) sayPAC(p oauth.Prompt, result farbrowser.Result) {
	why := ""
	if !errors.Is(result.Why, farbrowser.ErrNotAsked) {
		why = " (" + result.Why.Error() + ")"
	}
	l.Messages.hint("%s is reached only through %s, not from this machine%s", result.Host, l.Far.Name, why)
	l.Messages.hint("in a browser on this machine, set the automatic proxy configuration (PAC) to %s until you have signed in, and open %s",
		result.PAC, cmp.Or(p.StartURL, p.AuthorizeURL))
}
