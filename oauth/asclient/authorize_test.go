package asclient

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestCheckRedirect(t *testing.T) {
	const ours = "https://as.example"
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
		{"only nearly ours", Server{Issuer: ours}, "code=c&iss=https://as.example/", CodeIssuerMismatch},
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
