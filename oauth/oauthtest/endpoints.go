package oauthtest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxForm is how many bytes of a request's body are read.
const maxForm = 1 << 16

// call is one request to the authorization server. It runs under the server's lock.
type call struct {
	*Server
	w http.ResponseWriter
	r *http.Request
}

// serve finds the endpoint.
func (c call) serve() {
	u, err := url.Parse(c.Issuer)
	if err != nil {
		http.NotFound(c.w, c.r)
		return
	}
	base := strings.TrimSuffix(u.Path, "/")
	endpoint, _ := strings.CutPrefix(c.r.URL.Path, base)
	get, post, k := c.r.Method == http.MethodGet, c.r.Method == http.MethodPost, c.knobs
	switch {
	case c.r.URL.Path == "/.well-known/oauth-authorization-server"+base && !k.NoMetadata && !k.OpenIDOnly,
		c.r.URL.Path == base+"/.well-known/openid-configuration" && !k.NoMetadata:
		reply(c.w, http.StatusOK, c.metadata())
	case endpoint == "/authorize" && get:
		c.authorize()
	case endpoint == "/token" && post:
		c.token()
	case endpoint == "/device_authorization" && post && !k.NoDevice:
		c.device()
	case endpoint == "/device" && get && k.DeviceWaits:
		approve(c)
	case endpoint == "/par" && post && k.RequirePush:
		c.push()
	case endpoint == "/register" && post && !k.NoRegistration:
		c.register()
	case endpoint == "/revoke" && post && !k.NoRevocation:
		c.revoke()
	case endpoint == "/introspect" && post:
		c.introspect()
	default:
		http.NotFound(c.w, c.r)
	}
}

// metadata is RFC 8414 section 2.
func (c call) metadata() map[string]any {
	k := c.knobs
	m := map[string]any{
		"issuer":                                         either(k.WrongIssuer, c.Issuer),
		"authorization_endpoint":                         c.at("/authorize"),
		"token_endpoint":                                 c.at("/token"),
		"device_authorization_endpoint":                  c.at("/device_authorization"),
		"introspection_endpoint":                         c.at("/introspect"),
		"response_types_supported":                       []string{"code"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token", "client_credentials"},
		"token_endpoint_auth_methods_supported":          c.authMethods(),
		"code_challenge_methods_supported":               []string{"S256"},
		"authorization_response_iss_parameter_supported": !k.NoIss,
		"client_id_metadata_document_supported":          k.MetadataDocument,
	}
	if k.DeviceOnly {
		delete(m, "authorization_endpoint")
	}
	if k.NoDevice {
		delete(m, "device_authorization_endpoint")
	}
	if k.RequirePush {
		m["pushed_authorization_request_endpoint"], m["require_pushed_authorization_requests"] = c.at("/par"), true
	}
	if k.ProofAlgs != nil {
		m["dpop_signing_alg_values_supported"] = k.ProofAlgs
	}
	if !k.NoRegistration {
		m["registration_endpoint"] = c.at("/register")
	}
	if !k.NoRevocation {
		m["revocation_endpoint"] = c.at("/revoke")
	}
	if k.NoPKCE {
		delete(m, "code_challenge_methods_supported")
	}
	if k.Scopes != nil {
		m["scopes_supported"] = k.Scopes
	}
	return m
}

func (c call) authMethods() []string {
	if c.knobs.AuthMethods != nil {
		return c.knobs.AuthMethods
	}
	return []string{"none", "client_secret_basic", "client_secret_post"}
}

// register is RFC 7591 section 3.
func (c call) register() {
	c.stats.Registrations++
	var m map[string]any
	if json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, maxForm)).Decode(&m) != nil {
		c.fail(http.StatusBadRequest, "invalid_client_metadata", "not JSON")
		return
	}
	c.seen.registered = m
	var uris []string
	list, _ := m["redirect_uris"].([]any)
	for _, u := range list {
		uris = append(uris, fmt.Sprint(u))
	}
	forDevice := strings.Contains(fmt.Sprint(m["grant_types"]), "device_code")
	if len(uris) == 0 && !forDevice || c.knobs.OneRedirect && len(uris) > 1 {
		c.fail(http.StatusBadRequest, "invalid_redirect_uri", "wrong number of redirect URIs")
		return
	}
	client := &Client{ID: "client-" + rand.Text(), RedirectURIs: uris, Method: "client_secret_basic"} // RFC 7591 section 2
	if method, ok := m["token_endpoint_auth_method"].(string); ok {
		client.Method = method
	}
	if c.knobs.NumericIDs {
		client.ID = fmt.Sprint(1_000_000_007 + len(c.book.clients))
	}
	if !slices.Contains(c.authMethods(), client.Method) {
		c.fail(http.StatusBadRequest, "invalid_client_metadata", "token_endpoint_auth_method")
		return
	}
	if client.Method == "none" && c.knobs.SecretAnyway != "" {
		client.Method = c.knobs.SecretAnyway
		m["token_endpoint_auth_method"] = client.Method
	}
	m["client_id"] = client.ID
	if client.Method != "none" {
		client.Secret = c.book.secret("cs-%+ ") // with characters that only proper form-encoding carries
		m["client_secret"], m["client_secret_expires_at"] = client.Secret, 0
	}
	c.book.clients[client.ID] = client
	reply(c.w, http.StatusCreated, m)
}

// authorize is RFC 6749 section 4.1.1. The person says yes unless Knobs.Deny is set.
func (c call) authorize() {
	c.stats.Authorizations++
	q := c.r.URL.Query()
	if c.knobs.RequirePush {
		if q = c.takePushed(q); q == nil {
			http.Error(c.w, "no such request_uri, or more than that", http.StatusBadRequest)
			return
		}
	}
	c.seen.authorized = q
	client := c.book.clients[q.Get("client_id")]
	if id := q.Get("client_id"); client == nil && c.knobs.MetadataDocument && strings.HasPrefix(id, "https://") {
		client = &Client{ID: id, Method: "none", RedirectURIs: []string{q.Get("redirect_uri")}}
		c.book.clients[id] = client
	}
	if client == nil || !client.takesRedirect(q.Get("redirect_uri")) {
		// RFC 6749 section 4.1.2.1: never a redirect.
		http.Error(c.w, "unknown client or redirect URI", http.StatusBadRequest)
		return
	}
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		http.Error(c.w, "redirect URI", http.StatusBadRequest)
		return
	}
	back.RawQuery = c.redirectParams(client, q).Encode()
	http.Redirect(c.w, c.r, back.String(), http.StatusFound)
}

// takesRedirect reports whether uri is registered. A registered URI on loopback without a port
// matches with any port (RFC 8252 section 7.3).
func (c *Client) takesRedirect(uri string) bool {
	if slices.Contains(c.RedirectURIs, uri) {
		return true
	}
	u, err := url.Parse(uri)
	if err != nil || u.Hostname() != "127.0.0.1" {
		return false
	}
	u.Host = u.Hostname()
	return slices.Contains(c.RedirectURIs, u.String())
}

// redirectParams decides on the authorization request q.
func (c call) redirectParams(client *Client, q url.Values) url.Values {
	a := url.Values{"state": {q.Get("state")}}
	if !c.knobs.NoIss {
		a.Set("iss", either(c.knobs.WrongIss, c.Issuer))
	}
	pkce := q.Get("code_challenge_method") == "S256" && q.Get("code_challenge") != ""
	switch {
	case c.knobs.Deny != "":
		a.Set("error", c.knobs.Deny)
		a.Set("error_description", "the person said no to "+q.Get("state"))
	case q.Get("response_type") != "code" || !pkce || q.Get("state") == "":
		a.Set("error", "invalid_request")
	case q.Has("resource") && q.Get("resource") != c.resource():
		a.Set("error", "invalid_target")
	default:
		code := c.book.secret("code-")
		c.book.codes[code] = &grant{client: client.ID, redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"),
			resource: q.Get("resource"), scope: q.Get("scope"), key: q.Get("dpop_jkt"), alive: new(true)}
		a.Set("code", code)
	}
	return a
}

// push is RFC 9126 section 2.
func (c call) push() {
	c.stats.Pushes++
	f := c.form()
	if f == nil {
		return
	}
	c.seen.pushed = f
	key, ok := c.proofKey("/par")
	if !ok {
		return
	}
	client := c.client()
	switch {
	case client == nil:
		c.fail(http.StatusUnauthorized, "invalid_client", "unknown client or wrong authentication")
	case c.knobs.PushError != "":
		c.fail(http.StatusBadRequest, c.knobs.PushError, "you sent "+f.Get("state"))
	case f.Get("client_id") != client.ID || f.Has("request_uri") || f.Get("dpop_jkt") != key:
		c.fail(http.StatusBadRequest, "invalid_request", "not an authorization request of this client")
	default:
		uri, life := c.book.secret("urn:ietf:params:oauth:request_uri:"), c.knobs.PushLife
		if life == 0 {
			life = time.Minute
		}
		c.book.pushed[uri] = pushed{f, c.now().Add(life)}
		reply(c.w, http.StatusCreated, map[string]any{"request_uri": uri, "expires_in": int(life / time.Second)})
	}
}

// takePushed returns the parameters that the authorization request q refers to, once. Nil: there
// are none, or q holds more than the reference.
func (c call) takePushed(q url.Values) url.Values {
	uri := q.Get("request_uri")
	p, ok := c.book.pushed[uri]
	delete(c.book.pushed, uri)
	if !ok || len(q) != 2 || q.Get("client_id") != p.params.Get("client_id") || !c.now().Before(p.expires) {
		return nil
	}
	return p.params
}

// device is RFC 8628 section 3.1.
func (c call) device() {
	c.stats.Devices++
	client := c.client()
	if client == nil {
		c.fail(http.StatusUnauthorized, "invalid_client", "")
		return
	}
	code, userCode, uri := c.book.secret("device-"), "WDJB-MJHT", c.at("/device")
	g := &grant{client: client.ID, alive: new(true), resource: c.r.PostFormValue("resource"), scope: c.r.PostFormValue("scope")}
	if c.knobs.DeviceWaits {
		userCode = "WDJB-" + rand.Text()[:4]
		g.waits = userCode
	}
	c.book.codes[code] = g
	reply(c.w, http.StatusOK, map[string]any{
		"device_code": code, "user_code": userCode, "verification_uri": uri,
		"verification_uri_complete": uri + "?user_code=" + userCode, "expires_in": 600, "interval": 3,
	})
}

// approve is the page where the person enters a user code.
func approve(c call) {
	for _, g := range c.book.codes {
		if code := c.r.FormValue("user_code"); g.waits == code && code != "" {
			g.waits = ""
			fmt.Fprintln(c.w, "the device is signed in")
			return
		}
	}
	http.Error(c.w, "no such code", http.StatusNotFound)
}

// revoke is RFC 7009 section 2.
func (c call) revoke() {
	c.stats.Revocations++
	if c.client() == nil {
		c.fail(http.StatusUnauthorized, "invalid_client", "")
		return
	}
	for _, tokens := range []map[string]*grant{c.book.refresh, c.book.access} {
		if g := tokens[c.r.PostFormValue("token")]; g != nil {
			*g.alive = false
		}
	}
}

// introspect is RFC 7662 section 2.
func (c call) introspect() {
	g := c.book.access[c.r.FormValue("token")]
	m := map[string]any{"active": g.valid(c.now())}
	if g.valid(c.now()) {
		m["scope"], m["aud"] = g.scope, g.resource
	}
	reply(c.w, http.StatusOK, m)
}

// form returns the body's parameters. Nil: they cannot be read, and the request is answered.
func (c call) form() url.Values {
	c.r.Body = http.MaxBytesReader(c.w, c.r.Body, maxForm)
	if c.r.ParseForm() != nil {
		c.fail(http.StatusBadRequest, "invalid_request", "form")
		return nil
	}
	return c.r.PostForm
}

func (c call) fail(status int, code, description string) {
	reply(c.w, status, map[string]string{"error": code, "error_description": description})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
