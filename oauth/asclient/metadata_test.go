package asclient

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestWellKnownURLs(t *testing.T) {
	for _, tt := range []struct {
		of   func(*url.URL) []string
		link string
		want []string
	}{
		{resourceMetadataURLs, "https://h/a/mcp", []string{"https://h/.well-known/oauth-protected-resource/a/mcp",
			"https://h/.well-known/oauth-protected-resource"}},
		{resourceMetadataURLs, "https://h/", []string{"https://h/.well-known/oauth-protected-resource"}},
		{resourceMetadataURLs, "https://h:8443/x?q=1", []string{"https://h:8443/.well-known/oauth-protected-resource/x",
			"https://h:8443/.well-known/oauth-protected-resource"}},
		{serverMetadataURLs, "https://h", []string{"https://h/.well-known/oauth-authorization-server",
			"https://h/.well-known/openid-configuration"}},
		{serverMetadataURLs, "https://h/t1/", []string{"https://h/.well-known/oauth-authorization-server/t1",
			"https://h/.well-known/openid-configuration/t1", "https://h/t1/.well-known/openid-configuration",
			"https://h/t1/.well-known/oauth-authorization-server", "https://h/.well-known/oauth-authorization-server/t1/",
			"https://h/.well-known/openid-configuration/t1/", "https://h/.well-known/oauth-authorization-server"}},
		{serverMetadataURLs, "https://h/t1", []string{"https://h/.well-known/oauth-authorization-server/t1",
			"https://h/.well-known/openid-configuration/t1", "https://h/t1/.well-known/openid-configuration",
			"https://h/t1/.well-known/oauth-authorization-server", "https://h/.well-known/oauth-authorization-server"}},
	} {
		u, _ := url.Parse(tt.link)
		if got := tt.of(u); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.link, got, tt.want)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		resource, upstream string
		want               bool
	}{
		{"https://h/mcp", "https://h/mcp", true},
		{"https://h/mcp/", "https://h/mcp", true},
		{"https://h", "https://h/mcp", true},
		{"https://H:443/", "https://h/mcp", true},
		{"https://h/mcp", "https://h/mcp/v1", true},
		{"https://h/mc", "https://h/mcp", false},
		{"https://h/mcp/v1", "https://h/mcp", false},
		{"http://h/mcp", "https://h/mcp", false},
		{"https://h:8443/mcp", "https://h/mcp", false},
		{"https://h.evil.example/mcp", "https://h/mcp", false},
		{"https://h/mcp#x", "https://h/mcp", false},
		{"https://h/mcp?t=1", "https://h/mcp?t=2", false},
		{"https://h/mcp?t=1", "https://h/mcp?t=1", true},
		{"", "https://h/mcp", false},
	} {
		u, _ := url.Parse(tt.upstream)
		if got := covers(tt.resource, u); got != tt.want {
			t.Errorf("covers(%q, %q) is %v", tt.resource, tt.upstream, got)
		}
	}
}

func TestPKCEMustBePromised(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server Server
		assume bool
		want   bool
	}{
		{"S256", Server{ChallengeMethods: []string{"plain", "S256"}}, false, true},
		{"plain only", Server{ChallengeMethods: []string{"plain"}}, true, false},
		{"S256 in lower case", Server{ChallengeMethods: []string{"s256"}}, false, true},
		{"none", Server{ChallengeMethods: []string{}}, false, false},
		{"none, assumed", Server{ChallengeMethods: []string{}}, true, true},
		{"not mentioned", Server{}, false, false},
		{"not mentioned, assumed", Server{}, true, true},
		{"no metadata", Server{Source: FromConfig}, false, true},
		{"first revision", Server{Source: FromDefaults}, false, true},
	} {
		err := tt.server.CheckPKCE(tt.assume)
		if e, ok := errors.AsType[*SignInError](err); ok == tt.want || ok && (e.Code != CodePKCE || !e.Refused) {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}

func TestServersAreToldApart(t *testing.T) {
	issuer := Server{Issuer: testIssuer, TokenEndpoint: "https://as.example/t?key=0451"}
	given := Server{TokenEndpoint: issuer.TokenEndpoint, Source: FromConfig}
	if issuer.ID() == given.ID() || issuer.Name() != testIssuer || given.Name() != "https://as.example/t" || given.Host() != "as.example" {
		t.Errorf("got %q %q, %q %q %q", issuer.ID(), issuer.Name(), given.ID(), given.Name(), given.Host())
	}
}

// An endpoint that is no absolute URL is one of the issuer, or none.
func TestEndpointsThatAreNoAbsoluteURLs(t *testing.T) {
	t.Parallel()
	for named, want := range map[string]string{
		"https://x.example/t":    "https://x.example/t",
		" https://x.example/t\n": "https://x.example/t",
		"http://as.example/t":    "http://as.example/t", // which is refused later
		"/t":                     "https://as.example/t",
		"/oauth/t?p=1":           "https://as.example/oauth/t?p=1",
		"t":                      "https://as.example/tenant/t",
		"./t":                    "https://as.example/tenant/t",
		"../t":                   "https://as.example/t",
		"//as.example/t":         "https://as.example/t",
		"as.example/t":           "https://as.example/t",
		"//evil.example/t":       "",
		`/\evil.example/t`:       "https://as.example/%5Cevil.example/t",
		"///evil.example/t":      "https://as.example///evil.example/t",
		"evil.example/t":         "https://as.example/tenant/evil.example/t",
		"//u@as.example/t":       "https://u@as.example/t", // which is refused later
		"//as.example:8443/t":    "",
		"":                       "",
	} {
		d, _ := readDocument([]byte(`{"token_endpoint":` + strconv.Quote(named) + `}`))
		if s, _ := readServer(d, "https://as.example/tenant", false); s.TokenEndpoint != want {
			t.Errorf("%q: got %q, want %q", named, s.TokenEndpoint, want)
		}
	}
}

func TestServersInAnyShape(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`["https://a.example"," https://b.example "]`:                          "https://a.example https://b.example",
		`"https://a.example"`:                                                  "https://a.example",
		`{"issuer":"https://a.example"}`:                                       "https://a.example",
		`[{"issuer":"https://a.example"},{"url":"https://b.example"},{"x":1}]`: "https://a.example https://b.example",
		`["https://a.example/.well-known/oauth-authorization-server/t"]`:       "https://a.example/t",
		`["https://a.example/t/.well-known/openid-configuration"]`:             "https://a.example/t",
		`["https://a.example/.well-known/openid-configurationx"]`:              "https://a.example/.well-known/openid-configurationx",
		`["a.example/t"]`: "https://a.example/t",
		`["not a url","https://a.example https://b.example","none"]`: "https://a.example https://b.example none",
		`["/auth"]`:              "https://h/auth",
		`["//evil.example"]`:     "",
		`[null,"",7,true,[],{}]`: "7", // which is no URL
		`{}`:                     "",
		`null`:                   "",
	} {
		d, _ := readDocument([]byte(`{"resource":"https://h","authorization_servers":` + value + `}`))
		if r, _ := readResource(d, "https://h/.well-known/oauth-protected-resource"); strings.Join(r.Servers, " ") != want {
			t.Errorf("%s: got %q, want %q", value, r.Servers, want)
		}
	}
}
