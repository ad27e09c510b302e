package oauth

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/url"
	"slices"

	"sallyport/oauth/asclient"
)

// client is who we are at one authorization server: the configured client, or one that was
// registered there. A record keeps a registered one.
type client struct {
	asclient.Registration
	// Registered says that the client was registered dynamically (RFC 7591).
	Registered bool `json:"dynamic,omitempty"`

	// isNew says that the login under way registered it.
	isNew bool
}

// clients chooses who we are where that takes no registration.
type clients struct {
	cfg *Config
	// key signs for private_key_jwt (RFC 7523). It is nil for a client without a key.
	key *asclient.Key
}

func newClients(cfg *Config) (clients, error) {
	if cfg.Client.Key == "" {
		return clients{cfg: cfg}, nil
	}
	key, err := asclient.ParseKey(string(cfg.Client.Key), cfg.Client.KeyAlg)
	return clients{cfg, key}, err
}

// configured returns the client that needs no registration at s. It reports false if there is none.
func (l clients) configured(s asclient.Server) (client, bool) {
	var c client
	switch {
	case l.cfg.Client.ID != "":
		c.Credentials = asclient.Credentials{ID: l.cfg.Client.ID, Secret: string(l.cfg.Client.Secret), Key: l.key}
	case l.cfg.Client.MetadataURL != "" && s.TakesMetadataDocument:
		c.Credentials = asclient.Credentials{ID: l.cfg.Client.MetadataURL, Method: asclient.AuthNone, Key: l.key}
	default:
		return c, false
	}
	return c, true
}

// of returns the client that rec's tokens were granted to.
func (l clients) of(rec record) client {
	c, ok := l.configured(rec.Server)
	if !ok {
		c = rec.Client
	}
	c.ProofKey = rec.ProofKey
	return c
}

// redirectURIs returns redirect and those of the other callback addresses, with the same path. A
// client that is registered for all of them need not register again when a port is busy. The device
// grant has no redirect URI: an empty redirect returns none.
func (l clients) redirectURIs(redirect string) []string {
	if redirect == "" {
		return nil
	}
	all := []string{redirect}
	u, err := url.Parse(redirect)
	if l.cfg.Callback.RedirectURI != "" || err != nil {
		return all
	}
	for _, addr := range l.cfg.Callback.Addrs {
		_, port, _ := net.SplitHostPort(addr)
		if uri := loopbackURL(addr, port, u.Path); port != "0" && !slices.Contains(all, uri) {
			all = append(all, uri)
		}
	}
	return all
}

// callbackPathAt returns the path of the redirect URI for logins at s. A server may lead the
// browser to another one, whose code would then be sent to the first (RFC 9700 section 4.4). Where
// no iss parameter proves which server a callback comes from, its path does: each server that a
// client is registered at has a path of its own. A configured client has but one path, and so one
// server: see checkIssuer.
func (l clients) callbackPathAt(s asclient.Server) string {
	if _, configured := l.configured(s); configured || s.IssIsProof() {
		return callbackPath
	}
	sum := sha256.Sum256([]byte(s.ID()))
	return callbackPath + "/" + hex.EncodeToString(sum[:8])
}

// boundTo is the server that the configured credentials of an account are for: that of their first
// use.
type boundTo struct {
	Server string `json:"server"`
}

// bindingOf names s for a boundTo. An issuer at the upstream's origin may name any token endpoint,
// so the origin of that belongs to the name.
func (c *Config) bindingOf(s asclient.Server) string {
	issuer, err1 := url.Parse(s.ID())
	token, err2 := url.Parse(s.TokenEndpoint)
	if err1 != nil || err2 != nil || !asclient.SameOrigin(issuer, c.Upstream) || asclient.SameOrigin(issuer, token) {
		return s.ID()
	}
	return s.ID() + " with the token endpoint at " + token.Scheme + "://" + token.Host
}

// checkIssuer refuses the server s if the configured credentials are for another one. A secret, a
// key and one-shot inputs are, and so is every configured client where only a path of its own could
// tell one server's callback from another's. A server that the Config names is never refused.
func (r *renewal) checkIssuer(s asclient.Server) error {
	c := r.cfg
	secret := c.Client.Secret != "" || c.Client.Key != "" || c.givenHash() != "" || c.Grant == GrantJWTBearer
	if _, configured := r.clients.configured(s); !secret && (!configured || s.IssIsProof()) {
		return nil
	}
	var bound boundTo
	noted, name := r.account.loadNote(boundName, &bound), c.bindingOf(s)
	if rec, _ := r.account.current(); bound.Server == "" && !rec.Client.Registered {
		bound.Server = c.bindingOf(rec.Server) // of a record that is older than the note
	}
	named := c.Endpoints.Issuer != "" || s.Source == asclient.FromConfig
	if bound.Server != "" && bound.Server != name && !named {
		return &asclient.SignInError{Stage: asclient.StageDiscovery, Server: s.Name(), Code: asclient.CodeIssuerChanged,
			Refused: true, Description: "the configured client is for " + bound.Server + ", and the upstream now names this server"}
	}
	if !noted || bound.Server != name {
		r.account.saveNote(boundName, boundTo{name})
	}
	return nil
}
