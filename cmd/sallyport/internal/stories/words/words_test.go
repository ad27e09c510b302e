//go:build linux

// The story of what a person reads when the other side writes to harm: controls of the terminal,
// of the writing direction, and characters that cannot be seen. All places that show a peer's words
// are tried on the real binary. Whatever it writes to stdout, stderr, the terminal, the log file
// and a page must be printable, and most rows look for what remains of the words, too.
package words_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/sshtunnel/sshtest"
)

func TestMain(m *testing.M) { machines.Main(m) }

// hostile begins and ends with words that remain. Between them is one of each kind: C0, DEL, C1,
// both directions, marks, widths, separators, a tag, a filler, private use, a surrogate, a byte
// that is no UTF-8. hostileText is that without what is no text, for JSON and command lines.
const (
	hostileText = "evil\x1b]0;title\x07\x1b[2J\x7f\u009b31m\u0085\u202eabc\u202a\u2066\u2069\u200e\u200f\u061c\u200b\u200d\u2060\ufeff" +
		"\u2028\u2029\U000e0041\U000e0001\u3164\u2800\ufe0f\U000e0100\ue000\ufff9\u00adwords"
	hostile = hostileText + "\xff\xed\xa0\x80"
	// quietText has no control character of ASCII, with which nothing is a URL.
	quietText = "evil\u009b31m\u0085\u202eabc\u200b\u2028\U000e0041\u3164words"
)

// checkPrintable fails for each character that a person must not be shown.
func checkPrintable(t *testing.T, where, text string) {
	t.Helper()
	for i, r := range text {
		hidden := unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || r == 0x2800
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) || hidden {
			t.Errorf("%s has %U: %+q", where, r, text[max(0, i-60):min(len(text), i+20)])
			return
		}
	}
	for rest := text; ; {
		i := strings.IndexFunc(rest, func(r rune) bool { return r == unicode.ReplacementChar })
		if i < 0 {
			return
		}
		if !strings.HasPrefix(rest[i:], string(unicode.ReplacementChar)) {
			t.Errorf("%s is no UTF-8: %+q", where, rest[max(0, i-60):i+1])
			return
		}
		rest = rest[i+len(string(unicode.ReplacementChar)):]
	}
}

// command is the real command with a log file, and everything logged.
func command(t *testing.T, args ...string) (cmd *exec.Cmd, log string) {
	t.Helper()
	log = filepath.Join(t.TempDir(), "log")
	cmd = machines.Command(t, t.TempDir(), args...)
	cmd.Env = append(cmd.Env, "LOG_LEVEL=trace", "SALLYPORT_LOG_FILE="+log, "OAUTH2_CLIENT_SECRET=hush")
	return cmd, log
}

// run runs a command to its end and checks all that it wrote. It returns that.
func run(t *testing.T, cmd *exec.Cmd, log string) string {
	t.Helper()
	p := machines.StartProcess(t, cmd)
	p.Wait(t)
	return check(t, p.Out.String(), p.Err.String(), log)
}

func check(t *testing.T, out, stderr, log string) string {
	t.Helper()
	checkPrintable(t, "stdout", out)
	checkPrintable(t, "stderr", stderr)
	text, _ := os.ReadFile(log)
	checkPrintable(t, "the log", string(text))
	return out + stderr
}

// site is an upstream and its login server at one origin. Its answers, by path, may be functions,
// text for raw connections, or JSON documents.
type site struct {
	*httptest.Server
	answers map[string]any
}

func startSite(t *testing.T, change map[string]any) *site {
	s := &site{}
	ready := make(chan struct{})
	defer close(ready)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-ready
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	s.answers = map[string]any{
		"/mcp": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", "Bearer")
				w.WriteHeader(http.StatusUnauthorized)
			}
		},
		"/.well-known/oauth-protected-resource/mcp": map[string]any{"resource": s.URL + "/mcp", "authorization_servers": []string{s.URL}},
		"/.well-known/oauth-authorization-server": map[string]any{"issuer": s.URL, "token_endpoint": s.URL + "/token",
			"authorization_endpoint": s.URL + "/authorize", "registration_endpoint": s.URL + "/register",
			"device_authorization_endpoint": s.URL + "/device", "code_challenge_methods_supported": []string{"S256"}},
		"/token":    map[string]any{"access_token": "t", "token_type": "Bearer", "expires_in": 600},
		"/register": map[string]any{"client_id": "c"},
	}
	// A member of change that is a map is merged into the document, with its status in "status".
	for path, value := range change {
		members, isMap := value.(map[string]any)
		document, known := s.answers[path].(map[string]any)
		if isMap && known {
			document = maps.Clone(document)
			maps.Copy(document, members)
			value = document
		}
		s.answers[path] = value
	}
	return s
}

// ServeHTTP answers a request. SELF in a text stands for the origin.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch answer := s.answers[r.URL.Path].(type) {
	case func(http.ResponseWriter, *http.Request):
		answer(w, r)
	case string:
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(conn, strings.ReplaceAll(answer, "SELF", s.URL))
			conn.Close()
		}
	case map[string]any:
		w.Header().Set("Content-Type", "application/json")
		if status, ok := answer["status"].(int); ok {
			w.WriteHeader(status)
		}
		text, _ := json.Marshal(answer)
		io.WriteString(w, strings.ReplaceAll(string(text), "SELF", s.URL))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// refused is an error document of a login server.
func refused(members map[string]any) map[string]any {
	members["status"] = http.StatusBadRequest
	if members["error"] == nil {
		members["error"] = "invalid_request"
	}
	return members
}

func TestWordsOfLoginServersAndUpstreams(t *testing.T) {
	t.Parallel()
	const resource, server = "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"
	machine := []string{"--grant", "client_credentials", "--client-id", "c"}
	device := []string{"--grant", "device_code", "--client-id", "c", "--no-browser"}
	always401 := func(field string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", field)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	for _, test := range []struct {
		name   string
		args   []string
		change map[string]any
		silent bool // the words need not be shown
	}{
		{"error_description", machine, map[string]any{"/token": refused(map[string]any{"error_description": hostileText})}, false},
		{"error code", machine, map[string]any{"/token": refused(map[string]any{"error": hostileText})}, false},
		{"error_uri", machine, map[string]any{"/token": refused(map[string]any{"error_uri": "https://" + hostileText})}, true},
		{"raw body", machine, map[string]any{"/token": "HTTP/1.1 400 Bad\r\n\r\n" + hostile}, true},
		{"status line", machine, map[string]any{"/token": "HTTP/1.1 500 " + hostile + "\r\n\r\n"}, true},
		{"malformed status line", machine, map[string]any{"/token": hostile + "\r\n\r\n"}, false},
		{"malformed header", machine, map[string]any{"/token": "HTTP/1.1 200 OK\r\n" + hostile + "\r\n\r\n"}, false},
		{"token type", machine, map[string]any{"/token": map[string]any{"token_type": "mac" + hostileText}}, true},
		{"scope granted", machine, map[string]any{"/token": map[string]any{"scope": hostileText}}, true},
		{"redirect of the token endpoint", machine, map[string]any{"/token": "HTTP/1.1 302 Found\r\nLocation: https://evil.example/" + hostileText + "words\r\n\r\n"}, true},
		{"redirect of metadata", machine, map[string]any{server: "HTTP/1.1 302 Found\r\nLocation: http://evil.example/" + hostileText + "\r\n\r\n"}, true},
		{"issuer", machine, map[string]any{server: map[string]any{"issuer": "https://" + hostileText}}, false},
		{"issuer of the resource", machine, map[string]any{resource: map[string]any{"authorization_servers": []string{"https://" + hostileText + ".example"}}}, true},
		{"issuer with a hostile port", machine, map[string]any{resource: map[string]any{"authorization_servers": []string{"https://evil.example:" + hostileText}}}, true},
		{"name of the resource", machine, map[string]any{resource: map[string]any{"resource": "https://" + hostileText}}, false},
		{"scopes of the resource", machine, map[string]any{resource: map[string]any{"scopes_supported": []string{hostileText}}}, true},
		{"token endpoint", machine, map[string]any{server: map[string]any{"token_endpoint": "http://evil.example/" + hostileText}}, false},
		{"token endpoint's host", machine, map[string]any{server: map[string]any{"token_endpoint": "https://evil" + hostileText + "/"}}, true},
		{"methods of PKCE", []string{"--no-browser"}, map[string]any{server: map[string]any{"code_challenge_methods_supported": []string{hostileText}}}, true},
		{"odd member", machine, map[string]any{server: map[string]any{"scopes_supported": map[string]any{hostileText: 1}, hostileText: 1}}, true},
		{"registration refused", []string{"--no-browser"}, map[string]any{"/register": refused(map[string]any{"error_description": hostileText})}, false},
		{"registration's client", []string{"--no-browser", "--callback-timeout", "1ms"}, map[string]any{"/register": map[string]any{"client_id": hostileText}}, true},
		{"login page", []string{"--no-browser", "--callback-timeout", "1ms", "--callback-port", "0"}, map[string]any{server: map[string]any{"authorization_endpoint": "SELF/" + quietText}}, false},
		{"device link", device, map[string]any{"/device": map[string]any{"device_code": "d", "user_code": "U", "verification_uri": "SELF/" + quietText},
			"/token": refused(map[string]any{"error": "access_denied"})}, false},
		{"device link's host", device, map[string]any{"/device": map[string]any{"device_code": "d", "user_code": "U", "verification_uri": "https://" + hostileText + ".example/"},
			"/token": refused(map[string]any{"error": "access_denied"})}, true},
		{"user code", device, map[string]any{"/device": map[string]any{"device_code": "d", "user_code": hostileText, "verification_uri": "SELF/"}}, true},
		{"device refused", device, map[string]any{"/device": refused(map[string]any{"error_description": hostileText})}, false},
		{"challenge", machine, map[string]any{"/mcp": always401(`Bearer realm="` + hostileText + `", error="invalid_token", error_description="` + hostileText + `", scope="` + hostileText + `"`)}, true},
		{"metadata of the challenge", machine, map[string]any{"/mcp": always401(`Bearer resource_metadata="http://evil.example/` + hostileText + `"`)}, true},
		{"status line of the upstream", []string{"--grant", "none"}, map[string]any{"/mcp": "HTTP/1.1 500 " + hostile + "\r\n\r\n"}, true},
		{"no HTTP", []string{"--grant", "none"}, map[string]any{"/mcp": hostile + "\r\n\r\n"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startSite(t, test.change)
			args := append([]string{"login", "--allow-insecure-http"}, test.args...)
			cmd, log := command(t, append(args, s.URL+"/mcp")...)
			if shown := run(t, cmd, log); !test.silent && !strings.Contains(shown, "words") {
				t.Errorf("the words are not shown:\n%s", shown)
			}
		})
	}
}

// The browser brings words of the login server, which appear on our page, on stderr and in the log.
func TestWordsOfTheCallback(t *testing.T) {
	t.Parallel()
	s := startSite(t, nil)
	for _, stray := range []bool{false, true} {
		cmd, log := command(t, "login", "--no-browser", "--callback-port", "0", s.URL+"/mcp")
		p := machines.StartProcess(t, cmd)
		link, err := url.Parse(p.Err.Await(t, machines.Offered)[1])
		if err != nil {
			t.Fatal(err)
		}
		q := url.Values{"error": {hostile}, "error_description": {hostile}, "iss": {s.URL}}
		if !stray {
			q.Set("state", link.Query().Get("state"))
		}
		resp, err := http.Get(link.Query().Get("redirect_uri") + "?" + q.Encode())
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(page), "words") {
			t.Errorf("the page does not show the words: %s", page)
		}
		checkPrintable(t, "the page", string(page))
		if stray {
			p.Stop()
		}
		p.Wait(t)
		check(t, p.Out.String(), p.Err.String(), log)
	}
}

// The words of SSH: of files, of programs, of a server, at a terminal and without one.
func TestWordsOfSSH(t *testing.T) {
	t.Parallel()
	server, err := sshtest.Start(sshtest.Config{
		Banners:    []string{hostile + "\n" + hostile + " https://evil.example/" + hostile},
		Challenges: []sshtest.Challenge{{Name: hostile, Instruction: hostile, Prompts: []string{hostile + ": "}, Echo: []bool{true}, Answers: []string{"x"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	host, port, _ := net.SplitHostPort(server.Addr())
	known := filepath.Join(t.TempDir(), "known_hosts")
	os.WriteFile(known, []byte(strings.TrimSpace(server.KnownHosts(""))+" "+hostile+"\n"+hostile+"\n"), 0o600)
	via := []string{"login", "--grant", "none", "-F", "none", "--via", host, "-o", "Port=" + port, "-o", "GlobalKnownHostsFile=none", "-o", "User=u"}
	upstream := "http://127.0.0.1:1/mcp"
	for name, args := range map[string][]string{
		"keyword":       {"-o", "Port=" + hostileText},
		"value":         {"-o", "HostName=" + hostileText, "-o", "UserKnownHostsFile=" + known},
		"algorithms":    {"-o", "Ciphers=" + hostileText, "-o", "UserKnownHostsFile=" + known},
		"file name":     {"-o", "UserKnownHostsFile=/nowhere/" + hostileText},
		"key file":      {"-o", "IdentityFile=/nowhere/" + hostileText, "-o", "UserKnownHostsFile=" + known},
		"banner":        {"-o", "UserKnownHostsFile=" + known},
		"proxy command": {"-o", "UserKnownHostsFile=" + known, "-o", "ProxyCommand=sh -c 'printf \"%%s\\n\" \"$WORDS\" >&2; exit 3'"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, log := command(t, append(append(via[:len(via):len(via)], args...), upstream)...)
			cmd.Env = append(cmd.Env, "WORDS="+hostile)
			if shown := run(t, cmd, log); !strings.Contains(shown, "words") && name != "file name" && name != "key file" {
				t.Errorf("the words are not shown:\n%s", shown)
			}
		})
	}
	t.Run("terminal", func(t *testing.T) {
		cmd, log := command(t, append(append(via[:len(via):len(via)], "-o", "UserKnownHostsFile="+known), upstream)...)
		term := machines.StartInTerminal(t, cmd)
		term.Type(t, `words\S*: $`, "x\n")
		term.Wait(t)
		// What draws the live line again is ours.
		ours := strings.NewReplacer("\r\n", "\n", "\r\x1b[K", "\n", "\x1b[2m", "", "\x1b[0m", "")
		check(t, ours.Replace(term.String()), "", log)
	})
	t.Run("askpass", func(t *testing.T) {
		asked := filepath.Join(t.TempDir(), "asked")
		askpass := machines.WriteFile(t, machines.OpenDir(t), "askpass", "#!/bin/sh\nprintf %s \"$1\" >> "+asked+"\n", 0o755)
		cmd, log := command(t, append(append(via[:len(via):len(via)], "-o", "UserKnownHostsFile="+known), upstream)...)
		cmd.Env = append(cmd.Env, "SSH_ASKPASS="+askpass, "SSH_ASKPASS_REQUIRE=force")
		run(t, cmd, log)
		text, err := os.ReadFile(asked)
		if err != nil || !strings.Contains(string(text), "words") {
			t.Errorf("the program was asked %q, %v", text, err)
		}
		checkPrintable(t, "the question", string(text))
	})
	t.Run("ssh-config", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "config")
		os.WriteFile(file, []byte("Host h\n  User "+hostileText+"\n  RemoteCommand "+hostileText+"\n  IdentityFile "+hostileText+"\n"), 0o600)
		cmd, log := command(t, "ssh-config", "-F", file, "h")
		run(t, cmd, log)
	})
}

// Another program answers on a control socket, and the store has names of its own.
func TestWordsOfStatus(t *testing.T) {
	t.Parallel()
	runtime := t.TempDir()
	dir := filepath.Join(runtime, "sallyport")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "1-X.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem := map[string]any{"kind": hostileText, "text": hostileText, "hints": []string{hostileText}}
		tunnel := map[string]any{"phase": hostileText, "hop": hostileText, "error": hostileText}
		json.NewEncoder(w).Encode(map[string]any{"pid": 7, "upstream": hostileText, "profile": hostileText, "via": hostileText,
			"tunnel": tunnel, "callback": tunnel, "sign_in": hostileText, "problem": problem})
	})}
	go server.Serve(l) // ends with Close
	defer server.Close()
	for _, args := range [][]string{{"status"}, {"status", "--json"}} {
		cmd, log := command(t, args...)
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+runtime)
		if shown := run(t, cmd, log); !strings.Contains(shown, "evil") {
			t.Errorf("the words are not shown:\n%s", shown)
		}
	}
}

// Arguments and files are words, too.
func TestWordsOfSettings(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"login", hostileText}, {"login", "https://" + hostileText + "/"}, {"--" + hostileText}, {"status", hostileText},
		{"login", "--ca-file", "/nowhere/" + hostileText, "https://x.invalid/"}, {"login", "--config", "/nowhere/" + hostileText, "https://x.invalid/"},
		{"login", "--header", hostileText, "https://x.invalid/"}, {"login", "--state-dir", "/dev/null/" + hostileText, "https://x.invalid/"},
		{"login", "--client-cert", "/nowhere/" + hostileText, "https://x.invalid/"}, {"login", "--via", hostileText, "https://x.invalid/"},
		{"login", "--grant", hostileText, "https://x.invalid/"}, {"ssh-config", hostileText}, {"callback", hostileText},
	} {
		cmd, log := command(t, args...)
		run(t, cmd, log)
	}
}

// The host is told of errors in our words, which hold those of the upstream. What the upstream says
// to the host itself stays as it is.
func TestWordsToTheHost(t *testing.T) {
	t.Parallel()
	body := func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		var m struct {
			ID     json.RawMessage
			Method string
		}
		json.Unmarshal(text, &m)
		w.Header().Set("Content-Type", "application/json")
		switch m.Method {
		case "initialize":
			info, _ := json.Marshal(hostileText)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":%s,"version":"1"}}}`, m.ID, info)
		case "tools/call":
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, hostile)
		case "ping":
			io.WriteString(w, hostile)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	}
	s := startSite(t, map[string]any{"/mcp": body})
	cmd, log := command(t, "--grant", "none", "--transport", "http", s.URL+"/mcp")
	cmd.Stdin = strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t"}}
{"jsonrpc":"2.0","id":3,"method":"ping"}
`)
	p := machines.StartProcess(t, cmd)
	p.Wait(t)
	check(t, "", p.Err.String(), log)
	for line := range strings.Lines(p.Out.String()) {
		var m struct {
			ID    int
			Error struct {
				Message string
				Data    struct {
					Body, Hint string
					Hints      []string
				}
			}
			Result struct{ ServerInfo struct{ Name string } }
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m.ID == 1 && m.Result.ServerInfo.Name != hostileText {
			t.Errorf("the upstream's own words are changed: %+q", line)
		}
		checkPrintable(t, "the message", m.Error.Message+m.Error.Data.Hint+strings.Join(m.Error.Data.Hints, ""))
		checkPrintable(t, "the body", m.Error.Data.Body)
		if m.ID == 2 && !strings.Contains(m.Error.Data.Body, "words") {
			t.Errorf("the body is not shown: %s", line)
		}
	}
}
