package sshtunnel

import (
	"context"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/userkeys"
)

// preparation is what one hop needs and no server has a say in. It is made while the hops before
// are dialed.
type preparation struct {
	// ready is closed when the fields below are set.
	ready chan struct{}

	// snapshot delivers what userkeys.Snapshot returns. It is nil without Config.Refusals.
	snapshot chan string

	keys *hostkeys.Verifier
	// keysErr is the error of KnownHostsCommand.
	keysErr error

	// agent is nil if there is none to use, or agentErr says why it is not reached.
	agent    *userkeys.Agent
	agentErr error
}

// prepare reads known_hosts and the agent's list of keys for h. ctx bounds the call. The caller
// must call end.
func prepare(ctx context.Context, cfg *Config, h *sshconfig.Host) *preparation {
	p := &preparation{ready: make(chan struct{})}
	if cfg.Refusals != nil {
		p.snapshot = make(chan string, 1)
		go func() { p.snapshot <- userkeys.Snapshot(ctx, h, cfg.Getenv) }() // ends with ctx at the latest
	}
	go func() { // ends with ctx at the latest; end waits for it
		defer close(p.ready)
		p.keys, p.keysErr = hostkeys.New(ctx, hostkeys.Config{Host: h, Getenv: cfg.Getenv, Log: cfg.Log})
		p.agent, p.agentErr = userkeys.OpenAgent(ctx, h, cfg.Getenv)
	}()
	return p
}

// end frees what prepare has opened.
func (p *preparation) end() {
	<-p.ready
	p.agent.Close()
}
