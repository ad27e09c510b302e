package oauth

import (
	"context"
	"errors"

	"sallyport/oauth/asclient"
)

// unattended gets a token by a grant that needs no person: client_credentials (RFC 6749 section
// 4.4), or a JWT that says who we are (RFC 7523). The token stays in memory.
func (r *renewal) unattended(ctx context.Context) error {
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
	given, err := r.cfg.Assertion()
	if err == nil && given == "" {
		err = errors.New("the assertion is empty")
	}
	if err != nil {
		return "", &asclient.SignInError{Stage: asclient.StageToken, Server: f.Server.Name(),
			Code: asclient.CodeNoAssertion, Refused: true, Err: err}
	}
	r.flight.addSecrets(string(given))
	if r.cfg.Grant == GrantJWTBearer {
		return string(given), nil
	}
	idp, err := r.identityProvider(ctx)
	if err != nil {
		return "", err
	}
	want.Audience = f.Server.ID() // the assertion is for this server and no other
	who := asclient.Credentials{ID: r.cfg.IDP.ClientID}
	assertion, err := r.as.ExchangeIDToken(ctx, idp, who, string(given), want)
	r.flight.addSecrets(assertion)
	return assertion, err
}

// identityProvider returns the identity provider with its token endpoint, given or discovered.
func (r *renewal) identityProvider(ctx context.Context) (asclient.Server, error) {
	idp := r.cfg.IDP
	if idp.TokenURL != "" {
		return asclient.Server{Issuer: idp.Issuer, TokenEndpoint: idp.TokenURL, Source: asclient.FromConfig}, nil
	}
	resource := asclient.Resource{ID: idp.Issuer, Servers: []string{idp.Issuer}}
	f, err := r.as.FindServer(ctx, asclient.Finding{Resource: resource})
	if err == nil && f.Server.TokenEndpoint == "" {
		err = f.Missing("token endpoint")
	}
	return f.Server, err
}
