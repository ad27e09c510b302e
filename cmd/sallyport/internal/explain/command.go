package explain

import (
	"errors"
	"fmt"
	"io/fs"
	"net"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/cmd/sallyport/internal/share"
)

// commandRows explain the errors of the commands themselves. A row without a Text prints the
// error's own.
var commandRows = []row{
	on(func(e *callback.PortError) Explanation {
		return Explanation{Kind: KindPort, Hints: carriedPortHints(e), Status: StatusFailed}
	}),
	onGiven(func(g given, e *session.UnauthorizedError) Explanation {
		return Explanation{Kind: KindRefused, Status: StatusSignIn, Text: e.Error(), Hints: unauthorizedHints(g,
			"sallyport logout URL forgets the token; then sign in again, with another account if you have one")}
	}),
	onGiven(func(g given, e *session.SignInWantedError) Explanation {
		return Explanation{Kind: KindSignIn, Status: StatusSignIn, Text: e.Error(), Hints: unauthorizedHints(g, "sallyport login URL, in a terminal, signs in")}
	}),
	on(func(e *session.NotStoredError) Explanation {
		return Explanation{Kind: KindOther, Text: e.Error(), Status: StatusFailed, Hints: []string{
			"make room there, or name another place: --state-dir DIR; a running proxy does not see this sign-in",
		}}
	}),
	on(func(e *localsock.DirError) Explanation {
		if e.Owner < 0 {
			return Explanation{Kind: KindOther, Status: StatusFailed, Hints: []string{"chmod 700 " + e.Dir}}
		}
		return Explanation{Kind: KindOther, Status: StatusFailed, Hints: []string{
			"XDG_RUNTIME_DIR, or --state-dir, must name a directory of your own; or have its owner remove " + e.Dir}}
	}),
	on(func(e *share.SilentError) Explanation {
		return Explanation{Kind: KindOther, Status: StatusFailed, Hints: []string{
			"nobody waits for it: the next need of a connection starts another one",
			"its process is stopped or stuck: fuser " + e.Path + " names it; kill -CONT wakes it, kill -KILL ends it",
		}}
	}),
	on(func(e *callback.OwnerError) Explanation {
		return Explanation{Kind: KindOwner, Hints: ownerHints(e), Status: StatusFailed}
	}),
}

// carriedPortHints says what to do about a port of --port that cannot be had.
func carriedPortHints(e *callback.PortError) []string {
	_, port, _ := net.SplitHostPort(e.Addr)
	if errors.Is(e, fs.ErrPermission) {
		return []string{"a port below 1024 takes rights that sallyport does not have: let the tool use another one, in its redirect URI, and name that: --port N"}
	}
	return []string{fmt.Sprintf("end the process that holds port %s, or let the tool use another one, in its redirect URI, and name that: --port N", port)}
}

// ownerHints tells three cases apart: the check of the owner failed, nobody listens on the port, or
// another user does.
func ownerHints(e *callback.OwnerError) []string {
	switch {
	case e.Err != nil:
		return []string{"carrying needs a shell on " + e.Host + " with id, cat and /proc/net/tcp, or lsof"}
	case len(e.Owners) == 0:
		return []string{fmt.Sprintf("start the login on %s first; is its callback port %d? (--port)", e.Host, e.Port)}
	}
	return []string{"another user listens there and would be handed your login; choose another port: --callback-port on the proxy, --port here"}
}
