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
)

// newRefusal returns what other processes read of e (refusals.Refusal.Cause). The alias is left
// out: they may have another one.
func newRefusal(e *AuthError) *AuthError {
	r := *e
	r.Hop = ""
	return &r
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

// needsPerson reports whether a login has failed for want of a person.
func needsPerson(err error) bool {
	auth, ok := errors.AsType[*AuthError](err)
	return ok && auth.NeedsPerson
}

// metBefore makes an AuthError of the refusal that another process, or this one, has met.
func metBefore(h *sshconfig.Host, met *refusals.Refusal) *AuthError {
	e := &AuthError{}
	json.Unmarshal(met.Cause, e) // without a cause, the time says enough
	e.Hop, e.User, e.MetAt, e.NotBefore = h.Alias, h.User, met.At, met.Until
	return e
}

// record tells other processes the outcome of a login that ctx has bounded. A person who was
// waited for in vain would get a second push from the next process, so that counts as a refusal.
func (d *dialer) record(ctx context.Context, try *refusals.Try, err error) {
	if err == nil {
		try.Accepted()
		return
	}
	if d.prepared.standIn.taken() != nil {
		return // the server has refused nothing that the person was asked for
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
