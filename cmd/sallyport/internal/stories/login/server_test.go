//go:build linux

package login_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/oauth/oauthtest"
)

// Whatever calls the callback, nothing but the right state ends a login, and the page tells what
// came of the code.
func TestStrangeCallbacksDoNotEndALogin(t *testing.T) {
	t.Parallel()
	s := machines.NewFakeSite(t)
	p, link, callback := startLogin(t, s)
	for path, want := range map[string]int{
		"/callback?code=stray&state=wrong": 400, "/callback?error=access_denied&state=wrong": 400, "/callback": 400,
		"/favicon.ico": 404, "/": 404,
	} {
		if status, _ := machines.Visit(t, "http://"+callback.Host+path, ""); status != want {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
	}
	if status, _ := machines.Visit(t, "http://"+callback.Host+"/callback?code=x&state=y", "evil.example"); status != http.StatusMisdirectedRequest {
		t.Errorf("another Host: status %d", status)
	}
	if page := machines.Curl(t, nil, "-L", link); !strings.Contains(page, "<h1>Signed in</h1>") ||
		!strings.Contains(page, s.Upstream) {
		t.Errorf("the page is %s", page)
	}
	if status := p.Wait(t); status != machines.StatusDone {
		t.Errorf("status %d after strange callbacks", status)
	}

	s.AS.Set(func(k *oauthtest.Knobs) { k.TokenError = "invalid_grant" })
	p, link, _ = startLogin(t, s)
	if page := machines.Curl(t, nil, "-L", link); !strings.Contains(page, "<h1>Not signed in</h1>") ||
		!strings.Contains(page, "sallyport login") {
		t.Errorf("the page of a failed code exchange is %s", page)
	}
	if status := p.Wait(t); status != machines.StatusSignIn {
		t.Errorf("status %d, want %d", status, machines.StatusSignIn)
	}
}

// startLogin starts a login that waits, and returns the URL for the person and the callback's.
func startLogin(t *testing.T, s *machines.FakeSite) (p *machines.Process, link string, callback *url.URL) {
	t.Helper()
	p = machines.StartProcess(t, s.Command(nil, "login", "--no-browser", "--callback-port", "0", "--token-store", "memory"))
	link = p.Err.Await(t, machines.Offered)[1]
	return p, link, machines.ParseURL(t, machines.ParseURL(t, link).Query().Get("redirect_uri"))
}

// specification is a row of TestSpecification.
type specification struct {
	name   string
	knobs  oauthtest.Knobs // what the authorization server is like
	args   []string
	status int
	check  func(t *testing.T, as *oauthtest.Server)
}

// A login does what MCP's authorization asks for: it registers itself or shows its metadata
// document, asks for the scope that the challenge names and for none that nobody named, and
// believes no server that says it is another.
func TestSpecification(t *testing.T) {
	t.Parallel()
	scope := func(want string) func(*testing.T, *oauthtest.Server) {
		return func(t *testing.T, as *oauthtest.Server) {
			if got := as.Authorized().Get("scope"); got != want {
				t.Errorf("scope %q, want %q", got, want)
			}
		}
	}
	for _, test := range []specification{
		{"dynamic registration", oauthtest.Knobs{}, nil, machines.StatusDone, func(t *testing.T, as *oauthtest.Server) {
			if got := as.Stats().Registrations; got != 1 {
				t.Errorf("%d registrations", got)
			}
		}},
		{"client ID metadata document", oauthtest.Knobs{MetadataDocument: true},
			[]string{"--client-metadata-url", "https://client.example/sallyport.json"}, machines.StatusDone, func(t *testing.T, as *oauthtest.Server) {
				if got := as.Authorized().Get("client_id"); got != "https://client.example/sallyport.json" ||
					as.Stats().Registrations != 0 {
					t.Errorf("client_id %q, %d registrations", got, as.Stats().Registrations)
				}
			}},
		{"the challenge names the scope", oauthtest.Knobs{ChallengeScope: "read",
			ResourceScopes: []string{"read", "write"}}, nil, machines.StatusDone, scope("read")},
		{"not every scope of the login server", oauthtest.Knobs{Scopes: []string{"read", "write", "admin"},
			ResourceScopes: []string{"read"}}, nil, machines.StatusDone, scope("read")},
		{"metadata of another issuer", oauthtest.Knobs{WrongIssuer: "https://evil.example"}, nil, machines.StatusSignIn,
			func(t *testing.T, as *oauthtest.Server) {
				if got := as.Stats(); got.Registrations+got.Authorizations != 0 {
					t.Errorf("the server was asked %+v", got)
				}
			}},
		{"redirect of another issuer", oauthtest.Knobs{WrongIss: "https://evil.example"}, nil, machines.StatusSignIn,
			func(t *testing.T, as *oauthtest.Server) {
				if got := as.Stats().Codes; got != 0 {
					t.Errorf("%d codes were sent", got)
				}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := machines.NewFakeSite(t)
			s.AS.Set(func(k *oauthtest.Knobs) { *k = test.knobs })
			p := machines.StartProcess(t, s.Command(nil, append([]string{"login", "--browser", s.Browser,
				"--callback-port", "0"}, test.args...)...))
			if status := p.Wait(t); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			test.check(t, s.AS)
		})
	}
}

// Parameters that a person adds do not replace ours, port 0 comes out as the real one, and an IPv6
// address stands in brackets.
func TestExtraParametersAndIPv6(t *testing.T) {
	t.Parallel()
	s := machines.NewFakeSite(t)
	extra := `{"state": "mine", "redirect_uri": "https://evil.example/", "code_challenge": "x", "resource": "https://evil.example/", "tenant": "7"}`
	p := machines.StartProcess(t, s.Command([]string{"OAUTH2_EXTRA_PARAMS=" + extra}, "login", "--browser", s.Browser,
		"--callback-port", "0", "--callback-host", "::1"))
	if status := p.Wait(t); status != machines.StatusDone {
		t.Fatalf("status %d", status)
	}
	got := s.AS.Authorized()
	u := machines.ParseURL(t, got.Get("redirect_uri"))
	if u.Hostname() != "::1" || u.Port() == "" || u.Port() == "0" || !strings.HasPrefix(u.Host, "[::1]:") {
		t.Errorf("redirect_uri %s", u)
	}
	if got.Get("state") == "mine" || got.Get("code_challenge") == "x" ||
		!slices.Equal(got["resource"], []string{s.Upstream}) || got.Get("tenant") != "7" {
		t.Errorf("authorize request %v", got)
	}
}
