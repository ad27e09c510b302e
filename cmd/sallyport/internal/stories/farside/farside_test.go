//go:build linux

// The stories of a login server that only the far side of the SSH connection reaches: its page
// opens in a browser of the person's whose connections go there. Real: sshd, oidc-provider,
// Chromium, Firefox.
package farside_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// inner is the name of a login server that only the network behind the bastions resolves.
const inner = "login.internal"

// newSite starts an MCP server and its login server in a network that only the last of two hops
// reaches. The workstation is the machine of the tests.
func newSite(t *testing.T) *machines.Site {
	t.Helper()
	ns := machines.NewNamespace(t, "mcp.internal", inner)
	ca := machines.NewAuthority(t)
	oidc := machines.StartOIDC(t, machines.OIDCOptions{TLS: ca, NS: ns, Host: inner})
	gate := machines.StartGate(t, machines.GateOptions{NS: ns, CA: ca, OIDC: oidc, Upstream: machines.StartMCP(t, ns)})
	hops := []machines.Hop{
		{Alias: "jump", SSHD: machines.StartSSHD(t, machines.SSHDOptions{})},
		{Alias: "bastion", SSHD: machines.StartSSHD(t, machines.SSHDOptions{NS: ns})},
	}
	return &machines.Site{CA: ca, OIDC: oidc, Gate: gate, Hops: hops, Config: machines.WriteSSHConfig(t, hops...)}
}

// desktop is what a desktop session adds to the environment, with the browsers of a directory.
func desktop(browsers string) []string {
	return []string{"DISPLAY=:9", "PATH=" + browsers + ":" + os.Getenv("PATH")}
}

// opened is what a person reads when the page is open in Chromium.
const opened = `hint: ` + inner + ` is reached only through bastion: the page is open in Chromium`

// A person types login, and signs in at a page that this machine does not reach. The network fails
// in the middle: the connections of the browser are cut, and it goes on by itself.
func TestLogin(t *testing.T) {
	t.Parallel()
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut %t", cut), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			home := t.TempDir()
			browsers, last := machines.Person{TrustsAll: true}.Installed(t, "chromium")
			cmd := s.ThroughChain(t, home, "login", "--callback-port", "0")
			cmd.Env = append(cmd.Env, desktop(browsers)...)
			p := machines.StartProcess(t, cmd)
			if cut {
				s.OIDC.Log.Await(t, `GET /interaction/\S+ 200`)
				s.Hops[0].SSHD.Drop()
			}
			if status := p.Wait(t); status != machines.StatusDone {
				t.Fatalf("status %d", status)
			}
			p.Err.Await(t, opened)
			if page := last(t); !strings.Contains(page.Text, "igned in") || !strings.HasPrefix(page.URL, "http://127.0.0.1:") {
				t.Errorf("the last page is %+v", page)
			}
			profiles, err := filepath.Glob(filepath.Join(home, ".local/state/sallyport/browser/*/chromium"))
			if err != nil || len(profiles) != 1 {
				t.Errorf("profiles: %q, %v", profiles, err)
			}
		})
	}
}

// The MCP host of a desktop starts the proxy, and the person does nothing but sign in. Each profile
// of sallyport has a browser profile of its own.
func TestHost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	home := t.TempDir()
	browsers, last := machines.Person{TrustsAll: true}.Installed(t, "chromium")
	for i, profile := range []string{"work", "play"} {
		cmd := s.ThroughChain(t, home, "--callback-port", "0", "--profile", profile)
		cmd.Env = append(cmd.Env, desktop(browsers)...)
		machines.EchoOnce(t, cmd)
		last(t)
		profiles, err := filepath.Glob(filepath.Join(home, ".local/state/sallyport/browser/*/chromium"))
		if err != nil || len(profiles) != i+1 {
			t.Errorf("after the login of %s there are the profiles %q, %v", profile, profiles, err)
		}
	}
}

// BROWSER, which many have set for all programs, is a preference: the page opens in the person's
// Chromium all the same. A Chromium that --browser names is opened with a profile of ours.
func TestBrowserVariable(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--browser", "chromium"}} {
		s := newSite(t)
		browsers, last := machines.Person{TrustsAll: true}.Installed(t, "chromium")
		cmd := s.ThroughChain(t, t.TempDir(), append([]string{"login", "--callback-port", "0"}, args...)...)
		cmd.Env = append(append(cmd.Env, desktop(browsers)...), "BROWSER=/bin/true")
		p := machines.StartProcess(t, cmd)
		if status := p.Wait(t); status != machines.StatusDone {
			t.Fatalf("%q: status %d", args, status)
		}
		p.Err.Await(t, opened)
		last(t)
	}
}

// Where no browser of this machine may be opened, the person gets the address of a PAC file, and a
// browser that uses it signs in.
func TestPAC(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []string
		env  []string
		why  string
	}{
		{"another browser is named", []string{"--browser", "/bin/true"}, []string{"DISPLAY=:9"}, ""},
		{"none is wanted", []string{"--no-browser"}, []string{"DISPLAY=:9"}, ""},
		{"no display", nil, nil, ` \(no Chromium, .* can be started here\)`},
		{"none that starts", nil, desktop(broken(t)), ` \(Firefox: it ended before it asked for the login page \(exit status 3\)\)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			cmd := s.ThroughChain(t, t.TempDir(), append([]string{"login", "--callback-port", "0"}, test.args...)...)
			cmd.Env = append(append(cmd.Env, "PATH="+machines.OpenDir(t)), test.env...)
			p := machines.StartProcess(t, cmd)
			link := p.Err.Await(t, machines.Offered)[1]
			pac := p.Err.Await(t, `hint: `+inner+` is reached only through bastion, not from this machine`+test.why+
				`\nhint: in a browser on this machine, set the automatic proxy configuration \(PAC\) to (\S+) until`)[1]
			strangerIsRefused(t, pac)
			machines.Person{TrustsAll: true, Flags: []string{"--proxy-pac-url=" + pac}}.LogsIn(t, link)
			if status := p.Wait(t); status != machines.StatusDone {
				t.Errorf("status %d", status)
			}
		})
	}
}

// broken returns a directory with browsers that do not start. The last one tried is Firefox.
func broken(t *testing.T) string {
	t.Helper()
	dir := machines.OpenDir(t)
	for _, name := range []string{"chromium", "firefox"} {
		machines.WriteFile(t, dir, name, "#!/bin/sh\nexit 3\n", 0o755)
	}
	return dir
}

func init() { machines.Role("stranger", playStranger) }

// stranger is who asks the proxy at the address of a PAC file.
type stranger struct {
	PAC string
	// LooksGone says that half of the connection is closed, as by a program that wants to look
	// gone.
	LooksGone bool
}

// playStranger asks the proxy at an address for its PAC file, and for a connection. It prints how
// many bytes came.
func playStranger(text []byte) error {
	var as stranger
	if err := json.Unmarshal(text, &as); err != nil {
		return err
	}
	u, err := url.Parse(as.PAC)
	if err != nil {
		return err
	}
	got := 0
	for _, request := range []string{
		"GET " + u.Path + " HTTP/1.1\r\nHost: " + u.Host + "\r\n\r\n",
		"CONNECT " + inner + ":443 HTTP/1.1\r\nHost: " + inner + "\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			return err
		}
		io.WriteString(conn, request)
		conn.SetReadDeadline(time.Now().Add(machines.Patience))
		if as.LooksGone {
			conn.(*net.TCPConn).CloseWrite()
		}
		n, err := conn.Read(make([]byte, 4096))
		if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
			return err
		}
		got += n
		conn.Close()
	}
	fmt.Printf("%d bytes\n", got)
	return nil
}

// strangerIsRefused has another user of this machine use the proxy of a PAC file.
func strangerIsRefused(t *testing.T, pac string) {
	t.Helper()
	if _, first := machines.StartRoleAs(t, machines.NewAccount(t), "stranger", stranger{PAC: pac, LooksGone: true}); first != "0 bytes" {
		t.Errorf("another user gets %s from the proxy", first)
	}
	if _, first := machines.StartRole(t, machines.Here, "stranger", stranger{PAC: pac}); first == "0 bytes" {
		t.Errorf("this user gets %s from the proxy: the test shows nothing", first)
	}
}

// A login server that this machine reaches as well opens in the browser of the desktop.
func TestReachedFromHere(t *testing.T) {
	t.Parallel()
	s := machines.NewSite(t, 2, machines.StartMCP)
	browsers, last := machines.Person{TrustsAll: true}.Installed(t, "xdg-open")
	machines.WriteFile(t, browsers, "chromium", "#!/bin/sh\nexit 3\n", 0o755)
	cmd := s.ThroughChain(t, t.TempDir(), "login", "--callback-port", "0")
	cmd.Env = append(cmd.Env, desktop(browsers)...)
	p := machines.StartProcess(t, cmd)
	if status := p.Wait(t); status != machines.StatusDone {
		t.Fatalf("status %d", status)
	}
	last(t)
	if strings.Contains(p.Err.String(), "reached only through") {
		t.Errorf("stderr:\n%s", p.Err)
	}
}
