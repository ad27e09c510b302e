package asclient

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"sallyport/oauth/oauthtest"
)

const (
	testUpstream = "https://h/mcp"
	testIssuer   = "https://as.example"
	testRedirect = "http://127.0.0.1:1/callback"
	testVerifier = "a-verifier-of-enough-characters-to-be-one-really"
)

// newServer returns an authorization server for the upstream https://h/mcp, and a Client that
// reaches both without a network.
func newServer(t *testing.T, change func(*oauthtest.Knobs)) (*oauthtest.Server, *Client) {
	t.Helper()
	as := oauthtest.New(testIssuer, testUpstream)
	as.Set(change)
	c := testClient(t, serve(as))
	c.Base = serve(as.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	as.Now = c.Now
	return as, c
}

// serve has h answer requests.
func serve(h http.Handler) roundTripper {
	return func(r *http.Request) (*http.Response, error) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		resp := rec.Result()
		resp.Request = r
		return resp, nil
	}
}

// find discovers the upstream's resource and server.
func find(t *testing.T, c *Client) Finding {
	t.Helper()
	f, err := c.FindResource(t.Context(), "")
	if err == nil {
		f, err = c.FindServer(t.Context(), f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// open visits an authorization URL as a person who says yes, and returns what the browser brings
// back.
func open(t *testing.T, c *Client, link string) url.Values {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Other.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	back, err := resp.Location()
	if err != nil {
		t.Fatalf("%s: status %d, %v", link, resp.StatusCode, err)
	}
	return back.Query()
}

// login gets a token by an authorization code.
func login(t *testing.T, c *Client, f Finding, who Credentials) Token {
	t.Helper()
	want := Wanted{Scopes: []string{"tools"}, Resource: f.Resource.ID}
	a := Authorization{RedirectURI: testRedirect, State: "state-0451", Verifier: testVerifier, Wanted: want}
	link, err := c.AuthorizeURL(f.Server, who, a)
	if err != nil {
		t.Fatal(err)
	}
	if f.Server.PushRequired {
		p, err := c.Push(t.Context(), f.Server, who, link)
		if err != nil {
			t.Fatal(err)
		}
		link = p.URL
	}
	q := open(t, c, link)
	if err := CheckRedirect(f.Server, q); err != nil || q.Get("state") != "state-0451" {
		t.Fatalf("state %q, %v", q.Get("state"), err)
	}
	code := Code{Code: q.Get("code"), RedirectURI: testRedirect, Verifier: testVerifier, Resource: f.Resource.ID}
	k, err := c.RedeemCode(t.Context(), f.Server, who, code)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// register registers a client with the redirect URI of login.
func register(t *testing.T, c *Client, f Finding) Credentials {
	t.Helper()
	r, err := c.Register(t.Context(), f, Application{Name: "test", Redirects: []string{testRedirect}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Credentials
}
