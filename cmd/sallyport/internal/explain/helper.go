package explain

import (
	"fmt"

	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/session"
)

// helperRows explain why a login does not reach the browser of another machine. They come before
// those of SSH, whose errors they wrap.
var helperRows = []row{
	on(func(e *helper.MissingError) Explanation {
		return Explanation{Kind: KindOther, Status: StatusFailed, Text: e.Error(), Hints: []string{
			fmt.Sprintf("put it there: sallyport callback --install %s; or into a directory of PATH, ~/.local/bin or /usr/local/bin", e.Host),
			"logins of other tools there need no sallyport, but their port: --port N",
		}}
	}),
	on(func(e *helper.OldError) Explanation {
		return Explanation{Kind: KindOther, Status: StatusFailed, Text: e.Error(), Hints: []string{
			fmt.Sprintf("put this one there: sallyport callback --install %s", e.Host),
		}}
	}),
	on(func(e *helper.FarEndError) Explanation {
		return Explanation{Kind: KindOther, Status: StatusFailed, Text: e.Error(), Hints: []string{
			fmt.Sprintf("it needs a directory of its own for a socket on %s: XDG_RUNTIME_DIR, or the state directory", e.Host),
		}}
	}),
	on(func(e *helper.ProofError) Explanation {
		return Explanation{Kind: KindForwarding, Status: StatusUnreachable, Text: e.Error(), Hints: otherWays(e.Host)}
	}),
	on(func(e *helper.CarryError) Explanation {
		return Explanation{Kind: KindForwarding, Status: StatusUnreachable,
			Text: fmt.Sprintf("%s lets no login there reach this machine: it runs no command of ours, and forwards no Unix socket", e.Host),
			Hints: append([]string{fmt.Sprintf("one of the two is enough; %s must permit commands (no ForceCommand, MaxSessions not 0), "+
				"or AllowStreamLocalForwarding (no DisableForwarding, no restrict in authorized_keys)", e.Host)}, otherWays(e.Host)...)}
	}),
	on(func(e *session.GatewayError) Explanation {
		return Explanation{Kind: KindForwarding, Status: StatusFailed, Text: e.Error(), Hints: []string{
			fmt.Sprintf("put sallyport on %s, which then needs no port that sshd opens; or set GatewayPorts no in its sshd_config", e.Host),
		}}
	}),
}

// otherWays says how a login on a host that lets nothing through is finished all the same.
func otherWays(host string) []string {
	return []string{fmt.Sprintf("on %s, open the link of the login in your browser here, and hand in what it ends at: sallyport login --paste", host)}
}
