package oauth

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

func s256(verifier string) string { return oauth2.S256ChallengeFromVerifier(verifier) }

func TestStrayRequestsAreIgnored(t *testing.T) {
	w := newWorld(t)
	offered := make(chan Prompt, 1)
	tr := w.transport(func(c *Config) { c.Offer = func(_ context.Context, p Prompt) { offered <- p } })
	done := make(chan error, 1)
	go func() { done <- tr.SignIn(t.Context()) }()
	p := <-offered
	link, _ := url.Parse(p.AuthorizeURL)
	state := link.Query().Get("state")
	for _, tt := range []struct {
		name, method, query, host string
		want                      int
	}{
		{"favicon", "GET", "/favicon.ico", "", 404},
		{"wrong path", "GET", "/other?code=x&state=" + state, "", 404},
		{"no state", "GET", "/callback?code=x", "", 400},
		{"wrong state", "GET", "/callback?code=x&state=y", "", 400},
		{"wrong state, denied", "GET", "/callback?error=access_denied&state=y", "", 400},
		{"neither code nor error", "GET", "/callback?state=" + state, "", 400},
		{"rebound host", "GET", "/callback?code=x&state=" + state, "evil.example", 421},
		{"other port", "GET", "/callback?code=x&state=" + state, "127.0.0.1:1", 421},
		{"posted", "POST", "/callback?code=x&state=" + state, "", 405},
	} {
		back, _ := url.Parse(p.RedirectURI)
		req, _ := http.NewRequestWithContext(t.Context(), tt.method, "http://"+back.Host+tt.query, nil)
		req.Host = tt.host
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.want || strings.Contains(string(body), state) {
			t.Errorf("%s: got status %d, want %d: %s", tt.name, resp.StatusCode, tt.want, body)
		}
	}
	if err := tr.Deliver(t.Context(), &url.URL{RawQuery: "code=x&state=y"}); !errors.Is(err, ErrNoSignIn) {
		t.Errorf("Deliver of a stranger's callback: %v", err)
	}
	w.open(t.Context(), p)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDeliver(t *testing.T) {
	w := newWorld(t)
	tr := w.transport(func(c *Config) {
		c.RedirectURI = "https://workstation.example/back?to=here" // nobody listens there
		c.Offer = nil
	})
	done := make(chan error, 1)
	go func() { done <- tr.SignIn(t.Context()) }()
	var p Prompt
	for p.AuthorizeURL == "" {
		var changed <-chan struct{}
		if p, _, changed = tr.State(); p.AuthorizeURL == "" {
			<-changed
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, p.AuthorizeURL, nil)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Deliver(t.Context(), back); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := tr.Deliver(t.Context(), back); err != nil {
		t.Errorf("the same callback again: %v, want the same outcome", err)
	}
	if got := w.as.Stats().Codes; got != 1 {
		t.Errorf("code spent %d times", got)
	}
}

func TestBusyPort(t *testing.T) {
	w := newWorld(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	addr := busy.Addr().String()
	_, err = w.post(w.transport(func(c *Config) { c.CallbackAddrs = []string{addr} }), "x")
	e, ok := errors.AsType[*PortBusyError](err)
	if !ok || e.Addr != addr {
		t.Fatalf("got %v, want PortBusyError", err)
	}
	if runtime.GOOS == "linux" && (e.PID != os.Getpid() || e.Command == "") {
		t.Errorf("holder is %d %q, want us", e.PID, e.Command)
	}
}

func TestRedirectURI(t *testing.T) {
	for _, tt := range []struct{ addr, port, want string }{
		{"127.0.0.1:53682", "53682", "http://127.0.0.1:53682/callback"},
		{"localhost:0", "4711", "http://localhost:4711/callback"},
		{"[::1]:0", "4711", "http://[::1]:4711/callback"},
		{"0.0.0.0:1", "1", "http://127.0.0.1:1/callback"},
		{"[::]:1", "1", "http://[::1]:1/callback"},
		{":1", "1", "http://127.0.0.1:1/callback"},
	} {
		if got := redirectURI(tt.addr, tt.port); got != tt.want {
			t.Errorf("redirectURI(%q, %q) is %q, want %q", tt.addr, tt.port, got, tt.want)
		}
	}
}

func TestIPv6Callback(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("no IPv6 loopback here: ", err)
	} else if err != nil {
		t.Skip("no IPv6 loopback here: ", err)
	}
	ln.Close()
	w := newWorld(t)
	w.mustPost(w.transport(func(c *Config) { c.CallbackAddrs = []string{"[::1]:0"} }))
	if got := w.as.Authorized().Get("redirect_uri"); !strings.HasPrefix(got, "http://[::1]:") || strings.Contains(got, ":0/") {
		t.Errorf("redirect_uri is %q", got)
	}
}
