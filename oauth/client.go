package oauth

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

	// PlainPath says that its redirect URIs have the path callbackPath although nothing else tells
	// the callbacks of its server from those of others: see login.callbackPath.
	PlainPath bool `json:"plain_path,omitempty"`

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
// server: see checkIssuer. A server that the person vouches for is trusted with callbackPath.
func (l clients) callbackPathAt(s asclient.Server) string {
	if _, configured := l.configured(s); configured || s.IssIsProof() || l.cfg.vouchesFor(s) {
		return callbackPath
	}
	sum := sha256.Sum256([]byte(s.ID()))
	return callbackPath + "/" + hex.EncodeToString(sum[:8])
}

// vouchesFor reports whether the Config itself names the server s, that discovery found with it.
func (c *Config) vouchesFor(s asclient.Server) bool {
	return c.Endpoints.Issuer != "" || s.Source == asclient.FromConfig
}

// boundTo is the server that what an account has for one server alone is for: that of its first
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

// checkIssuer refuses the server s if what the Config has for one server alone is for another. A
// secret, a key and one-shot inputs are. So is every configured client and redirect URI where only
// a path of its own could tell one server's callback from another's.
func (r *renewal) checkIssuer(s asclient.Server) error {
	c := r.cfg
	_, configured := r.clients.configured(s)
	secret := c.Client.Secret != "" || c.Client.Key != "" || c.givenHash() != "" || c.Grant == GrantJWTBearer
	onePath := configured || c.Callback.RedirectURI != ""
	if !secret && (!onePath || s.IssIsProof()) {
		return nil
	}
	if other := r.boundElsewhere(s); other != "" && !c.vouchesFor(s) {
		return issuerChanged(s, "the configured client is for "+other+", and the upstream now names this server")
	}
	r.bind(s)
	return nil
}

// issuerChanged is the error for a server that would get what is for another.
func issuerChanged(s asclient.Server, why string) error {
	return &asclient.SignInError{Stage: asclient.StageDiscovery, Server: s.Name(), Code: asclient.CodeIssuerChanged,
		Refused: true, Description: why}
}

// boundElsewhere returns the server that the account is bound to, if that is not s. It is empty if
// it is s, or if there is none yet.
func (r *renewal) boundElsewhere(s asclient.Server) string {
	var b boundTo
	r.account.notes.load(boundName, &b)
	if rec, _ := r.account.current(); b.Server == "" && !rec.Client.Registered {
		b.Server = r.cfg.bindingOf(rec.Server) // of a record that is older than the note
	}
	if b.Server == r.cfg.bindingOf(s) || b.Server == bindingOfEndpoint(r.cfg.Endpoints.TokenURL) {
		return "" // where an endpoint is given, discover lets nothing go to another one
	}
	if b.Server == bindingOfEndpoint(s.TokenEndpoint) && isConfined(s) {
		return "" // the endpoint was given once, and now metadata names it
	}
	return b.Server
}

// bindingOfEndpoint names the server of a token endpoint that the Config gives, for a boundTo.
func bindingOfEndpoint(tokenURL string) string {
	if tokenURL == "" {
		return ""
	}
	return asclient.Server{TokenEndpoint: tokenURL, Source: asclient.FromConfig}.ID()
}

// isConfined reports whether s gets what is secret only at the origin of its token endpoint.
func isConfined(s asclient.Server) bool {
	c := s.Confined()
	return c.PushEndpoint == s.PushEndpoint && c.DeviceEndpoint == s.DeviceEndpoint && c.RevocationEndpoint == s.RevocationEndpoint
}

// bind notes that the account is bound to s, until a sign-out.
func (r *renewal) bind(s asclient.Server) {
	var b boundTo
	if name := r.cfg.bindingOf(s); !r.account.notes.load(boundName, &b) || b.Server != name {
		r.account.notes.save(boundName, boundTo{name})
	}
}

// pathTaken returns the server that logins at s would be mixed up with if both came back to
// callbackPath. It is empty if there is none: this account was never bound to another server, and
// no other account of the store has a server without proof whose callbacks come to that path.
func (r *renewal) pathTaken(s asclient.Server) string {
	if other := r.boundElsewhere(s); other != "" {
		return other
	}
	values, _ := r.cfg.Store.Values() // with a record that cannot be read, nobody is signed in
	for _, b := range values {
		var rec record
		if json.Unmarshal(b, &rec) == nil && rec.Server.ID() != s.ID() && rec.usesPlainPath() {
			return rec.Server.Name()
		}
	}
	return ""
}

// usesPlainPath reports whether callbacks of r's server come to callbackPath, and nothing in them
// proves that it is that server.
func (r record) usesPlainPath() bool {
	plain := func(uri string) bool {
		u, err := url.Parse(uri)
		return err == nil && u.Path == callbackPath
	}
	if r.Server.ID() == "" || r.Server.IssIsProof() {
		return false
	}
	return !r.Client.Registered || slices.ContainsFunc(r.Client.RedirectURIs, plain)
}
