package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"sallyport/oauth/oauthtest"
	"sallyport/sshtunnel/sshtest"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
)

// scriptWorld is what surrounds the command of one script: an upstream with its login server, a
// bastion, and an MCP host.
type scriptWorld struct {
	dir   string
	login *oauthtest.Server
	mcp   *mcp.Server
	host  *hostProcess
	// balancer is that of the script, if it has one.
	balancer *balancer
	closers  []func()
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *scriptWorld { return ts.Value(worldKey{}).(*scriptWorld) }

func (w *scriptWorld) close() {
	for _, c := range w.closers {
		c()
	}
}

// visitLink is the program that BROWSER names. It follows the link and says yes to everything.
func visitLink() {
	page, err := oauthtest.Browser{Transport: visitor()}.Open(context.Background(), os.Args[len(os.Args)-1])
	if err != nil || page.Status >= http.StatusBadRequest {
		fmt.Fprintf(os.Stderr, "visit: status %d, %v\n", page.Status, err)
	}
}

// scriptUpstream is `upstream`: an MCP server that wants tokens, and its login server at the same
// origin. It sets UPSTREAM, the URL of the one, and ISSUER, the URL of the other. `upstream tls`
// has a certificate that no system knows, and `upstream id` takes ID tokens only. `upstream stop`
// ends both.
func scriptUpstream(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if len(args) == 1 && args[0] == "stop" {
		w.close()
		return
	}
	mux := http.NewServeMux()
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // a refused certificate is what the script is about
	scheme := "http"
	if len(args) == 1 && args[0] == "tls" {
		scheme = "https"
	}
	issuer := scheme + "://" + server.Listener.Addr().String()
	upstream := issuer + "/mcp"
	w.login = oauthtest.New(issuer, upstream)
	w.login.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = true })
	w.mcp = newMCPServer()
	guard := w.login.Guard(handlerOf(w.mcp))
	endpoint := guard
	if len(args) == 1 && args[0] == "id" {
		endpoint = takesIDTokens(w.login, guard)
	}
	mux.Handle("/", w.login)
	mux.Handle("/mcp", endpoint)
	mux.Handle("/.well-known/oauth-protected-resource/", guard)
	if scheme == "https" {
		server.StartTLS()
	} else {
		server.Start()
	}
	w.closers = append(w.closers, func() { server.CloseClientConnections(); server.Close() })
	ts.Setenv("UPSTREAM", upstream)
	ts.Setenv("ISSUER", issuer)
}

// takesIDTokens makes login give an ID token with each access token, and returns an upstream that
// takes nothing else. It refuses as guard does.
func takesIDTokens(login *oauthtest.Server, guard http.Handler) http.Handler {
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	token := part(`{"alg":"none"}`) + "." + part(`{"sub":"ada","iat":1750000000,"exp":4900000000}`) + "."
	login.Play(oauthtest.Rule{At: oauthtest.Token, Acts: true, Set: map[string]string{"id_token": strconv.Quote(token)}})
	open := mcpServer()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+token {
			open.ServeHTTP(w, r)
			return
		}
		r.Header.Del("Authorization")
		guard.ServeHTTP(w, r)
	})
}

// mcpServer is a small MCP server with one tool.
func mcpServer() http.Handler { return handlerOf(newMCPServer()) }

func newMCPServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "script", Version: "1"}, nil)
	addGreeting(server, &mcp.Tool{Name: "greet"})
	return server
}

func handlerOf(server *mcp.Server) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
}

// addGreeting gives server a tool that says hello.
func addGreeting(server *mcp.Server, tool *mcp.Tool) {
	mcp.AddTool(server, tool, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "hello"}}}, nil, nil
	})
}

// scriptTool is `tool NAME DESCRIPTION`: the upstream has a tool of that name, which says hello. It
// replaces one that was there. `! tool NAME` takes it away.
func scriptTool(ts *testscript.TestScript, neg bool, args []string) {
	server := worldOf(ts).mcp
	switch {
	case neg && len(args) == 1:
		server.RemoveTools(args[0])
	case !neg && len(args) == 2:
		addGreeting(server, &mcp.Tool{Name: args[0], Description: args[1]})
	default:
		ts.Fatalf("usage: tool NAME DESCRIPTION, or ! tool NAME")
	}
}

// scriptKnob is `knob NAME VALUE`: it sets a field of oauthtest.Knobs.
func scriptKnob(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: knob NAME VALUE")
	}
	worldOf(ts).login.Set(func(k *oauthtest.Knobs) {
		field := reflect.ValueOf(k).Elem().FieldByName(args[0])
		switch {
		case !field.IsValid():
			ts.Fatalf("no knob %s", args[0])
		case field.Kind() == reflect.Bool:
			on, err := strconv.ParseBool(args[1])
			ts.Check(err)
			field.SetBool(on)
		case field.Kind() == reflect.Int:
			number, err := strconv.Atoi(args[1])
			ts.Check(err)
			field.SetInt(int64(number))
		case field.Kind() == reflect.String:
			field.SetString(args[1])
		default:
			ts.Fatalf("knob %s is a %s", args[0], field.Type())
		}
	})
}

// scriptPlay is `play FILE`: the login server follows the rules (oauthtest.Rule) in this JSON file.
func scriptPlay(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: play FILE")
	}
	var rules []oauthtest.Rule
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &rules))
	worldOf(ts).login.Play(rules...)
}

// scriptCount is `count NAME N`: the login server has counted N of a field of oauthtest.Stats.
func scriptCount(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: count NAME N")
	}
	field := reflect.ValueOf(worldOf(ts).login.Stats()).FieldByName(args[0])
	if !field.IsValid() {
		ts.Fatalf("no count %s", args[0])
	}
	if got := strconv.FormatInt(field.Int(), 10); got != args[1] {
		ts.Fatalf("%s: %s, want %s", args[0], got, args[1])
	}
}

// scriptBastion is `bastion`: an SSH server under the alias bastion of .ssh/config, with a key of
// ours and a known host key. `bastion unknown` leaves its key out of known_hosts, `bastion changed`
// writes another one there, `bastion stranger` takes no key of ours, `bastion closed` forwards
// nothing, and `bastion down` is not there.
func scriptBastion(ts *testscript.TestScript, neg bool, args []string) {
	w, kind := worldOf(ts), ""
	if len(args) > 0 {
		kind = args[0]
	}
	signer, keyFile := newKeyFile(ts, w.dir)
	config := sshtest.Config{AuthorizedKeys: []ssh.PublicKey{signer}, Dial: (&net.Dialer{}).DialContext}
	switch kind {
	case "stranger":
		config.AuthorizedKeys = []ssh.PublicKey{sshtest.NewKey().PublicKey()}
	case "closed":
		config.Dial = nil
	}
	server, err := sshtest.Start(config)
	ts.Check(err)
	w.closers = append(w.closers, server.Close)
	host, port, err := net.SplitHostPort(server.Addr())
	ts.Check(err)
	known := server.KnownHosts("")
	switch kind {
	case "unknown":
		known = ""
	case "changed":
		name, _, _ := strings.Cut(known, " ")
		known = name + " " + string(ssh.MarshalAuthorizedKey(sshtest.NewKey().PublicKey()))
	case "down":
		server.Close()
	}
	// ~ is the home of the user database, which no script has for itself.
	ts.Setenv("SALLYPORT_SSH_CONFIG", filepath.Join(w.dir, ".ssh", "config"))
	ts.Check(os.MkdirAll(filepath.Join(w.dir, ".ssh"), 0o700))
	ts.Check(os.WriteFile(filepath.Join(w.dir, ".ssh", "known_hosts"), []byte(known), 0o600))
	ts.Check(os.WriteFile(filepath.Join(w.dir, ".ssh", "config"), fmt.Appendf(nil,
		"Host bastion\n  HostName %s\n  Port %s\n  User ada\n  IdentityFile %s\n  UserKnownHostsFile %s\n",
		host, port, keyFile, filepath.Join(w.dir, ".ssh", "known_hosts")), 0o600))
}

// newKeyFile writes a private key into dir and returns its public half.
func newKeyFile(ts *testscript.TestScript, dir string) (ssh.PublicKey, string) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	ts.Check(err)
	path := filepath.Join(dir, "id_script")
	ts.Check(os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	key, err := ssh.NewPublicKey(public)
	ts.Check(err)
	return key, path
}

// scriptHold is `hold`: another program listens on a port of 127.0.0.1, which PORT names. FREE
// names a port that nobody held a moment ago, for commands that end before they use it.
func scriptHold(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	w := worldOf(ts)
	w.closers = append(w.closers, func() { l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv("PORT", port)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, port, err = net.SplitHostPort(free.Addr().String())
	ts.Check(errors.Join(err, free.Close()))
	ts.Setenv("FREE", port)
}

// hostProcess is an MCP host's end of a running proxy.
type hostProcess struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

const hostOpening = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"script","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
`

// scriptHost is `host FLAGS...`: an MCP host starts the proxy with these flags and opens a session.
// `host call TOOL TEXT [ARGUMENTS]` calls a tool, whose answer must contain the text. `host end N`
// closes stdin; the proxy then ends with status N. `host list TEXT` asks for the tools, whose list
// must contain the text, or with ! must not.
func scriptHost(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	switch {
	case len(args) >= 3 && len(args) <= 4 && args[0] == "call":
		arguments := strings.Join(append(args[3:], "{}")[:1], "")
		line := fmt.Sprintf(`{"jsonrpc":"2.0","id":"call","method":"tools/call","params":{"name":%q,"arguments":%s}}`, args[1], arguments)
		if answer := w.host.ask(ts, line, `"call"`); !strings.Contains(answer, args[2]) {
			ts.Fatalf("the answer is %s, want %s in it", answer, args[2])
		}
	case len(args) == 2 && args[0] == "list":
		answer := w.host.ask(ts, `{"jsonrpc":"2.0","id":"list","method":"tools/list"}`, `"list"`)
		if strings.Contains(answer, args[1]) == neg {
			ts.Fatalf("the list is %s", answer)
		}
	case len(args) == 2 && args[0] == "end":
		ts.Check(w.host.stdin.Close())
		err := w.host.cmd.Wait()
		if got := strconv.Itoa(w.host.cmd.ProcessState.ExitCode()); got != args[1] {
			ts.Fatalf("the proxy ends with %s (%v), want %s", got, err, args[1])
		}
	default:
		w.host = launchHost(ts, args)
		if answer := w.host.ask(ts, strings.TrimSpace(hostOpening), "1"); !strings.Contains(answer, `"result"`) {
			ts.Fatalf("initialize is answered by %s", answer)
		}
	}
}

// launchHost starts the proxy. A proxy that a script leaves behind is killed at the script's end.
func launchHost(ts *testscript.TestScript, args []string) *hostProcess {
	program, err := exec.LookPath("sallyport")
	ts.Check(err)
	h := &hostProcess{cmd: exec.Command(program, args...)}
	for _, name := range []string{"PATH", "HOME", "USER", "XDG_RUNTIME_DIR", "BROWSER", "OAUTH2_CALLBACK_PORT", "SALLYPORT_TOKEN_STORE", "SALLYPORT_SSH_CONFIG"} {
		h.cmd.Env = append(h.cmd.Env, name+"="+ts.Getenv(name))
	}
	h.stdin, err = h.cmd.StdinPipe()
	ts.Check(err)
	out, err := h.cmd.StdoutPipe()
	ts.Check(err)
	h.lines = bufio.NewScanner(out)
	ts.Check(h.cmd.Start())
	w := worldOf(ts)
	w.closers = append(w.closers, func() {
		if h.cmd.ProcessState == nil {
			h.cmd.Process.Kill()
			h.cmd.Wait()
		}
	})
	return h
}

// ask sends lines and returns the answer with this id.
func (h *hostProcess) ask(ts *testscript.TestScript, lines, id string) string {
	_, err := io.WriteString(h.stdin, lines+"\n")
	ts.Check(err)
	for h.lines.Scan() {
		var message struct {
			ID json.RawMessage `json:"id"`
		}
		if json.Unmarshal(h.lines.Bytes(), &message) == nil && string(message.ID) == id {
			return h.lines.Text()
		}
	}
	ts.Fatalf("stdout ends without an answer to %s: %v", id, h.lines.Err())
	return ""
}
