package oauth

import (
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	type m = map[string]string
	for _, tt := range []struct {
		name   string
		header []string
		want   []challenge
	}{
		{"none", nil, nil},
		{"bare", []string{"Bearer"}, []challenge{{"bearer", m{}}}},
		{"parameters", []string{`Bearer realm="a, b", error=invalid_token ,scope="x y"`},
			[]challenge{{"bearer", m{"realm": "a, b", "error": "invalid_token", "scope": "x y"}}}},
		{"escapes", []string{`bearer realm="a\"b\\c"`}, []challenge{{"bearer", m{"realm": `a"b\c`}}}},
		{"empty value", []string{`Bearer error_description="", scope=x`}, []challenge{{"bearer", m{"error_description": "", "scope": "x"}}}},
		{"several in one", []string{`Basic realm="x", Bearer scope=y, Negotiate`},
			[]challenge{{"basic", m{"realm": "x"}}, {"bearer", m{"scope": "y"}}, {"negotiate", m{}}}},
		{"several headers", []string{`Negotiate YWJj==`, `BEARER Resource_Metadata="https://h/p?q=1"`},
			[]challenge{{"negotiate", m{}}, {"bearer", m{"resource_metadata": "https://h/p?q=1"}}}},
		{"token68 before ours", []string{`Negotiate YWJj==, Bearer scope=y`}, []challenge{{"negotiate", m{}}, {"bearer", m{"scope": "y"}}}},
		{"spaces around =", []string{`Bearer scope = "y"`}, []challenge{{"bearer", m{"scope": "y"}}}},
		{"first of a repeated one", []string{`Bearer scope=a, scope=b`}, []challenge{{"bearer", m{"scope": "a"}}}},
		{"unterminated", []string{`Bearer scope="y`}, []challenge{{"bearer", m{"scope": "y"}}}},
		{"rubbish beside ours", []string{`"x" =, ;;, Bearer scope=y`}, []challenge{{"bearer", m{"scope": "y"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseChallenges(tt.header); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A quoted parameter comes back as it was, whatever it holds.
func FuzzParseChallenges(f *testing.F) {
	f.Add("x y", `Basic realm="z", `)
	f.Add(`a"b\`, "Negotiate YWJj==,")
	f.Fuzz(func(t *testing.T, value, before string) {
		parseChallenges([]string{before + value})
		var quoted []byte
		for i := range len(value) {
			if value[i] == '"' || value[i] == '\\' {
				quoted = append(quoted, '\\')
			}
			quoted = append(quoted, value[i])
		}
		got := tokenChallenge(http.Header{"Www-Authenticate": {`Bearer scope="` + string(quoted) + `"`}})
		if got["scope"] != value {
			t.Errorf("got %q, want %q", got["scope"], value)
		}
	})
}

func TestWellKnownURLs(t *testing.T) {
	for _, tt := range []struct {
		of   func(*url.URL) []string
		link string
		want []string
	}{
		{resourceMetadataURLs, "https://h/a/mcp", []string{"https://h/.well-known/oauth-protected-resource/a/mcp", "https://h/.well-known/oauth-protected-resource"}},
		{resourceMetadataURLs, "https://h/", []string{"https://h/.well-known/oauth-protected-resource"}},
		{resourceMetadataURLs, "https://h:8443/x?q=1", []string{"https://h:8443/.well-known/oauth-protected-resource/x", "https://h:8443/.well-known/oauth-protected-resource"}},
		{serverMetadataURLs, "https://h", []string{"https://h/.well-known/oauth-authorization-server", "https://h/.well-known/openid-configuration"}},
		{serverMetadataURLs, "https://h/t1/", []string{"https://h/.well-known/oauth-authorization-server/t1",
			"https://h/.well-known/openid-configuration/t1", "https://h/t1/.well-known/openid-configuration"}},
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

func TestAllowedURLs(t *testing.T) {
	for _, tt := range []struct {
		upstream, link string
		insecure, want bool
	}{
		{"https://h/mcp", "https://as.example/x", false, true},
		{"https://h/mcp", "http://as.example/x", false, false},
		{"https://h/mcp", "http://as.example/x", true, true},
		{"https://h/mcp", "http://127.0.0.1:1/x", false, false},
		{"http://127.0.0.1:2/mcp", "http://[::1]:1/x", false, true},
		{"http://127.0.0.1:2/mcp", "http://as.example/x", false, false},
		{"https://h/mcp", "file:///etc/passwd", true, false},
		{"https://h/mcp", "https://user@as.example/", false, false},
	} {
		up, _ := url.Parse(tt.upstream)
		u, _ := url.Parse(tt.link)
		if got := (&wire{upstream: up, insecure: tt.insecure}).allow(u) == nil; got != tt.want {
			t.Errorf("upstream %s: %s allowed is %v", tt.upstream, tt.link, got)
		}
	}
}

func TestLifetime(t *testing.T) {
	for in, want := range map[string]float64{"": 0, "null": 0, "0": 0, "-5": 0, `"60"`: 60, `" 60 "`: 60, "60": 60, "1.5": 1.5, `"x"`: 0, "{}": 0, "1e300": 100 * 365 * 24 * 3600, "NaN": 0} {
		if got := lifetime([]byte(in)).Seconds(); got != want {
			t.Errorf("expires_in %s: got %v, want %v", strconv.Quote(in), got, want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := func() Config { return Config{Upstream: &url.URL{Scheme: "https", Host: "h", Path: "/mcp"}} }
	for name, spoil := range map[string]func(*Config){
		"no upstream":             func(c *Config) { c.Upstream = nil },
		"cleartext upstream":      func(c *Config) { c.Upstream.Scheme = "http" },
		"cleartext token URL":     func(c *Config) { c.Endpoints.TokenURL = "http://as.example/token" },
		"no scheme":               func(c *Config) { c.Endpoints.AuthorizationURL = "as.example" },
		"unknown grant":           func(c *Config) { c.Grant = "implicit" },
		"unknown style":           func(c *Config) { c.Client.AuthStyle = "query" },
		"credentials without any": func(c *Config) { c.Grant = GrantClientCredentials },
		"no assertion":            func(c *Config) { c.Grant = GrantJWTBearer },
		"no identity provider": func(c *Config) {
			c.Grant, c.Client.ID, c.IDP.ClientID, c.Assertion = GrantEnterpriseManaged, "c", "c", func() (Secret, error) { return "", nil }
		},
		"cleartext identity provider": func(c *Config) { c.IDP.Issuer = "http://idp.example" },
		"key without a client":        func(c *Config) { c.Client.Key = pemKey(t, newECKey(t)) },
		"key of another algorithm": func(c *Config) {
			c.Client.ID, c.Client.Key, c.Client.KeyAlg = "c", pemKey(t, newECKey(t)), "RS256"
		},
		"nothing to go by":      func(c *Config) { c.Grant = GrantAuthorizationCode; c.Endpoints.NoDiscovery = true },
		"callback without port": func(c *Config) { c.Callback.Addrs = []string{"127.0.0.1"} },
		"document without path": func(c *Config) { c.Client.MetadataURL = "https://client.example" },
		"relative redirect":     func(c *Config) { c.Callback.RedirectURI = "/cb" },
	} {
		c := good()
		spoil(&c)
		if tr, err := New(c); err == nil {
			tr.Close()
			t.Errorf("%s: no error", name)
		}
	}
	tr, err := New(good())
	if err != nil {
		t.Fatal(err)
	}
	tr.Close()
}
