package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/oauth/tokenstore"
)

// Values of Config.Grant.
const (
	GrantAuto              = "auto" // authorization_code, once the upstream asks for a token
	GrantAuthorizationCode = "authorization_code"
	GrantClientCredentials = "client_credentials"
	GrantDeviceCode        = "device_code"        // RFC 8628
	GrantJWTBearer         = "jwt_bearer"         // RFC 7523: workload identity
	GrantEnterpriseManaged = "enterprise_managed" // an ID token's exchange (RFC 8693) for an ID-JAG, then jwt_bearer with that
	GrantNone              = "none"               // requests pass unchanged
)

// Values of Config.AuthStyle.
const (
	AuthStyleHeader = "header" // client_secret_basic
	AuthStyleBody   = "body"   // client_secret_post
)

// Config describes one upstream and how to sign in to it.
type Config struct {
	Upstream *url.URL // the MCP endpoint, its real URL
	Realm    string   // opaque part of the store's key: profile and route ("default direct"), made by the caller

	Base, AuthBase http.RoundTripper // requests to the upstream's origin; requests to every other origin; nil: http.DefaultTransport

	Grant string // one of Grant...; "" auto

	ClientID          string // "" from the metadata document or dynamic registration
	ClientSecret      Secret
	ClientKey         Secret // for private_key_jwt: PEM or JSON Web Key; "" none
	ClientKeyAlg      string // RS256, ES256, ...; "" by the key and what the server supports
	ClientMetadataURL string // client ID metadata document; "" none
	ClientName        string // shown by the server when it asks for consent; "" sallyport

	AuthorizationURL, TokenURL string            // given endpoints; "" discovered
	NoDiscovery                bool              // only what is configured is used
	Scope, Resource, Audience  string            // "" discovered
	AuthStyle                  string            // "" by what the server advertises (given endpoints: body); header, body
	ExtraParams                map[string]string // added to authorize and token requests; cannot replace a parameter of ours
	AssumePKCE                 bool              // go on with S256 where the server's metadata omits its methods

	Assertion                           func() (Secret, error) // called for each request of jwt_bearer: the JWT; of enterprise_managed: the ID token
	IDPIssuer, IDPTokenURL, IDPClientID string                 // enterprise_managed: the identity provider; its endpoint "" discovered

	RefreshSkew time.Duration // refresh that long before expiry, at most half a token's life; 0: 30 s, negative: none

	// One-shot inputs, used until they are spent; what they brought is then kept in
	// the store and found by the hash of the input. The code goes with CodeVerifier
	// and RedirectURI.
	AuthorizationCode, CodeVerifier, RefreshToken Secret

	AtTerminal      bool          // a person typed the command and waits: its login goes before that of other processes, and no page is held back
	NonInteractive  bool          // never offer a browser login: LoginRequiredError instead
	RedirectURI     string        // "" http://CALLBACKHOST:PORT/callback of the address that was bound
	CallbackAddrs   []string      // tried in order, "127.0.0.1:53682"; port 0 any; nil: 127.0.0.1:0
	CallbackTimeout time.Duration // 0: 300 s
	Retry           string        // a sentence for the page of a failed sign-in: how the person starts it again; "" a general one

	Listen func(ctx context.Context, addr string) (net.Listener, error) // net.Listen's or a tunnel's; nil: net.Listen
	Offer  func(ctx context.Context, p Prompt)                          // shows the prompt to the person, in a goroutine of its own; ctx ends when it is withdrawn; nil: only State shows it

	AllowInsecureHTTP bool // cleartext to other than loopback hosts

	Store *tokenstore.Store // nil: memory only
	Log   *slog.Logger      // nil discards

	// now is the wall clock, and pageInterval the least time between two login pages of all
	// processes. Tests set them after New.
	now          func() time.Time
	pageInterval time.Duration
}

const pageInterval = 30 * time.Second

// Prompt is what a person needs to sign in.
type Prompt struct {
	AuthorizeURL string    // where to log in
	LinkExpires  time.Time // of AuthorizeURL, where the server lets it end before Expires; StartURL and BrowserURL lead to another then. Zero: it does not
	StartURL     string    // a page of our listener that leads there and holds no state: for everything but the person's own screen; "" none
	BrowserURL   string    // the same for one visit: for a command's arguments, which everybody on a machine can read; "" none
	RedirectURI  string    // where the browser will come back to
	Issuer       string    // "" for endpoints given by configuration
	// Of the device grant only: what to type in where. AuthorizeURL then holds the code
	// already, if the server has such a link, and nothing comes back to RedirectURI.
	UserCode, VerificationURI string

	Elsewhere bool // another process of this user offers it, and has opened what browser there is

	Expires time.Time
}

// Key names this upstream and account in the Store: the hash of upstream, Realm,
// configured client, resource and audience. Other memory of the same upstream goes
// under Key() + "/" + NAME; SignOut forgets that too.
func (c *Config) Key() string {
	client := c.ClientID
	if client == "" {
		client = c.ClientMetadataURL
	}
	b, _ := json.Marshal([]string{c.Upstream.String(), c.Realm, client, c.Resource, c.Audience}) // strings cannot fail
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// givenHash is the hash of the one-shot inputs. It is empty without any.
func (c *Config) givenHash() string {
	if c.AuthorizationCode == "" && c.RefreshToken == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(string(c.RefreshToken) + "\x00" + string(c.AuthorizationCode)))
	return hex.EncodeToString(sum[:])
}

// unattended reports whether the grant needs no person. Tokens of such a grant can be had again at
// any time.
func (c *Config) unattended() bool {
	return c.Grant == GrantClientCredentials || c.Grant == GrantJWTBearer || c.Grant == GrantEnterpriseManaged
}

// persistent reports whether tokens are kept in the store. Those of an unattended grant are not:
// they can be had again, and are of another kind than a person's.
func (c *Config) persistent() bool { return !c.unattended() && c.Grant != GrantNone }

func (c *Config) setDefaults() {
	c.now, c.pageInterval = wallClock, pageInterval
	if c.Grant == "" {
		c.Grant = GrantAuto
	}
	if c.ClientName == "" {
		c.ClientName = "sallyport"
	}
	if c.Base == nil {
		c.Base = http.DefaultTransport
	}
	if c.AuthBase == nil {
		c.AuthBase = http.DefaultTransport
	}
	if c.RefreshSkew == 0 {
		c.RefreshSkew = 30 * time.Second
	}
	c.RefreshSkew = max(c.RefreshSkew, 0)
	if c.CallbackTimeout == 0 {
		c.CallbackTimeout = 300 * time.Second
	}
	if len(c.CallbackAddrs) == 0 {
		c.CallbackAddrs = []string{"127.0.0.1:0"}
	}
	if c.Listen == nil {
		c.Listen = func(ctx context.Context, addr string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(ctx, "tcp", addr)
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Store == nil {
		c.Store = tokenstore.Memory(c.Log)
	}
}

// check reports the first field that cannot be worked with.
func (c *Config) check() error {
	if c.Upstream == nil || c.Upstream.Host == "" {
		return errors.New("no upstream URL")
	}
	if !slices.Contains([]string{GrantAuto, GrantAuthorizationCode, GrantClientCredentials, GrantDeviceCode, GrantJWTBearer, GrantEnterpriseManaged, GrantNone}, c.Grant) {
		return fmt.Errorf("unknown grant %q", c.Grant)
	}
	if !slices.Contains([]string{"", AuthStyleHeader, AuthStyleBody}, c.AuthStyle) {
		return fmt.Errorf("unknown auth style %q: header or body", c.AuthStyle)
	}
	given := []struct{ what, url string }{
		{"upstream URL", c.Upstream.String()},
		{"authorization URL", c.AuthorizationURL},
		{"token URL", c.TokenURL},
		{"identity provider", c.IDPIssuer},
		{"identity provider's token URL", c.IDPTokenURL},
	}
	for _, g := range given {
		if g.url == "" {
			continue
		}
		u, err := url.Parse(g.url)
		if err != nil || u.Host == "" {
			return fmt.Errorf("%s %s is not an absolute URL", g.what, quote(g.url))
		}
		if !safe(u, true, c.AllowInsecureHTTP) {
			return fmt.Errorf("%s %s must be https: cleartext http is for loopback hosts", g.what, quote(withoutQuery(u)))
		}
	}
	if u, err := url.Parse(c.ClientMetadataURL); c.ClientMetadataURL != "" && (err != nil || u.Scheme != "https" || u.Path == "" || u.Path == "/") {
		return fmt.Errorf("client metadata URL %s must be https with a path", quote(c.ClientMetadataURL))
	}
	if u, err := url.Parse(c.RedirectURI); c.RedirectURI != "" && (err != nil || u.Host == "") {
		return fmt.Errorf("redirect URI %s is not an absolute URL", quote(c.RedirectURI))
	}
	for _, a := range c.CallbackAddrs {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("callback address %s: want host:port", quote(a))
		}
	}
	switch {
	case c.Grant == GrantClientCredentials && (c.ClientID == "" || c.ClientSecret == "" && c.ClientKey == ""):
		return errors.New("grant client_credentials needs a client ID, and a client secret or key")
	case c.Grant == GrantJWTBearer && c.Assertion == nil:
		return errors.New("grant jwt_bearer needs an assertion")
	case c.Grant == GrantEnterpriseManaged && (c.Assertion == nil || c.ClientID == "" || c.IDPClientID == "" || c.IDPIssuer == "" && c.IDPTokenURL == ""):
		return errors.New("grant enterprise_managed needs a client ID, an ID token, the identity provider and its client ID")
	case c.ClientKey != "" && c.ClientID == "" && c.ClientMetadataURL == "":
		return errors.New("a client key needs the client ID that it belongs to")
	case c.NoDiscovery && c.TokenURL == "" && c.Grant != GrantAuto && c.Grant != GrantNone:
		return errors.New("discovery is off and no token URL is given")
	}
	return nil
}

// safe reports whether u may be used by its scheme: https, or cleartext to the hosts that
// are allowed it.
func safe(u *url.URL, loopback, everyHost bool) bool {
	return u.Scheme == "https" || u.Scheme == "http" && (everyHost || loopback && isLoopback(u.Hostname()))
}

// isLoopback reports whether host, a URL's Hostname, is on this machine by its name alone.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// sameOrigin compares scheme, host and port (RFC 6454), default ports filled in.
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if strings.EqualFold(u.Scheme, "https") {
		return "443"
	}
	return "80"
}

// origin returns u without path, query, fragment and user.
func origin(u *url.URL) *url.URL { return &url.URL{Scheme: u.Scheme, Host: u.Host} }

// withoutQuery returns u for an error or a log: neither query, fragment nor user.
func withoutQuery(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
