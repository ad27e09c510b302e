package sshtunnel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport/sshtunnel/refusals"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/userkeys"
)

// refusal is an AuthError as other processes read it (refusals.Refusal.Cause).
type refusal struct {
	User        string   `json:"user"`
	Tried       []string `json:"tried,omitempty"`
	Methods     []string `json:"methods,omitempty"`
	Notes       []string `json:"notes,omitempty"`
	NeedsPerson bool     `json:"needs_person,omitempty"`
	TooMany     bool     `json:"too_many,omitempty"`
	Said        string   `json:"said,omitempty"`
	// Agent is nil if nothing was wrong with the agent.
	Agent *agentFault `json:"agent,omitempty"`
}

// agentFault is an AgentError as other processes read it.
type agentFault struct {
	Path            string              `json:"path"`
	FromEnvironment bool                `json:"from_environment,omitempty"`
	Fault           userkeys.AgentFault `json:"fault"`
	Signing         bool                `json:"signing,omitempty"`
}

// newRefusal makes what other processes read of e.
func newRefusal(e *AuthError) refusal {
	r := refusal{
		User: e.User, Tried: e.Tried, Methods: e.Methods, Notes: e.Notes,
		NeedsPerson: e.NeedsPerson, TooMany: e.TooMany, Said: e.Said,
	}
	if a := e.Agent; a != nil {
		r.Agent = &agentFault{a.Path, a.FromEnvironment, a.Fault, a.Signing}
	}
	return r
}

// agree waits for other processes of this user that try the same login. The error is the AuthError
// that one of them has met, the cause of ctx, or a TimeoutError: another process may be stopped, or
// its server silent, so ConnectTimeout counts here too. It does not count while the other process
// shows what the server says, because a person may be at work there. A person's time counts then.
func (d *dialer) agree(ctx context.Context) (*refusals.Try, error) {
	ledger := d.cfg.Refusals
	if ledger == nil {
		return nil, nil
	}
	snapshot := ""
	select {
	case snapshot = <-d.prepared.snapshot:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeout, patience := connectTimeout(d.host), d.cfg.patience
	clock := newClock(timeout, func() { cancel(&TimeoutError{After: timeout.String(), Queued: true}) })
	defer clock.stop()
	defer time.AfterFunc(patience, func() {
		cancel(&TimeoutError{After: patience.String(), Person: true, Queued: true})
	}).Stop()
	goOn := func() {}
	try, met, err := ledger.Begin(bounded, refusals.Wanted{
		Key:    d.loginKey(snapshot),
		Insist: d.cfg.Insist,
		Waits: func(said string) {
			goOn()
			n := newNotice(d.host.Alias, said)
			if goOn = func() {}; n.Text != "" {
				goOn = clock.pause()
			}
			d.report(progress{hop: d.host.Alias, notice: n})
		},
	})
	switch {
	case met != nil:
		return nil, d.where.error(StageAuth, metBefore(d.host, met))
	case err != nil && ctx.Err() == nil:
		return nil, d.where.error(StageConnect, err)
	}
	return try, err
}

// metBefore makes an AuthError of the refusal that another process, or this one, has met.
func metBefore(h *sshconfig.Host, met *refusals.Refusal) *AuthError {
	var r refusal
	json.Unmarshal(met.Cause, &r) // without a cause, the time says enough
	e := &AuthError{
		Hop: h.Alias, User: h.User, Tried: r.Tried, Methods: r.Methods, Notes: r.Notes,
		NeedsPerson: r.NeedsPerson, TooMany: r.TooMany, Said: r.Said,
		MetAt: met.At, NotBefore: met.Until,
	}
	if a := r.Agent; a != nil {
		e.Agent = &userkeys.AgentError{Path: a.Path, FromEnvironment: a.FromEnvironment, Fault: a.Fault, Signing: a.Signing}
	}
	return e
}

// record tells other processes the outcome of a login that ctx has bounded. A person who was
// waited for in vain would get a second push from the next process, so that counts as a refusal.
func (d *dialer) record(ctx context.Context, try *refusals.Try, err error) {
	if err == nil {
		try.Accepted()
		return
	}
	timeout, late := errors.AsType[*TimeoutError](context.Cause(ctx))
	auth, refused := errors.AsType[*AuthError](err)
	switch {
	case refused:
	case late && timeout.Person, ctx.Err() == nil && d.patience.inVain():
		auth = &AuthError{User: d.host.User, NeedsPerson: true, Notes: []string{"the login was not completed"}}
		if d.auth != nil {
			auth.Said = d.auth.result.Said
		}
	default:
		return
	}
	try.Refused(auth.NeedsPerson, newRefusal(auth))
}

// loginKey names the login of d for the ledger: what has a part in whether the server lets us in.
func (d *dialer) loginKey(snapshot string) string {
	h, via := d.host, ""
	if d.via != nil {
		via = d.via.place().alias + " " + d.via.place().addr
	}
	env := func(names ...string) (values []string) {
		for _, name := range names {
			values = append(values, d.cfg.Getenv(name))
		}
		return values
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []any{
		via, h.HostName, h.Port, h.User, h.HostKeyAlias, h.ProxyCommand, h.BindAddress,
		h.IdentityFiles, h.CertificateFiles, h.IdentitiesOnly, h.IdentityAgent, h.PubkeyAcceptedAlgorithms, h.RequiredRSASize,
		h.PreferredAuthentications, h.PubkeyAuthentication, h.PasswordAuthentication, h.KbdInteractiveAuthentication,
		h.NumberOfPasswordPrompts, h.BatchMode, !d.cfg.asks(), snapshot,
		// Whether a person can be asked makes another login of it.
		env("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "WAYLAND_DISPLAY"),
	}))
	return hex.EncodeToString(sum[:16])
}

// clockTime is how errors name a time of this day.
func clockTime(t time.Time) string { return t.Local().Format(time.TimeOnly) }
