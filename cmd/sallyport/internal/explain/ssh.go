package explain

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"sallyport/sshtunnel"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/userkeys"
)

// sshRows explain the errors of sshtunnel. The row of HopError comes last, because a HopError may
// wrap one of the others.
var sshRows = []row{
	explainBothSides,
	on(func(e *sshconfig.Error) Explanation {
		hint := "ssh -G HOST reads the same files and shows how ssh understands them"
		// Without a file, the value came from a flag.
		if e.File == "" {
			hint = "check --via, -J and -o"
		}
		return Explanation{Kind: KindConfig, Status: StatusUsage, Hints: []string{hint}}
	}),
	on(func(e *hostkeys.Error) Explanation {
		return Explanation{Kind: KindHostKey, Status: StatusHostKey, Hints: hostKeyHints(e)}
	}),
	explainAuth,
	on(func(e *sshtunnel.AlgorithmError) Explanation {
		return Explanation{Kind: KindConfig, Status: StatusUsage, Hints: algorithmHints(e)}
	}),
	on(func(e *sshtunnel.OpenError) Explanation {
		if e.Network == "session" {
			return Explanation{Kind: KindForwarding, Status: StatusUnreachable, Text: e.Error(), Hints: []string{
				fmt.Sprintf("the sshd of %s runs no more commands on one connection: MaxSessions in its sshd_config must be higher, "+
					"2 at least for sallyport callback --port; the default is 10", e.Hop),
			}}
		}
		if e.Prohibited() {
			return Explanation{Kind: KindForwarding, Status: StatusUnreachable, Text: e.Error(), Hints: []string{
				fmt.Sprintf("ask the administrator of %s to permit forwarding to %s, or use another --via HOST", e.Hop, cmp.Or(e.Addr, "there")),
			}}
		}
		return Explanation{Kind: KindUnreachable, Status: StatusUnreachable, Text: e.Error(), Hints: []string{
			fmt.Sprintf("is the upstream running, and does %s resolve and reach it? ssh %s, then try it there", e.Hop, e.Hop),
		}}
	}),
	on(func(e *sshtunnel.ListenError) Explanation {
		return Explanation{Kind: KindPort, Status: StatusFailed, Text: e.Error(), Hints: []string{
			fmt.Sprintf("free the port on %s, or name others with --callback-port N[,N]; its sshd must permit remote forwards (AllowTcpForwarding)", e.Hop),
		}}
	}),
	on(func(e *sshtunnel.ProxyCommandError) Explanation {
		return Explanation{Kind: KindUnreachable, Status: StatusUnreachable, Hints: proxyCommandHints(e)}
	}),
	on(func(e *sshtunnel.HopError) Explanation {
		return Explanation{Kind: KindUnreachable, Status: StatusUnreachable, Text: e.Error(), Hints: hopHints(e)}
	}),
}

// explainAuth explains a hop that did not let us in. That is final, except where a person could
// help: the person may load the key into the agent while the proxy waits.
func explainAuth(g given, err error) (Explanation, bool) {
	e, ok := errors.AsType[*sshtunnel.AuthError](err)
	if !ok {
		return Explanation{}, false
	}
	out := Explanation{Kind: KindSSHAuth, Status: StatusSSHAuth, Final: err, Hints: g.authHints(e)}
	// Without the agent nothing is known of its keys. A login elsewhere may bring the shared
	// connection up.
	if e.NeedsPerson || g.forgottenAgent() != "" {
		out.Final = nil
	}
	if out.Final == nil && (e.NeedsPerson || !refusedKey(e)) {
		out.Kind = KindSSHPerson
	}
	return out, true
}

// refusedKey reports whether the server has refused a key. The key may be the wrong one, and so may
// the user's name.
func refusedKey(e *sshtunnel.AuthError) bool {
	return slices.ContainsFunc(e.Tried, func(tried string) bool { return strings.HasPrefix(tried, "publickey ") })
}

// loginServesAll says what a login at a terminal does for the proxies, as the end of a hint. It is
// empty if they do not share its connection.
func (g given) loginServesAll() string {
	if g.Share != "auto" {
		return ""
	}
	return " (its shared connection then serves the proxies, too)"
}

// hostKeyHints says what to do about a key that is revoked, changed or unknown. No hint leaves out
// the comparison of the fingerprint, because that comparison is what protects the login.
func hostKeyHints(e *hostkeys.Error) []string {
	switch {
	case e.Short:
		return []string{"the host needs a longer RSA key, or one of another type; RequiredRSASize in ssh_config sets the least length"}
	case e.Unknown && e.Type != "" && e.Fingerprint == "": // it could not be read
		return []string{"ask for the plain key of " + e.Hop + ": -o 'HostKeyAlgorithms=-*cert*', or the same in ssh_config under its Host block"}
	case e.Revoked:
		return []string{"do not connect; ask the administrator of " + e.Hop}
	case e.Changed:
		hints := []string{"somebody may be intercepting the connection, or the host was reinstalled: ask its administrator for the new fingerprint"}
		if remedy := e.Remedy(); remedy != "" { // there is none for what KnownHostsCommand printed
			hints = append(hints, "if the new key is the right one: "+remedy+" && ssh "+e.Hop)
		}
		return hints
	}
	return []string{
		"compare the fingerprint with what the administrator of " + e.Hop + " says, and accept it once in a terminal: " + e.Remedy(),
		"or let sallyport ask you: sallyport login --via HOST URL",
	}
}

// algorithmHints says how to allow what a server needs, if it can be allowed.
func algorithmHints(e *sshtunnel.AlgorithmError) []string {
	switch {
	case len(e.Possible) > 0:
		return []string{fmt.Sprintf("if you accept an old algorithm for this host: -o %s=+%s, or the same in ssh_config under its Host block",
			e.Keyword, e.Possible[0])}
	case len(e.Theirs) == 0:
		return []string{"let " + e.Keyword + " allow more, or leave it out: sallyport ssh-config HOST shows what counts"}
	}
	return []string{"sallyport implements none of these: let the server offer a current one, or reach it by --control-master or ProxyCommand ssh -W"}
}

// authHints says how to get in. Servers count each key that is offered as a try (MaxAuthTries in
// sshd_config(5)), so an agent with many keys needs IdentitiesOnly.
func (g given) authHints(e *sshtunnel.AuthError) []string {
	if !e.MetAt.IsZero() {
		refused := *e
		refused.MetAt = time.Time{}
		return append(g.authHints(&refused), "sallyport login --via HOST URL, in a terminal, tries at once")
	}
	switch {
	case e.TooMany:
		return []string{fmt.Sprintf("in ssh_config, under Host %s: IdentityFile with the right key, and IdentitiesOnly yes", e.Hop)}
	case e.Agent != nil:
		return append(agentHints(e.Hop, e.Agent), "where a person has to answer: sallyport login --via HOST URL in a terminal")
	case e.NeedsPerson:
		return []string{
			cmp.Or(g.forgottenAgent(), "load the key into the agent: ssh-add"),
			"or type the answer in a terminal: sallyport login --via HOST URL" + g.loginServesAll() + "; for graphical questions set SSH_ASKPASS",
		}
	}
	if n := len(e.Tried); n > 0 && !strings.HasPrefix(e.Tried[n-1], "publickey ") {
		return []string{"the answer or the confirmation was refused; to answer again: sallyport login --via HOST URL in a terminal"}
	}
	check := fmt.Sprintf("ssh -v %s shows the same exchange; check User and IdentityFile, and ~/.ssh/authorized_keys there", e.Hop)
	forgotten := g.forgottenAgent()
	if forgotten != "" && !refusedKey(e) {
		return []string{forgotten, "or set IdentityFile in ssh_config, under Host " + e.Hop + ", to a key without a passphrase"}
	}
	if forgotten != "" {
		return []string{check, "or an agent has the right key: " + forgotten}
	}
	return []string{check}
}

// proxyCommandHints say how to find out what is wrong with a ProxyCommand. The PATH of an MCP host
// that was started from a desktop often lacks what a shell's has.
func proxyCommandHints(e *sshtunnel.ProxyCommandError) []string {
	if e.NotFound() {
		return []string{fmt.Sprintf("install %s, or write its full path in ProxyCommand of ssh_config: the MCP host's PATH may differ from your shell's", e.Program)}
	}
	return []string{"ssh runs the same command; sallyport ssh-config HOST shows it. One that asks for a password needs a terminal: sallyport login --via HOST URL"}
}

// agentHints says how to get an agent that helps.
func agentHints(hop string, e *userkeys.AgentError) []string {
	set := fmt.Sprintf("set IdentityAgent in ssh_config, under Host %s, to the agent that is to be used (none for no agent)", hop)
	switch {
	case e.Fault == userkeys.AgentRefused && e.Signing:
		return []string{
			"answer the agent's question if it asks one; it may have been asked on another screen",
			fmt.Sprintf("a key that was added with ssh-add -h has to name %s as well: ssh-add -h %s FILE", hop, hop),
		}
	case e.Fault == userkeys.AgentGone && e.FromEnvironment:
		return []string{
			"SSH_AUTH_SOCK is that of an agent that has ended: start sallyport where SSH_AUTH_SOCK names a living one " +
				"(ssh-agent's sockets are in ~/.ssh/agent since OpenSSH 10.1)",
			set,
		}
	case e.Fault == userkeys.AgentGone:
		return []string{"start that agent, or " + set}
	}
	return []string{"ssh-add -l asks the same agent; unlock or restart it", set}
}

// hopHints goes by the stage that failed. A name that DNS does not know is often an alias that
// ssh_config lacks.
func hopHints(e *sshtunnel.HopError) []string {
	if dns, ok := errors.AsType[*net.DNSError](e); ok {
		return []string{
			fmt.Sprintf("DNS does not know %q; is it the alias of a Host block in ssh_config? check the spelling", dns.Name),
			"sallyport ssh-config " + e.Hop + " shows what the files say",
		}
	}
	switch {
	case errors.Is(e, syscall.ECONNREFUSED):
		return []string{"nothing listens there; check HostName and Port: sallyport ssh-config " + e.Hop}
	case e.Stage == sshtunnel.StageLink:
		return []string{"sallyport connects again by itself"}
	case e.Stage == sshtunnel.StageConnect:
		return []string{"check the network, and HostName, Port and ProxyJump: sallyport ssh-config " + e.Hop}
	}
	return []string{"ssh -v " + e.Hop + " shows the same exchange"}
}
