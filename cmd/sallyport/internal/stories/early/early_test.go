//go:build linux

// The stories of a host that waits for no more than 30 s for any answer, and of a person who takes
// longer to sign in. Real: the host of the Go SDK, with elicitation; oidc-provider, Chromium, sshd.
package early_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func TestMain(m *testing.M) { machines.Main(m) }

// The host gives up on what takes 30 s. The person signs in only when the sign-in tool, each call
// of which takes 25 s, has said so in vain. SIGN_IN_CALLS=7 makes that three minutes. The session
// lives, and the next start, which finds the bastion down, remembers the server.
func TestHostSurvivesALongLogin(t *testing.T) {
	t.Parallel()
	s := machines.NewSite(t, 1, machines.StartMCP)
	home := t.TempDir()
	begun := time.Now()
	host := machines.StartElicitingHost(t, s.ThroughChain(t, home, "--no-browser", "--callback-port", "0"))
	host.Session(t)
	t.Logf("initialize was answered after %v", time.Since(begun))
	if got := host.Tools(t); got != "sallyport_sign_in sallyport_call_tool" {
		t.Errorf("tools before the sign-in: %s", got)
	}
	link := machines.Receive(t, host.URLs, "elicitation")
	for range machines.Setting(t, "SIGN_IN_CALLS", 1) {
		if text := host.Call(t, "sallyport_sign_in"); !strings.Contains(text, link) {
			t.Errorf("the sign-in tool says %q, which has not the URL %q", text, link)
		}
	}
	t.Logf("the person signs in after %v", time.Since(begun))
	machines.Person{TrustsAll: true}.LogsIn(t, link)
	machines.Receive(t, host.ToolChanges, "change of the tools")
	machines.Receive(t, host.Completed, "end of the elicitation")
	if got := host.Tools(t); got != "echo grow wait" {
		t.Errorf("tools after the sign-in: %s", got)
	}
	if text := host.Call(t, "sallyport_sign_in"); !strings.Contains(text, "is connected") {
		t.Errorf("the sign-in tool says %q", text)
	}
	host.Echo(t)
	host.Close(t)
	s.CheckGate(t)

	s.Hops[0].SSHD.Stop()
	checkRemembers(t, machines.StartHost(t, s.ThroughChain(t, home, "--no-browser"), nil))
}

// checkRemembers looks at a session that was opened although nothing can be reached.
func checkRemembers(t *testing.T, host *machines.Host) {
	t.Helper()
	session := host.Session(t)
	if got := session.InitializeResult().ServerInfo.Name; got != "go-sdk" {
		t.Errorf("the server is %q", got)
	}
	if got := host.Tools(t); got != "echo grow wait" {
		t.Errorf("remembered tools: %s", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), machines.HostLimit)
	defer cancel()
	if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "echo"}); err == nil ||
		!strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a call without the bastion: %v", err)
	}
}

// Three logins pass without the person. From then on the host's requests open no page any more, and
// its sign-in tool does, when the last page is half a minute old.
func TestSignInToolOpensAPageAfterThreeInVain(t *testing.T) {
	t.Parallel()
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	home := t.TempDir()
	common := []string{"--no-browser", "--callback-port", "0", s.Gate.URL}
	for range 3 {
		login := machines.StartProcess(t, s.Command(t, home, append([]string{"login", "--callback-timeout", "1s"},
			common...)...))
		if status := login.Wait(t); status != machines.StatusSignIn {
			t.Fatalf("login: status %d, want %d", status, machines.StatusSignIn)
		}
	}
	host := machines.StartHost(t, s.Command(t, home, common...), nil)
	host.Stderr.Await(t, `several login pages led to no sign-in`)
	session := host.Session(t)
	go session.CallTool(t.Context(), &mcp.CallToolParams{Name: "sallyport_sign_in"}) // it may give up before the page opens
	host.Stderr.Await(t, `sallyport: .*nobody completed the login in time; the next login page opens at \d\d:\d\d:\d\d\n(hint: .*\n)*hint: wait for the link`)
	machines.Person{TrustsAll: true}.LogsIn(t, host.Stderr.Await(t, machines.Offered)[1])
	host.Echo(t)
	host.Close(t)
}
