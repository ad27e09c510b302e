// Demo shows the main job with nothing but this repository: an MCP host starts the real sallyport
// over stdio, which passes two bastions, signs in at an authorization server, and carries a session
// to an MCP server that only the second bastion can reach. Everything but the proxy is in this
// process.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"sallyport/cmd/internal/world"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	// The proxy starts this program again as the browser (the flag --browser below).
	if len(os.Args) == 4 && os.Args[1] == "browse" {
		err = browse(ctx, os.Args[2], os.Args[3])
	} else {
		err = demo(ctx)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		stop()
		os.Exit(1) // runs no deferred call, so stop comes first
	}
}

// runTimeout bounds the demo without the build: a hang must not look like a slow machine.
const runTimeout = 2 * time.Minute

// demo builds the proxy and the world around it, and lets an MCP host work through both, twice.
func demo(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "sallyport-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	transcript := world.NewTranscript(os.Stdout)
	transcript.Heading("A laptop, two bastions, and an MCP server that only the second one can reach")
	transcript.Say("build", "the real proxy: go build ./cmd/sallyport (the first time this compiles all packages, for half a minute or more)")
	proxy := filepath.Join(dir, "sallyport")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", proxy, "sallyport/cmd/sallyport").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	w, err := world.New(world.Config{Dir: dir, MCP: mcpHandler(), Say: transcript.Say})
	if err != nil {
		return err
	}
	defer w.Close()

	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Port 0 lets several demos run at once. The quotes keep a path with blanks in one word of the
	// browser's command.
	args := []string{
		"-F", w.SSHConfig, "--via", "inner", "--ca-file", w.CAFile, "--callback-port", "0",
		"--issuer", w.Login.Issuer, // the login server's address is loopback, which behind a bastion would be the bastion's
		"--browser", fmt.Sprintf("'%s' browse '%s'", self, w.CAFile), w.Upstream,
	}
	h := host{proxy: proxy, args: args, home: dir, transcript: transcript}

	transcript.Heading("First start: nobody has signed in yet")
	if err := h.session(ctx); err != nil {
		return err
	}
	transcript.Heading("Second start: the tokens are in the store")
	before := w.Login.Stats()
	if err := h.session(ctx); err != nil {
		return err
	}
	if after := w.Login.Stats(); after != before {
		return fmt.Errorf("the second start bothered the login server: %+v, before %+v", after, before)
	}
	transcript.Say("silent", "no browser, no registration, no code: the login server was not even asked")
	return nil
}

// host is an MCP host, that of the Go SDK. It starts the proxy as its stdio server.
type host struct {
	// proxy is the path of the sallyport that was built.
	proxy string
	// args are its arguments.
	args []string
	// home is its HOME, where it stores the tokens.
	home string
	// transcript gets each step.
	transcript *world.Transcript
}

// session starts the proxy, lists the tools, calls one, and ends the session.
func (h host) session(ctx context.Context) error {
	h.transcript.Say("host", "starts: sallyport --via inner --browser ... %s", h.args[len(h.args)-1])
	cmd := exec.CommandContext(ctx, h.proxy, h.args...)
	// The variables and the ssh-agent of the person must not change what the demo shows.
	cmd.Env = []string{"HOME=" + h.home, "PATH=" + os.Getenv("PATH")}
	// The proxy's stderr is shown only if something fails.
	stderr := &strings.Builder{}
	cmd.Stderr = stderr
	client := mcp.NewClient(&mcp.Implementation{Name: "demo-host", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		return fmt.Errorf("initialize: %w\n%s", err, stderr)
	}
	defer session.Close()
	server := session.InitializeResult().ServerInfo
	h.transcript.Say("session", "initialize answered by %s %s", server.Name, server.Version)

	list, err := session.ListTools(ctx, nil)
	if err != nil {
		return fmt.Errorf("tools/list: %w\n%s", err, stderr)
	}
	for _, tool := range list.Tools {
		h.transcript.Say("tools", "%s: %s", tool.Name, tool.Description)
	}
	arguments := map[string]any{"name": "Ada"}
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "greet", Arguments: arguments})
	if err != nil {
		return fmt.Errorf("tools/call: %w\n%s", err, stderr)
	}
	text, ok := result.Content[0].(*mcp.TextContent)
	if !ok || text.Text != greeting("Ada") {
		return fmt.Errorf("tools/call: unexpected result %v", result.Content)
	}
	h.transcript.Say("call", "greet(Ada) = %q", text.Text)
	if err := session.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("end of the proxy: %w\n%s", err, stderr)
	}
	h.transcript.Say("host", "ends the session; the proxy exits with status %d", cmd.ProcessState.ExitCode())
	return nil
}

// greeting is the answer of the tool greet.
func greeting(name string) string { return "Hello " + name + ", from behind two bastions" }

// mcpHandler is an MCP server of the Go SDK with one tool.
func mcpHandler() http.Handler {
	server := mcp.NewServer(&mcp.Implementation{Name: "internal-tools", Version: "1.0.0"}, nil)
	type person struct {
		Name string `json:"name"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "greet", Description: "Greets somebody"}, func(_ context.Context, _ *mcp.CallToolRequest, in person) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: greeting(in.Name)}}}, nil, nil
	})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
}
