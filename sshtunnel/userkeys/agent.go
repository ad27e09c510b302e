package userkeys

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

const (
	// agentPatience is how long the agent may take for an answer that needs no person.
	agentPatience = 15 * time.Second
	// signPatience is how long it may take for a signature, for which a person may have to do
	// something.
	signPatience = 5 * time.Minute
)

// Agent is a connection to an ssh-agent, for one server. The caller must Close it.
type Agent struct {
	// client speaks the agent's protocol over conn.
	client agent.ExtendedAgent
	// conn is the connection to the agent.
	conn *agentConn
	// path and fromEnv are for errors, as AgentError has them.
	path    string
	fromEnv bool
	// patience and signPatience are the constants, but for tests.
	patience, signPatience time.Duration

	// bound is closed when Bind has had its answer. It is nil before Bind.
	bound chan struct{}
}

// agentConn is a connection that remembers what came last. x/crypto's client does not tell a
// refusal from an answer that it cannot read.
type agentConn struct {
	net.Conn
	// ended is set once reading has failed.
	ended atomic.Bool
	// answer is the type of the latest message.
	answer atomic.Uint32

	// head holds the bytes of the length of a message that comes, and left is how many bytes of its
	// body are still to come.
	head []byte
	left uint32
}

// Read implements net.Conn. It is not called concurrently.
func (c *agentConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.ended.Store(true)
	}
	for rest := p[:n]; len(rest) > 0; {
		if c.left > 0 {
			skip := min(uint32(len(rest)), c.left)
			rest, c.left = rest[skip:], c.left-skip
			continue
		}
		c.head, rest = append(c.head, rest[0]), rest[1:]
		switch {
		case len(c.head) == 4 && binary.BigEndian.Uint32(c.head) == 0: // a message without a type
			c.answer.Store(0)
			c.head = c.head[:0]
		case len(c.head) == 5:
			c.answer.Store(uint32(c.head[4]))
			c.left = binary.BigEndian.Uint32(c.head) - 1
			c.head = c.head[:0]
		}
	}
	return n, err
}

// refused tells whether the latest message is a failure (RFC 9987 section 3.1 and agent_failed of
// OpenSSH).
func (c *agentConn) refused() bool {
	switch c.answer.Load() {
	case 5, 30, 102:
		return true
	}
	return false
}

// OpenAgent connects to the agent that h names (ssh_config(5), IdentityAgent). It returns nil
// without an error if there is no agent to use. The error is an *AgentError. ctx bounds the call.
func OpenAgent(ctx context.Context, h *sshconfig.Host, getenv func(string) string) (*Agent, error) {
	path, fromEnv := h.IdentityAgent, false
	if path == "" || path == "SSH_AUTH_SOCK" {
		path, fromEnv = cmp.Or(getenv("SSH_AUTH_SOCK"), defaultAgent), true
	}
	if path == "" || strings.EqualFold(path, "none") || !h.PubkeyAuthentication {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	conn, err := dialAgent(ctx, path)
	if err != nil {
		if path == defaultAgent && dialFault(err) == AgentGone {
			return nil, nil // nobody named it, and it does not run
		}
		return nil, &AgentError{Path: path, FromEnvironment: fromEnv, Fault: dialFault(err), Err: dialReason(err)}
	}
	a := &Agent{conn: &agentConn{Conn: conn}, path: path, fromEnv: fromEnv, patience: agentPatience, signPatience: signPatience}
	a.client = agent.NewClient(a.conn)
	return a, nil
}

// Close ends the connection, and requests that wait for an answer. It may be called concurrently
// with everything else, and on a nil Agent.
func (a *Agent) Close() {
	if a != nil {
		a.conn.Close()
	}
}

// Binding says which session an agent is to be bound to.
type Binding struct {
	// HostKey is the server's key or certificate, as the server has sent it.
	HostKey []byte
	// Session is the session identifier (RFC 4253 section 7.2).
	Session []byte
	// Signature is the server's signature of Session, as the server has sent it.
	Signature []byte
}

// Bind tells the agent which session this connection serves. It does not wait for the answer; the
// list of keys does. An agent that does not know the request refuses it, which does no harm. Bind
// is called at most once, and may be called on a nil Agent.
func (a *Agent) Bind(b Binding) {
	if a == nil {
		return
	}
	a.bound = make(chan struct{})
	go func() { // ends with the answer, or at Close
		defer close(a.bound)
		// PROTOCOL.agent of OpenSSH, section 1.
		a.client.Extension("session-bind@openssh.com", ssh.Marshal(struct {
			HostKey, Session, Signature []byte
			Forwarding                  bool
		}{b.HostKey, b.Session, b.Signature, false}))
	}()
}

// list returns the agent's keys. The error is an *AgentError.
func (a *Agent) list() (keys []*agent.Key, err error) {
	err = a.await(a.patience, false, func() (err error) {
		if a.bound != nil {
			<-a.bound // the list depends on it
		}
		keys, err = a.client.List()
		return err
	})
	return keys, err
}

// await waits for the end of a request, but not longer than patience. An agent that is late is
// closed, because its late answer would be taken for that of a later request. The error is an
// *AgentError.
func (a *Agent) await(patience time.Duration, signing bool, request func() error) error {
	late := time.AfterFunc(patience, a.Close)
	err := request()
	switch {
	case !late.Stop() && err != nil:
		return &AgentError{Path: a.path, FromEnvironment: a.fromEnv, Fault: AgentSilent, Signing: signing}
	case err != nil:
		return a.fault(err, signing)
	}
	return nil
}

// fault makes an *AgentError of an error of the client.
func (a *Agent) fault(err error, signing bool) error {
	e := &AgentError{Path: a.path, FromEnvironment: a.fromEnv, Fault: AgentGarbled, Signing: signing, Err: err}
	switch {
	case a.conn.ended.Load():
		e.Fault = AgentEnded
	case a.conn.refused():
		e.Fault = AgentRefused
	}
	return e
}

// agentSigner signs with a key of the agent.
type agentSigner struct {
	// collector has the agent, which holds the private key, and the functions to report.
	collector *collector
	// pub is the key, or a certificate that the agent holds itself.
	pub ssh.PublicKey
}

// PublicKey implements ssh.Signer.
func (s *agentSigner) PublicKey() ssh.PublicKey { return s.pub }

// Algorithms implements ssh.MultiAlgorithmSigner.
func (s *agentSigner) Algorithms() []string { return signatureAlgorithms(s.pub) }

// Sign implements ssh.Signer.
func (s *agentSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, s.Algorithms()[0])
}

// SignWithAlgorithm implements ssh.AlgorithmSigner. Without a flag the agent signs with SHA-1 (RFC
// 9987 section 3.6.1).
func (s *agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	var flags agent.SignatureFlags
	switch algo {
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	}
	c := s.collector
	over := c.wait(Wait{Text: fmt.Sprintf("the agent signs with %s, and may wait for a confirmation or a touch", hostkeys.Fingerprint(s.pub))})
	var sig *ssh.Signature
	err := c.Agent.await(c.Agent.signPatience, true, func() (err error) {
		sig, err = c.Agent.client.SignWithFlags(s.pub, data, flags)
		return err
	})
	over()
	if err == nil && !isSecurityKey(s.pub) && sig.Format != algo {
		// Old agents know no flags. Servers refuse what they sign.
		err = fmt.Errorf("agent at %s: it signed with %q where %q was asked for", c.Agent.path, display.Cut(sig.Format), algo)
	}
	if err != nil {
		c.NeedsPerson() // the agent may have wanted a confirmation
		c.SignFailed(err)
		return nil, err
	}
	return sig, nil
}
