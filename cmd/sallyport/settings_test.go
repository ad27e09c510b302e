package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// testEnvironment has a home of its own and the variables given.
func testEnvironment(t *testing.T, variables map[string]string) environment {
	t.Helper()
	return environment{
		Getenv: func(name string) string { return variables[name] },
		Hide:   func(string) {},
		Home:   t.TempDir(), User: "person", Hostname: "workbench",
	}
}

func parseProxy(t *testing.T, variables map[string]string, args ...string) (*upstreamFlags, *invocation, error) {
	t.Helper()
	var grammar cli
	inv, err := parseArgs(&grammar, args, testEnvironment(t, variables), io.Discard, io.Discard)
	return &grammar.Proxy.upstreamFlags, inv, err
}

// TestPredecessorSettings reads every variable and every file field of mcp-oauth2-proxy 0.2.0.
func TestPredecessorSettings(t *testing.T) {
	want := func(f *upstreamFlags) { // every field away from its default
		f.UpstreamURL, f.Timeout, f.ServerStream, f.ProtocolVersion = "https://mcp.example/mcp", milliseconds(1500*time.Millisecond), false, "2025-06-18"
		f.Grant, f.TokenURL, f.ClientID, f.ClientSecret = "authorization_code", "https://as.example/token", "id", "secret"
		f.Scope, f.Resource, f.Audience = "a b", "https://mcp.example/mcp", "aud"
		f.AuthStyle, f.RefreshSkew, f.ExtraParams = "header", seconds(7*time.Second), stringMap{"tenant": "x"}
		f.AuthorizationURL, f.RedirectURI = "https://as.example/authorize", "http://127.0.0.1:4000/callback"
		f.AuthorizationCode, f.CodeVerifier, f.RefreshToken = "code", "verifier", "refresh"
		f.Interactive, f.CallbackHost, f.CallbackPort, f.CallbackTimeout = false, "localhost", portList{4000}, seconds(20*time.Second)
		f.StateDir, f.Discovery, f.LogLevel, f.AllowInsecureHTTP = "/cache", false, "debug", true
	}
	variables := map[string]string{
		"UPSTREAM_URL": "https://mcp.example/mcp", "UPSTREAM_TIMEOUT_MS": "1500", "UPSTREAM_OPEN_SERVER_STREAM": "no", "UPSTREAM_PROTOCOL_VERSION": "2025-06-18",
		"OAUTH2_GRANT": "authorization_code", "OAUTH2_TOKEN_URL": "https://as.example/token", "OAUTH2_CLIENT_ID": "id", "OAUTH2_CLIENT_SECRET": "secret",
		"OAUTH2_SCOPE": "a b", "OAUTH2_RESOURCE": "https://mcp.example/mcp", "OAUTH2_AUDIENCE": "aud",
		"OAUTH2_AUTH_STYLE": "header", "OAUTH2_REFRESH_SKEW_SECONDS": "7", "OAUTH2_EXTRA_PARAMS": `{"tenant":"x"}`,
		"OAUTH2_AUTHORIZATION_URL": "https://as.example/authorize", "OAUTH2_REDIRECT_URI": "http://127.0.0.1:4000/callback",
		"OAUTH2_AUTHORIZATION_CODE": "code", "OAUTH2_CODE_VERIFIER": "verifier", "OAUTH2_REFRESH_TOKEN": "refresh",
		"OAUTH2_INTERACTIVE": "off", "OAUTH2_CALLBACK_HOST": "localhost", "OAUTH2_CALLBACK_PORT": "4000", "OAUTH2_CALLBACK_TIMEOUT_SECONDS": "20",
		"OAUTH2_TOKEN_CACHE_DIR": "/cache", "DISCOVERY_ENABLED": "0", "LOG_LEVEL": "debug", "ALLOW_INSECURE_HTTP": "on",
	}
	file := `{
		"upstream": {"url": "https://mcp.example/mcp", "timeoutMs": 1500, "openServerStream": false, "protocolVersion": "2025-06-18"},
		"oauth2": {
			"grant": "authorization_code", "tokenUrl": "https://as.example/token", "clientId": "id", "clientSecret": "secret",
			"scope": "a b", "resource": "https://mcp.example/mcp", "audience": "aud",
			"authStyle": "header", "refreshSkewSeconds": 7, "extraParams": {"tenant": "x"},
			"authorizationUrl": "https://as.example/authorize", "redirectUri": "http://127.0.0.1:4000/callback",
			"authorizationCode": "code", "codeVerifier": "verifier", "refreshToken": "refresh",
			"interactive": false, "callbackHost": "localhost", "callbackPort": 4000, "callbackTimeoutSeconds": 20,
			"tokenCacheDir": "/cache"
		},
		"discovery": {"enabled": false}, "log": {"level": "debug"}, "allowInsecureHttp": true
	}`
	path := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, variables := range map[string]map[string]string{"variables": variables, "file": {"MCP_PROXY_CONFIG": path}} {
		t.Run(name, func(t *testing.T) {
			got, inv, err := parseProxy(t, variables)
			if err != nil {
				t.Fatal(err)
			}
			wanted, _, err := parseProxy(t, nil)
			if err != nil {
				t.Fatal(err)
			}
			want(wanted)
			wanted.Config = variables["MCP_PROXY_CONFIG"]
			if !reflect.DeepEqual(got, wanted) {
				t.Errorf("got  %+v\nwant %+v", got, wanted)
			}
			if len(inv.warnings) > 0 {
				t.Errorf("warnings %q", inv.warnings)
			}
		})
	}
}

func TestSettingsOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.json")
	text := "\ufeff" + `{"oauth2":{"clientId":"from file","scope":"from file","callbackPort":[1,2],"unheardOf":1},"ssh":{"via":"from file","options":["A=1","B=2"]},"other":{"x":1}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{"OAUTH2_SCOPE": "from variable", "SALLYPORT_VIA": "from variable", "OAUTH2_CLIENT_ID": "", "SALLYPORT_HEADER": "A: 1\nB: 2\n"}
	got, inv, err := parseProxy(t, variables, "--config", path, "--via", "from flag", "https://u.example/mcp")
	if err != nil {
		t.Fatal(err)
	}
	if got.ClientID != "from file" || got.Scope != "from variable" || got.Via != "from flag" || got.URL != "https://u.example/mcp" {
		t.Errorf("client ID %q, scope %q, via %q, URL %q", got.ClientID, got.Scope, got.Via, got.URL)
	}
	if want := []string{"A=1", "B=2"}; !slices.Equal(got.SSHOption, want) {
		t.Errorf("options %q, want %q", got.SSHOption, want)
	}
	if want := []string{"A: 1", "B: 2"}; !slices.Equal(got.Header, want) {
		t.Errorf("headers %q, want %q", got.Header, want)
	}
	if want := (portList{1, 2}); !slices.Equal(got.CallbackPort, want) {
		t.Errorf("ports %v, want %v", got.CallbackPort, want)
	}
	all := strings.Join(inv.warnings, "\n")
	if len(inv.warnings) != 2 || !strings.Contains(all, "oauth2.unheardOf") || !strings.Contains(all, "other.x") {
		t.Errorf("warnings %q", inv.warnings)
	}
}

func TestBadSettings(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte("{\n \"a\": }"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name      string
		variables map[string]string
		args      []string
		want      string
	}{
		{"unknown flag", nil, []string{"--speed", "9"}, "--speed"},
		{"port", nil, []string{"--callback-port", "70000"}, `"70000" is not a port`},
		{"port in variable", map[string]string{"OAUTH2_CALLBACK_PORT": "x"}, nil, `"x" is not a port`},
		{"boolean", map[string]string{"OAUTH2_INTERACTIVE": "perhaps"}, nil, `OAUTH2_INTERACTIVE: want true or false, got "perhaps"`},
		{"grant", map[string]string{"OAUTH2_GRANT": "magic"}, nil, "magic"},
		{"duration", nil, []string{"--timeout", "soon"}, `"soon" is not a duration`},
		{"negative", nil, []string{"--timeout=-1s"}, "negative"},
		{"extra parameters", map[string]string{"OAUTH2_EXTRA_PARAMS": "a=b"}, nil, "JSON object of strings"},
		{"missing file", nil, []string{"--config", filepath.Join(dir, "none.json")}, "none.json"},
		{"broken file", nil, []string{"--config", broken}, "broken.json: line 2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := parseProxy(t, test.variables, test.args...)
			if _, ok := errors.AsType[*usageError](err); !ok || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want a usage error with %q", err, test.want)
			}
		})
	}
}

func TestSecretFlagIsWarnedAbout(t *testing.T) {
	for _, test := range []struct {
		variables map[string]string
		args      []string
		want      string // "" no warning
	}{
		{nil, []string{"--client-secret", "hush"}, "--client-secret"},
		{nil, []string{"--refresh-token", "hush"}, "--refresh-token"},
		{nil, []string{"--header", "X-Trace: 1", "--header", "Authorization: Bearer hush"}, "--header"},
		{nil, []string{"--header", "x-api-key:hush"}, "--header"},
		{nil, []string{"--header", "Authorization: Bearer ${HUSH}", "--header", "X-Trace: 1"}, ""},
		{map[string]string{"OAUTH2_CLIENT_SECRET": "hush", "SALLYPORT_HEADER": "Authorization: hush"}, nil, ""},
	} {
		_, inv, err := parseProxy(t, test.variables, append(test.args, "https://u.example/mcp")...)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(inv.warnings, "\n")
		if (got != "") != (test.want != "") || !strings.Contains(got, test.want) || strings.Contains(got, "hush") {
			t.Errorf("%q: warnings %q, want one of %q", test.args, got, test.want)
		}
	}
}

func TestSessionBus(t *testing.T) {
	dir := t.TempDir()
	for _, runtimeDir := range []string{"", dir} {
		if got := sessionBus(testEnvironment(t, map[string]string{"XDG_RUNTIME_DIR": runtimeDir})); got != "" {
			t.Errorf("got %q where there is no bus", got)
		}
	}
	bus, err := net.Listen("unix", filepath.Join(dir, "bus"))
	if err != nil {
		t.Skip("no unix sockets here: ", err)
	}
	defer bus.Close()
	env := map[string]string{"XDG_RUNTIME_DIR": dir}
	if got, want := sessionBus(testEnvironment(t, env)), "unix:path="+filepath.Join(dir, "bus"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/elsewhere"
	if got := sessionBus(testEnvironment(t, env)); got != "unix:path=/elsewhere" {
		t.Errorf("got %q, want what the variable names", got)
	}
}

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
		f := &upstreamFlags{URL: test.url, AllowInsecureHTTP: test.insecure}
		u, err := f.endpoint()
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
	env := testEnvironment(t, map[string]string{"TOKEN": "t0ken$1"})
	f := &upstreamFlags{Header: []string{"Authorization: Bearer ${TOKEN}", "X-Price:5$ and $TOKEN"}}
	header, secrets, err := f.headers(env)
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
	if header, secrets, err = f.headers(env); err != nil || header.Get("X-File") != "t0ken$1" || header.Get("X-Last") != "s3cret" || header.Get("X-Price") == "" {
		t.Errorf("with a file: %v, %v", header, err)
	}
	if !slices.Contains(secrets, "s3cret") {
		t.Errorf("secrets %q lack those of the file", secrets)
	}
	for _, bad := range []string{"A: s3cret\ns3cret", "A: s3cret ${MISSING}"} {
		if _, _, err := (&upstreamFlags{HeaderFile: file(bad)}).headers(env); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("file %q: error %v", bad, err)
		}
	}
	for _, bad := range []string{"X: s3cret ${MISSING}", "X: s3cret\rb", "s3cret", "s 3: s3cret", ""} {
		_, _, err := (&upstreamFlags{Header: []string{"A: s3cret", bad}}).headers(env)
		if _, ok := errors.AsType[*usageError](err); !ok || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

// What names no command is read by the proxy's part of the grammar alone, as by the whole.
func TestProxyGrammarAlone(t *testing.T) {
	for _, args := range [][]string{
		nil, {"https://u.example/mcp"}, {"--via", "bastion", "-o", "Port=23", "-J", "a,b", "--header", "A: b", "--no-interactive", "https://u.example/mcp"},
		{"--scope", "login"}, {"--no-such-flag"}, {"logn"}, {"https://u.example/mcp", "again"}, {"--log-level", "loud"}, {"--timeout", "x", "https://u.example/mcp"},
	} {
		env := testEnvironment(t, map[string]string{"OAUTH2_GRANT": "none", "SALLYPORT_HEADER": "B: c"})
		var one, all cli
		_, err := parseArgs(&one, args, env, io.Discard, io.Discard)
		_, want := parseBy(&all, args, env, io.Discard, io.Discard)
		if fmt.Sprint(err) != fmt.Sprint(want) {
			t.Errorf("%q: error %v, want %v", args, err, want)
		}
		if want == nil && !reflect.DeepEqual(one.Proxy, all.Proxy) {
			t.Errorf("%q: got %+v, want %+v", args, one.Proxy, all.Proxy)
		}
	}
	for arg, want := range map[string]bool{"login": true, "ssh-config": true, "version": true, "proxy": true, "--help": true, "-h": true, "--help=true": true, "https://login": false, "--via": false, "-oPort=1": false} {
		if got := namesCommand([]string{"--via", "b", arg}); got != want {
			t.Errorf("%s: %v", arg, got)
		}
	}
}
