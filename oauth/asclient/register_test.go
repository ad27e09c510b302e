package asclient

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
)

func TestRegistrationIsThatOfANativeApplication(t *testing.T) {
	as, c := newServer(t, func(*oauthtest.Knobs) {})
	all := []string{testRedirect, "http://127.0.0.1:2/callback"}
	r, err := c.Register(t.Context(), find(t, c), Application{Name: "sallyport", Redirects: all})
	if err != nil || r.ID == "" || r.Secret != "" || r.Method != AuthNone || !slices.Equal(r.RedirectURIs, all) {
		t.Fatalf("got %#v, %v", r, err)
	}
	got := as.Registered()
	for name, want := range map[string]any{"client_name": "sallyport", "application_type": "native", "token_endpoint_auth_method": AuthNone} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestRegistrationForTheDeviceGrantHasNoRedirect(t *testing.T) {
	as, c := newServer(t, func(*oauthtest.Knobs) {})
	if _, err := c.Register(t.Context(), find(t, c), Application{Name: "test"}); err != nil {
		t.Fatal(err)
	}
	got := as.Registered()
	if b, _ := json.Marshal(got["redirect_uris"]); string(b) != "[]" || !slices.Contains(got["grant_types"].([]any), any(grantTypeDevice)) {
		t.Errorf("registered %v", got)
	}
}

func TestServerThatTakesOneRedirectIsGivenTheFirst(t *testing.T) {
	as, c := newServer(t, func(k *oauthtest.Knobs) { k.OneRedirect = true })
	r, err := c.Register(t.Context(), find(t, c), Application{Name: "test", Redirects: []string{testRedirect, "http://127.0.0.1:2/callback"}})
	if err != nil || !slices.Equal(r.RedirectURIs, []string{testRedirect}) || as.Stats().Registrations != 2 {
		t.Errorf("got %q, %v after %d registrations", r.RedirectURIs, err, as.Stats().Registrations)
	}
}

func TestServerThatKnowsNoPublicClientGivesASecret(t *testing.T) {
	for _, method := range []string{AuthBasic, AuthPost} {
		_, c := newServer(t, func(k *oauthtest.Knobs) { k.AuthMethods = []string{method} })
		f := find(t, c)
		who := register(t, c, f) // the secret has characters that only proper form-encoding carries
		if who.Secret == "" || who.Method != method {
			t.Errorf("%s: got a secret %t for %q", method, who.Secret != "", who.Method)
		}
		login(t, c, f, who)
	}
}

func TestNoRegistrationEndpoint(t *testing.T) {
	_, c := newServer(t, func(k *oauthtest.Knobs) { k.NoRegistration = true })
	_, err := c.Register(t.Context(), find(t, c), Application{Name: "test"})
	if e, ok := errors.AsType[*SignInError](err); !ok || e.Code != CodeNoClient || !e.Refused || e.Stage != StageRegister {
		t.Errorf("got %v", err)
	}
}

// A web site that answers everything has no default endpoints: the error names all that was tried.
func TestDefaultEndpointThatDoesNotRegister(t *testing.T) {
	c := testClient(t, serve(http.NotFoundHandler()))
	f := find(t, c)
	if f.Server.Source != FromDefaults {
		t.Fatalf("got %+v", f.Server)
	}
	_, err := c.Register(t.Context(), f, Application{Name: "test", Redirects: []string{testRedirect}})
	e, ok := errors.AsType[*DiscoveryError](err)
	if !ok || len(e.Tried) != len(f.Tried)+1 || e.Tried[len(f.Tried)].URL != "https://h/register" {
		t.Errorf("got %v", err)
	}
}

func TestRegistrationFits(t *testing.T) {
	one := Registration{RedirectURIs: []string{testRedirect}}
	for _, tt := range []struct {
		name     string
		r        Registration
		redirect string
		want     bool
	}{
		{"its redirect URI", one, testRedirect, true},
		{"another redirect URI", one, "http://127.0.0.1:2/callback", false},
		{"a device grant for a browser's client", one, "", false},
		{"a device grant", Registration{}, "", true},
		{"not expired", Registration{Expires: start.Unix() + 1}, "", true},
		{"expired", Registration{Expires: start.Unix()}, "", false},
	} {
		if got := tt.r.Fits(tt.redirect, start); got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
	if one.Fits(testRedirect, start.Add(10000*time.Hour)) != true {
		t.Error("a secret without an expiry expired")
	}
}
