//go:build linux

package processes_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// report is what `sallyport status --json` prints.
type report struct {
	Accounts []map[string]any
	Proxies  []struct {
		PID               int
		Upstream, Profile string
		Via               string
		Tunnel            struct{ Phase string }
	}
}

// statusStory is a home in which proxies run.
type statusStory struct {
	*machines.Site
	home, runtime string // directories
}

// status returns what `sallyport status` prints.
func (s *statusStory) status(t *testing.T, args ...string) string {
	t.Helper()
	cmd := s.Command(t, s.home, append([]string{"status"}, args...)...)
	cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+s.runtime)
	p := machines.StartProcess(t, cmd)
	if got := p.Wait(t); got != machines.StatusDone {
		t.Errorf("status %d", got)
	}
	return p.Out.String()
}

// start starts a proxy that signs in through the hop.
func (s *statusStory) start(t *testing.T, env string) *machines.Host {
	t.Helper()
	cmd := s.ThroughChain(t, s.home, "--scope", "openid mcp", "--callback-port", "0",
		"--browser", machines.Person{TrustsAll: true}.BrowserScript(t))
	cmd.Env = append(cmd.Env, env)
	host := machines.StartHost(t, cmd, nil)
	s.OIDC.Log.Await(t, machines.CodeExchanged)
	host.Echo(t)
	return host
}

// `sallyport status` shows what is stored and what runs, through a real hop, and no token.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := &statusStory{machines.NewSite(t, 1, machines.StartMCP), t.TempDir(), t.TempDir()}
	if got := s.status(t); !strings.HasPrefix(got, "nothing is stored in ") || !strings.HasSuffix(got, "\nno proxy runs here\n") {
		t.Errorf("at first: %q", got)
	}
	// One of the hosts gives its proxy no runtime directory.
	hosts := []*machines.Host{s.start(t, "XDG_RUNTIME_DIR="+s.runtime), s.start(t, "LOG_LEVEL=info")}

	text := s.status(t, "--json")
	s.checkJSON(t, text, hosts)
	people := s.status(t)
	for _, want := range []string{
		`(?m)^https://mcp\.internal/mcp$`, `(?m)^  issuer   ` + regexp.QuoteMeta(s.OIDC.Issuer) +
			`$`, `(?m)^  token    until .* renewed by itself$`,
		fmt.Sprintf(`(?m)^proxy %d to https://mcp\.internal/mcp, profile default, since `, hosts[0].PID()),
		`(?m)^  tunnel   via hop1: up, through the shared connection \d+$`,
	} {
		if !regexp.MustCompile(want).MatchString(people) {
			t.Errorf("no %q in:\n%s", want, people)
		}
	}
	for _, token := range machines.OpenRecord(t, s.home, s.Gate.URL, "default via "+s.Hops[0].SSHD.Addr).Tokens(t) {
		if strings.Contains(text+people, token) {
			t.Error("a token is shown")
		}
	}
	s.checkEnd(t, hosts)
}

func (s *statusStory) checkJSON(t *testing.T, text string, hosts []*machines.Host) {
	t.Helper()
	var got report
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if len(got.Accounts) != 1 || len(got.Proxies) != 2 {
		t.Fatalf("got %s", text)
	}
	account := got.Accounts[0]
	for name, want := range map[string]any{
		"upstream": s.Gate.URL, "issuer": s.OIDC.Issuer, "profile": "default", "route": "via " + s.Hops[0].SSHD.Addr,
		"signed_in": true, "refreshable": true, "registered": true,
	} {
		if account[name] != want {
			t.Errorf("%s: got %v, want %v", name, account[name], want)
		}
	}
	if name, _ := account["account"].(string); name == "" || account["scopes"] == nil || account["expiry"] == nil {
		t.Errorf("account: %v", account)
	}
	for i, p := range got.Proxies {
		if p.PID != hosts[i].PID() || p.Upstream != s.Gate.URL || p.Profile != "default" || p.Via != "hop1" ||
			p.Tunnel.Phase != "up" {
			t.Errorf("proxy %d: %+v", i, p)
		}
	}
}

// checkEnd kills one proxy and ends the other. The next status removes what the killed one left.
func (s *statusStory) checkEnd(t *testing.T, hosts []*machines.Host) {
	t.Helper()
	hosts[0].Kill(t)
	hosts[0].Session(t).Close()
	hosts[1].Close(t)
	sockets := filepath.Join(s.runtime, "sallyport", "*.sock")
	if left, _ := filepath.Glob(sockets); len(left) != 1 {
		t.Errorf("the killed proxy left %q", left)
	}
	if got := s.status(t); !strings.Contains(got, "no proxy runs here") {
		t.Errorf("after the end:\n%s", got)
	}
	if left, _ := filepath.Glob(sockets); len(left) != 0 {
		t.Errorf("stale sockets stay: %q", left)
	}
}
