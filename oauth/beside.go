package oauth

import (
	"context"
	"errors"
	"time"

	"sallyport/oauth/asclient"
)

const (
	// codePatience is how long a link waits for the device code beside it. Most MCP hosts show what
	// they get first and nothing later, so the code is to come with the link. A server answers
	// within a round trip, and half a second more is nothing to a person who is about to sign in.
	codePatience = 500 * time.Millisecond
	// pollGrace is how long a callback waits for a request for the device's token that is under
	// way.
	pollGrace = 2 * time.Second
	// revokeTime bounds the revocation of a token that came too late.
	revokeTime = 5 * time.Second
)

// beside is the device grant (RFC 8628) beside the link of one authorization request. It is no
// reason to fail: whatever goes wrong here, the link stays. A code that has expired is not followed
// by another one, because the link usually ends before that.
type beside struct {
	login *login
	// begun says that a code was wanted from the start.
	begun bool
	// codes gets the code once it is there, and a zero Device if there is none, or none any more.
	codes chan asclient.Device
	// token gets the token. Nobody else has it.
	token chan asclient.Token
	// stop is closed when no more requests are to be made, and done when the last has ended.
	stop, done chan struct{}
	cancel     context.CancelFunc
}

// takesCodeBeside reports whether the login may show a device code beside its link.
func (l *login) takesCodeBeside() bool {
	return l.cfg.CodeBeside != nil && l.cfg.Grant == GrantAuto && l.server.DeviceEndpoint != ""
}

// startBeside starts the device grant beside the link of an authorization request that asks for
// want, once a code is wanted. The caller must end it.
func (l *login) startBeside(ctx context.Context, want asclient.Wanted) *beside {
	b := &beside{login: l, codes: make(chan asclient.Device, 2), token: make(chan asclient.Token),
		stop: make(chan struct{}), done: make(chan struct{}), cancel: func() {}}
	if !l.takesCodeBeside() {
		close(b.done)
		return b
	}
	wanted, changed := l.cfg.CodeBeside()
	b.begun = wanted
	ctx, b.cancel = context.WithCancel(ctx)
	l.life.startWithin(func() { // ends with ctx
		defer close(b.done)
		for !wanted {
			select {
			case <-changed:
				wanted, changed = l.cfg.CodeBeside()
			case <-b.stop:
				return
			case <-ctx.Done():
				return
			}
		}
		b.run(ctx, want)
	})
	return b
}

// run asks for a code, and then for its token.
func (b *beside) run(ctx context.Context, want asclient.Wanted) {
	l := b.login
	d, err := l.as.StartDevice(ctx, l.server, l.client.Credentials, want)
	if err != nil {
		l.cfg.Log.Debug("no device code beside the link", "host", l.server.Host(), "err", err)
		b.codes <- asclient.Device{}
		return
	}
	l.flight.addSecrets(d.Code)
	b.codes <- d
	k, err := l.as.AwaitDevice(ctx, l.server, l.client.Credentials, d, b.stop)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, asclient.ErrStopped) {
			l.cfg.Log.Info("the device code beside the link is of no more use", "host", l.server.Host(), "err", err)
		}
		b.codes <- asclient.Device{}
		return
	}
	select {
	case b.token <- k:
	case <-ctx.Done():
		b.revoke(ctx, k)
	}
}

// revoke revokes a token that the login has no use for any more (RFC 7009), if the server can do
// that.
func (b *beside) revoke(ctx context.Context, k asclient.Token) {
	l := b.login
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTime)
	defer cancel()
	if l.cfg.Bearer == BearerID {
		k.Access = "" // nobody revokes an ID token
	}
	if err := l.as.Revoke(ctx, l.server, l.client.Credentials, k); err != nil {
		l.cfg.Log.Debug("a token that came too late is not revoked", "host", l.server.Host(), "err", err)
	}
}

// addFirst returns p with the code, if that is wanted from the start and comes soon.
func (b *beside) addFirst(ctx context.Context, p Prompt) Prompt {
	if !b.begun {
		return p
	}
	select {
	case d := <-b.codes:
		return p.withCode(d)
	case <-time.After(codePatience):
	case <-ctx.Done():
	}
	return p
}

// settle ends the requests for the token because the callback has come, before its code is spent.
// It returns the token if the person's approval came first. A server that gave two tokens would
// have to be asked to revoke one, and some then revoke all that the person has granted us.
func (b *beside) settle(ctx context.Context) (k asclient.Token, ok bool) {
	close(b.stop)
	select {
	case k = <-b.token:
		return k, true
	case <-b.done:
	case <-time.After(pollGrace):
	case <-ctx.Done():
	}
	return k, false
}

// end ends the device grant. A token that still comes is revoked.
func (b *beside) end() { b.cancel() }

// withCode returns p with the code of d beside its link, or without one for a zero d.
func (p Prompt) withCode(d asclient.Device) Prompt {
	p.UserCode, p.VerificationURI = d.UserCode, d.URI
	return p
}
