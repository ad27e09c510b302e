package oauth

import (
	"context"
	"errors"

	"sallyport/oauth/asclient"
)

// unattended reports a grant that needs no person. Its tokens are not stored: they can
// be had again at any time, and are of another kind than a person's.
func (c *Config) unattended() bool {
	return c.Grant == GrantClientCredentials || c.Grant == GrantJWTBearer || c.Grant == GrantEnterpriseManaged
}

// unattendedLogin gets a token by one of those grants: RFC 6749 section 4.4, RFC 7523.
func (t *Transport) unattendedLogin(ctx context.Context, j job) error {
	f, err := t.discover(ctx, j.metadata, false)
	if err != nil {
		return err
	}
	c, _ := t.fixedClient(f.Server) // jwt_bearer does without: the assertion says who we are
	if c.ProofKey, err = asclient.ChooseProofKey(f, j.challenge(), t.knownAt(f.Server).ProofKey); err != nil {
		return err
	}
	want := t.wanted(f, t.scopes(f, j, false))
	var k asclient.Token
	if t.cfg.Grant == GrantClientCredentials {
		k, err = t.as.ClientCredentials(ctx, f.Server, c.Credentials, want)
	} else {
		var assertion string
		if assertion, err = t.assertion(ctx, f, want.Scopes); err != nil {
			return err
		}
		k, err = t.as.RedeemAssertion(ctx, f.Server, c.Credentials, assertion, want)
	}
	if err != nil {
		return err
	}
	t.take(record{Upstream: t.cfg.Upstream.String(), Server: f.Server, Resource: t.resourceOf(f), Token: k, Asked: want.Scopes, ProofKey: c.ProofKey}, signedIn)
	return nil
}

// assertion returns the JWT that the authorization server of f is shown: a workload's
// own, or, of enterprise_managed, what the identity provider gives for the ID token.
func (t *Transport) assertion(ctx context.Context, f asclient.Finding, asked []string) (string, error) {
	given, err := t.cfg.Assertion()
	if err == nil && given == "" {
		err = errors.New("the assertion is empty")
	}
	if err != nil {
		return "", &asclient.SignInError{Stage: asclient.StageToken, Server: f.Server.Name(), Code: asclient.CodeNoAssertion, Refused: true, Err: err}
	}
	t.inUse(string(given))
	if t.cfg.Grant == GrantJWTBearer {
		return string(given), nil
	}
	idp, err := t.identityProvider(ctx)
	if err != nil {
		return "", err
	}
	// The audience is the issuer, which is the name that the identity provider knows the server by.
	want := asclient.Wanted{Scopes: asked, Resource: t.resourceOf(f), Audience: f.Server.ID()}
	assertion, err := t.as.ExchangeIDToken(ctx, idp, asclient.Credentials{ID: t.cfg.IDPClientID}, string(given), want)
	if err != nil {
		return "", err
	}
	t.inUse(assertion)
	return assertion, nil
}

// inUse adds secrets to those of the sign-in under way.
func (t *Transport) inUse(secrets ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passing = append(t.passing, secrets...)
}
