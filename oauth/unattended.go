package oauth

import (
	"context"
	"errors"

	"sallyport/oauth/asclient"
)

// unattended gets a token by a grant that needs no person: client_credentials (RFC 6749 section
// 4.4), or a JWT that says who we are (RFC 7523). The token stays in memory.
func (s *signIn) unattended(ctx context.Context) error {
	f, err := s.discover(ctx, false)
	if err != nil {
		return err
	}
	who, _ := s.clients.configured(f.Server) // jwt_bearer does without one: the assertion says who we are
	known := s.account.registeredAt(f.Server).ProofKey
	if who.ProofKey, err = asclient.ChooseProofKey(f, s.flight.need.challenge, known); err != nil {
		return err
	}
	want := s.wanted(f, false)
	var k asclient.Token
	if s.cfg.Grant == GrantClientCredentials {
		k, err = s.as.ClientCredentials(ctx, f.Server, who.Credentials, want)
	} else {
		var assertion string
		if assertion, err = s.assertion(ctx, f, want); err != nil {
			return err
		}
		k, err = s.as.RedeemAssertion(ctx, f.Server, who.Credentials, assertion, want)
	}
	if err != nil {
		return err
	}
	s.account.set(record{Upstream: s.cfg.Upstream.String(), Server: f.Server, Resource: want.Resource,
		Token: k, Asked: want.Scopes, ProofKey: who.ProofKey}, fromSignIn)
	return nil
}

// assertion returns the JWT to show to f's authorization server. For GrantJWTBearer it is the
// workload's own. For GrantEnterpriseManaged it is what the identity provider gives for the ID
// token.
func (s *signIn) assertion(ctx context.Context, f asclient.Finding, want asclient.Wanted) (string, error) {
	given, err := s.cfg.Assertion()
	if err == nil && given == "" {
		err = errors.New("the assertion is empty")
	}
	if err != nil {
		return "", &asclient.SignInError{Stage: asclient.StageToken, Server: f.Server.Name(),
			Code: asclient.CodeNoAssertion, Refused: true, Err: err}
	}
	s.flight.addSecrets(string(given))
	if s.cfg.Grant == GrantJWTBearer {
		return string(given), nil
	}
	idp, err := s.identityProvider(ctx)
	if err != nil {
		return "", err
	}
	want.Audience = f.Server.ID() // the assertion is for this server and no other
	who := asclient.Credentials{ID: s.cfg.IDP.ClientID}
	assertion, err := s.as.ExchangeIDToken(ctx, idp, who, string(given), want)
	s.flight.addSecrets(assertion)
	return assertion, err
}

// identityProvider returns the identity provider with its token endpoint, given or discovered.
func (s *signIn) identityProvider(ctx context.Context) (asclient.Server, error) {
	idp := s.cfg.IDP
	if idp.TokenURL != "" {
		return asclient.Server{Issuer: idp.Issuer, TokenEndpoint: idp.TokenURL, Source: asclient.FromConfig}, nil
	}
	resource := asclient.Resource{ID: idp.Issuer, Servers: []string{idp.Issuer}}
	f, err := s.as.FindServer(ctx, asclient.Finding{Resource: resource})
	if err == nil && f.Server.TokenEndpoint == "" {
		err = f.Missing("token endpoint")
	}
	return f.Server, err
}
