package oauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/tokenstore"
)

// Values of Config.Grant.
const (
	// GrantAuto is GrantAuthorizationCode once the upstream asks for a token. It is GrantDeviceCode
	// at a server that has no authorization endpoint.
	GrantAuto = "auto"
	// GrantAuthorizationCode is RFC 6749 section 4.1 with PKCE (RFC 7636): a person logs in with a
	// browser.
	GrantAuthorizationCode = "authorization_code"
	// GrantClientCredentials is RFC 6749 section 4.4: the client logs in as itself.
	GrantClientCredentials = "client_credentials"
	// GrantDeviceCode is RFC 8628: a person logs in with a browser on any device.
	GrantDeviceCode = "device_code"
	// GrantJWTBearer is RFC 7523: the identity of a workload, shown as a signed assertion.
	GrantJWTBearer = "jwt_bearer"
	// GrantEnterpriseManaged exchanges an ID token at the identity provider (RFC 8693) for an
	// assertion, and shows that as in GrantJWTBearer.
	GrantEnterpriseManaged = "enterprise_managed"
	// GrantNone passes requests on unchanged.
	GrantNone = "none"
)

// Values of ClientConfig.AuthStyle.
const (
	// AuthStyleHeader is client_secret_basic (RFC 7591 section 2).
	AuthStyleHeader = "header"
	// AuthStyleBody is client_secret_post.
	AuthStyleBody = "body"
)

// ResourceNone is the Config.Resource that sends no resource parameter.
const ResourceNone = "none"

// Values of Config.Bearer.
const (
	// BearerAccess sends the access token.
	BearerAccess = "access"
	// BearerID sends the ID token (OpenID Connect Core section 2), for upstreams that take nothing
	// else.
	BearerID = "id"
)

// Config describes one upstream and how to sign in to it.
type Config struct {
	// Upstream is the URL of the MCP endpoint. It must be set.
	Upstream *url.URL
	// Realm is a part of the store's key that the caller chooses, to keep accounts at the same
	// upstream apart. It may be empty.
	Realm string
	// Remark is JSON that is kept with the record of the account from each sign-in on, for a caller
	// that meets the account without its Config. It must hold no secret. Nil keeps none.
	Remark json.RawMessage

	// Base sends requests to the upstream's origin. AuthBase sends requests to every other origin.
	// A nil RoundTripper is http.DefaultTransport.
	Base, AuthBase http.RoundTripper
	// MayOpen reports whether the person's browser may be sent to u, a URL that the server at by
	// names. It is not asked for what the person configured. Nil allows all that is https, and http
	// to loopback for an upstream on loopback.
	MayOpen func(by, u *url.URL) bool
	// AllowInsecureHTTP allows cleartext to hosts other than loopback.
	AllowInsecureHTTP bool

	// Grant is one of the Grant constants. Empty is GrantAuto.
	Grant string
	// Client says who we are to the authorization server.
	Client ClientConfig
	// Endpoints says what is known of the authorization server without discovery.
	Endpoints Endpoints
	// Scope is the scopes to ask for, separated by spaces. Empty takes those of the upstream's
	// challenge, or else all of its resource metadata.
	Scope string
	// Resource is the resource parameter (RFC 8707). Empty takes that of the resource metadata, and
	// ResourceNone sends none. What is given here counts, whatever the metadata names.
	Resource string
	// Audience is a parameter that some servers want beside or instead of Resource. Empty sends
	// none.
	Audience string
	// ExtraParams are added to authorization and token requests. They never replace a parameter
	// that this package sets.
	ExtraParams map[string]string
	// AuthorizeParams are added to authorization requests alone, under the rule of ExtraParams.
	AuthorizeParams map[string]string
	// Bearer says which token the upstream gets: BearerAccess or BearerID. Empty is BearerAccess.
	Bearer string

	// Kind names the kind of a request to the upstream, such as the method and the tool that its
	// body names. A refusal of a request that does not end with a new token is most likely of its
	// kind. Nil takes the requests of one HTTP method for one kind.
	Kind func(*http.Request) string

	// Given holds one-shot inputs, which are tried before a login.
	Given Given
	// Assertion returns the JWT of GrantJWTBearer or the ID token of GrantEnterpriseManaged. It is
	// called for each sign-in. Other grants do not use it. Without it, GrantEnterpriseManaged signs
	// the person in at the identity provider.
	Assertion func() (Secret, error)
	// IDP is the identity provider of GrantEnterpriseManaged. Other grants do not use it.
	IDP IdentityProvider

	// RefreshSkew is how long before its expiry a token is refreshed, but never in the first half
	// of its life. Zero is 30 seconds. A negative one turns refreshing ahead of expiry off.
	RefreshSkew time.Duration

	// AtTerminal says that a person started this process in a terminal in order to log in, and
	// waits. Its login takes over from that of another process, and its login page is never held
	// back.
	AtTerminal bool
	// NonInteractive forbids logins: a sign-in that needs a person fails with LoginRequiredError.
	NonInteractive bool
	// Callback says where the callback arrives.
	Callback CallbackConfig
	// Offer shows a prompt to the person. It runs in a goroutine of its own, and its context ends
	// when the prompt is withdrawn. With a nil Offer, only State shows the prompt. If a code beside
	// the link comes later or ends, Offer is not called again: the State has it.
	Offer func(ctx context.Context, p Prompt)
	// CodeBeside reports whether a login of GrantAuto is to offer a device code (RFC 8628) beside
	// its link, because the person may sit at a machine whose browser does not bring the callback
	// here. It is called when there is a link to show, and while there is, each time the channel
	// is closed until it reports true. A nil channel never changes. Nil offers no codes.
	CodeBeside func() (wanted bool, changed <-chan struct{})

	// Store keeps tokens between runs. Nil keeps them in memory.
	Store *tokenstore.Store
	// Log may be nil, which discards.
	Log *slog.Logger

	// atProvider says that this is the account at an identity provider, which has no upstream. Only
	// providerConfig sets it.
	atProvider bool
	// now is the wall clock. pageInterval is the shortest time between two login pages of all
	// processes. freshPauses are the pauses between the tries with a fresh token that is refused:
	// behind a load balancer, a server may hear of a token later than another. questionPauses are
	// those before each try of exchange.question. Tests set all four after New.
	now          func() time.Time
	pageInterval time.Duration
	freshPauses  []time.Duration

	questionPauses []time.Duration
}

// ClientConfig says who we are to the authorization server. Its zero value leaves that to dynamic
// registration (RFC 7591).
type ClientConfig struct {
	// ID is the client ID. Empty takes MetadataURL, or else registers a client.
	ID string
	// Secret is the client's secret. It is empty for a public client.
	Secret Secret
	// Key is the private key for private_key_jwt (RFC 7523), as PEM or as a JSON Web Key. It is
	// empty for a client without one.
	Key Secret
	// KeyAlg is the algorithm that Key signs with, such as "RS256" or "ES256". Empty chooses by the
	// key and by what the server supports.
	KeyAlg string
	// MetadataURL is the URL of a client ID metadata document. A server that takes such documents
	// takes it as our client ID. It may be empty.
	MetadataURL string
	// Name is what the server shows when it asks the person for consent. Empty is "sallyport".
	Name string
	// Certificate says that AuthBase and Base present a TLS client certificate, which may stand for
	// the client (RFC 8705).
	Certificate bool
	// AuthStyle is AuthStyleHeader or AuthStyleBody: where the secret goes in a request. Empty
	// follows the server's metadata, and is the body for endpoints that are given.
	AuthStyle string
}

// Endpoints says what is known of the authorization server without discovery.
type Endpoints struct {
	// Issuer is the authorization server that the person vouches for. Its metadata counts, whatever
	// the upstream names, and configured secrets go to no other server. Empty follows the upstream.
	Issuer string
	// AuthorizationURL and TokenURL are the server's endpoints. An empty one is discovered.
	AuthorizationURL, TokenURL string
	// NoDiscovery turns discovery off: only what is configured is used.
	NoDiscovery bool
	// AssumePKCE says that the server supports PKCE with S256 even if its metadata does not mention
	// PKCE. Without it, such a server is refused.
	AssumePKCE bool
}

// Given holds one-shot inputs that somebody else obtained. They are used until they bring a token
// or are refused. The record then keeps their hash, so that a later process does not use them
// again.
type Given struct {
	// AuthorizationCode is a code to exchange for tokens, with the CodeVerifier (RFC 7636) and the
	// Callback.RedirectURI that it was asked for with. Empty means that there is none.
	AuthorizationCode, CodeVerifier Secret
	// RefreshToken is a token to refresh with. Empty means that there is none.
	RefreshToken Secret
}

// IdentityProvider is the identity provider that issues the ID token of GrantEnterpriseManaged. The
// person signs in there once for all upstreams with the same Issuer, TokenURL, ClientID and Realm.
type IdentityProvider struct {
	// Issuer is the provider's issuer URL. A sign-in there needs it. It may be empty if
	// Config.Assertion and TokenURL are set.
	Issuer string
	// TokenURL is its token endpoint. Empty discovers it from Issuer.
	TokenURL string
	// ClientID is our client ID at the provider.
	ClientID string
	// ClientSecret is the secret of that client. It is empty for a public client.
	ClientSecret Secret
	// Realm keeps several accounts of the person at the provider apart, as Config.Realm does for
	// the upstream. Empty is Config.Realm.
	Realm string
}

// CallbackConfig says where the callback arrives: the request that the browser makes to the
// redirect URI.
type CallbackConfig struct {
	// RedirectURI is the redirect URI to send. Empty is http://HOST:PORT/callback with the address
	// that was bound. If it is on loopback and has a port, that address replaces Addrs.
	RedirectURI string
	// Addrs are the addresses to listen on, such as "127.0.0.1:53682". They are tried in order
	// until one is free. Port 0 is any free port. Nil is "127.0.0.1:0".
	Addrs []string
	// Timeout is how long a login waits for the person. Zero is 300 seconds.
	Timeout time.Duration
	// Retry is a sentence for our page after a failed login: how the person starts it again. Empty
	// is a general sentence.
	Retry string
	// Printable returns text as our pages may show it. Nil changes nothing: the pages escape what
	// means something in HTML, and show the rest as it came.
	Printable func(text string) string
	// Listen opens the listener. It may be that of a tunnel, or one whose port another machine
	// holds. The latter has a method HoldsElsewhere() bool that returns true; the redirect URI then
	// has the port of its Addr, and callbacks come by Transport.Deliver. Nil is net.Listen's.
	Listen func(ctx context.Context, addr string) (net.Listener, error)
}

// defaultPageInterval is Config.pageInterval outside of tests.
const defaultPageInterval = 30 * time.Second

// Key is the name of this account in the Store: the hash of the upstream, the Realm, the configured
// client, the resource and the audience. A caller that keeps other values of the same account puts
// them under Key() + "/" + NAME; SignOut removes those too.
func (c *Config) Key() string {
	client := c.Client.ID
	if client == "" {
		client = c.Client.MetadataURL
	}
	parts := []string{c.Upstream.String(), c.Realm, client, c.Resource, c.Audience}
	if c.atProvider {
		parts = append(parts, "identity provider", c.Endpoints.TokenURL)
	}
	b, _ := json.Marshal(parts) // strings cannot fail
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// givenHash is the hash of the one-shot inputs. It is empty without any.
func (c *Config) givenHash() string {
	if c.Given.AuthorizationCode == "" && c.Given.RefreshToken == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(string(c.Given.RefreshToken) + "\x00" + string(c.Given.AuthorizationCode)))
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

// setDefaults replaces zero values by their defaults.
func (c *Config) setDefaults() {
	c.now, c.pageInterval = wallClock, defaultPageInterval
	c.questionPauses = []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond}
	c.freshPauses = []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}
	if c.Grant == "" {
		c.Grant = GrantAuto
	}
	if c.Client.Name == "" {
		c.Client.Name = "sallyport"
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
	if c.Callback.Timeout == 0 {
		c.Callback.Timeout = 300 * time.Second
	}
	if len(c.Callback.Addrs) == 0 {
		c.Callback.Addrs = []string{"127.0.0.1:0"}
	}
	if c.Callback.Listen == nil {
		c.Callback.Listen = func(ctx context.Context, addr string) (net.Listener, error) {
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

// check reports the first setting that cannot work.
func (c *Config) check() error {
	if c.Upstream == nil || c.Upstream.Host == "" {
		return errors.New("no upstream URL")
	}
	if !slices.Contains([]string{"", AuthStyleHeader, AuthStyleBody}, c.Client.AuthStyle) {
		return fmt.Errorf("unknown auth style %q: header or body", c.Client.AuthStyle)
	}
	if !slices.Contains([]string{"", BearerAccess, BearerID}, c.Bearer) {
		return fmt.Errorf("unknown bearer %q: access or id", c.Bearer)
	}
	for _, name := range slices.Sorted(maps.Keys(c.AuthorizeParams)) {
		if asclient.Reserved(name) {
			return fmt.Errorf("authorize parameter %s is one of the protocol, and cannot be set", asclient.Quote(name))
		}
	}
	for _, addr := range c.Callback.Addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("callback address %s: want host:port", asclient.Quote(addr))
		}
	}
	if err := c.checkURLs(); err != nil {
		return err
	}
	return c.checkGrant()
}

// checkURLs reports the first URL that cannot be used.
func (c *Config) checkURLs() error {
	given := []struct{ what, url string }{
		{"upstream URL", c.Upstream.String()},
		{"issuer", c.Endpoints.Issuer},
		{"authorization URL", c.Endpoints.AuthorizationURL},
		{"token URL", c.Endpoints.TokenURL},
		{"identity provider", c.IDP.Issuer},
		{"identity provider's token URL", c.IDP.TokenURL},
	}
	for _, g := range given {
		if g.url == "" {
			continue
		}
		u, err := url.Parse(g.url)
		if err != nil || u.Host == "" {
			return fmt.Errorf("%s %s is not an absolute URL", g.what, asclient.Quote(g.url))
		}
		if !asclient.Secure(u, c.AllowInsecureHTTP) {
			shown := asclient.Quote(asclient.WithoutQuery(u))
			return fmt.Errorf("%s %s must be https: cleartext http is for loopback hosts", g.what, shown)
		}
	}
	if document := c.Client.MetadataURL; document != "" {
		if u, err := url.Parse(document); err != nil || u.Scheme != "https" || u.Path == "" || u.Path == "/" {
			return fmt.Errorf("client metadata URL %s must be https with a path", asclient.Quote(document))
		}
	}
	if redirect := c.Callback.RedirectURI; redirect != "" {
		if u, err := url.Parse(redirect); err != nil || u.Host == "" {
			return fmt.Errorf("redirect URI %s is not an absolute URL", asclient.Quote(redirect))
		}
	}
	return nil
}

// checkGrant reports what the grant lacks.
func (c *Config) checkGrant() error {
	switch c.Grant {
	case GrantAuto, GrantAuthorizationCode, GrantDeviceCode, GrantNone:
	case GrantClientCredentials:
		if c.Client.ID == "" || c.Client.Secret == "" && c.Client.Key == "" && !c.Client.Certificate {
			return errors.New("grant client_credentials needs a client ID, and a client secret, key or certificate")
		}
	case GrantJWTBearer:
		if c.Assertion == nil {
			return errors.New("grant jwt_bearer needs an assertion")
		}
	case GrantEnterpriseManaged:
		provider := c.IDP.ClientID != "" && (c.IDP.Issuer != "" || c.IDP.TokenURL != "")
		if c.Client.ID == "" || !provider {
			return errors.New("grant enterprise_managed needs a client ID, " +
				"and the identity provider and the client ID there")
		}
		if c.Assertion == nil && c.IDP.Issuer == "" {
			return errors.New("grant enterprise_managed needs the identity provider's issuer to sign in there, " +
				"or an ID token")
		}
	default:
		return fmt.Errorf("unknown grant %q", c.Grant)
	}
	if c.Client.Key != "" && c.Client.ID == "" && c.Client.MetadataURL == "" {
		return errors.New("a client key needs the client ID that it belongs to")
	}
	if c.Endpoints.NoDiscovery && c.Endpoints.TokenURL == "" && c.Grant != GrantAuto && c.Grant != GrantNone {
		return errors.New("discovery is off and no token URL is given")
	}
	return nil
}

// resourceOf returns the resource parameter to send. It is empty to send none.
//
// An upstream without resource metadata may name a server that is not its own, and lead the browser
// there by its own ways. Without a resource, that server would not learn who gets the token, and
// might give one for another upstream.
func (c *Config) resourceOf(f asclient.Finding) string {
	if c.Resource == ResourceNone {
		return ""
	}
	own := ""
	if f.Server.FoundAt != "" && c.Endpoints.Issuer == "" {
		own = asclient.WithoutQuery(c.Upstream)
	}
	return cmp.Or(c.Resource, f.Resource.ID, own)
}

// requests returns the client that sends requests to authorization servers.
func (c *Config) requests() *asclient.Client {
	as := &asclient.Client{Upstream: c.Upstream, Base: c.Base, Other: c.AuthBase, MayOpen: c.MayOpen, AllowHTTP: c.AllowInsecureHTTP,
		Issuer: c.Endpoints.Issuer, ResourceGiven: c.Resource != "", Certificate: c.Client.Certificate, BearerID: c.Bearer == BearerID,
		ExtraParams: c.ExtraParams, AuthorizeParams: c.AuthorizeParams, Now: func() time.Time { return c.now() }, Log: c.Log}
	switch c.Client.AuthStyle {
	case AuthStyleHeader:
		as.SecretMethod = asclient.AuthBasic
	case AuthStyleBody:
		as.SecretMethod = asclient.AuthPost
	}
	return as
}

// ToServer reports whether a request that Config.Base or Config.AuthBase got goes to the
// authorization server: for its metadata, or to one of its endpoints. It is false for requests of
// MCP, and for everything else that the upstream's metadata leads to.
func ToServer(req *http.Request) bool { return asclient.ToServer(req) }

// NamedBy says who named the URL of a request that Config.AuthBase got. It returns a URL of that
// server: the upstream, an authorization server, or one that redirects. It returns byPerson, and no
// URL, for an origin that was configured.
func NamedBy(req *http.Request) (server *url.URL, byPerson bool) { return asclient.NamedBy(req) }
