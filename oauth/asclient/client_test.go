package asclient

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sallyport/oauth/oauthtest"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAllowedURLs(t *testing.T) {
	for _, tt := range []struct {
		upstream, link string
		insecure, want bool
	}{
		{"https://h/mcp", "https://as.example/x", false, true},
		{"https://h/mcp", "http://as.example/x", false, false},
		{"https://h/mcp", "http://as.example/x", true, true},
		{"https://h/mcp", "http://127.0.0.1:1/x", false, false},
		{"http://127.0.0.1:2/mcp", "http://[::1]:1/x", false, true},
		{"http://127.0.0.1:2/mcp", "http://as.example/x", false, false},
		{"https://h/mcp", "file:///etc/passwd", true, false},
		{"https://h/mcp", "https://user@as.example/", false, false},
	} {
		up, _ := url.Parse(tt.upstream)
		u, _ := url.Parse(tt.link)
		if got := (requester{&Client{Upstream: up, AllowHTTP: tt.insecure}}).allow(u) == nil; got != tt.want {
			t.Errorf("upstream %s: %s allowed is %v", tt.upstream, tt.link, got)
		}
	}
}

// start is the time of testClient's clock, which stands still.
var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// testClient returns a Client of the upstream https://h/mcp whose requests web answers.
func testClient(t *testing.T, web roundTripper) *Client {
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	return &Client{Upstream: &url.URL{Scheme: "https", Host: "h", Path: "/mcp"}, Base: web, Other: web,
		Now: func() time.Time { return start }, Log: log}
}

// reply returns an answer of status 200.
func reply(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body))}
}

func TestRequestsLeaveByTheOriginTheyGoTo(t *testing.T) {
	var ways []string
	way := func(name, body string) roundTripper {
		return func(r *http.Request) (*http.Response, error) {
			ways = append(ways, name+" "+r.URL.String())
			return reply(body), nil
		}
	}
	c := testClient(t, nil)
	c.Base = way("base", `{"resource":"https://h/mcp","authorization_servers":["https://as.example"]}`)
	c.Other = way("other", `{"issuer":"https://as.example","token_endpoint":"https://as.example/t",
		"registration_endpoint":"https://as.example/r","code_challenge_methods_supported":["S256"]}`)
	find(t, c)
	want := []string{
		"base https://h/.well-known/oauth-protected-resource/mcp",
		"other https://as.example/.well-known/oauth-authorization-server",
	}
	if !slices.Equal(ways, want) {
		t.Errorf("got %q, want %q", ways, want)
	}
}

// redirectTo answers with a redirect.
func redirectTo(link string) *http.Response {
	return &http.Response{StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {link}}, Body: http.NoBody}
}

func TestMetadataRedirectIsFollowedToHTTPSOnly(t *testing.T) {
	for _, tt := range []struct {
		to   string
		want string // of the error; empty for none
	}{
		{"https://elsewhere.example/metadata", ""},
		{"http://elsewhere.example/metadata?code=0451", "is not an https URL"},
		{"http://127.0.0.1/metadata", "is not an https URL"},
		{"https://h/.well-known/oauth-protected-resource/mcp", "too many redirects"},
	} {
		c := testClient(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "h" {
				resp := redirectTo(tt.to)
				resp.Request = r
				return resp, nil
			}
			return reply(`{"resource":"https://h/mcp"}`), nil
		})
		f, err := c.FindResource(t.Context(), "")
		switch {
		case tt.want == "":
			if err != nil || f.Resource.ID != testUpstream {
				t.Errorf("%s: got %+v, %v", tt.to, f, err)
			}
		case err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "0451"):
			t.Errorf("%s: got %v, want %q and no query", tt.to, err, tt.want)
		}
	}
}

func TestSecretFollowsNoRedirect(t *testing.T) {
	asked := 0
	c := testClient(t, func(*http.Request) (*http.Response, error) {
		asked++
		return redirectTo("https://elsewhere.example/token"), nil
	})
	s := Server{Issuer: testIssuer, TokenEndpoint: testIssuer + "/token"}
	_, err := c.Refresh(t.Context(), s, Credentials{ID: "me"}, Token{Refresh: "rt-0451"}, "")
	e, ok := errors.AsType[*SignInError](err)
	if !ok || e.Status != http.StatusTemporaryRedirect || e.Refused || asked != 1 {
		t.Errorf("got %v after %d requests", err, asked)
	}
}

func TestAnswerThatIsTooLong(t *testing.T) {
	c := testClient(t, func(*http.Request) (*http.Response, error) { return reply(strings.Repeat(" ", maxReply+1)), nil })
	_, err := c.FindResource(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Errorf("metadata: %v", err)
	}
	_, err = c.Refresh(t.Context(), Server{TokenEndpoint: "https://as.example/t"}, Credentials{}, Token{Refresh: "x"}, "")
	if err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Errorf("token: %v", err)
	}
}

func TestErrorOfTheNetworkIsFoundBeneath(t *testing.T) {
	down := errors.New("hop bastion is down")
	c := testClient(t, func(*http.Request) (*http.Response, error) { return nil, down })
	_, _, asked := c.AskUpstream(t.Context())
	f, found := c.FindResource(t.Context(), "")
	_, registered := c.Register(t.Context(), Finding{Server: Server{RegistrationEndpoint: "https://as.example/r"}}, Application{Name: "test"})
	_, granted := c.ClientCredentials(t.Context(), Server{TokenEndpoint: "https://as.example/t?secret=0451"}, Credentials{}, Wanted{})
	for name, err := range map[string]error{"challenge": asked, "metadata": found, "registration": registered, "token": granted} {
		if !errors.Is(err, down) || strings.Contains(err.Error(), "0451") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if len(f.Tried) != 2 || f.Tried[0].Status != 0 || f.Tried[0].Reason == "" {
		t.Errorf("tried %+v", f.Tried)
	}
}

func TestExtraParamsReplaceNoneOfOurs(t *testing.T) {
	as, c := newServer(t, func(*oauthtest.Knobs) {})
	c.ExtraParams = map[string]string{"tenant": "7", "state": "mine", "redirect_uri": "https://evil.example",
		"scope": "more", "code": "x"}
	f := find(t, c)
	login(t, c, f, register(t, c, f))
	q := as.Authorized()
	want := map[string]string{"tenant": "7", "state": "state-0451", "redirect_uri": testRedirect, "scope": "tools", "code": ""}
	for name, value := range want {
		if got := q.Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

// What a peer echoes of a secret is masked, and its words are cut.
func TestSecretsAreMaskedInRefusals(t *testing.T) {
	as, c := newServer(t, func(k *oauthtest.Knobs) { k.TokenError = "invalid_request" })
	f := find(t, c)
	_, err := c.RedeemCode(t.Context(), f.Server, Credentials{ID: "me", Secret: "secret-0451"}, Code{Code: "code-0451"})
	e, ok := errors.AsType[*SignInError](err)
	if !ok || e.Code != "invalid_request" || !e.Refused || e.Stage != StageToken {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(e.Description, Hidden) || strings.Contains(err.Error(), "0451") {
		t.Errorf("got %v", err)
	}
	as.Set(func(k *oauthtest.Knobs) { k.TokenError = "temporarily_unavailable" })
	_, err = c.RedeemCode(t.Context(), f.Server, Credentials{ID: "me"}, Code{Code: "x"})
	if e, ok := errors.AsType[*SignInError](err); !ok || e.Refused {
		t.Errorf("got %v, want one that waiting can mend", err)
	}
}
