package session

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/oauth"
)

func TestEndpoint(t *testing.T) {
	tests := []struct {
		url      string
		insecure bool
		want     string // part of the error; "" none
	}{
		{"https://mcp.internal/mcp?tenant=1", false, ""},
		{"http://127.0.0.1:3001/mcp", false, ""},
		{"http://[::1]:3001/mcp", false, ""},
		{"http://localhost/mcp", false, ""},
		{"http://mcp.internal/mcp", true, ""},
		{"http://mcp.internal/mcp", false, "cleartext"},
		{"http://127.0.0.1.evil.example/mcp", false, "cleartext"},
		{"", false, "no upstream URL"},
		{"mcp.internal/mcp", false, "not an http or https URL"},
		{"ftp://mcp.internal/", false, "not an http or https URL"},
		{"https://me:pw@mcp.internal/", false, "not allowed"},
		{"https://mcp.internal/?key=s3cret#x", false, "not allowed"},
		{"http://mcp.internal/?key=s3cret", false, "cleartext"},
		{"mcp.internal/?key=s3cret", false, "not an http or https URL"},
	}
	for _, test := range tests {
		f := cli.Upstream{URL: test.url, AllowInsecureHTTP: test.insecure}
		u, err := Endpoint(f)
		switch {
		case test.want == "" && (err != nil || u.String() != test.url):
			t.Errorf("%q: got %v, %v", test.url, u, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: got error %v, want %q", test.url, err, test.want)
		case err != nil && (strings.Contains(err.Error(), "pw") || strings.Contains(err.Error(), "s3cret")):
			t.Errorf("%q: error %q shows a secret", test.url, err)
		}
	}
}

func TestHeaders(t *testing.T) {
	env := environment.Fixed(map[string]string{"TOKEN": "t0ken$1"}, "")
	f := cli.Upstream{Header: []string{"Authorization: Bearer ${TOKEN}", "X-Price:5$ and $TOKEN"}}
	header, secrets, err := headers(f, env)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := header.Get("Authorization"), "Bearer t0ken$1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := header.Get("X-Price"), "5$ and $TOKEN"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !slices.Contains(secrets, "t0ken$1") {
		t.Errorf("secrets %q lack the credentials", secrets)
	}
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "headers")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f.HeaderFile = file("\ufeff# a comment\r\n\r\nX-File: ${TOKEN}\r\n X-Last : s3cret")
	if header, secrets, err = headers(f, env); err != nil || header.Get("X-File") != "t0ken$1" || header.Get("X-Last") != "s3cret" || header.Get("X-Price") == "" {
		t.Errorf("with a file: %v, %v", header, err)
	}
	if !slices.Contains(secrets, "s3cret") {
		t.Errorf("secrets %q lack those of the file", secrets)
	}
	for _, bad := range []string{"A: s3cret\ns3cret", "A: s3cret ${MISSING}"} {
		if _, _, err := headers(cli.Upstream{HeaderFile: file(bad)}, env); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("file %q: error %v", bad, err)
		}
	}
	for _, bad := range []string{"X: s3cret ${MISSING}", "X: s3cret\rb", "s3cret", "s 3: s3cret", ""} {
		_, _, err := headers(cli.Upstream{Header: []string{"A: s3cret", bad}}, env)
		if _, ok := errors.AsType[*cli.UsageError](err); !ok || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

// Text of an upstream that echoes a secret shows it in no form.
func TestMask(t *testing.T) {
	upstream := &url.URL{Scheme: "https", Host: "mcp.internal", Path: "/mcp"}
	signIn, err := oauth.New(oauth.Config{Upstream: upstream, Client: oauth.ClientConfig{ID: "me", Secret: "client+s3cret/"}})
	if err != nil {
		t.Fatal(err)
	}
	defer signIn.Close()
	s := &Session{SignIn: signIn, masked: masked{secrets: []string{"header+s3cret/"}, cookies: newCookieJar(upstream)}}
	for _, secret := range []string{"client+s3cret/", "header+s3cret/"} {
		for _, echo := range []string{
			secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret)),
			strings.ReplaceAll(secret, "/", `\/`),
		} {
			if got, want := s.Mask("you sent "+echo+"."), "you sent [hidden]."; got != want {
				t.Errorf("%s: got %q, want %q", echo, got, want)
			}
		}
	}
}
