package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
)

const (
	grantTypeJWTBearer     = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523 section 2.1
	grantTypeTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693 section 2.1
	grantTypeDevice        = "urn:ietf:params:oauth:grant-type:device_code"    // RFC 8628 section 3.4

	tokenTypeIDToken = "urn:ietf:params:oauth:token-type:id_token"
	tokenTypeIDJAG   = "urn:ietf:params:oauth:token-type:id-jag" // identity assertion authorization grant
)

// unattendedLogin gets a token by one of those grants: RFC 6749 section 4.4, RFC 7523.
func (t *Transport) unattendedLogin(ctx context.Context, fl *flight) error {
	f, err := t.discover(ctx, fl.need.challenge.metadata, false)
	if err != nil {
		return err
	}
	c, _ := t.fixedClient(f.server) // jwt_bearer does without: the assertion says who we are
	if c.proofKey, err = t.proofKeyFor(f, fl.need, t.creds.registeredAt(f.server).proofKey); err != nil {
		return err
	}
	asked := t.scopes(f, fl.need, false)
	form := url.Values{"grant_type": {"client_credentials"}}
	if t.cfg.Grant != GrantClientCredentials {
		assertion, err := t.assertion(ctx, fl, f, asked)
		if err != nil {
			return err
		}
		form = url.Values{"grant_type": {grantTypeJWTBearer}, "assertion": {assertion}}
	}
	setIf(form, "scope", strings.Join(asked, " "))
	setIf(form, "resource", t.cfg.resourceOf(f))
	setIf(form, "audience", t.cfg.Audience)
	k, err := t.grant(ctx, StageToken, f.server, c, form)
	if err != nil {
		return err
	}
	t.creds.set(record{Upstream: t.cfg.Upstream.String(), Server: f.server, Resource: t.cfg.resourceOf(f), Token: k, Asked: asked, ProofKey: c.proofKey}, fromSignIn)
	return nil
}

// assertion returns the JWT that the authorization server of f is shown: a workload's
// own, or, of enterprise_managed, what the identity provider gives for the ID token.
func (t *Transport) assertion(ctx context.Context, fl *flight, f finding, asked []string) (string, error) {
	given, err := t.cfg.Assertion()
	if err == nil && given == "" {
		err = errors.New("the assertion is empty")
	}
	if err != nil {
		return "", &SignInError{Stage: StageToken, Server: f.server.name(), Code: CodeNoAssertion, Refused: true, Err: err}
	}
	fl.addSecrets(string(given))
	if t.cfg.Grant == GrantJWTBearer {
		return string(given), nil
	}
	idp, err := t.identityProvider(ctx)
	if err != nil {
		return "", err
	}
	form := url.Values{
		"grant_type": {grantTypeTokenExchange}, "requested_token_type": {tokenTypeIDJAG},
		"subject_token": {string(given)}, "subject_token_type": {tokenTypeIDToken}, "audience": {f.server.id()},
	}
	setIf(form, "resource", t.cfg.resourceOf(f))
	setIf(form, "scope", strings.Join(asked, " "))
	c := client{ID: t.cfg.IDP.ClientID}
	a, err := t.postForm(ctx, idp.TokenEndpoint, idp, c, form, "")
	if err != nil {
		return "", &SignInError{Stage: StageExchange, Server: idp.name(), Status: a.status, Err: err}
	}
	var r struct {
		Token string `json:"access_token"`
		Type  string `json:"issued_token_type"`
	}
	if a.status/100 != 2 || json.Unmarshal(a.body, &r) != nil || r.Token == "" || r.Type != tokenTypeIDJAG {
		return "", replyError(StageExchange, idp.TokenEndpoint, a.status, a.body, secretsOf(form, c))
	}
	fl.addSecrets(r.Token)
	return r.Token, nil
}

// identityProvider returns the identity provider's token endpoint, given or discovered.
func (t *Transport) identityProvider(ctx context.Context) (server, error) {
	if t.cfg.IDP.TokenURL != "" {
		return server{Issuer: t.cfg.IDP.Issuer, TokenEndpoint: t.cfg.IDP.TokenURL, Source: fromConfig}, nil
	}
	f := finding{resource: resource{Resource: t.cfg.IDP.Issuer, Servers: []string{t.cfg.IDP.Issuer}}}
	if err := t.findServer(ctx, &f); err != nil {
		return server{}, err
	}
	if f.server.TokenEndpoint == "" {
		return server{}, &DiscoveryError{What: "token endpoint in the metadata of " + f.server.name(), Tried: f.tried}
	}
	return f.server, nil
}
