package main

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/oauth/oauthtest"
)

// These tests are named after the weaknesses of the proxy that this one succeeds (mcp-oauth2-proxy 0.2.0).

// visit makes one request as a browser that follows no redirect.
func visit(t testing.TB, link, host string) (status int, page string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestWeakness04StrayCallbackAbortsTheLogin: nothing but the right state ends a login, and the page
// tells what came of the code exchange.
func TestWeakness04StrayCallbackAbortsTheLogin(t *testing.T) {
	v := newVault(t)
	login := func() (p *process, link string, callback *url.URL) {
		p = startProcess(t, v.command(nil, "login", "--no-browser", "--callback-port", "0", "--token-store", "memory"))
		link = p.Err.await(t, offered)[1]
		u, err := url.Parse(link)
		if err != nil {
			t.Fatal(err)
		}
		if callback, err = url.Parse(u.Query().Get("redirect_uri")); err != nil {
			t.Fatal(err)
		}
		return p, link, callback
	}
	p, link, callback := login()
	for path, want := range map[string]int{
		"/callback?code=stray&state=wrong": 400, "/callback?error=access_denied&state=wrong": 400, "/callback": 400, "/favicon.ico": 404, "/": 404,
	} {
		if status, _ := visit(t, "http://"+callback.Host+path, ""); status != want {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
	}
	if status, _ := visit(t, "http://"+callback.Host+"/callback?code=x&state=y", "evil.example"); status != http.StatusMisdirectedRequest {
		t.Errorf("another Host: status %d", status)
	}
	if page := get(t, nil, "-L", link); !strings.Contains(page, "<h1>Signed in</h1>") || !strings.Contains(page, v.upstream) {
		t.Errorf("the page is %s", page)
	}
	if status := p.wait(t); status != statusDone {
		t.Errorf("status %d after stray callbacks", status)
	}

	v.as.Set(func(k *oauthtest.Knobs) { k.TokenError = "invalid_grant" })
	p, link, _ = login()
	if page := get(t, nil, "-L", link); !strings.Contains(page, "<h1>Not signed in</h1>") || !strings.Contains(page, "sallyport login") {
		t.Errorf("the page of a failed code exchange is %s", page)
	}
	if status := p.wait(t); status != statusSignIn {
		t.Errorf("status %d, want %d", status, statusSignIn)
	}
}

// TestWeakness10NothingOfTheSpecification: registration, metadata documents, the challenge's scope, the
// issuer, and no scope that nobody asked for.
func TestWeakness10NothingOfTheSpecification(t *testing.T) {
	for _, test := range []struct {
		name   string
		knobs  oauthtest.Knobs
		args   []string
		status int
		check  func(t *testing.T, v *vault)
	}{
		{"dynamic registration", oauthtest.Knobs{}, nil, statusDone, func(t *testing.T, v *vault) {
			if got := v.as.Stats().Registrations; got != 1 {
				t.Errorf("%d registrations", got)
			}
		}},
		{"client ID metadata document", oauthtest.Knobs{MetadataDocument: true}, []string{"--client-metadata-url", "https://client.example/sallyport.json"}, statusDone, func(t *testing.T, v *vault) {
			if got := v.as.Authorized().Get("client_id"); got != "https://client.example/sallyport.json" || v.as.Stats().Registrations != 0 {
				t.Errorf("client_id %q, %d registrations", got, v.as.Stats().Registrations)
			}
		}},
		{"the challenge names the scope", oauthtest.Knobs{ChallengeScope: "read", ResourceScopes: []string{"read", "write"}}, nil, statusDone, func(t *testing.T, v *vault) {
			if got := v.as.Authorized().Get("scope"); got != "read" {
				t.Errorf("scope %q", got)
			}
		}},
		{"not every scope of the login server", oauthtest.Knobs{Scopes: []string{"read", "write", "admin"}, ResourceScopes: []string{"read"}}, nil, statusDone, func(t *testing.T, v *vault) {
			if got := v.as.Authorized().Get("scope"); got != "read" {
				t.Errorf("scope %q", got)
			}
		}},
		{"metadata of another issuer", oauthtest.Knobs{WrongIssuer: "https://evil.example"}, nil, statusSignIn, func(t *testing.T, v *vault) {
			if got := v.as.Stats(); got.Registrations+got.Authorizations != 0 {
				t.Errorf("the server was asked %+v", got)
			}
		}},
		{"redirect of another issuer", oauthtest.Knobs{WrongIss: "https://evil.example"}, nil, statusSignIn, func(t *testing.T, v *vault) {
			if got := v.as.Stats().Codes; got != 0 {
				t.Errorf("%d codes were sent", got)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVault(t)
			v.as.Set(func(k *oauthtest.Knobs) { *k = test.knobs })
			p := startProcess(t, v.command(nil, append([]string{"login", "--browser", v.browser, "--callback-port", "0"}, test.args...)...))
			if status := p.wait(t); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			test.check(t, v)
		})
	}
}

// TestWeakness12ExtraParametersAndAddresses: ours win over the configured ones, port 0 is the real one, an
// IPv6 address is bracketed.
func TestWeakness12ExtraParametersAndAddresses(t *testing.T) {
	v := newVault(t)
	extra := `{"state": "mine", "redirect_uri": "https://evil.example/", "code_challenge": "x", "resource": "https://evil.example/", "tenant": "7"}`
	p := startProcess(t, v.command([]string{"OAUTH2_EXTRA_PARAMS=" + extra}, "login", "--browser", v.browser, "--callback-port", "0", "--callback-host", "::1"))
	if status := p.wait(t); status != statusDone {
		t.Fatalf("status %d", status)
	}
	got := v.as.Authorized()
	u, err := url.Parse(got.Get("redirect_uri"))
	if err != nil {
		t.Fatal(err)
	}
	if u.Hostname() != "::1" || u.Port() == "" || u.Port() == "0" || !strings.HasPrefix(u.Host, "[::1]:") {
		t.Errorf("redirect_uri %s", u)
	}
	if got.Get("state") == "mine" || got.Get("code_challenge") == "x" || !slices.Equal(got["resource"], []string{v.upstream}) || got.Get("tenant") != "7" {
		t.Errorf("authorize request %v", got)
	}
}

// TestWeakness13ProxiesAuthoritiesHeadersDisplays: HTTPS_PROXY, --ca-file, --header, and no browser where no
// window could appear.
func TestWeakness13ProxiesAuthoritiesHeadersDisplays(t *testing.T) {
	t.Run("proxy, authority and header", func(t *testing.T) {
		ca := newAuthority(t)
		oidc := startOIDC(t, oidcOptions{TLS: ca})
		named := "https://mcp.internal/mcp"
		gate := startGate(t, gateOptions{CA: ca, OIDC: oidc, Upstream: startMCP(t, nil), Audience: named})
		proxy := startConnectProxy(t, map[string]string{"mcp.internal:443": strings.TrimSuffix(strings.TrimPrefix(gate.URL, "https://"), "/mcp")})
		login := func(ca, header string) int {
			cmd := (&site{ca: &authority{File: ca}}).command(t, t.TempDir(), "login", "--header", header, named)
			cmd.Env = append(cmd.Env, "HTTPS_PROXY="+proxy.URL, "TOKEN="+oidc.MachineToken(t, named))
			return startProcess(t, cmd).wait(t)
		}
		if status := login(ca.File, "Authorization: Bearer ${TOKEN}"); status != statusDone {
			t.Errorf("status %d", status)
		}
		if status := login(ca.File, "X-Other: ${TOKEN}"); status == statusDone {
			t.Error("it works without the header too")
		}
		if status := login("", "Authorization: Bearer ${TOKEN}"); status != statusUnreachable {
			t.Errorf("without --ca-file: status %d, want %d", status, statusUnreachable)
		}
		if got := proxy.Asked(); len(got) == 0 {
			t.Error("the proxy was not asked")
		}
	})
	for _, test := range []struct {
		name   string
		env    []string
		opened bool
		hint   string // on stderr
	}{
		{"no display", nil, false, `no browser could be started here \(no display here\).*sallyport callback --port \d+ \S+@`},
		{"X", []string{"DISPLAY=:9"}, true, ""},
		{"Wayland", []string{"WAYLAND_DISPLAY=wayland-9"}, true, ""},
		{"in an SSH session", []string{"DISPLAY=:9", "SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22"}, false, `is your browser on another machine\? there, run: sallyport callback --port \d+ \S+@`},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVault(t)
			dir := openDir(t)
			script := "#!/bin/sh\nexec " + v.browser + ` "$@"` + "\n"
			writeFile(t, dir, "xdg-open", script, 0o755)
			env := append(test.env, "PATH="+dir+":"+os.Getenv("PATH"))
			p := startProcess(t, v.command(env, "login", "--callback-port", "0", "--token-store", "memory", "--state-dir", filepath.Join(dir, "state")))
			link := p.Err.await(t, offered)[1]
			if !test.opened {
				p.Err.await(t, "hint: "+test.hint)
				get(t, nil, "-L", link)
			}
			if status := p.wait(t); status != statusDone {
				t.Errorf("status %d", status)
			}
			if _, err := os.Stat(v.children); (err == nil) != test.opened {
				t.Errorf("a browser was started: %t, want %t", err == nil, test.opened)
			}
		})
	}
}
