package relay_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"sallyport/relay"
)

// newUpstream starts an MCP server of the Go SDK.
func newRouter() (*httptest.Server, *url.URL) {
	server := mcp.NewServer(&mcp.Implementation{Name: "greeter", Version: "1.0"}, nil)
	web := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	u, err := url.Parse(web.URL)
	if err != nil {
		panic(err)
	}
	return web, u
}

// A host's messages come in from one reader, and what the host gets goes to one writer. The host
// asks for nothing but a session here.
func ExampleRun() {
	web, upstream := newRouter()
	defer web.Close()
	host := strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",` +
		`"capabilities":{},"clientInfo":{"name":"host","version":"1"}}}` + "\n")
	var out strings.Builder
	err := relay.Run(context.Background(), relay.Config{
		In: host, Out: &out,
		URL:  upstream,
		Send: web.Client().Transport, // an http.Transport calls the hooks that the relay needs
	})
	fmt.Println(err)
	fmt.Println(strings.Contains(out.String(), `"serverInfo":{"name":"greeter"`))
	// Output:
	// <nil>
	// true
}

// A server is asked what it speaks, and each request is shown.
func ExampleProbe() {
	web, upstream := newRouter()
	defer web.Close()
	found, err := relay.Probe(context.Background(), relay.Config{URL: upstream, Send: web.Client().Transport},
		func(s relay.Step) {
			fmt.Println(s.Method, s.Call, s.Status, s.Outcome)
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(found.Era, found.Transport, found.Version, found.ServerName)
	// Output:
	// POST server/discover 200 is not the answer of a server of 2026-07-28
	// POST initialize 200 opens a session of 2025-11-25
	// DELETE  204 ends the session
	// legacy http 2025-11-25 greeter
}
