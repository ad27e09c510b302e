package sshtunnel

import (
	"context"
	"io"

	"golang.org/x/crypto/ssh/agent"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

// preparation is what one hop needs and no server has a say in. It is made while the hops before
// are dialed.
type preparation struct {
	// ready is closed when the fields below are set.
	ready chan struct{}

	keys *hostkeys.Verifier
	// keysErr is the error of KnownHostsCommand.
	keysErr error

	// agent is nil if there is no agent, or agentErr says why it is not reached.
	agent     agent.ExtendedAgent
	agentErr  error
	agentConn io.Closer // nil if agent is
}

// prepare reads known_hosts and the agent's list of keys for h. ctx bounds the call. The caller must
// call end.
func prepare(ctx context.Context, cfg *Config, h *sshconfig.Host) *preparation {
	p := &preparation{ready: make(chan struct{})}
	go func() { // ends with ctx at the latest; end waits for it
		defer close(p.ready)
		p.keys, p.keysErr = hostkeys.New(ctx, hostkeys.Config{Host: h, Getenv: cfg.Getenv, Log: cfg.Log})
		ag, conn, err := openAgent(ctx, h, cfg.Getenv)
		p.agentErr = err
		if conn != nil {
			p.agent, p.agentConn = listEarly(ag), conn
		}
	}()
	return p
}

// end frees what prepare has opened.
func (p *preparation) end() {
	<-p.ready
	if p.agentConn != nil {
		p.agentConn.Close()
	}
}

// earlyAgent asks for the list of keys at once. The answer is there in most cases before the server
// wants the first key.
type earlyAgent struct {
	agent.ExtendedAgent
	listed chan struct{} // closed when the next two are set
	keys   []*agent.Key
	err    error
}

func listEarly(a agent.ExtendedAgent) *earlyAgent {
	e := &earlyAgent{ExtendedAgent: a, listed: make(chan struct{})}
	go func() { // ends with the answer, or when the connection to the agent is closed
		defer close(e.listed)
		e.keys, e.err = a.List()
	}()
	return e
}

// List waits for the answer to the request that listEarly has sent.
func (e *earlyAgent) List() ([]*agent.Key, error) {
	<-e.listed
	return e.keys, e.err
}
