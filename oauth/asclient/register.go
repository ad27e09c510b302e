package asclient

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// Registration is a client that was registered dynamically (RFC 7591).
type Registration struct {
	Credentials
	// RedirectURIs are those that the client was registered for. The device grant has none.
	RedirectURIs []string `json:"redirect_uris,omitempty"`
	// Expires is when the secret expires, in seconds since 1970. It is 0 if it never does.
	Expires int64 `json:"expires,omitempty"`
}

// Fits reports whether the client can be used now for a login with that redirect URI, which is
// empty for the device grant.
func (r Registration) Fits(redirect string, now time.Time) bool {
	if r.Expires != 0 && !now.Before(time.Unix(r.Expires, 0)) {
		return false
	}
	return redirect == "" && len(r.RedirectURIs) == 0 || slices.Contains(r.RedirectURIs, redirect)
}

// Register registers a client at f's server (RFC 7591 section 3.1). name is shown to the person who
// is asked for consent. redirects are all redirect URIs that the client may use, the first one
// first: some servers take but one, and are then given that. Without any, the client is for the
// device grant. A server without a registration endpoint is refused with CodeNoClient.
func (c *Client) Register(ctx context.Context, f Finding, name string, redirects []string) (Registration, error) {
	s := f.Server
	if s.RegistrationEndpoint == "" {
		return Registration{}, &SignInError{Stage: StageRegister, Server: s.Name(), Code: CodeNoClient, Refused: true,
			Description: "the server offers no dynamic registration and no client ID is given"}
	}
	r, err := c.register(ctx, s, name, redirects)
	if err != nil && err.Refused && len(redirects) > 1 &&
		(err.Code == "invalid_redirect_uri" || err.Code == "invalid_client_metadata") {
		r, err = c.register(ctx, s, name, redirects[:1])
	}
	if err != nil && s.Source == FromDefaults && err.Code == CodeBadReply {
		tried := append(slices.Clone(f.Tried), Attempt{URL: s.RegistrationEndpoint, Status: err.Status})
		what := "metadata and no registration at the default endpoint of " + s.Name()
		return Registration{}, &DiscoveryError{What: what, Tried: tried}
	}
	if err != nil {
		return Registration{}, err
	}
	c.log().Info("client registered", "host", hostOf(s.RegistrationEndpoint))
	return r, nil
}

func (c *Client) register(ctx context.Context, s Server, name string, redirects []string) (Registration, *SignInError) {
	method := AuthNone // a native application keeps no secret from its user
	if len(s.AuthMethods) > 0 && !slices.Contains(s.AuthMethods, AuthNone) {
		method = Credentials{Secret: "one"}.method(s, c.SecretMethod)
	}
	grants, responses := []string{"authorization_code", "refresh_token"}, []string{"code"}
	if len(redirects) == 0 {
		redirects, grants, responses = []string{}, []string{grantTypeDevice, "refresh_token"}, []string{}
	}
	body, _ := json.Marshal(map[string]any{ // strings cannot fail
		"client_name":                name,
		"application_type":           "native",
		"redirect_uris":              redirects,
		"grant_types":                grants,
		"response_types":             responses,
		"token_endpoint_auth_method": method,
	})
	a, err := web{c}.post(ctx, s.RegistrationEndpoint, http.Header{"Content-Type": {"application/json"}}, string(body))
	if err != nil {
		return Registration{}, &SignInError{Stage: StageRegister, Server: s.Name(), Err: err}
	}
	var r struct {
		ID      string `json:"client_id"`
		Secret  string `json:"client_secret"`
		Expires int64  `json:"client_secret_expires_at"`
		Method  string `json:"token_endpoint_auth_method"`
	}
	if a.status != http.StatusCreated && a.status != http.StatusOK || json.Unmarshal(a.body, &r) != nil || r.ID == "" {
		return Registration{}, refusal(StageRegister, s.RegistrationEndpoint, a, nil)
	}
	who := Credentials{ID: r.ID, Secret: r.Secret, Method: r.Method}
	return Registration{Credentials: who, RedirectURIs: redirects, Expires: r.Expires}, nil
}
