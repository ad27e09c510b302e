package asclient

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
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
		if got := (&Client{Upstream: up, AllowHTTP: tt.insecure}).allow(u) == nil; got != tt.want {
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
