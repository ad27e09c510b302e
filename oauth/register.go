package oauth

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// client is who we are at one authorization server.
type client struct {
	ID           string   `json:"id,omitempty"`
	Secret       string   `json:"secret,omitempty"`
	Method       string   `json:"method,omitempty"`        // token_endpoint_auth_method as registered; "" not said
	RedirectURIs []string `json:"redirect_uris,omitempty"` // of a dynamic registration
	Expires      int64    `json:"expires,omitempty"`       // client_secret_expires_at, Unix seconds; 0 never
	Dynamic      bool     `json:"dynamic,omitempty"`

	key      *jose.JSONWebKey // for private_key_jwt; nil none
	proofKey *jose.JSONWebKey // for DPoP; nil none
	fresh    bool             // registered by the login under way
}

func (client) String() string { return hidden }

// fixedClient returns the client that needs no registration at s, if there is one.
func (t *Transport) fixedClient(s server) (client, bool) {
	switch {
	case t.cfg.Client.ID != "":
		return client{ID: t.cfg.Client.ID, Secret: string(t.cfg.Client.Secret), key: t.clientKey}, true
	case t.cfg.Client.MetadataURL != "" && s.TakesMetadataDocument:
		return client{ID: t.cfg.Client.MetadataURL, Method: authNone, key: t.clientKey}, true
	}
	return client{}, false
}

// clientOf returns the client that rec's tokens were granted to.
func (t *Transport) clientOf(rec record) client {
	c, ok := t.fixedClient(rec.Server)
	if !ok {
		c = rec.Client
	}
	c.proofKey = rec.ProofKey
	return c
}

// clientFor returns the client for s whose redirect URI is redirect, "" for the device
// grant, registering one if it must. known is the registration of an earlier run at this server, zero without.
func (t *Transport) clientFor(ctx context.Context, f finding, known client, redirect string) (client, error) {
	s := f.server
	if c, ok := t.fixedClient(s); ok {
		return c, nil
	}
	if known.Dynamic && known.fits(redirect) && (known.Expires == 0 || t.cfg.now().Before(time.Unix(known.Expires, 0))) {
		return known, nil
	}
	if s.RegistrationEndpoint == "" {
		return client{}, &SignInError{Stage: StageRegister, Server: s.name(), Code: CodeNoClient, Refused: true,
			Description: "the server offers no dynamic registration and no client ID is given"}
	}
	all := t.redirectURIs(redirect)
	c, err := t.register(ctx, s, all)
	if e, ok := err.(*SignInError); ok && e.Refused && len(all) > 1 && (e.Code == "invalid_redirect_uri" || e.Code == "invalid_client_metadata") {
		c, err = t.register(ctx, s, []string{redirect}) // some take but one
	}
	if e, ok := err.(*SignInError); ok && s.Source == fromDefaults && e.Code == CodeBadReply {
		tried := append(slices.Clone(f.tried), Attempt{URL: s.RegistrationEndpoint, Status: e.Status})
		return client{}, &DiscoveryError{What: "metadata and no registration at the default endpoint of " + s.name(), Tried: tried}
	}
	return c, err
}

// fits reports whether c was registered for a login with that redirect, "" for the
// device grant, which has none.
func (c client) fits(redirect string) bool {
	return redirect == "" && len(c.RedirectURIs) == 0 || slices.Contains(c.RedirectURIs, redirect)
}

// redirectURIs lists redirect and those of the other callback addresses, so that a
// busy port needs no new registration.
func (t *Transport) redirectURIs(redirect string) []string {
	if redirect == "" {
		return []string{}
	}
	all := []string{redirect}
	if t.cfg.Callback.RedirectURI != "" {
		return all
	}
	for _, a := range t.cfg.Callback.Addrs {
		_, port, _ := net.SplitHostPort(a)
		if uri := loopbackURL(a, port, callbackPath); port != "0" && !slices.Contains(all, uri) {
			all = append(all, uri)
		}
	}
	return all
}

// register is RFC 7591 section 3.1.
func (t *Transport) register(ctx context.Context, s server, redirects []string) (client, error) {
	method := authNone // a native application keeps no secret from its user
	if len(s.AuthMethods) > 0 && !slices.Contains(s.AuthMethods, authNone) {
		method = t.authMethod(s, client{Secret: "one"})
	}
	grants, responses := []string{"authorization_code", "refresh_token"}, []string{"code"}
	if len(redirects) == 0 {
		grants, responses = []string{grantTypeDevice, "refresh_token"}, []string{}
	}
	body, _ := json.Marshal(map[string]any{ // strings cannot fail
		"client_name":                t.cfg.Client.Name,
		"application_type":           "native",
		"redirect_uris":              redirects,
		"grant_types":                grants,
		"response_types":             responses,
		"token_endpoint_auth_method": method,
	})
	a, err := t.wire.post(ctx, s.RegistrationEndpoint, nil, "application/json", string(body))
	if err != nil {
		return client{}, &SignInError{Stage: StageRegister, Server: s.name(), Err: err}
	}
	var r struct {
		ID      string `json:"client_id"`
		Secret  string `json:"client_secret"`
		Expires int64  `json:"client_secret_expires_at"`
		Method  string `json:"token_endpoint_auth_method"`
	}
	if a.status != http.StatusCreated && a.status != http.StatusOK || json.Unmarshal(a.body, &r) != nil || r.ID == "" {
		return client{}, replyError(StageRegister, s.RegistrationEndpoint, a.status, a.body, nil)
	}
	t.cfg.Log.Info("client registered", "host", hostOf(s.RegistrationEndpoint))
	return client{ID: r.ID, Secret: r.Secret, Expires: r.Expires, Method: r.Method, RedirectURIs: redirects, Dynamic: true}, nil
}

func hostOf(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return ""
	}
	return u.Host
}
