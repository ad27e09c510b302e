package explain

import (
	"fmt"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/session"
)

// helperRows explain why a login does not reach the browser of another machine. They come before
// those of SSH, whose errors they wrap, and the first wraps others of these.
var helperRows = []row{
	on(func(e *callback.ForwardError) Explanation {
		return Explanation{Kind: KindForwarding, Status: StatusUnreachable, Text: e.Error(), Hints: []string{
			fmt.Sprintf("put sallyport on %s, which makes the connection there: sallyport callback --install %s; "+
				"or its sshd_config needs AllowTcpForwarding local, and PermitOpen 127.0.0.1:%d if it has PermitOpen", e.Host, e.Host, e.Port),
			handOver(e.Host),
		}}
	}),
	on(func(e *helper.MissingError) Explanation {
		put := "put it there: sallyport callback --install %s; or into a directory of PATH, ~/.local/bin or /usr/local/bin"
		if e.Program != "" {
			put = "put this one there in its place: sallyport callback --install %s; if that machine is of another kind" + kindOf(e.System) +
				", put its own build into ~/.local/bin there; a file system that is mounted noexec runs neither"
		}
		return Explanation{Kind: KindOther, Status: StatusFailed, Text: e.Error(), Hints: []string{
			fmt.Sprintf(put, e.Host),
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
		hints := otherWays(e.Host)
		if e.Mask {
			hints = append([]string{fmt.Sprintf("the sshd_config of %s needs StreamLocalBindMask 0177, its default; "+
				"or, if commands run there, put sallyport there, which makes a socket of its own: sallyport callback --install %s", e.Host, e.Host)}, hints...)
		}
		return Explanation{Kind: KindForwarding, Status: StatusUnreachable, Text: e.Error(), Hints: hints}
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

// kindOf puts what uname says of a machine into brackets.
func kindOf(system string) string {
	if system == "" {
		return ""
	}
	return " (" + system + ")"
}

// handOver says how a callback gets to a tool on a host that nothing is carried to.
func handOver(host string) string {
	return fmt.Sprintf("by hand: copy the address at which your browser ends, and type on %s, between single quotes: curl 'ADDRESS'", host)
}

// otherWays says how a login on a host that lets nothing through is finished all the same.
func otherWays(host string) []string {
	return []string{fmt.Sprintf("on %s, open the link of the login in your browser here, and hand in what it ends at: sallyport login --paste", host)}
}
