package sshtunnel

import (
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
)

var (
	// ErrNoPerson is what Config.Ask returns where nobody can be asked.
	ErrNoPerson = hostkeys.ErrNoPerson

	// ErrClosed is the error of every call on a closed Tunnel. It matches net.ErrClosed.
	ErrClosed = fmt.Errorf("tunnel: %w", net.ErrClosed)
)

// The stages of a hop, as HopError names them.
const (
	StageConnect   = "connect"   // TCP, ProxyCommand, or the channel on the hop before
	StageHandshake = "handshake" // version and key exchange (RFC 4253), host key included
	StageAuth      = "auth"      // RFC 4252
	StageLink      = "link"      // the established connection
)

// HopError says at which hop the way ends, and at which stage.
type HopError struct {
	Hop   string // alias
	Addr  string // host:port that was dialed; "" with a ProxyCommand
	Stage string // one of the Stage constants
	Err   error
}

func (e *HopError) Error() string {
	if e.Addr == "" {
		return fmt.Sprintf("hop %s: %s: %v", e.Hop, e.Stage, e.Err)
	}
	return fmt.Sprintf("hop %s (%s): %s: %v", e.Hop, e.Addr, e.Stage, e.Err)
}

func (e *HopError) Unwrap() error { return e.Err }

// TimeoutError says that ConnectTimeout ran out. It is a net.Error whose Timeout is true.
type TimeoutError struct{ After string }

func (e *TimeoutError) Error() string   { return "no answer within " + e.After }
func (e *TimeoutError) Timeout() bool   { return true }
func (e *TimeoutError) Temporary() bool { return true }

// AuthError says that a server did not let us in.
type AuthError struct {
	Hop     string
	User    string
	Tried   []string // what was offered, in order: "publickey SHA256:... (file)", "password" ...
	Methods []string // what the server would still take
	Notes   []string // what could not be offered, and why
	// NeedsPerson: a method could have gone on had a person, or the agent, been there. Else the
	// server has refused all that we have.
	NeedsPerson bool
	TooMany     bool // the server's MaxAuthTries ended it; fewer keys, or IdentitiesOnly, may help
	Err         error
}

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
		fmt.Fprintf(&b, "; tried %s", strings.Join(e.Tried, ", "))
	}
	if len(e.Notes) > 0 {
		fmt.Fprintf(&b, "; %s", strings.Join(e.Notes, "; "))
	}
	return b.String()
}

func (e *AuthError) Unwrap() error { return e.Err }

// OpenError says that a hop refused to open a channel (RFC 4254 5.1).
type OpenError struct {
	Hop     string // the hop that refused
	Network string // tcp or unix; session for a command
	Addr    string // where the channel was to lead; "" a session
	Reason  ssh.RejectionReason
	Msg     string // the server's words, cut
}

// Prohibited says that the hop's own rules, not the target, refused.
func (e *OpenError) Prohibited() bool {
	return e.Reason == ssh.Prohibited || e.Reason == ssh.UnknownChannelType
}

func (e *OpenError) Error() string {
	what, rules := "the connection to "+e.Addr, "AllowTcpForwarding, PermitOpen, DisableForwarding, or authorized_keys permitopen, no-port-forwarding, restrict"
	switch e.Network {
	case "unix":
		rules = "AllowStreamLocalForwarding, DisableForwarding, or authorized_keys no-port-forwarding, restrict"
	case "session":
		what, rules = "the command", "MaxSessions"
	}
	// A session, or a Unix socket, that a rule of sshd forbids comes as SSH_OPEN_CONNECT_FAILED
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

// ListenError says that the last hop refused a remote forward (RFC 4254 7.1). The protocol carries
// no reason: the port may be busy, or a rule may forbid it.
type ListenError struct {
	Hop, Network, Addr string
}

func (e *ListenError) Error() string {
	return fmt.Sprintf("%s refused to listen on %s (address in use, or sshd_config AllowTcpForwarding, AllowStreamLocalForwarding, PermitListen, GatewayPorts)", e.Hop, e.Addr)
}

// ExitError says that a command of Exec ended otherwise than with status 0.
type ExitError struct {
	Status int    // 0 when Signal is set, -1 when the server did not tell
	Signal string // without SIG; "" none
	Stderr string // the beginning of it, cut
}

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
