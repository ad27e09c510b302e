//go:build linux

package callback_test

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// oneShot is a tool as gcloud is: it waits for a single connection, and prints the request.
const oneShot = `
const server = require("http").createServer((request, response) => {
  console.log(request.method, request.url);
  response.setHeader("Connection", "close");
  response.end("caught");
});
server.on("connection", (socket) => socket.on("close", () => server.close()));
server.listen(Number(process.argv[1]), "127.0.0.1", () => console.log("ready"));
`

// startOneShot starts the tool on HOST.
func startOneShot(t *testing.T, a *machines.Account, port string) *machines.Process {
	t.Helper()
	p := machines.StartProcess(t, a.Command(machines.Node(t), "-e", oneShot, port))
	p.Out.Await(t, `ready`)
	return p
}

// freePort returns a port of HOST on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	free := machines.Here.Listen(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	return port
}

// `callback --port` says that a port is carried only if it is, whatever the sshd of HOST forbids:
// through sshd, or else by the sallyport there. Otherwise it says what to do. PORT stands for the
// port.
func TestCarriedPortIsProven(t *testing.T) {
	const carried, byProgram = `port \d+ here is carried there\n`, `carried there \(by the sallyport there`
	for _, row := range []struct {
		name   string
		config []string
		bare   bool
		want   string // empty if nothing is carried
	}{
		{"as installed", nil, false, carried},
		{"as installed, no sallyport", nil, true, carried},
		{"AllowTcpForwarding no", []string{"AllowTcpForwarding no"}, false, byProgram},
		{"AllowTcpForwarding remote", []string{"AllowTcpForwarding remote"}, false, byProgram},
		{"DisableForwarding yes", []string{"DisableForwarding yes"}, false, byProgram},
		{"PermitOpen of another port", []string{"PermitOpen 127.0.0.1:9"}, false, byProgram},
		{"PermitOpen of the port, no sallyport", []string{"PermitOpen 127.0.0.1:PORT"}, true, carried + `|will show when a browser comes`},
		{"PermitOpen none, no sallyport", []string{"PermitOpen none"}, true, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			port := freePort(t)
			for i := range row.config {
				row.config[i] = strings.ReplaceAll(row.config[i], "PORT", port)
			}
			ada := machines.NewAccount(t)
			workstation := machines.NewNamespace(t, "workstation")
			sshd := machines.StartSSHD(t, machines.SSHDOptions{User: ada, Config: row.config})
			workstation.Borrow(t, sshd.Addr)
			if !row.bare {
				putSallyport(t, ada)
			}
			config := machines.WriteSSHConfig(t, machines.Hop{Alias: "devbox", SSHD: sshd})
			for _, waits := range []bool{true, false} {
				carryOne(t, carryCase{workstation, ada, config, port, row.want, waits})
			}
		})
	}
}

// carryCase is one callback to a tool on HOST.
type carryCase struct {
	workstation *machines.Namespace
	ada         *machines.Account
	config      string
	port, want  string
	// waits says that the tool waits before `sallyport callback` starts.
	waits bool
}

// carryOne starts `sallyport callback` and a tool, and comes back to the tool.
func carryOne(t *testing.T, c carryCase) {
	t.Helper()
	var tool *machines.Process
	if c.waits && c.want != "" {
		tool = startOneShot(t, c.ada, c.port)
	}
	cmd := machines.Command(t, t.TempDir(), "callback", "-F", c.config, "--no-browser", "--port", c.port, "devbox")
	p := machines.StartProcess(t, c.workstation.Move(t, cmd))
	link := "http://127.0.0.1:" + c.port + "/cb?code=c0de&state=s"
	if c.want == "" {
		p.Err.Await(t, `nothing is carried to port `+c.port+` of devbox`)
		p.Err.Await(t, `curl 'ADDRESS'`)
		p.Err.Await(t, `devbox: ready, as soon as there is a sallyport`)
		tool = machines.StartCatcher(t, c.ada, "127.0.0.1:"+c.port)
		if body := machines.Curl(t, c.workstation, link); !strings.Contains(body, "curl &#39;ADDRESS&#39;") {
			t.Errorf("the page does not say what to do by hand:\n%s", body)
		}
		tool.Stop()
	} else {
		p.Err.Await(t, c.want)
		if tool == nil {
			tool = startOneShot(t, c.ada, c.port)
		}
		if body := machines.Curl(t, c.workstation, link); body != "caught" {
			t.Errorf("the browser saw %q", body)
		}
		tool.Out.Await(t, `GET /cb\?code=c0de&state=s`)
		tool.Wait(t)
		if body := machines.Curl(t, c.workstation, link); !strings.Contains(body, "nobody listens on 127.0.0.1:"+c.port) {
			t.Errorf("the browser saw %q of a tool that has ended", body)
		}
	}
	p.Signal(t, syscall.SIGINT)
	p.Wait(t)
}

// Where nothing serves, callback ends at once.
func TestNothingLeadsToThePort(t *testing.T) {
	// HOST has a network of its own, where nobody listens on the port that callback holds here.
	sshd := machines.StartSSHD(t, machines.SSHDOptions{NS: machines.NewNamespace(t), User: machines.NewAccount(t), Config: []string{"AllowTcpForwarding no"}})
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "devbox", SSHD: sshd})
	p := machines.StartProcess(t, machines.Command(t, t.TempDir(), "callback", "-F", config, "--no-browser", "--port", freePort(t), "devbox"))
	if status := p.Wait(t); status != machines.StatusUnreachable {
		t.Errorf("status %d, want %d", status, machines.StatusUnreachable)
	}
	machines.CheckExplained(t, p.Err.String(), `nothing is carried to port \d+ of devbox`, `--install devbox`)
}

// A stranger's listener gets nothing by a sallyport on HOST either.
func TestStrangersPortWithoutForwarding(t *testing.T) {
	port := freePort(t)
	ada, ben := machines.NewAccount(t), machines.NewAccount(t)
	workstation := machines.NewNamespace(t, "workstation")
	sshd := machines.StartSSHD(t, machines.SSHDOptions{User: ada, Config: []string{"DisableForwarding yes"}})
	workstation.Borrow(t, sshd.Addr)
	putSallyport(t, ada)
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "devbox", SSHD: sshd})
	cmd := machines.Command(t, t.TempDir(), "callback", "-F", config, "--no-browser", "--port", port, "devbox")
	p := machines.StartProcess(t, workstation.Move(t, cmd))
	p.Err.Await(t, `carried there`)
	stranger := machines.StartCatcher(t, ben, "127.0.0.1:"+port)
	if body := machines.Curl(t, workstation, "http://127.0.0.1:"+port+"/cb?code=c0de"); !strings.Contains(body, "belongs to another user there") {
		t.Errorf("the browser saw %q", body)
	}
	if got := strings.TrimPrefix(stranger.Out.String(), "ready\n"); got != "" {
		t.Errorf("the stranger was handed %q", got)
	}
}
