package oauth

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
)

// MCP, Authorization, "Resource Parameter Implementation": no form of it but the server's own.
func TestResourceIsSentByteForByte(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name := strings.Replace(w.upstream.String(), "http:", "HTTP:", 1) + "/"
	w.as.Set(func(k *oauthtest.Knobs) { k.ResourceName = name })
	tr := w.transport(nil)
	w.mustPost(tr) // the server takes no other, neither with the code
	w.as.RevokeAccess()
	w.mustPost(tr) // nor with the refresh token
	if got := w.as.Authorized().Get("resource"); got != name {
		t.Errorf("resource is %q, want %q", got, name)
	}
}

// MCP, Authorization, "Client Registration Approaches".
func TestWhoWeAre(t *testing.T) {
	t.Parallel()
	const document = "https://client.example/sallyport.json"
	for _, tt := range []struct {
		name          string
		id, document  string
		takes         bool   // the server takes metadata documents
		want          string // prefix of the client ID
		registrations int
	}{
		{"given client before the rest", "me", document, true, "me", 0},
		{"metadata document before registration", "", document, true, document, 0},
		{"registration where documents are not taken", "", document, false, "client-", 1},
		{"registration", "", "", true, "client-", 1},
	} {
		w := newWorld(t)
		w.as.Set(func(k *oauthtest.Knobs) { k.MetadataDocument = tt.takes })
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		redirect := "http://" + ln.Addr().String() + "/callback"
		w.as.AddClient(oauthtest.Client{ID: "me", RedirectURIs: []string{redirect}})
		w.mustPost(w.transport(func(c *Config) {
			c.Client.ID, c.Client.MetadataURL, c.Callback.RedirectURI = tt.id, tt.document, redirect
			c.Callback.Listen = func(context.Context, string) (net.Listener, error) { return ln, nil }
		}))
		if got := w.as.Authorized().Get("client_id"); !strings.HasPrefix(got, tt.want) || w.as.Stats().Registrations != tt.registrations {
			t.Errorf("%s: client is %q after %d registrations", tt.name, got, w.as.Stats().Registrations)
		}
	}
}

// MCP, Authorization, "Scope Selection Strategy".
func TestScopeOrder(t *testing.T) {
	t.Parallel()
	metadata := asclient.Resource{Scopes: []string{"a", "b"}}
	offline := asclient.Server{Scopes: []string{"a", "offline_access"}}
	for _, tt := range []struct {
		name       string
		configured string
		need       need
		finding    asclient.Finding
		want       string
	}{
		{"challenge before metadata", "", need{challenge: asclient.Challenge{Scope: "c"}}, asclient.Finding{Resource: metadata}, "c"},
		{"all of the metadata", "", need{}, asclient.Finding{Resource: metadata}, "a b"},
		{"none", "", need{}, asclient.Finding{Server: asclient.Server{Scopes: []string{"s"}}}, ""},
		{"offline_access where the server lists it", "", need{}, asclient.Finding{Resource: metadata, Server: offline}, "a b offline_access"},
		{"configured before all", "x", need{challenge: asclient.Challenge{Scope: "c"}}, asclient.Finding{Resource: metadata, Server: offline}, "x"},
		{"step-up: what was asked and what is challenged", "", need{challenge: asclient.Challenge{Scope: "w"}, stepUp: []string{"r", "w"}}, asclient.Finding{Resource: metadata}, "r w"},
	} {
		s := &renewal{cfg: &Config{Scope: tt.configured}, flight: &flight{need: tt.need}}
		if got := strings.Join(s.wanted(tt.finding, true).Scopes, " "); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// The registration of a native client (MCP, Authorization, "Dynamic Client Registration").
func TestRegistrationSaysWhatWeAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPost(w.transport(nil))
	got := w.as.Registered()
	grants, _ := got["grant_types"].([]any)
	if got["application_type"] != "native" || !slices.Equal(grants, []any{"authorization_code", "refresh_token"}) {
		t.Errorf("registered %v", got)
	}
}

func TestStepUpOfABoundToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.DPoP, k.ChallengeScope = true, "read" })
	tr := w.transport(nil)
	w.mustPost(tr)
	w.as.Set(func(k *oauthtest.Knobs) { k.NeedScope = "write" })
	w.mustPost(tr)
	if got := w.as.Authorized().Get("scope"); got != "read write" {
		t.Errorf("asked for %q", got)
	}
}
