//go:build linux

// Package wine_test runs the program for Windows under Wine, against a real sshd and a real MCP
// server of this machine. It shows that its processes share one SSH connection.
//
// It runs only if the variable WINE holds the command that runs Wine, so `make wine` is the way to
// it. Wine must be 9 or later: older ones lack what Go programs ask of Windows. WINE may hold
// arguments, separated by spaces. The temporary directory must have the same path for that command,
// and so must 127.0.0.1 be the same. Use a WINEPREFIX that nothing else uses.
package wine_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/sshtunnel/sshtest/openssh"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// patience is how long anything may take. Wine starts slowly.
const patience = 2 * time.Minute

// site is a real sshd, an MCP server, and what leads the program to them.
type site struct {
	// wine is the command that runs Wine.
	wine []string
	// dir has all files, and program is the one for Windows.
	dir, program string
	// log is that of sshd, and shares that of the shared connections.
	log, shares string
	// flags lead to the server, and store to the directory of shared connections.
	flags, store []string
	// url is that of the MCP server.
	url string
}

// newSite starts the servers and builds the program.
func newSite(t *testing.T) *site {
	t.Helper()
	wine := strings.Fields(os.Getenv("WINE"))
	if len(wine) == 0 {
		t.Skip("WINE does not name a command that runs Wine (see `make wine`)")
	}
	dir := t.TempDir()
	s := &site{wine: wine, dir: dir, program: filepath.Join(dir, "sallyport.exe"), log: filepath.Join(dir, "sshd.log"), shares: filepath.Join(dir, "share.log")}
	s.build(t, s.program, "v0.0.1")
	sshd := filepath.Join(dir, "sshd")
	s.write(t, sshd, fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" 2>>%s\n", openssh.Tool(t, "sshd"), s.log))
	key := openssh.WriteKey(t, filepath.Join(dir, "key"), "")
	server := openssh.StartBy(t, sshd, key.PublicKey(), "MaxStartups 200", "MaxSessions 200", "LogLevel VERBOSE")
	account, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, filepath.Join(dir, "known_hosts"), fmt.Sprintf("[127.0.0.1]:%d %s\n", server.Addr.Port, openssh.KeyLine(server.HostKey)))
	s.write(t, filepath.Join(dir, "config"), fmt.Sprintf(
		"Host bastion\n HostName 127.0.0.1\n Port %d\n User %s\n IdentityFile %s\n IdentityAgent none\n UserKnownHostsFile %s\n",
		server.Addr.Port, account.Username, s.windows(t, "key"), s.windows(t, "known_hosts")))
	s.store = []string{"--state-dir", s.windows(t, "state")}
	s.flags = append([]string{"--via", "bastion", "-F", s.windows(t, "config"), "--grant", "none",
		"--log-file", s.windows(t, "share.log"), "--log-level", "debug"}, s.store...)
	s.url = startMCP(t)
	t.Cleanup(func() {
		s.run(t, append([]string{"share", "--stop"}, s.store...)...)
		if text, err := os.ReadFile(s.shares); t.Failed() && err == nil {
			t.Logf("the log of the shared connections:\n%s", text)
		}
	})
	return s
}

// build makes the program for Windows, with a version.
func (s *site) build(t *testing.T, path, version string) {
	t.Helper()
	s.buildPackage(t, path, "sallyport/cmd/sallyport", "-ldflags", "-X main.version="+version)
}

func (s *site) buildPackage(t *testing.T, path, name string, flags ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-trimpath", "-o", path}, flags...), name)...)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

func (s *site) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// windows returns the path of a file of the site as Windows programs know it.
func (s *site) windows(t *testing.T, name string) string {
	t.Helper()
	_, path, found := strings.Cut(s.runProgram(t, "winepath", "-w", filepath.Join(s.dir, name)), `Z:\`)
	if !found {
		t.Fatal("winepath knows no path for " + s.dir)
	}
	return `Z:\` + strings.TrimSpace(path)
}

// command is a program for Windows with its arguments.
func (s *site) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(s.wine[0], append(append(s.wine[1:len(s.wine):len(s.wine)], name), args...)...)
	cmd.Dir = s.dir
	cmd.WaitDelay = time.Second
	return cmd
}

// run runs the program to its end, and returns what it printed.
func (s *site) run(t *testing.T, args ...string) string {
	t.Helper()
	return s.runProgram(t, s.program, args...)
}

func (s *site) runProgram(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := s.command(t, program, args...)
	// A file, because Wine's own server keeps the streams of the program that started it.
	out, err := os.CreateTemp(s.dir, "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	if err != nil {
		t.Errorf("%q: %v\n%s", args, err, text)
	}
	return string(text)
}

// startMCP starts an MCP server with one tool, and returns its URL.
func startMCP(t *testing.T) string {
	server := mcp.NewServer(&mcp.Implementation{Name: "echo", Version: "1"}, nil)
	type arguments struct {
		Message string `json:"message"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, a arguments) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.Message}}}, nil, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
	web := httptest.NewServer(handler)
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	return web.URL
}

// host is an MCP host with its proxy.
type host struct {
	session *mcp.ClientSession
	stderr  bytes.Buffer
	close   func()
}

// start starts a proxy and initializes a session.
func (s *site) start(t *testing.T, flags ...string) *host {
	t.Helper()
	return s.startProgram(t, s.program, flags...)
}

func (s *site) startProgram(t *testing.T, program string, flags ...string) *host {
	t.Helper()
	h := &host{}
	cmd := s.command(t, program, append(append(flags, s.flags...), s.url)...)
	cmd.Stderr = &h.stderr
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(ctx, &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		t.Fatalf("initialize: %v", err)
	}
	h.session = session
	h.close = sync.OnceFunc(func() { session.Close() })
	t.Cleanup(func() {
		h.close()
		if t.Failed() {
			t.Logf("stderr of a proxy:\n%s", &h.stderr)
		}
	})
	return h
}

// echo calls the tool.
func (h *host) echo(t *testing.T) {
	t.Helper()
	if err := h.call(t); err != nil {
		t.Errorf("echo: %v", err)
	}
}

// echoAgain calls the tool, and again if the first call is lost.
func (h *host) echoAgain(t *testing.T) {
	t.Helper()
	if err := h.call(t); err != nil {
		t.Logf("echo: %v", err)
		h.echo(t)
	}
}

func (h *host) call(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	result, err := h.session.CallTool(ctx, &mcp.CallToolParams{Name: "echo", Arguments: map[string]string{"message": "hello"}})
	if err != nil {
		return err
	}
	if text, ok := result.Content[0].(*mcp.TextContent); !ok || text.Text != "hello" {
		return fmt.Errorf("the answer is %+v", result)
	}
	t.Log("echo answered after", time.Since(began).Round(time.Millisecond))
	return nil
}

// checkLogins compares the number of logins that sshd has let in so far.
func (s *site) checkLogins(t *testing.T, want int) {
	t.Helper()
	text, _ := os.ReadFile(s.log)
	if got := strings.Count(string(text), "Accepted publickey"); got != want {
		t.Errorf("%d logins, want %d", got, want)
	}
}

// sharePIDs are the numbers that Windows gives the processes of the shared connections.
func (s *site) sharePIDs(t *testing.T) (pids []string) {
	t.Helper()
	out := s.run(t, append([]string{"share"}, s.store...)...)
	for _, match := range regexp.MustCompile(`(?m)^shared connection (\d+) through `).FindAllStringSubmatch(out, -1) {
		pids = append(pids, match[1])
	}
	t.Logf("sallyport share says:\n%s", out)
	return pids
}

// onlyShare returns the number of the one process that there is.
func (s *site) onlyShare(t *testing.T) string {
	t.Helper()
	pids := s.sharePIDs(t)
	if len(pids) != 1 {
		t.Fatalf("%d shared connections, want one", len(pids))
	}
	return pids[0]
}
