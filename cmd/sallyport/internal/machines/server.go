//go:build linux

package machines

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func init() { Role("mcp", playMCP) }

// everythingPort is where server-everything listens in its namespace.
const everythingPort = "3001"

// StartEverything starts npm's @modelcontextprotocol/server-everything with Streamable HTTP and
// returns its URL. It listens on all addresses, so give it a namespace of its own; only what runs
// there can reach it.
func StartEverything(t testing.TB, ns *Namespace) string {
	t.Helper()
	return startEverything(t, ns, "streamableHttp", "/mcp")
}

// StartEverythingSSE is StartEverything with HTTP+SSE, the transport of 2024-11-05.
func StartEverythingSSE(t testing.TB, ns *Namespace) string {
	t.Helper()
	return startEverything(t, ns, "sse", "/sse")
}

func startEverything(t testing.TB, ns *Namespace, mode, path string) string {
	t.Helper()
	cmd := ns.Command(t, Node(t), PeerFile(t, "@modelcontextprotocol/server-everything/dist/index.js"), mode)
	cmd.Env = append(os.Environ(), "PORT="+everythingPort)
	StartProcess(t, cmd).Err.Await(t, `(listening|running) on port`)
	return "http://127.0.0.1:" + everythingPort + path
}

// StartModern starts an MCP server of the TypeScript SDK that speaks nothing but 2026-07-28, on the
// machine of the tests. It returns its URL. testdata/peers/modern.mjs tells its tools.
func StartModern(t testing.TB) string {
	t.Helper()
	PeerFile(t, "@modelcontextprotocol/server/package.json")
	return StartProcess(t, exec.Command(Node(t), Peer(t, "modern.mjs"))).Out.FirstLine(t)
}

// StartMCP starts an MCP server of the Go SDK inside ns and returns its URL, which ends in /mcp:
// that is Streamable HTTP. /sse in its place is HTTP+SSE. playMCP tells its tools.
func StartMCP(t testing.TB, ns *Namespace) string {
	t.Helper()
	_, url := StartMCPAt(t, ns, "127.0.0.1:0")
	return url
}

// StartMCPAt is StartMCP at an address of the test's choice, for a server that is to come back
// there.
func StartMCPAt(t testing.TB, ns *Namespace, addr string) (p *Process, url string) {
	t.Helper()
	return StartRole(t, ns, "mcp", mcpRole{Addr: addr})
}

// StartMCPThatSays is StartMCPAt for a server that describes its tool `echo` in these words.
func StartMCPThatSays(t testing.TB, addr, words string) (p *Process, url string) {
	t.Helper()
	return StartRole(t, nil, "mcp", mcpRole{Addr: addr, Words: words})
}

// mcpRole is the configuration of playMCP.
type mcpRole struct {
	// Addr is where the server listens.
	Addr string
	// Words describe the tool echo.
	Words string
}

// EchoArguments are those of the tool `echo`, which all MCP servers of the tests have.
type EchoArguments struct {
	Message string `json:"message"`
}

// playMCP serves MCP at an address, /mcp as Streamable HTTP and /sse as HTTP+SSE, and prints the
// first URL. Its tools: `echo` gives the message back, after a progress notification if one is
// wanted; `grow` adds a tool, and the server notifies of that; `wait` answers when it is cancelled.
func playMCP(text []byte) error {
	var role mcpRole
	if err := json.Unmarshal(text, &role); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", role.Addr)
	if err != nil {
		return err
	}
	server := newMCPServer(role.Words)
	fmt.Printf("http://%s/mcp\n", listener.Addr())
	mux := http.NewServeMux()
	mux.Handle("/mcp", mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	mux.Handle("/sse", mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil))
	return http.Serve(listener, mux)
}

// newMCPServer returns the server of playMCP, whose tool echo has this description.
func newMCPServer(words string) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "go-sdk", Version: "1.0.0"}, nil)
	echo := func(ctx context.Context, req *mcp.CallToolRequest, in EchoArguments) (*mcp.CallToolResult, any, error) {
		if token := req.Params.GetProgressToken(); token != nil {
			if err := req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1, Total: 1}); err != nil {
				return nil, nil, err
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "Echo: " + in.Message}}}, nil, nil
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo", Description: words}, echo)
	mcp.AddTool(server, &mcp.Tool{Name: "grow"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		mcp.AddTool(server, &mcp.Tool{Name: "echo-" + rand.Text()}, echo)
		return &mcp.CallToolResult{}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "wait"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		<-ctx.Done()
		return nil, nil, context.Cause(ctx)
	})
	return server
}

// TinyMCP is an MCP server that has nothing but a session and a tool. It is light enough for a
// fleet of proxies. Call answers tools/call. A nil Call answers with the text "hello".
type TinyMCP struct{ Call http.HandlerFunc }

func (s TinyMCP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m struct {
		ID     json.RawMessage
		Method string
	}
	if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&m) != nil {
		http.Error(w, "", http.StatusMethodNotAllowed)
		return
	}
	body := `"result":{}`
	switch {
	case m.ID == nil:
		w.WriteHeader(http.StatusAccepted)
		return
	case m.Method == "tools/call" && s.Call != nil:
		s.Call(w, r)
		return
	case m.Method == "initialize":
		body = `"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"tiny","version":"1"}}`
	case m.Method == "tools/call":
		body = `"result":{"content":[{"type":"text","text":"hello"}]}`
	case m.Method != "ping":
		body = `"error":{"code":-32601,"message":"no such method"}`
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,%s}`, m.ID, body)
}
