package oauth

import (
	"cmp"
	"context"
	"errors"
	"time"

	"sallyport/oauth/asclient"
)

const (
	// minClientPause and maxClientPause limit the pause after a client was refused. It doubles each
	// time. Some login servers lock a client that shows a wrong secret again and again.
	minClientPause = 5 * time.Second
	maxClientPause = 5 * time.Minute
)

// unattended gets a token by a grant that needs no person. After a refusal of the client, the same
// error comes at once for some time, unless a person asks.
func (r *renewal) unattended(ctx context.Context) error {
	if err := r.account.doubts.clientRefused(r.cfg.now()); err != nil && !r.byPerson() {
		return err
	}
	err := r.runUnattended(ctx)
	if ctx.Err() == nil {
		r.account.doubts.noteClient(err, r.cfg.now())
	}
	return err
}

// clientRefused returns the error of the last unattended grant if the server refused the client and
// is not to be asked again yet.
func (d *doubts) clientRefused(now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if age := now.Sub(d.clientAt); age < 0 || age >= d.clientPause {
		return nil
	}
	return d.clientErr
}

// noteClient notes how an unattended grant ended at now.
func (d *doubts) noteClient(err error, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := errors.AsType[*asclient.SignInError](err)
	if !ok || !e.UnknownClient() && e.Code != "unauthorized_client" {
		d.clientErr, d.clientPause = nil, 0
		return
	}
	d.clientErr, d.clientAt = err, now
	d.clientPause = min(max(2*d.clientPause, minClientPause), maxClientPause)
}

// runUnattended runs the grant: client_credentials (RFC 6749 section 4.4), or a JWT that says who
// we are (RFC 7523). The token stays in memory. To get the JWT, a person may have to sign in at the
// identity provider.
func (r *renewal) runUnattended(ctx context.Context) error {
	f, err := r.discover(ctx, false)
	if err != nil {
		return err
	}
	who, _ := r.clients.configured(f.Server) // jwt_bearer does without one: the assertion says who we are
	known := r.account.registeredAt(f.Server).ProofKey
	if who.ProofKey, err = asclient.ChooseProofKey(f, r.flight.need.challenge, known); err != nil {
		return err
	}
	want := r.wanted(f, false)
	var k asclient.Token
	if r.cfg.Grant == GrantClientCredentials {
		k, err = r.as.ClientCredentials(ctx, f.Server, who.Credentials, want)
	} else {
		var assertion string
		if assertion, err = r.assertion(ctx, f, want); err != nil {
			return err
		}
		k, err = r.as.RedeemAssertion(ctx, f.Server, who.Credentials, assertion, want)
	}
	if err != nil {
		return err
	}
	r.account.set(record{Upstream: r.cfg.Upstream.String(), Server: f.Server, Resource: want.Resource,
		Token: k, Asked: want.Scopes, ProofKey: who.ProofKey}, fromSignIn)
	return nil
}

// assertion returns the JWT to show to f's authorization server. For GrantJWTBearer it is the
// workload's own. For GrantEnterpriseManaged it is what the identity provider gives for the ID
// token.
func (r *renewal) assertion(ctx context.Context, f asclient.Finding, want asclient.Wanted) (string, error) {
	if r.cfg.Grant == GrantJWTBearer {
		return r.given(f.Server.Name())
	}
	// The assertion is for this server and no other: never for an issuer that nothing but the
	// server's own metadata vouches for.
	want.Audience = cmp.Or(f.Server.FoundAt, f.Server.Issuer, r.cfg.Endpoints.Issuer, first(f.Resource.Servers), f.Server.TokenEndpoint)
	if r.cfg.Assertion == nil {
		return r.provider.assertion(ctx, r.flight, want)
	}
	idToken, err := r.given(f.Server.Name())
	if err != nil {
		return "", err
	}
	return r.provider.exchange(ctx, r.flight, idToken, want)
}

// first returns the first of list, or "" if there is none.
func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// given returns what Config.Assertion does. server is where it is to be shown, for errors.
func (r *renewal) given(server string) (string, error) {
	given, err := r.cfg.Assertion()
	if err == nil && given == "" {
		err = errors.New("the assertion is empty")
	}
	if err != nil {
		return "", &asclient.SignInError{Stage: asclient.StageToken, Server: server,
			Code: asclient.CodeNoAssertion, Refused: true, Err: err}
	}
	r.flight.addSecrets(string(given))
	return string(given), nil
}
