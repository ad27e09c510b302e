package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func init() {
	roles["gate"] = playGate
	roles["mcp"] = playMCP
}

// everythingPort is where server-everything listens in its namespace.
const everythingPort = "3001"

// startEverything starts npm's @modelcontextprotocol/server-everything and returns its URL. It
// listens on all addresses, so it needs a namespace, and only what runs there can reach it.
func startEverything(t testing.TB, ns *netns) string {
	t.Helper()
	return startEverythingAs(t, ns, "streamableHttp", "/mcp")
}

func startEverythingAs(t testing.TB, ns *netns, mode, path string) string {
	t.Helper()
	cmd := ns.command(t, nodePath(t), peerFile(t, "@modelcontextprotocol/server-everything/dist/index.js"), mode)
	cmd.Env = append(os.Environ(), "PORT="+everythingPort)
	startProcess(t, cmd).Err.await(t, `(listening|running) on port`)
	return "http://127.0.0.1:" + everythingPort + path
}

// startMCP starts an MCP server of the Go SDK, inside ns where that is not nil, and returns its URL.
func startMCP(t testing.TB, ns *netns) string {
	t.Helper()
	_, url := startRole(t, ns, "mcp", nil)
	return url
}

type echoArguments struct {
	Message string `json:"message"`
}

// playMCP serves MCP on a loopback port, /mcp as Streamable HTTP and /sse as HTTP+SSE, and prints the first URL. Its tools: `echo` gives the message
// back, after a progress notification where one is wanted; `grow` adds a tool, of which the server
// notifies; `wait` answers when it is cancelled.
// Its configuration is the address to listen on; null stands for any port.
func playMCP(text []byte) error {
	addr := "127.0.0.1:0"
	if err := json.Unmarshal(text, &addr); err != nil {
		return err
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "go-sdk", Version: "1.0.0"}, nil)
	echo := func(ctx context.Context, req *mcp.CallToolRequest, in echoArguments) (*mcp.CallToolResult, any, error) {
		if token := req.Params.GetProgressToken(); token != nil {
			if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1, Total: 1}); err != nil {
				return nil, nil, err
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "Echo: " + in.Message}}}, nil, nil
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, echo)
	mcp.AddTool(server, &mcp.Tool{Name: "grow"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		mcp.AddTool(server, &mcp.Tool{Name: "echo-" + rand.Text()}, echo)
		return &mcp.CallToolResult{}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "wait"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		<-ctx.Done()
		return nil, nil, context.Cause(ctx)
	})
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("http://%s/mcp\n", listener.Addr())
	mux := http.NewServeMux()
	mux.Handle("/mcp", mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	mux.Handle("/sse", mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil))
	return http.Serve(listener, mux)
}

// gateOptions says what a gate is like.
type gateOptions struct {
	NS       *netns      // nil: the machine's loopback
	CA       *authority  // signs its certificate; required
	OIDC     *oidcServer // whose tokens it takes; required
	Upstream string      // URL of the MCP server behind it; required
	Names    []string    // of its certificate; nil: the names it has
	Audience string      // that a token must have; "" its URL
	DPoP     bool        // it takes tokens that are bound to a key, and proofs only with the nonce that it gives
}

// gate is a protected resource: TLS and a bearer check (RFC 6750, RFC 9728) in front of an MCP server.
type gate struct {
	URL string // the MCP endpoint: https://mcp.internal/mcp in a namespace, else on 127.0.0.1
	CA  *authority
	*process
}

// gateConfig is the gate's role.
type gateConfig struct {
	Listen, Name     string // Name: the host in its URL; "" the address it got
	Cert, Key        string
	Issuer, Audience string
	Keys             jose.JSONWebKeySet
	Upstream         string
	DPoP             bool
}

// startGate starts a gate. It ends with the test.
func startGate(t testing.TB, o gateOptions) *gate {
	t.Helper()
	config := gateConfig{Listen: "127.0.0.1:0", Issuer: o.OIDC.Issuer, Keys: o.OIDC.PublicKeys(), Audience: o.Audience, Upstream: o.Upstream, DPoP: o.DPoP}
	if o.NS != nil {
		config.Listen, config.Name = "127.0.0.1:443", "mcp.internal"
	}
	if o.Names == nil {
		o.Names = []string{"mcp.internal", "127.0.0.1"}
	}
	config.Cert, config.Key = o.CA.Issue(t, o.Names...)
	p, endpoint := startRole(t, o.NS, "gate", config)
	return &gate{URL: endpoint, CA: o.CA, process: p}
}

// gateRequest is a request that reached a gate.
type gateRequest struct {
	Method, Path, Host, Session string
	Status                      int
	Refused                     string // why the bearer check failed; "" it did not
}

// Requests returns the requests that were answered, at least with a header, so far.
func (g *gate) Requests(t testing.TB) []gateRequest {
	t.Helper()
	var requests []gateRequest
	for line := range strings.Lines(g.Out.String()) {
		if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "\n") {
			continue // the first line, and one that is being written
		}
		var r gateRequest
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("the gate printed %q: %v", line, err)
		}
		requests = append(requests, r)
	}
	return requests
}

// playGate is the gate's process. It prints its URL, then a gateRequest a line.
func playGate(text []byte) error {
	var config gateConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", config.Listen)
	if err != nil {
		return err
	}
	if config.Name == "" {
		config.Name = listener.Addr().String()
	}
	origin := "https://" + config.Name
	if config.Audience == "" {
		config.Audience = origin + "/mcp"
	}
	upstream, err := url.Parse(config.Upstream)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = upstream.Scheme, upstream.Host, upstream.Host
			r.Out.Header.Del("DPoP")
			r.Out.Header.Del("Authorization") // a token is for this resource alone
		},
		FlushInterval: -1, // event streams
		ErrorLog:      log.New(os.Stderr, "gate: ", 0),
	}
	metadata := "/.well-known/oauth-protected-resource/mcp"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+metadata, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"resource": origin + "/mcp", "authorization_servers": []string{config.Issuer},
			"scopes_supported": []string{"mcp"}, "bearer_methods_supported": []string{"header"},
		})
	})
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		scheme := "Bearer"
		if config.DPoP {
			scheme = "DPoP"
			w.Header().Set("DPoP-Nonce", gateNonce)
		}
		if err := config.check(r, origin+r.URL.Path); err != nil {
			challenge := fmt.Sprintf(`%s resource_metadata="%s%s", scope="mcp"`, scheme, origin, metadata)
			switch {
			case err == errNonce:
				challenge += `, error="use_dpop_nonce"`
			case r.Header.Get("Authorization") != "":
				challenge += `, error="invalid_token"`
			}
			w.Header().Set("WWW-Authenticate", challenge)
			w.(*recorder).request.Refused = err.Error()
			http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	})
	var mu sync.Mutex // one line at a time
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(&recorder{
			ResponseWriter: w,
			request:        gateRequest{Method: r.Method, Path: r.URL.Path, Host: r.Host, Session: r.Header.Get("Mcp-Session-Id")},
			answered: func(request gateRequest) {
				mu.Lock()
				defer mu.Unlock()
				json.NewEncoder(os.Stdout).Encode(request)
			},
		}, r)
	})
	fmt.Println(origin + "/mcp")
	server := &http.Server{Handler: handler, ErrorLog: log.New(os.Stderr, "gate: ", 0)}
	return server.ServeTLS(listener, config.Cert, config.Key)
}

const gateNonce = "the nonce of the gate"

var errNonce = errors.New("the proof lacks the nonce")

// check says why a request to target must not pass: RFC 9068, section 4; RFC 9449, section 7.
func (config *gateConfig) check(r *http.Request, target string) error {
	want := "Bearer"
	if config.DPoP {
		want = "DPoP"
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme != want {
		return errors.New("no token of the kind " + want)
	}
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return err
	}
	var claims jwt.Claims
	var bound struct {
		Confirmation struct {
			Thumbprint string `json:"jkt"`
		} `json:"cnf"`
	}
	if err := token.Claims(config.Keys, &claims, &bound); err != nil {
		return err
	}
	if config.DPoP {
		switch proof, err := oauthtest.CheckProof(r, target, text, time.Now()); {
		case err != nil:
			return err
		case proof.Thumbprint != bound.Confirmation.Thumbprint:
			return errors.New("the token is bound to another key")
		case proof.Nonce != gateNonce:
			return errNonce
		}
	}
	if claims.Expiry == nil {
		return errors.New("no expiry")
	}
	return claims.ValidateWithLeeway(jwt.Expected{Issuer: config.Issuer, AnyAudience: jwt.Audience{config.Audience}, Time: time.Now()}, 0)
}

// recorder is a ResponseWriter that reports the status as soon as it is known: event streams last.
type recorder struct {
	http.ResponseWriter
	request  gateRequest
	answered func(gateRequest)
}

func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

func (rec *recorder) WriteHeader(status int) {
	if status >= 200 && rec.request.Status == 0 {
		rec.request.Status = status
		rec.answered(rec.request)
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) Write(p []byte) (int, error) {
	if rec.request.Status == 0 {
		rec.WriteHeader(http.StatusOK)
	}
	return rec.ResponseWriter.Write(p)
}

// mcpHost is a real MCP host, the Go SDK's, that starts a stdio server.
type mcpHost struct {
	Stderr *transcript // of the server
	Wire   *transcript // every message both ways

	cmd       *exec.Cmd
	session   *mcp.ClientSession
	err       error
	connected chan struct{} // closed when session or err is set
}

// startHost starts cmd as an MCP server on stdio and begins to initialize; it does not wait, so
// that a sign-in can be watched on Stderr. The server ends with the test.
func startHost(t testing.TB, cmd *exec.Cmd, o *mcp.ClientOptions) *mcpHost {
	t.Helper()
	h := &mcpHost{Stderr: newTranscript(t.Output()), Wire: newTranscript(t.Output()), cmd: cmd, connected: make(chan struct{})}
	cmd.Stderr = h.Stderr
	cmd.WaitDelay = 5 * time.Second
	ownGroup(cmd)
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before the cleanup that says goodbye
	go func() {
		defer close(h.connected)
		client := mcp.NewClient(&mcp.Implementation{Name: "go-sdk-host", Version: "1.0.0"}, o)
		transport := &mcp.LoggingTransport{Transport: &mcp.CommandTransport{Command: cmd}, Writer: h.Wire}
		if h.session, h.err = client.Connect(ctx, transport, nil); h.err != nil {
			h.Stderr.end()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-h.connected
		if h.session == nil {
			return
		}
		// Idempotent; it ends a server that does not end by itself.
		h.session.Close()
	})
	return h
}

// Session waits until the server has answered initialize and returns the session; closing that ends
// the server by closing its stdin, and returns its exit status as an error.
func (h *mcpHost) Session(t testing.TB) *mcp.ClientSession {
	t.Helper()
	select {
	case <-h.connected:
	case <-time.After(patience):
		t.Fatalf("no answer to initialize; stderr:\n%s", h.Stderr)
	}
	if h.err != nil {
		t.Fatalf("initialize: %v; stderr:\n%s", h.err, h.Stderr)
	}
	return h.session
}

// hostStep is what one step of host.mjs, the TypeScript SDK's host, printed.
type hostStep struct {
	Step    string
	Message string          // of the step "error"
	Tools   []string        // tools/list
	Content json.RawMessage // tools/call
	Method  string          // notification
}

// runTypeScriptHost lets the TypeScript SDK's stdio client start a command and work with it:
// initialize, tools/list, tools/call of `echo`, one notification, close. It returns the steps.
func runTypeScriptHost(t testing.TB, cmd *exec.Cmd) []hostStep {
	t.Helper()
	host := exec.Command(nodePath(t), append([]string{peer(t, "host.mjs"), cmd.Path}, cmd.Args[1:]...)...)
	host.Env, host.Dir, host.SysProcAttr = cmd.Env, cmd.Dir, cmd.SysProcAttr
	p := startProcess(t, host)
	status := p.wait(t)
	var steps []hostStep
	for line := range strings.Lines(p.Out.String()) {
		var step hostStep
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatalf("host.mjs printed %q: %v", line, err)
		}
		steps = append(steps, step)
	}
	if failed := slices.ContainsFunc(steps, func(s hostStep) bool { return s.Step == "error" }); status != 0 || failed {
		t.Fatalf("the host ended with status %d after %+v; stderr:\n%s", status, steps, p.Err)
	}
	return steps
}
