package oauth

import (
	"context"
	"errors"
)

// SignIn signs in now unless a valid token is there, and waits for it. An upstream
// that asks for no token and has no resource metadata needs none, unless the grant is
// configured.
func (t *Transport) SignIn(ctx context.Context) error {
	if t.cfg.Grant == GrantNone {
		return nil
	}
	if access, err := t.bearer(ctx, false); access != "" || err != nil && !errors.Is(err, ErrHeldBack) {
		return err
	}
	challenge, _, err := t.as.AskUpstream(ctx)
	if err != nil {
		return err
	}
	j := job{asked: true}
	if challenge != nil {
		j.heed(*challenge)
	} else if t.cfg.Grant == GrantAuto && !t.cfg.NoDiscovery {
		f, err := t.as.FindResource(ctx, "")
		if err != nil {
			return err
		}
		if f.Resource.ID == "" {
			return nil
		}
	}
	return t.renew(ctx, j)
}

// SignOut revokes (RFC 7009) where the server can and forgets tokens and registration.
// They are forgotten even if the revocation fails, which the error then says.
func (t *Transport) SignOut(ctx context.Context) error {
	for {
		if last, err := t.join(ctx, job{out: true}, func() bool { return false }, t.signOut); last {
			return err
		}
	}
}

func (t *Transport) signOut(ctx context.Context) error {
	rec, unlock, err := t.hold(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = t.as.Revoke(ctx, rec.Server, t.clientOf(rec).Credentials, rec.Token)
	t.take(record{}, stored)
	return errors.Join(err, t.cfg.Store.Forget(t.key))
}
