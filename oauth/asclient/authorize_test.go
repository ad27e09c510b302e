package asclient

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"sallyport/oauth/oauthtest"
	"strings"
	"testing"
	"time"
)

func TestCheckRedirect(t *testing.T) {
	const ours = "https://as.example"
	vouched := Server{Issuer: ours + "/{tenantid}/v2.0", FoundAt: ours + "/all/v2.0"}
	for _, tt := range []struct {
		name   string
		server Server
		query  string
		want   string // code of the error
	}{
		{"iss is ours", Server{Issuer: ours, SendsIss: true}, "code=c&iss=https://as.example", ""},
		{"advertised and absent", Server{Issuer: ours, SendsIss: true}, "code=c", CodeIssuerMismatch},
		{"advertised, absent, error", Server{Issuer: ours, SendsIss: true}, "error=access_denied", CodeIssuerMismatch},
		{"neither", Server{Issuer: ours}, "code=c", ""},
		{"not advertised, another", Server{Issuer: ours}, "code=c&iss=https://evil.example", CodeIssuerMismatch},
		{"not advertised, empty", Server{Issuer: ours}, "code=c&iss=", CodeIssuerMismatch},
		{"a slash more", Server{Issuer: ours}, "code=c&iss=https://as.example/", ""},
		{"a slash less", Server{Issuer: ours + "/"}, "code=c&iss=https://as.example", ""},
		{"host in capitals", Server{Issuer: ours}, "code=c&iss=https://AS.example:443", ""},
		{"promised, a slash more", Server{Issuer: ours, SendsIss: true}, "code=c&iss=https://as.example/", CodeIssuerMismatch},
		{"promised, a slash less", Server{Issuer: ours + "/", SendsIss: true}, "code=c&iss=https://as.example", CodeIssuerMismatch},
		{"promised, as the resource writes it", Server{Issuer: ours + "/", Named: ours, SendsIss: true}, "code=c&iss=https://as.example", ""},
		{"promised, host in capitals", Server{Issuer: ours, SendsIss: true}, "code=c&iss=https://AS.example:443", CodeIssuerMismatch},
		{"two slashes more", Server{Issuer: ours}, "code=c&iss=https://as.example//", CodeIssuerMismatch},
		{"another path", Server{Issuer: ours}, "code=c&iss=https://as.example/x", CodeIssuerMismatch},
		{"with a query", Server{Issuer: ours}, "code=c&iss=https://as.example?x", CodeIssuerMismatch},
		{"cleartext", Server{Issuer: ours}, "code=c&iss=http://as.example", CodeIssuerMismatch},
		{"ours and another", Server{Issuer: ours}, "code=c&iss=https://as.example&iss=https://evil.example", CodeIssuerMismatch},
		{"ours twice", Server{Issuer: ours}, "code=c&iss=https://as.example&iss=https://as.example", ""},
		{"a tenant", vouched, "code=c&iss=https://as.example/0451-ab/v2.0", ""},
		{"a tenant with a slash", vouched, "code=c&iss=https://as.example/0451-ab/v2.0/", ""},
		{"what the person named", vouched, "code=c&iss=https://as.example/all/v2.0", ""},
		{"two segments for a tenant", vouched, "code=c&iss=https://as.example/a/b/v2.0", CodeIssuerMismatch},
		{"no tenant", vouched, "code=c&iss=https://as.example//v2.0", CodeIssuerMismatch},
		{"a tenant elsewhere", vouched, "code=c&iss=https://evil.example/0451-ab/v2.0", CodeIssuerMismatch},
		{"a template without a voucher", Server{Issuer: vouched.Issuer}, "code=c&iss=https://as.example/0451-ab/v2.0", CodeIssuerMismatch},
		{"two codes", Server{Issuer: ours}, "code=c&code=d", CodeBadReply},
		{"one code twice", Server{Issuer: ours}, "code=c&code=c", ""},
		{"code and error", Server{Issuer: ours}, "code=c&error=access_denied", "access_denied"},
		{"a description alone", Server{Issuer: ours}, "error_description=no", CodeBadReply},
		{"given endpoints have no issuer", Server{Source: FromConfig}, "code=c&iss=https://as.example", ""},
		{"an error", Server{Issuer: ours}, "error=access_denied", "access_denied"},
		{"no code", Server{Issuer: ours}, "code=", CodeBadReply},
	} {
		q, _ := url.ParseQuery(tt.query)
		got := ""
		if e, ok := errors.AsType[*SignInError](CheckRedirect(tt.server, q)); ok {
			got = e.Code
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestPushedLink(t *testing.T) {
	const endpoint, answered = "https://as.example/a?tenant=7", "https://as.example/a?client_id=me&request_uri=urn%3Ax&tenant=7"
	for _, tt := range []struct {
		answer string
		want   string // "": an error
		life   time.Duration
	}{
		{`{"request_uri":"urn:x","expires_in":90}`, answered, 90 * time.Second},
		{`{"request_uri":"urn:x"}`, answered, pushLife},
		{`{"request_uri":"` + strings.Repeat("x", maxRequestURI+1) + `","expires_in":90}`, "", 0},
		{`{"expires_in":90}`, "", 0},
	} {
		c := testClient(t, func(*http.Request) (*http.Response, error) { return reply(tt.answer), nil })
		s := Server{Issuer: "https://as.example", AuthorizationEndpoint: endpoint, PushEndpoint: "https://as.example/par"}
		got, err := c.Push(t.Context(), s, Credentials{ID: "me"}, endpoint+"&client_id=me&scope=tools")
		if got.URL != tt.want || (err == nil) != (tt.want != "") || err == nil && !got.Expires.Equal(start.Add(tt.life)) {
			t.Errorf("%.60s: got %s until %v, %v", tt.answer, got.URL, got.Expires, err)
		}
	}
}

func TestPushedRequestReachesTheServer(t *testing.T) {
	for _, methods := range [][]string{{AuthNone}, {AuthBasic}, {AuthPost}} {
		as, c := newServer(t, func(k *oauthtest.Knobs) { k.RequirePush, k.AuthMethods = true, methods })
		c.ExtraParams = map[string]string{"request_uri": "mine", "tenant": "7"}
		f := find(t, c)
		login(t, c, f, register(t, c, f))
		if q := as.Pushed(); q.Get("resource") != testUpstream || q.Get("tenant") != "7" || q.Get("state") == "" || as.Stats().Pushes != 1 {
			t.Errorf("%s: pushed %v", methods, q)
		}
	}
}

func TestRefusedPushMasksTheState(t *testing.T) {
	_, c := newServer(t, func(k *oauthtest.Knobs) { k.RequirePush, k.PushError = true, "invalid_request" })
	f := find(t, c)
	who := register(t, c, f)
	_, err := c.Push(t.Context(), f.Server, who, f.Server.AuthorizationEndpoint+"?state=state-0451&client_id="+who.ID)
	e, ok := errors.AsType[*SignInError](err)
	if !ok || e.Stage != StageAuthorize || e.Code != "invalid_request" || strings.Contains(err.Error(), "0451") {
		t.Errorf("got %v", err)
	}
}

func TestAuthorizeURL(t *testing.T) {
	c := &Client{AuthorizeParams: map[string]string{"hd": "example.org", "state": "mine", "client_id": "mine"}}
	s := Server{Issuer: testIssuer, AuthorizationEndpoint: "https://as.example/a?tenant=7#top"}
	a := Authorization{RedirectURI: testRedirect, State: "s", Verifier: testVerifier,
		Wanted: Wanted{Scopes: []string{"tools", "offline_access"}, Resource: testUpstream, Audience: "api"}}
	link, err := c.AuthorizeURL(s, Credentials{ID: "me"}, a)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(link)
	if err != nil || u.Fragment != "" {
		t.Fatalf("got %s, %v", link, err)
	}
	q := u.Query()
	for name, want := range map[string]string{"tenant": "7", "hd": "example.org", "state": "s", "response_type": "code", "client_id": "me", "redirect_uri": testRedirect,
		"scope": "tools offline_access", "prompt": "", "resource": testUpstream, "audience": "api", "code_challenge_method": "S256"} {
		if got := q.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for prompt, want := range map[string]string{"": "consent", "select_account": "select_account"} {
		c.AuthorizeParams = nil
		if prompt != "" {
			c.AuthorizeParams = map[string]string{"prompt": prompt}
		}
		a.Consent, a.Resource = true, ""
		link, err := c.AuthorizeURL(s, Credentials{ID: "me"}, a)
		u, _ := url.Parse(link)
		if err != nil || u.Query().Get("prompt") != want || u.Query().Has("resource") {
			t.Errorf("%q: got %s, %v", prompt, link, err)
		}
	}
	for _, endpoint := range []string{"http://as.example/a", "javascript:alert(1)", "::", ""} {
		_, err := c.AuthorizeURL(Server{AuthorizationEndpoint: endpoint}, Credentials{}, a)
		if e, ok := errors.AsType[*SignInError](err); !ok || e.Code != CodeInsecureURL {
			t.Errorf("%q: got %v", endpoint, err)
		}
	}
}

// A browser that we start asks no service of this machine on behalf of an upstream elsewhere.
func TestBrowserURLs(t *testing.T) {
	t.Parallel()
	const local = "http://127.0.0.1:8080/delete?all=1"
	for _, tt := range []struct {
		upstream, issuer, endpoint string
		source                     Source
		want                       bool
	}{
		{"https://mcp.example/mcp", "", "https://as.example/authorize", FromMetadata, true},
		{"https://mcp.example/mcp", "", "https://localhost/authorize", FromMetadata, true},
		{"https://mcp.example/mcp", "", "http://as.example/authorize", FromMetadata, false},
		{"https://mcp.example/mcp", "", "https://bank.example@as.example/authorize", FromMetadata, false},
		{"https://mcp.example/mcp", "", local, FromMetadata, false},
		{"https://mcp.example/mcp", "", "http://localhost:8080/", FromMetadata, false},
		{"https://mcp.example/mcp", "", local, FromConfig, true},
		{"https://mcp.example/mcp", "http://127.0.0.1:8080", local, FromMetadata, true},
		{"http://127.0.0.1:3001/mcp", "", local, FromMetadata, true},
	} {
		c := testClient(t, func(*http.Request) (*http.Response, error) {
			body := `{"device_code":"d","user_code":"u","verification_uri":"https://as.example/","verification_uri_complete":"` + tt.endpoint + `"}`
			return &http.Response{StatusCode: 200, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body))}, nil
		})
		c.Upstream, _ = url.Parse(tt.upstream)
		c.Issuer = tt.issuer
		s := Server{Issuer: "https://as.example", AuthorizationEndpoint: tt.endpoint, DeviceEndpoint: "https://as.example/d", Source: tt.source}
		if _, err := c.AuthorizeURL(s, Credentials{ID: "me"}, Authorization{}); (err == nil) != tt.want {
			t.Errorf("%+v: authorization endpoint: got %v", tt, err)
		}
		d, err := c.StartDevice(t.Context(), s, Credentials{ID: "me"}, Wanted{})
		if err != nil || (d.CompleteURI == tt.endpoint) != tt.want {
			t.Errorf("%+v: verification URI: got %q, %v", tt, d.CompleteURI, err)
		}
	}
}
