package cli

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
)

func parseProxy(t *testing.T, variables map[string]string, args ...string) (*ProxyCommand, *Invocation, error) {
	t.Helper()
	inv, err := Parse(args, environment.Fixed(variables, t.TempDir()), io.Discard, io.Discard)
	if err != nil {
		return nil, nil, err
	}
	return inv.Command.(*ProxyCommand), inv, nil
}

// TestPredecessorSettings reads every variable and every file field of mcp-oauth2-proxy 0.2.0.
func TestPredecessorSettings(t *testing.T) {
	want := func(f *ProxyCommand) { // every field away from its default
		f.UpstreamURL, f.Timeout, f.ServerStream, f.ProtocolVersion = "https://mcp.example/mcp", Milliseconds(1500*time.Millisecond), false, "2025-06-18"
		f.Grant, f.TokenURL, f.ClientID, f.ClientSecret = "authorization_code", "https://as.example/token", "id", "secret"
		f.Scope, f.Resource, f.Audience = "a b", "https://mcp.example/mcp", "aud"
		f.AuthStyle, f.RefreshSkew, f.ExtraParams = "header", Seconds(7*time.Second), StringMap{"tenant": "x"}
		f.AuthorizationURL, f.RedirectURI = "https://as.example/authorize", "http://127.0.0.1:4000/callback"
		f.AuthorizationCode, f.CodeVerifier, f.RefreshToken = "code", "verifier", "refresh"
		f.Interactive, f.CallbackHost, f.CallbackPort, f.CallbackTimeout = false, "localhost", Ports{4000}, Seconds(20*time.Second)
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
			if len(inv.Warnings) > 0 {
				t.Errorf("warnings %q", inv.Warnings)
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
	if want := (Ports{1, 2}); !slices.Equal(got.CallbackPort, want) {
		t.Errorf("ports %v, want %v", got.CallbackPort, want)
	}
	all := strings.Join(inv.Warnings, "\n")
	if len(inv.Warnings) != 2 || !strings.Contains(all, "oauth2.unheardOf") || !strings.Contains(all, "other.x") {
		t.Errorf("warnings %q", inv.Warnings)
	}
}

// TestNewSettings reads settings that mcp-oauth2-proxy never had, each from its flag, its variable
// and its field.
func TestNewSettings(t *testing.T) {
	want := func(f *ProxyCommand) {
		f.Issuer, f.Resource, f.Bearer = "https://login.example/tenant", "none", "id"
		f.AuthorizeParam = []string{"prompt=consent", "hint=a=b, c"}
		f.ClientCert, f.ClientCertKey, f.KeepAlive = "me.pem", "me.key", Interval(30*time.Second)
	}
	path := filepath.Join(t.TempDir(), "settings.json")
	file := `{
		"oauth2": {"issuer": "https://login.example/tenant", "resource": "none", "bearer": "id", "authorizeParams": ["prompt=consent", "hint=a=b, c"]},
		"upstream": {"clientCert": "me.pem", "clientCertKey": "me.key", "keepAlive": 30}
	}`
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		variables map[string]string
		args      []string
	}{
		"flags": {nil, []string{
			"--issuer", "https://login.example/tenant", "--resource", "none", "--bearer", "id",
			"--authorize-param", "prompt=consent", "--authorize-param", "hint=a=b, c",
			"--client-cert", "me.pem", "--client-cert-key", "me.key", "--keep-alive", "30s",
		}},
		"variables": {map[string]string{
			"SALLYPORT_ISSUER": "https://login.example/tenant", "OAUTH2_RESOURCE": "none", "SALLYPORT_BEARER": "id",
			"SALLYPORT_AUTHORIZE_PARAM": "prompt=consent\nhint=a=b, c\n",
			"SALLYPORT_CLIENT_CERT":     "me.pem", "SALLYPORT_CLIENT_CERT_KEY": "me.key", "SALLYPORT_KEEP_ALIVE": "30",
		}, nil},
		"file": {map[string]string{"MCP_PROXY_CONFIG": path}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, inv, err := parseProxy(t, test.variables, test.args...)
			if err != nil {
				t.Fatal(err)
			}
			wanted, _, err := parseProxy(t, nil)
			if err != nil {
				t.Fatal(err)
			}
			want(wanted)
			wanted.Config = test.variables["MCP_PROXY_CONFIG"]
			if !reflect.DeepEqual(got, wanted) || len(inv.Warnings) > 0 {
				t.Errorf("got  %+v\nwant %+v\nwarnings %q", got, wanted, inv.Warnings)
			}
		})
	}
}

// TestControlMaster reads the setting as the switch that it was, and with its three values.
func TestControlMaster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.json")
	const url = "https://u.example/mcp"
	for _, test := range []struct {
		args     []string
		variable string
		field    string        // JSON
		want     ControlMaster // "" is an error
	}{
		{want: ControlMasterAuto},
		{args: []string{"--control-master"}, want: ControlMasterOn},
		{args: []string{"--control-master=on"}, want: ControlMasterOn},
		{args: []string{"--control-master=true"}, want: ControlMasterOn},
		{args: []string{"--control-master=Auto"}, want: ControlMasterAuto},
		{args: []string{"--control-master=off"}, want: ControlMasterOff},
		{args: []string{"--control-master=false"}, want: ControlMasterOff},
		{args: []string{"--control-master=off", "--control-master"}, want: ControlMasterOn},
		{args: []string{"--control-master=sometimes"}},
		{args: []string{"--control-master="}},
		{variable: "true", want: ControlMasterOn},
		{variable: "1", want: ControlMasterOn},
		{variable: "auto", want: ControlMasterAuto},
		{variable: "0", want: ControlMasterOff},
		{variable: "never"},
		{field: "true", want: ControlMasterOn},
		{field: "false", want: ControlMasterOff},
		{field: `"auto"`, want: ControlMasterAuto},
		{field: `"off"`, want: ControlMasterOff},
		{field: "null", want: ControlMasterAuto},
		{field: "2"},
		{args: []string{"--control-master=auto"}, variable: "on", field: "false", want: ControlMasterAuto},
		{variable: "on", field: "false", want: ControlMasterOn},
	} {
		variables := map[string]string{"SALLYPORT_CONTROL_MASTER": test.variable}
		if test.field != "" {
			if err := os.WriteFile(path, []byte(`{"ssh":{"controlMaster":`+test.field+`}}`), 0o600); err != nil {
				t.Fatal(err)
			}
			variables["MCP_PROXY_CONFIG"] = path
		}
		got, _, err := parseProxy(t, variables, append(test.args, url)...)
		if test.want == "" {
			if _, ok := errors.AsType[*UsageError](err); !ok || !strings.Contains(err.Error(), "control-master") || !strings.Contains(err.Error(), "on, auto or off") {
				t.Errorf("%+v: error %v", test, err)
			}
			continue
		}
		if err != nil || got.ControlMaster != test.want || got.URL != url {
			t.Errorf("%+v: got %+v, %v", test, got, err)
		}
	}
}

func TestAuthorizeParams(t *testing.T) {
	for _, test := range []struct {
		given []string
		want  map[string]string // nil: an error
		err   string
	}{
		{nil, map[string]string{}, ""},
		{[]string{"prompt=consent", "login_hint=ada@example.com"}, map[string]string{"prompt": "consent", "login_hint": "ada@example.com"}, ""},
		{[]string{"a=b=c", " d = e ", "f="}, map[string]string{"a": "b=c", "d": " e ", "f": ""}, ""},
		{[]string{`{"prompt": "consent", "hd": "a=b"}`, "x=1"}, map[string]string{"prompt": "consent", "hd": "a=b", "x": "1"}, ""},
		{[]string{`{"scope": "s3cret"}`}, nil, "cannot set scope"},
		{[]string{`{"a": 1}`}, nil, "authorize parameter 1"},
		{[]string{"a=1", "prompt"}, nil, "authorize parameter 2: want NAME=VALUE"},
		{[]string{"=s3cret"}, nil, "authorize parameter 1"},
		{[]string{"a=1", "a=s3cret"}, nil, "--authorize-param a is given twice"},
		{[]string{"scope=s3cret"}, nil, "cannot set scope"},
		{[]string{"resource=s3cret"}, nil, "cannot set resource"},
		{[]string{"client_id=s3cret"}, nil, "cannot set client_id"},
	} {
		got, err := Request{AuthorizeParam: test.given}.AuthorizeParams()
		if test.want != nil {
			if err != nil || !maps.Equal(got, test.want) {
				t.Errorf("%q: got %v, %v", test.given, got, err)
			}
			continue
		}
		if _, ok := errors.AsType[*UsageError](err); !ok || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: error %v, want %q", test.given, err, test.err)
		}
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
		{"bearer", nil, []string{"--bearer", "refresh"}, `must be one of "access","id"`},
		{"keep-alive too often", nil, []string{"--keep-alive", "100ms"}, `"100ms" is shorter than 1s; 0 turns it off`},
		{"keep-alive", map[string]string{"SALLYPORT_KEEP_ALIVE": "x"}, nil, `"x" is not a duration`},
		{"negative", nil, []string{"--timeout=-1s"}, "negative"},
		{"extra parameters", map[string]string{"OAUTH2_EXTRA_PARAMS": "a=b"}, nil, "JSON object of strings"},
		{"missing file", nil, []string{"--config", filepath.Join(dir, "none.json")}, "none.json"},
		{"broken file", nil, []string{"--config", broken}, "broken.json: line 2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := parseProxy(t, test.variables, test.args...)
			if _, ok := errors.AsType[*UsageError](err); !ok || !strings.Contains(err.Error(), test.want) {
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
		got := strings.Join(inv.Warnings, "\n")
		if (got != "") != (test.want != "") || !strings.Contains(got, test.want) || strings.Contains(got, "hush") {
			t.Errorf("%q: warnings %q, want one of %q", test.args, got, test.want)
		}
	}
}
