package session

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/cli"
)

// cookieServer answers with the Set-Cookie lines that the test gives, and notes what it gets.
type cookieServer struct {
	*httptest.Server
	set []string
	got http.Header
}

func newCookieServer(t *testing.T) *cookieServer {
	s := &cookieServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.got = r.Header
		w.Header()["Set-Cookie"] = s.set
	}))
	t.Cleanup(s.Close)
	return s
}

// ask sends a request through the sender and returns the cookies that the server got.
func (s *cookieServer) ask(t *testing.T, via *sender, path string, header http.Header) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	before := req.Header.Clone()
	resp, err := via.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if fmt.Sprint(req.Header) != fmt.Sprint(before) {
		t.Errorf("the caller's request was changed: %v, was %v", req.Header, before)
	}
	if len(s.got["Cookie"]) == 0 {
		return nil
	}
	return strings.Split(s.got.Get("Cookie"), "; ")
}

func newUpstreamSender(t *testing.T, rawURL string) *sender {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	transport := newTransport(directDialer().DialContext, nil, secure(systemRoots(t), nil))
	t.Cleanup(transport.CloseIdleConnections)
	certificate, err := openCertificate(cli.Upstream{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &sender{next: transport, userAgent: "sallyport/test", cookies: newCookieJar(u), certificate: certificate, toUpstream: true}
}

func TestCookies(t *testing.T) {
	for _, test := range []struct {
		name   string
		set    []string
		path   string // of the second request; "" is /mcp
		header string // the person's own cookie
		want   []string
	}{
		{"plain", []string{"AWSALB=abc; Path=/"}, "", "", []string{"AWSALB=abc"}},
		{"several", []string{"a=1; Path=/", "b=2; Path=/; HttpOnly; SameSite=None"}, "", "", []string{"a=1", "b=2"}},
		{"no path", []string{"a=1"}, "", "", []string{"a=1"}},
		{"the path below", []string{"a=1; Path=/mcp"}, "/mcp/messages", "", []string{"a=1"}},
		{"another path", []string{"a=1; Path=/other"}, "", "", nil},
		{"secure", []string{"a=1; Secure"}, "", "", []string{"a=1"}},
		{"a domain that is another's", []string{"a=1; Domain=example.com"}, "", "", []string{"a=1"}},
		{"withdrawn at once", []string{"a=1; Max-Age=0"}, "", "", nil},
		{"long expired", []string{"a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"}, "", "", nil},
		{"malformed", []string{"=; ;", "b c=2", "\"", "a=1"}, "", "", []string{"a=1"}},
		{"too large", []string{"a=" + strings.Repeat("x", maxCookieSize), "b=2"}, "", "", []string{"b=2"}},
		{"the person's counts", []string{"a=jar", "b=jar"}, "", "a=person; c=person", []string{"a=person", "c=person", "b=jar"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newCookieServer(t)
			via := newUpstreamSender(t, server.URL+"/mcp")
			server.set = test.set
			if got := server.ask(t, via, "/mcp", nil); got != nil {
				t.Errorf("the first request has cookies %q", got)
			}
			var header http.Header
			if test.header != "" {
				header = http.Header{"Cookie": {test.header}}
			}
			path := test.path
			if path == "" {
				path = "/mcp"
			}
			if got := server.ask(t, via, path, header); !slices.Equal(got, test.want) {
				t.Errorf("cookies %q, want %q", got, test.want)
			}
		})
	}
}

// TestCookiesAreBounded lets a server set another cookie with each answer.
func TestCookiesAreBounded(t *testing.T) {
	server := newCookieServer(t)
	via := newUpstreamSender(t, server.URL+"/mcp")
	var got []string
	for i := range 3 * maxCookies {
		server.set = []string{fmt.Sprintf("c%d=1", i), "same=1"}
		got = server.ask(t, via, "/mcp", nil)
	}
	if want := fmt.Sprintf("c%d=1", 3*maxCookies-2); len(got) != maxCookies || !slices.Contains(got, want) || !slices.Contains(got, "same=1") {
		t.Errorf("%d cookies are sent, want %d, the newest and the repeated one among them", len(got), maxCookies)
	}
}

// TestCookiesOfManyGoroutines is for the race detector.
func TestCookiesOfManyGoroutines(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "mcp.example", Path: "/mcp"}
	jar := newCookieJar(u)
	done := make(chan struct{})
	for i := range 4 {
		go func() { // ends after its cookies
			for n := range 100 {
				jar.store(u, &http.Response{Header: http.Header{"Set-Cookie": {fmt.Sprintf("c%d-%d=%s", i, n, strings.Repeat("s", minSecretCookie))}}})
				jar.add(&http.Request{URL: u, Header: http.Header{}})
				jar.secrets()
			}
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-done
	}
	if n := len(jar.secrets()); n != maxCookies {
		t.Errorf("%d cookies are kept, want %d", n, maxCookies)
	}
}

func TestUserAgent(t *testing.T) {
	server := newCookieServer(t)
	via := newUpstreamSender(t, server.URL+"/mcp")
	server.ask(t, via, "/mcp", nil)
	if got := server.got.Get("User-Agent"); got != "sallyport/test" {
		t.Errorf("User-Agent %q", got)
	}
	server.ask(t, via, "/mcp", http.Header{"User-Agent": {"mine"}})
	if got := server.got.Get("User-Agent"); got != "mine" {
		t.Errorf("User-Agent %q, want the request's", got)
	}
}
