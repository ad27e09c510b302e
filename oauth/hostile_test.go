package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
)

// hostile is an upstream that wants secrets of the honest login server w.as. Its metadata may name
// any endpoint of either.
type hostile struct {
	*world
	origin string

	mu sync.Mutex
	// resource and server are the metadata that it serves. Nil serves none.
	resource, server map[string]any
	// refuse says what a request with a token gets. Nil takes it.
	refuse http.HandlerFunc
	// got holds what came to endpoints of its own, with the Authorization field.
	got []string
}

// newHostile starts the upstream. Its server metadata names the endpoints of the honest server.
func newHostile(t *testing.T) *hostile {
	h := &hostile{world: newWorld(t)}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	h.origin = s.URL
	h.upstream, _ = url.Parse(s.URL + "/mcp")
	h.as.Resource = h.upstream.String()
	h.server = h.honestly(h.as.Issuer)
	return h
}

// honestly is metadata that names the endpoints of the honest server, and the given issuer.
func (h *hostile) honestly(issuer string) map[string]any {
	as := h.as.Issuer
	return map[string]any{"issuer": issuer, "authorization_endpoint": as + "/authorize", "token_endpoint": as + "/token",
		"registration_endpoint": as + "/register", "revocation_endpoint": as + "/revoke",
		"code_challenge_methods_supported": []string{"S256"}}
}

// set changes what the upstream says.
func (h *hostile) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	document := func(m map[string]any) {
		if m == nil {
			http.NotFound(w, r)
			return
		}
		json.NewEncoder(w).Encode(m)
	}
	switch {
	case r.URL.Path == "/mcp" && r.Header.Get("Authorization") == "":
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == "/mcp" && h.refuse != nil:
		h.refuse(w, r)
	case r.URL.Path == "/mcp":
		io.WriteString(w, "hello")
	case strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource"):
		document(h.resource)
	case r.URL.Path == "/.well-known/oauth-authorization-server":
		document(h.server)
	case r.URL.Path == "/authorize": // which looks like the honest server's
		http.Redirect(w, r, h.as.Issuer+"/authorize?"+r.URL.RawQuery, http.StatusFound)
	case strings.HasPrefix(r.URL.Path, "/.well-known/"):
		http.NotFound(w, r)
	default:
		b, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		h.got = append(h.got, r.URL.Path+" "+string(b)+" "+user+":"+password)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"invalid_request"}`)
	}
}

// wantNothing fails if the upstream got one of the secrets.
func (h *hostile) wantNothing(secrets ...string) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, request := range h.got {
		for _, secret := range secrets {
			if secret != "" && (strings.Contains(request, secret) || strings.Contains(request, url.QueryEscape(secret))) {
				h.t.Errorf("the upstream got the secret %q: %s", secret, request)
			}
		}
	}
}

// A redirect of the honest server names that server. It must not pass for one of the upstream's
// server because the upstream's metadata claims to be the honest server's.
func TestHostileIssuer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		authorize, token string // M is the upstream, and H the honest server
		named            bool   // resource metadata names the upstream as its own server
		sendsIss         bool
	}{
		{"M", "M", false, false}, {"H", "M", false, false}, {"M", "M", false, true}, {"H", "M", false, true},
		{"M", "M", true, false}, {"H", "M", true, false}, {"M", "M", true, true}, {"H", "M", true, true},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			t.Parallel()
			h := newHostile(t)
			at := map[string]string{"M": h.origin, "H": h.as.Issuer}
			h.server["authorization_endpoint"], h.server["token_endpoint"] = at[tt.authorize]+"/authorize", at[tt.token]+"/token"
			h.server["authorization_response_iss_parameter_supported"] = tt.sendsIss
			if tt.named {
				h.server["issuer"] = h.origin
				h.resource = map[string]any{"resource": h.upstream.String(), "authorization_servers": []string{h.origin}}
			}
			_, err := h.post(h.transport(nil), "x")
			if e, ok := errors.AsType[*asclient.SignInError](err); !ok || e.Code != asclient.CodeIssuerMismatch {
				t.Errorf("got %v, want CodeIssuerMismatch", err)
			}
			h.wantNothing(h.as.Secrets()...)
		})
	}
}

// selfMade are the two ways in which an upstream may say itself where the honest server's endpoints
// are: its metadata names another issuer, or the upstream.
func selfMade(t *testing.T, test func(*testing.T, *hostile)) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprint("own issuer ", own), func(t *testing.T) {
			t.Parallel()
			h := newHostile(t)
			h.as.Set(func(k *oauthtest.Knobs) { k.NoIss = own })
			if own {
				h.server["issuer"] = h.origin
			}
			test(t, h)
		})
	}
}

// A refresh token goes to the server that gave it, also at a sign-out.
func TestHostileRevocation(t *testing.T) {
	t.Parallel()
	selfMade(t, func(t *testing.T, h *hostile) {
		h.server["revocation_endpoint"] = h.origin + "/revoke"
		tr := h.transport(nil)
		h.mustPost(tr)
		if err := tr.SignOut(t.Context(), false); err != nil {
			t.Error(err)
		}
		h.wantNothing(h.as.Secrets()...)
	})
}

// The endpoints that the upstream's own metadata names may change. What one server has given is not
// sent to the other then.
func TestHostileChangeOfEndpoints(t *testing.T) {
	t.Parallel()
	selfMade(t, func(t *testing.T, h *hostile) {
		h.as.Set(func(k *oauthtest.Knobs) { k.SecretAnyway = "client_secret_post" })
		tr := h.transport(nil)
		h.mustPost(tr)
		secrets := h.as.Secrets()
		h.set(func() {
			h.server["token_endpoint"], h.server["authorization_endpoint"] = h.origin+"/token", h.origin+"/authorize"
			h.refuse = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="more"`)
				w.WriteHeader(http.StatusForbidden)
			}
		})
		h.post(tr, "x")
		h.advance(2 * time.Hour)
		if _, err := h.post(h.transport(func(c *Config) { c.NonInteractive = true }), "x"); err == nil {
			t.Error("the old tokens are still used")
		}
		h.wantNothing(secrets...)
	})
}

// A configured secret stays where it was used first, also if the upstream names another endpoint
// for the same issuer.
func TestHostileEndpointForAConfiguredSecret(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		change map[string]any // an endpoint is at the upstream
		want   string
	}{
		{map[string]any{"token_endpoint": "/token", "authorization_endpoint": "/authorize"}, asclient.CodeIssuerChanged},
		{map[string]any{"pushed_authorization_request_endpoint": "/par", "require_pushed_authorization_requests": true}, "discovery"},
		{map[string]any{"revocation_endpoint": "/revoke"}, ""},
	} {
		selfMade(t, func(t *testing.T, h *hostile) {
			client := asClient("me", "configured-secret", h.as)
			h.mustPost(h.transport(client))
			h.as.RevokeAll()
			h.set(func() {
				for name, value := range tt.change {
					if path, ok := value.(string); ok {
						value = h.origin + path
					}
					h.server[name] = value
				}
				old := h.as.Secrets()
				h.refuse = func(w http.ResponseWriter, r *http.Request) {
					if access := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); slices.Contains(old, access) {
						w.WriteHeader(http.StatusUnauthorized)
					}
				}
			})
			tr := h.transport(client)
			if _, err := h.post(tr, "x"); codeOf(err) != tt.want {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err := tr.SignOut(t.Context(), false); err != nil {
				t.Error(err)
			}
			h.wantNothing("configured-secret")
		})
	}
}

// A token endpoint that the person gave gets the secret, and no endpoint that the upstream names.
func TestHostileEndpointsBesideTheTokenURL(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	h.server["issuer"], h.server["token_endpoint"] = h.origin, h.origin+"/token"
	h.server["pushed_authorization_request_endpoint"], h.server["require_pushed_authorization_requests"] = h.origin+"/par", true
	client := asClient("me", "configured-secret", h.as)
	_, err := h.post(h.transport(func(c *Config) { client(c); c.Endpoints.TokenURL = h.as.Issuer + "/token" }), "x")
	if codeOf(err) != "discovery" {
		t.Errorf("got %v, want a DiscoveryError", err)
	}
	h.wantNothing("configured-secret")
}

// A process without the secret signs in at another server, where nothing has to prove the issuer. A
// process with the secret sends it there neither at a refresh nor at a sign-out.
func TestHostileRecordOfAProcessWithoutTheSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.secondServer(nil)
	secret, public := asClient("me", "configured-secret", w.as, other), asClient("me", "", other)
	w.mustPost(w.transport(secret))
	w.as.RevokeAll()
	w.mustPost(naming(w.transport(public), other))
	w.advance(2 * time.Hour)
	tr := naming(w.transport(func(c *Config) { secret(c); c.NonInteractive = true }), other)
	tr.as.Other = roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost && strings.HasPrefix(r.URL.String(), other.Issuer) {
			t.Errorf("the other server was sent %s", r.URL)
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	if _, err := w.post(tr, "x"); codeOf(err) == "" {
		t.Error("the record of the other server is used")
	}
	wantIssuerChanged(t, tr.SignOut(t.Context(), false), w.as.Issuer, other.Issuer)
}

// An upstream that claims a server of others gets no token that is for another resource of that
// server, whatever its metadata adds to the request.
func TestHostileResource(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	h.as.Resource = "https://victim.example/mcp"
	h.server["authorization_endpoint"] = h.as.Issuer + "/authorize?resource=" + url.QueryEscape(h.as.Resource)
	_, err := h.post(h.transport(nil), "x")
	if got := h.as.Authorized().Get("resource"); got != h.upstream.String() || codeOf(err) != "invalid_target" {
		t.Errorf("asked for the resource %q: %v", got, err)
	}
}

// An upstream that takes ID tokens gets none that the honest server made for others.
func TestHostileIDToken(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	h.as.Set(func(k *oauthtest.Knobs) { k.NoIss = true })
	h.server["issuer"] = h.origin
	idToken := func(c *Config) { c.Bearer, c.Scope = BearerID, "openid" }
	if _, err := h.post(h.transport(idToken), "x"); codeOf(err) != asclient.CodeIssuerMismatch {
		t.Errorf("got %v, want CodeIssuerMismatch", err)
	}
	// The person vouches for the endpoints.
	vouched := func(c *Config) { idToken(c); c.Endpoints.Issuer = h.origin }
	h.mustPost(h.transport(vouched))
}
