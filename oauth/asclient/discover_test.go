package asclient

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"sallyport/oauth/oauthtest"
)

// site answers a GET of a URL with a document; all other URLs are not there.
func site(asked *[]string, documents map[string]string) roundTripper {
	return func(r *http.Request) (*http.Response, error) {
		*asked = append(*asked, r.URL.String())
		if text, ok := documents[r.URL.String()]; ok {
			return reply(text), nil
		}
		rec := httptest.NewRecorder()
		http.NotFound(rec, r)
		return rec.Result(), nil
	}
}

// The order is that of MCP, Authorization, "Protected Resource Metadata Discovery Requirements" and
// "Authorization Server Metadata Discovery".
func TestPlacesAreAskedInTheOrderOfTheSpecification(t *testing.T) {
	var asked []string
	c := testClient(t, site(&asked, map[string]string{
		"https://h/.well-known/oauth-protected-resource": `{"resource":"https://h/mcp",
			"authorization_servers":["https://as.example/t","https://second.example"]}`,
	}))
	f, err := c.FindResource(t.Context(), "https://h/metadata?of=mcp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.FindServer(t.Context(), f); err == nil {
		t.Error("no error")
	}
	want := []string{
		"https://h/metadata?of=mcp", // the challenge named it
		"https://h/.well-known/oauth-protected-resource/mcp",
		"https://h/.well-known/oauth-protected-resource",
		"https://as.example/.well-known/oauth-authorization-server/t",
		"https://as.example/.well-known/openid-configuration/t",
		"https://as.example/t/.well-known/openid-configuration",
		"https://as.example/t/.well-known/oauth-authorization-server", // gateways have it there
		"https://as.example/.well-known/oauth-authorization-server",   // and some servers there
		"https://second.example/.well-known/oauth-authorization-server",
		"https://second.example/.well-known/openid-configuration",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked for\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
	e, ok := errors.AsType[*DiscoveryError](err)
	if !ok || len(e.Tried) != len(want) || e.Tried[0].URL != "https://h/metadata" || e.Tried[8].Step != StepServer {
		t.Errorf("got %v", err)
	}
}

func TestServersThatAreNotUsed(t *testing.T) {
	const resource = "https://h/.well-known/oauth-protected-resource/mcp"
	const metadata = "https://as.example/.well-known/oauth-authorization-server"
	names := func(issuer string) string {
		return `{"resource":"https://h/mcp","authorization_servers":["` + issuer + `"]}`
	}
	for _, tt := range []struct {
		name, issuer, metadata string
		want                   string // code of the error; empty for none
	}{
		{"all is well", "https://as.example", `{"issuer":"https://as.example","token_endpoint":"https://as.example/t"}`, ""},
		{"another issuer", "https://as.example", `{"issuer":"https://evil.example"}`, CodeIssuerMismatch},
		{"a slash more", "https://as.example", `{"issuer":"https://as.example/"}`, ""},
		{"a slash less", "https://as.example/", `{"issuer":"https://as.example"}`, ""},
		{"a path more", "https://as.example", `{"issuer":"https://as.example/x"}`, CodeIssuerMismatch},
		{"a template that nobody vouches for", "https://as.example", `{"issuer":"https://as.example/{tenantid}"}`, CodeIssuerMismatch},
		{"cleartext endpoints that nobody needs", "https://as.example", `{"issuer":"https://as.example","token_endpoint":"https://as.example/t",
			"revocation_endpoint":"http://as.example/r","registration_endpoint":"http://as.example/r","device_authorization_endpoint":"::"}`, ""},
		{"cleartext issuer", "http://as.example", `{"issuer":"http://as.example"}`, CodeInsecureURL},
		{"cleartext endpoint", "https://as.example", `{"issuer":"https://as.example","token_endpoint":"http://as.example/t"}`, CodeInsecureURL},
		{"endpoint that is no URL", "https://as.example", `{"issuer":"https://as.example","token_endpoint":"::"}`, CodeInsecureURL},
	} {
		var asked []string
		c := testClient(t, site(&asked, map[string]string{resource: names(tt.issuer), metadata: tt.metadata}))
		f, err := c.FindResource(t.Context(), "")
		if err == nil {
			f, err = c.FindServer(t.Context(), f)
		}
		e, ok := errors.AsType[*SignInError](err)
		if ok != (tt.want != "") || ok && (e.Code != tt.want || !e.Refused || e.Stage != StageDiscovery) {
			t.Errorf("%s: got %+v, %v", tt.name, f, err)
		}
	}
}

func TestSourceIsNotTakenFromAPeer(t *testing.T) {
	var asked []string
	c := testClient(t, site(&asked, map[string]string{
		"https://h/.well-known/oauth-authorization-server": `{"issuer":"https://h","sallyport_source":"config"}`,
	}))
	if f := find(t, c); f.Server.Source != FromMetadata || f.Server.Issuer != "https://h" {
		t.Errorf("got %+v", f.Server)
	}
}

func TestServerOfTheFirstRevision(t *testing.T) {
	var asked []string
	c := testClient(t, site(&asked, nil))
	f := find(t, c)
	if f.Server.Source != FromDefaults || f.Server.TokenEndpoint != "https://h/token" || f.Server.Issuer != "https://h" {
		t.Errorf("got %+v", f.Server)
	}
	c = testClient(t, func(r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.Path, "openid") {
			return &http.Response{StatusCode: http.StatusBadGateway, Header: make(http.Header), Body: http.NoBody}, nil
		}
		return &http.Response{StatusCode: http.StatusNotFound, Header: make(http.Header), Body: http.NoBody}, nil
	})
	f, err := c.FindResource(t.Context(), "")
	if err == nil {
		_, err = c.FindServer(t.Context(), f)
	}
	if _, ok := errors.AsType[*DiscoveryError](err); !ok { // it may have metadata tomorrow
		t.Errorf("a server that fails for the moment: %v", err)
	}
}

// A server behind a TLS proxy may name http URLs of itself. They are passed over.
func TestCleartextMetadataURLIsPassedOver(t *testing.T) {
	as, c := newServer(t, func(*oauthtest.Knobs) {})
	f, err := c.FindResource(t.Context(), "http://h/.well-known/oauth-protected-resource/mcp")
	if err != nil || f.Resource.ID != as.Resource || len(f.Tried) != 2 || f.Tried[0].Reason == "" || f.Tried[0].Status != 0 {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestUpstreamIsAskedForItsChallenge(t *testing.T) {
	as, c := newServer(t, func(k *oauthtest.Knobs) { k.ChallengeScope, k.DPoP = "tools", true })
	ch, tried, err := c.AskUpstream(t.Context())
	if err != nil || ch == nil || ch.Scope != "tools" || !ch.DPoP || ch.Bearer || !strings.HasPrefix(ch.Metadata, "https://h/.well-known/") {
		t.Errorf("got %+v, %v", ch, err)
	}
	if want := []Attempt{{Step: StepChallenge, URL: as.Resource, Status: http.StatusUnauthorized}}; !slices.Equal(tried, want) {
		t.Errorf("tried %+v", tried)
	}
	var methods []string
	c.Base = roundTripper(func(r *http.Request) (*http.Response, error) { // one that answers GET by a stream
		methods = append(methods, r.Method)
		if r.Method == http.MethodGet {
			return reply(""), nil
		}
		return &http.Response{StatusCode: http.StatusUnauthorized, Header: make(http.Header), Body: http.NoBody}, nil
	})
	if ch, _, err := c.AskUpstream(t.Context()); ch == nil || err != nil || !slices.Equal(methods, []string{"GET", "POST"}) {
		t.Errorf("asked by %q, got %+v, %v", methods, ch, err)
	}
	c.Base = roundTripper(func(*http.Request) (*http.Response, error) { return reply(""), nil })
	if ch, tried, err := c.AskUpstream(t.Context()); ch != nil || err != nil || len(tried) != 2 {
		t.Errorf("no token is asked for: %+v, %+v, %v", ch, tried, err)
	}
}
