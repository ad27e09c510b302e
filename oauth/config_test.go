package oauth

import "testing"

func TestKeyTellsAccountsApart(t *testing.T) {
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
