package oauth

import (
	"net/url"
	"testing"
)

func TestKeyTellsAccountsApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base := func() *Config { return &Config{Upstream: w.upstream, Realm: "default direct"} }
	seen := map[string]bool{base().Key(): true}
	for _, change := range []func(*Config){
		func(c *Config) { c.Realm = "default bastion" },
		func(c *Config) { c.Client.ID = "x" },
		func(c *Config) { c.Resource = "x" },
		func(c *Config) { c.Audience = "x" },
		func(c *Config) { c.Upstream = w.upstream.JoinPath("x") },
	} {
		c := base()
		change(c)
		if seen[c.Key()] {
			t.Errorf("same key for %+v", c)
		}
		seen[c.Key()] = true
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
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
