package oauthtest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRules plays one rule each against the metadata or the token endpoint.
func TestRules(t *testing.T) {
	t.Parallel()
	metadata := func(s *Server) *http.Request {
		return httptest.NewRequest(http.MethodGet, "https://as.test/.well-known/oauth-authorization-server?x=1", nil)
	}
	refresh := func(s *Server) *http.Request {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"r"}, "resource": {"https://mcp.test/mcp"}}
		r := httptest.NewRequest(http.MethodPost, "https://as.test/token", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return r
	}
	for _, tt := range []struct {
		name   string
		rules  []Rule
		ask    func(*Server) *http.Request
		status int
		body   string // a part of it
		kind   string // Content-Type
	}{
		{"no rule", nil, metadata, 200, `"issuer":"https://as.test"`, "application/json"},
		{"another place", []Rule{{At: Token, Status: 500}}, metadata, 200, `"issuer"`, "application/json"},
		{"status alone", []Rule{{At: ServerMetadata, Status: 500}}, metadata, 500, "", ""},
		{"status of the true answer", []Rule{{Acts: true, Status: 203}}, metadata, 203, `"issuer"`, "application/json"},
		{"JSON", []Rule{{Body: `{"a":"$issuer"}`}}, metadata, 200, `{"a":"https://as.test"}`, "application/json"},
		{"a page", []Rule{{Body: "no"}}, metadata, 200, "no", "text/html; charset=utf-8"},
		{"type", []Rule{{Type: "text/plain"}}, metadata, 200, `"issuer"`, "text/plain"},
		{"set", []Rule{{Set: map[string]string{"issuer": `["$home/x"]`}}}, metadata, 200, `"issuer":["https://as.test/x"]`, "application/json"},
		{"set within", []Rule{{Body: `{"data":$answer}`, Set: map[string]string{"jwks.keys": "[]"}}}, metadata, 200, `"token_endpoint"`, "application/json"},
		{"a member of the answer", []Rule{{Body: `${answer.issuer} ${answer.response_types_supported}`}}, metadata, 200, `https://as.test ["code"]`, "text/html; charset=utf-8"},
		{"redirect", []Rule{{Redirect: "/moved"}}, metadata, 302, "", ""},
		{"skipped", []Rule{{Status: 500, Skip: 1}}, metadata, 200, `"issuer"`, "application/json"},
		{"has", []Rule{{At: Refresh, When: []string{"resource"}, Status: 418}}, refresh, 418, "", ""},
		{"has not", []Rule{{At: Refresh, When: []string{"!resource"}, Status: 418}}, refresh, 401, "invalid_client", "application/json"},
		{"equals", []Rule{{When: []string{"refresh_token=r", "http=POST", "host=as.test"}, Status: 418}}, refresh, 418, "", ""},
		{"equals not", []Rule{{When: []string{"refresh_token=x"}, Status: 418}}, refresh, 401, "invalid_client", "application/json"},
		{"holds", []Rule{{When: []string{"resource~mcp.test", "path=/token"}, Status: 418}}, refresh, 418, "", ""},
		{"the first that fits", []Rule{{At: Token, Status: 500}, {Status: 418}, {Status: 419}}, refresh, 418, "", ""},
		{"a parameter", []Rule{{Body: "<${request.refresh_token}>"}}, refresh, 200, "<r>", "text/html; charset=utf-8"},
		{"bearer", []Rule{{When: []string{"bearer=none"}, Status: 418}}, refresh, 418, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New("https://as.test", "https://mcp.test/mcp")
			s.Play(tt.rules...)
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, tt.ask(s))
			if rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.body) || rec.Header().Get("Content-Type") != tt.kind {
				t.Errorf("got %d %q %q, want %d %q %q", rec.Code, rec.Header().Get("Content-Type"), rec.Body, tt.status, tt.kind, tt.body)
			}
			s.Play()
			rec = httptest.NewRecorder()
			if s.ServeHTTP(rec, metadata(s)); rec.Code != http.StatusOK {
				t.Errorf("healed, it answers %d", rec.Code)
			}
		})
	}
}

// TestRulesBreakConnections plays what only a network shows.
func TestRulesBreakConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		defer n.Close()
		s := New("https://as.test", "https://mcp.test/mcp")
		n.Serve("as.test", s)
		s.Play(Rule{Reset: true, Times: 1}, Rule{Truncate: 10, Times: 1}, Rule{Delay: time.Minute, Times: 1})
		get := func() (body string, err error) {
			resp, err := (&http.Client{Transport: n.Transport()}).Get("https://as.test/.well-known/oauth-authorization-server")
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			return string(b), err
		}
		if _, err := get(); err == nil {
			t.Error("Reset answers")
		}
		if b, err := get(); err != io.ErrUnexpectedEOF || len(b) != 10 {
			t.Errorf("Truncate: got %q, %v", b, err)
		}
		start := time.Now()
		if _, err := get(); err != nil || time.Since(start) != time.Minute {
			t.Errorf("Delay: got %v after %v", err, time.Since(start))
		}
		if b, err := get(); err != nil || !strings.Contains(b, "issuer") {
			t.Errorf("in the end: got %q, %v", b, err)
		}
		if got := s.Asked(ServerMetadata); got != 4 {
			t.Errorf("counted %d requests", got)
		}
		if _, err := n.Dial(t.Context(), "tcp", "down.test:443"); err == nil {
			t.Error("a host that nobody serves takes a connection")
		}
		ln, err := n.Listen(context.Background(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Listen(context.Background(), ln.Addr().String()); err == nil {
			t.Error("a port is taken twice")
		}
	})
}

// TestQuirksAreWhole keeps the table readable: each row says where its quirk was seen, and no name
// comes twice at a place.
func TestQuirksAreWhole(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, q := range Quirks() {
		name := q.Name
		if len(q.Rules) > 0 {
			name = string(q.Rules[0].At) + ": " + name
		}
		if q.Name == "" || q.Seen == "" || seen[name] {
			t.Errorf("row %q: without a name, seen nowhere, or there twice", name)
		}
		if len(q.Rules) == 0 && q.Knobs == nil && q.Home == (Home{}) {
			t.Errorf("row %q: nothing is odd", name)
		}
		seen[name] = true
	}
	if len(seen) < 400 {
		t.Errorf("%d rows", len(seen))
	}
}
