package sshtunnel

import (
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/cleartext"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/userkeys"
)

// The tags below name the fields as other processes of this user read them: in a ledger of refusals
// (package refusals), and from the shared connection (package mux).

var (
	// ErrNoPerson is what Config.Ask returns if nobody can be asked.
	ErrNoPerson = hostkeys.ErrNoPerson

	// ErrClosed is the error of every call on a closed Tunnel. It matches net.ErrClosed.
	ErrClosed = fmt.Errorf("tunnel: %w", net.ErrClosed)
)

// The stages of a hop, as HopError names them.
const (
	// StageConnect is TCP, the ProxyCommand, or the channel of the hop before.
	StageConnect = "connect"
	// StageHandshake is the exchange of versions and keys (RFC 4253), with the check of the host
	// key.
	StageHandshake = "handshake"
	// StageAuth is the login (RFC 4252).
	StageAuth = "auth"
	// StageLink is everything after the login.
	StageLink = "link"
)

// HopError says which hop failed, and at which stage.
type HopError struct {
	// Hop is the alias.
	Hop string `json:"hop"`
	// Addr is the host:port that was dialed. It is empty if a ProxyCommand leads to the hop.
	Addr string `json:"addr,omitempty"`
	// Stage is one of the Stage constants.
	Stage string `json:"stage"`
	// Err is the cause.
	Err error `json:"-"`
}

// Error names hop, address, stage and cause.
func (e *HopError) Error() string {
	if e.Addr == "" {
		return fmt.Sprintf("hop %s: %s: %v", e.Hop, e.Stage, e.Err)
	}
	return fmt.Sprintf("hop %s (%s): %s: %v", e.Hop, e.Addr, e.Stage, e.Err)
}

// Unwrap returns the cause.
func (e *HopError) Unwrap() error { return e.Err }

// TimeoutError says that ConnectTimeout ran out, or the time that a person may take. It is a
// net.Error whose Timeout is true.
type TimeoutError struct {
	// After is the timeout, such as 30s.
	After string `json:"after,omitempty"`
	// Person says that the login waited for a person.
	Person bool `json:"person,omitempty"`
	// Queued says that another process of this user was trying the same login all that time, so
	// that this one did not connect.
	Queued bool `json:"queued,omitempty"`
	// Program is the ProxyCommand that was waited for. It is empty if there is none.
	Program string `json:"program,omitempty"`
	// Said is the end of what the ProxyCommand wrote to stderr, cut to a limit.
	Said string `json:"said,omitempty"`
}

// Error names the time and what the person can change.
func (e *TimeoutError) Error() string {
	s := "no answer within " + e.After + " (ConnectTimeout)"
	if e.Person {
		s = "the login was not completed within " + e.After
	}
	if e.Queued {
		s += "; another process tries the same login"
	}
	if e.Program != "" {
		s += " by ProxyCommand " + e.Program
	}
	if e.Said != "" {
		s += fmt.Sprintf(", which said %q", e.Said)
	}
	return s
}

// Timeout returns true.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary is a part of net.Error. It returns true.
func (e *TimeoutError) Temporary() bool { return true }

// SilentError says that a hop was given up because nothing came from it.
type SilentError struct {
	// After is how long it was silent.
	After time.Duration `json:"after,omitempty"`
	// Why says what made us ask for a sign of life. It is empty if only the silence did.
	Why string `json:"why,omitempty"`
}

func (e *SilentError) Error() string {
	if e.Why != "" {
		return fmt.Sprintf("no sign of life within %v %s", e.After, e.Why)
	}
	return fmt.Sprintf("no sign of life for %v", e.After)
}

// AuthError says that a server did not let us in.
type AuthError struct {
	// Hop is the alias.
	Hop string `json:"hop,omitempty"`
	// User is the name at the server.
	User string `json:"user"`
	// Tried is what was offered, in order, such as "publickey SHA256:... (file)" or "password".
	Tried []string `json:"tried,omitempty"`
	// Methods are those that the server would still accept.
	Methods []string `json:"methods,omitempty"`
	// Notes say what could not be offered, and why.
	Notes []string `json:"notes,omitempty"`
	// Agent says why the agent was of no use. It is nil if nothing was wrong with it.
	Agent *userkeys.AgentError `json:"agent,omitempty"`
	// NeedsPerson says that a person or the agent could have helped. If it is false, the server has
	// refused everything that we have.
	NeedsPerson bool `json:"needs_person,omitempty"`
	// TooMany says that the server's MaxAuthTries was reached. Fewer keys may help, and so may
	// IdentitiesOnly.
	TooMany bool `json:"too_many,omitempty"`
	// MetAt is when another process of this user met this refusal, or this process did before. This
	// attempt then asked nothing of the server. It is zero if the server has refused this attempt.
	MetAt time.Time `json:"met_at,omitzero"`
	// NotBefore is when the next attempt will ask the server. It is zero if MetAt is.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Said is the last that the server said before it refused, in printable words. It is empty if
	// the server said nothing.
	Said string `json:"said,omitempty"`
	// Err is a cause besides. It may be nil.
	Err error `json:"-"`
}

// Error says what was tried, what the server would accept, and what could not be offered.
func (e *AuthError) Error() string {
	var b strings.Builder
	what := "permission denied"
	switch {
	case e.TooMany:
		what = "too many authentication failures (MaxAuthTries of the server; IdentitiesOnly limits the keys offered)"
	case e.NeedsPerson:
		what = "authentication needs a person"
	}
	fmt.Fprintf(&b, "%s for user %s", what, e.User)
	if len(e.Methods) > 0 {
		fmt.Fprintf(&b, "; server accepts %s", strings.Join(e.Methods, ","))
	}
	if len(e.Tried) > 0 {
		fmt.Fprintf(&b, "; tried %s", firstOf(e.Tried, ", "))
	}
	if e.Said != "" {
		fmt.Fprintf(&b, "; the server says %q", e.Said)
	}
	if len(e.Notes) > 0 {
		fmt.Fprintf(&b, "; %s", firstOf(e.Notes, "; "))
	}
	if !e.MetAt.IsZero() {
		fmt.Fprintf(&b, "; met at %s, and not tried again before %s", clockTime(e.MetAt), clockTime(e.NotBefore))
	}
	return b.String()
}

// Unwrap returns Err.
func (e *AuthError) Unwrap() error { return e.Err }

// firstOf joins the beginning of a list, and counts the rest: an agent may have a thousand keys.
func firstOf(list []string, separator string) string {
	const most = 12
	if len(list) <= most {
		return strings.Join(list, separator)
	}
	return strings.Join(list[:most], separator) + fmt.Sprintf("%sand %d more", separator, len(list)-most)
}

// OpenError says that a hop refused to open a channel (RFC 4254 section 5.1).
type OpenError struct {
	// Hop is the alias of the hop that refused.
	Hop string `json:"hop,omitempty"`
	// Network is tcp or unix. It is session for a command.
	Network string `json:"network,omitempty"`
	// Addr is where the channel was to lead. It is empty for a command.
	Addr string `json:"addr,omitempty"`
	// Reason is the server's.
	Reason ssh.RejectionReason `json:"reason,omitempty"`
	// Msg is what the server said, cut to a limit.
	Msg string `json:"msg,omitempty"`

	// unasked says that the server was not asked, because it does not answer.
	unasked bool
}

// Prohibited reports whether the hop's own rules refused. If not, the address could not be reached.
func (e *OpenError) Prohibited() bool {
	return e.Reason == ssh.Prohibited || e.Reason == ssh.UnknownChannelType
}

// Error says what the hop refused, and which rules of sshd may be the reason.
func (e *OpenError) Error() string {
	what := "the connection to " + e.Addr
	rules := "AllowTcpForwarding, PermitOpen, DisableForwarding, " +
		"or authorized_keys permitopen, no-port-forwarding, restrict"
	switch e.Network {
	case "unix":
		rules = "AllowStreamLocalForwarding, DisableForwarding, or authorized_keys no-port-forwarding, restrict"
	case "session":
		what, rules = "the command", "MaxSessions"
	}
	// If a rule forbids a session or a Unix socket, sshd says SSH_OPEN_CONNECT_FAILED
	// (serverloop.c, server_input_channel_open).
	switch {
	case e.Reason == ssh.Prohibited:
		return fmt.Sprintf("%s forbids %s (sshd_config %s): %q", e.Hop, what, rules, e.Msg)
	case e.Reason == ssh.ConnectionFailed && e.Network == "session":
		return fmt.Sprintf("%s would not run %s (sshd_config %s): %q", e.Hop, what, rules, e.Msg)
	case e.Reason == ssh.ConnectionFailed && e.Network == "unix" && e.Msg == "open failed":
		return fmt.Sprintf("%s could not connect to %s (no such socket, or sshd_config %s): %q", e.Hop, e.Addr, rules, e.Msg)
	case e.Reason == ssh.ConnectionFailed:
		return fmt.Sprintf("%s could not connect to %s: %q", e.Hop, e.Addr, e.Msg)
	case e.Reason == ssh.UnknownChannelType:
		return fmt.Sprintf("%s does not know this kind of channel, for %s: %q", e.Hop, what, e.Msg)
	case e.Reason == ssh.ResourceShortage:
		return fmt.Sprintf("%s is short of resources for %s: %q", e.Hop, what, e.Msg)
	}
	return fmt.Sprintf("%s refused %s (reason %d): %q", e.Hop, what, uint32(e.Reason), e.Msg)
}

// ListenError says that the last hop refused a remote forward (RFC 4254 section 7.1). The protocol
// has no reasons for that: the port may be in use, or a rule may forbid it.
type ListenError struct {
	// Hop is the alias.
	Hop string `json:"hop,omitempty"`
	// Network is tcp or unix.
	Network string `json:"network,omitempty"`
	// Addr is where the hop was to listen.
	Addr string `json:"addr,omitempty"`
}

// Error names the rules of sshd that may be the reason.
func (e *ListenError) Error() string {
	const rules = "AllowTcpForwarding, AllowStreamLocalForwarding, PermitListen, GatewayPorts"
	return fmt.Sprintf("%s refused to listen on %s (address in use, or sshd_config %s)", e.Hop, e.Addr, rules)
}

// ExitError says that a command of Exec did not end with status 0.
type ExitError struct {
	// Status is that of the command. It is 0 if Signal is set, and -1 if the server did not tell.
	Status int `json:"status,omitempty"`
	// Signal ended the command. It has no SIG in front. It is empty if the command ended by itself.
	Signal string `json:"signal,omitempty"`
	// Stderr is the beginning of what the command wrote there.
	Stderr string `json:"stderr,omitempty"`
}

// Error says how the command ended, and quotes the beginning of its stderr.
func (e *ExitError) Error() string {
	s := fmt.Sprintf("remote command ended with status %d", e.Status)
	if e.Signal != "" {
		s = fmt.Sprintf("remote command ended by signal %q", e.Signal)
	}
	if e.Stderr != "" {
		s += fmt.Sprintf(": %q", e.Stderr)
	}
	return s
}

// EncodeError returns an error of a Tunnel as it travels from the shared connection to its clients
// (package mux). The hops are the aliases that the server's greeting names. It returns nil for nil.
func EncodeError(err error, hops []string) *mux.Error { return wireErrors.Encode(err, hops) }

// DecodeError rebuilds an error of the shared connection. It has the type, the fields and the words
// that it would have had in this process, and errors.Is and errors.As find in it what they find in
// the original. The hops are the aliases of this process, in the order of the chain. They replace
// those of the server. It returns nil for nil.
func DecodeError(e *mux.Error, hops []string) error { return wireErrors.Decode(e, hops) }

// wireErrors knows the errors of this package, of those below it, and of x/crypto.
//
// errLost of a server is errLost here: the tunnel gives up its link to the server and makes the
// call again on the next one. So a server sends it only if it has no link that could serve the
// call. While it has one, it makes the call again itself.
//
// The other errors that are private to these packages travel as words and causes, because nothing
// outside of their files asks for them.
var wireErrors = &mux.Codec{
	Types: []mux.Type{
		mux.TypeOf("hop", func(e *HopError) mux.Parts {
			return mux.Parts{Fields: e, Hop: &e.Hop, Causes: []*error{&e.Err}}
		}),
		mux.TypeOf("timeout", func(e *TimeoutError) mux.Parts { return mux.Parts{Fields: e} }),
		mux.TypeOf("silent", func(e *SilentError) mux.Parts { return mux.Parts{Fields: e} }),
		mux.TypeOf("auth", func(e *AuthError) mux.Parts {
			p := mux.Parts{Fields: e, Hop: &e.Hop, Causes: []*error{&e.Err}}
			if e.Agent != nil {
				p.Causes = append(p.Causes, &e.Agent.Err)
			}
			return p
		}),
		mux.TypeOf("agent", func(e *userkeys.AgentError) mux.Parts {
			return mux.Parts{Fields: e, Causes: []*error{&e.Err}}
		}),
		mux.TypeOf("host_key", func(e *hostkeys.Error) mux.Parts {
			return mux.Parts{Fields: e, Hop: &e.Hop, Causes: []*error{&e.Err}}
		}),
		mux.TypeOf("open", func(e *OpenError) mux.Parts { return mux.Parts{Fields: e, Hop: &e.Hop} }),
		mux.TypeOf("listen", func(e *ListenError) mux.Parts { return mux.Parts{Fields: e, Hop: &e.Hop} }),
		mux.TypeOf("exit", func(e *ExitError) mux.Parts { return mux.Parts{Fields: e} }),
		mux.TypeOf("algorithm", func(e *AlgorithmError) mux.Parts { return mux.Parts{Fields: e} }),
		mux.TypeOf("identification", func(e *cleartext.IdentificationError) mux.Parts { return mux.Parts{Fields: e} }),
		mux.TypeOf("proxy_command", func(e *ProxyCommandError) mux.Parts {
			return mux.Parts{Fields: e, Causes: []*error{&e.Err}}
		}),
		mux.TypeOf("ssh_config", func(e *sshconfig.Error) mux.Parts { return mux.Parts{Fields: e} }),

		mux.TypeOf("ssh_open", func(e *ssh.OpenChannelError) mux.Parts { return mux.Parts{Fields: (*sshOpenFields)(e)} }),
		mux.TypeOf("ssh_algorithm", func(e *ssh.AlgorithmNegotiationError) mux.Parts {
			return mux.Parts{Fields: (*sshAlgorithmFields)(e)}
		}),
		mux.TypeOf("ssh_banner", func(e *ssh.BannerError) mux.Parts {
			return mux.Parts{Fields: (*sshBannerFields)(e), Causes: []*error{&e.Err}}
		}),
		mux.TypeOf("ssh_exit_missing", func(e *ssh.ExitMissingError) mux.Parts { return mux.Parts{Fields: e} }),
	},
	Sentinels: map[string]error{
		"no_person":     ErrNoPerson,
		"tunnel_closed": ErrClosed,
		"link_lost":     errLost,
		"abandoned":     errAbandoned,
		"no_auth":       ssh.ErrNoAuth,
	},
}

// The types of x/crypto with tags. The compiler sees to it that their fields are the same.
type (
	sshOpenFields struct {
		Reason  ssh.RejectionReason `json:"reason,omitempty"`
		Message string              `json:"message,omitempty"`
	}
	sshAlgorithmFields struct {
		What                string   `json:"what,omitempty"`
		RequestedAlgorithms []string `json:"requested,omitempty"`
		SupportedAlgorithms []string `json:"supported,omitempty"`
	}
	sshBannerFields struct {
		Err     error  `json:"-"`
		Message string `json:"message,omitempty"`
	}
)
