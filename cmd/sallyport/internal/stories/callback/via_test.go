//go:build linux

package callback_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// within has a command of an account run in a network. Both take root, which is given up last.
func within(t *testing.T, ns *machines.Namespace, a *machines.Account, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	id := fmt.Sprint(a.UID)
	setpriv := machines.NeedProgram(t, "setpriv", "util-linux")
	inside := ns.Command(t, setpriv, append([]string{"--reuid", id, "--regid", id, "--clear-groups", cmd.Path}, cmd.Args[1:]...)...)
	inside.Env, inside.Dir = cmd.Env, cmd.Dir
	return inside
}

// desk is a workstation that the remote machine, that of the tests, reaches by SSH.
type desk struct {
	*machines.Site
	ben         *machines.Account
	workstation *machines.Namespace
	config      string
}

func newDesk(t *testing.T, sshdConfig ...string) *desk {
	t.Helper()
	d := &desk{Site: machines.NewDirectSite(t, machines.OIDCOptions{}), ben: machines.NewAccount(t)}
	d.workstation = newWorkstation(t, d.Site)
	sshd := machines.StartSSHD(t, machines.SSHDOptions{NS: d.workstation, User: d.ben, Config: sshdConfig})
	d.config = machines.WriteSSHConfig(t, machines.Hop{Alias: "desk", SSHD: sshd})
	return d
}

// login starts a login on the remote machine.
func (d *desk) login(t *testing.T) *machines.Process {
	t.Helper()
	return machines.StartProcess(t, d.Command(t, t.TempDir(), "login", "-F", d.config, "--callback-via", "desk", d.Gate.URL))
}

// finish signs in at the workstation, and looks for what is left of the login.
func (d *desk) finish(t *testing.T, login *machines.Process, link string) {
	t.Helper()
	if link != "" {
		machines.Person{NS: d.workstation, TrustsAll: true}.LogsIn(t, link)
	}
	if status := login.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}
	if d.workstation.Listens(t, 53682) || machines.Here.Listens(t, 53682) {
		t.Error("the port is still there after the login")
	}
}

// A sallyport on the workstation takes the login that comes from the remote machine. It holds the
// port itself, so sshd opens none.
func TestCallbackViaStartsASallyportThere(t *testing.T) {
	d := newDesk(t, "AllowTcpForwarding no")
	putSallyport(t, d.ben)
	login := d.login(t)
	link := login.Err.Await(t, machines.Offered)[1]
	login.Err.Await(t, "no browser could be started on your workstation")
	if !d.workstation.Listens(t, 53682) || machines.Here.Listens(t, 53682) {
		t.Error("the port is not on the workstation alone")
	}
	d.finish(t, login, link)
}

// If a helper runs on the workstation, the page opens there by itself.
func TestCallbackViaJoinsTheHelper(t *testing.T) {
	d := newDesk(t)
	putSallyport(t, d.ben)
	other := machines.StartSSHD(t, machines.SSHDOptions{User: machines.NewAccount(t)}) // what the helper is there for
	d.workstation.Borrow(t, other.Addr)
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "other", SSHD: other})
	d.ben.Own(t, other.IdentityFile)
	browser, pages := machines.CountingBrowser(t, machines.Person{As: d.ben, TrustsAll: true}.BrowserScript(t))
	if err := os.WriteFile(pages, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	os.Chmod(pages, 0o666)
	helper := machines.StartProcess(t, within(t, d.workstation, d.ben,
		d.ben.Command(machines.Sallyport(t), "callback", "-F", config, "--browser", browser, "--trust", "127.0.0.1", "other")))
	helper.Err.Await(t, `other: `)
	login := d.login(t)
	d.finish(t, login, "")
	if text := machines.ReadFile(t, pages); text != "page\n" {
		t.Errorf("opened %q, want one page", text)
	}
	helper.Signal(t, syscall.SIGINT)
}

// A port that sshd would open to other machines is not used. The login goes on in other ways.
func TestGatewayPortsAreRefused(t *testing.T) {
	for _, config := range [][]string{{"GatewayPorts yes"}, {"GatewayPorts yes", "ForceCommand /bin/false"}} {
		d := newDesk(t, config...)
		login := d.login(t)
		login.Err.Await(t, machines.Offered)
		if len(config) > 1 { // nobody can look there, and the address is loopback
			login.Stop()
			continue
		}
		login.Err.Await(t, `desk opens port 53682 of the callback to other machines \(GatewayPorts\)`)
		login.Err.Await(t, `is your browser on another machine\?`)
		if d.workstation.Listens(t, 53682) || !machines.Here.Listens(t, 53682) {
			t.Error("the workstation listens, or the remote machine does not")
		}
		login.Stop()
	}
}

// A workstation that is not reached delays nothing: the link is there at once, with the other ways.
func TestCallbackViaAWorkstationThatIsAway(t *testing.T) {
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	config := machines.WriteFile(t, machines.OpenDir(t), "config",
		"Host desk\n HostName 127.0.0.1\n Port "+machines.ClosedPort(t)+"\n StrictHostKeyChecking yes\n", 0o644)
	host := machines.StartHost(t, s.Command(t, t.TempDir(), "-F", config, "--callback-via", "desk", s.Gate.URL), nil)
	link := host.Stderr.Await(t, machines.Offered)[1]
	host.Stderr.Await(t, `connection refused`)
	host.Stderr.Await(t, `is your browser on another machine\?`)
	machines.Person{TrustsAll: true}.LogsIn(t, link)
	host.Echo(t)
	host.Close(t)

	// So does a login in a terminal. The error comes first, and the login goes on.
	login := machines.StartProcess(t, s.Command(t, t.TempDir(), "login", "-F", config, "--callback-via", "desk", s.Gate.URL))
	login.Err.Await(t, `connection refused`)
	link = login.Err.Await(t, machines.Offered)[1]
	login.Err.Await(t, `is your browser on another machine\?`)
	machines.Person{TrustsAll: true}.LogsIn(t, link)
	if status := login.Wait(t); status != machines.StatusDone {
		t.Errorf("login ended with status %d", status)
	}
}

// Another program of the workstation, which has no sallyport, listens at the callback's port. The
// next port is taken, and a link never leads the code into the port of that program. Of ports that
// the person names, too, the next is tried, and without a free one there is no link.
func TestTakenPortsWithoutASallyportThere(t *testing.T) {
	for _, test := range []struct {
		name  string
		ports string
		taken []string
		want  string
	}{
		{"the next", "", []string{"53682"}, "53683"},
		{"all of the next", "", []string{"53682", "53683", "53684", "53685", "53686"}, `\d+`},
		{"the next that is named", "53682,53690", []string{"53682"}, "53690"},
		{"none", "53682,53690", []string{"53682", "53690"}, ""},
	} {
		d := newDesk(t)
		for _, port := range test.taken {
			d.workstation.Listen(t, "127.0.0.1:"+port)
		}
		args := []string{"login", "-F", d.config, "--callback-via", "desk"}
		if test.ports != "" {
			args = append(args, "--callback-port", test.ports)
		}
		login := machines.StartProcess(t, d.Command(t, t.TempDir(), append(args, d.Gate.URL)...))
		if test.want == "" {
			if status := login.Wait(t); status != machines.StatusFailed {
				t.Errorf("%s: status %d", test.name, status)
			}
			login.Err.Await(t, `hint: free the port on desk, or name others with --callback-port`)
			if strings.Contains(login.Err.String(), "open this link") {
				t.Errorf("%s: there is a link", test.name)
			}
			continue
		}
		link := login.Err.Await(t, machines.Offered)[1]
		if !regexp.MustCompile(`redirect_uri=http%3A%2F%2F127.0.0.1%3A` + test.want + `%2F`).MatchString(link) {
			t.Errorf("%s: the link is %s", test.name, link)
		}
		for _, port := range test.taken {
			if strings.Contains(link, "%3A"+port+"%2F") {
				t.Errorf("%s: the link leads to port %s, which another program has", test.name, port)
			}
		}
		machines.Person{NS: d.workstation, TrustsAll: true}.LogsIn(t, link)
		if status := login.Wait(t); status != machines.StatusDone {
			t.Errorf("%s: status %d", test.name, status)
		}
	}
}

// A container has the directory of helper sockets of its host mounted. Its network is its own.
func TestALoginInAContainerOpensOnTheWorkstation(t *testing.T) {
	l := lendBrowser(t)
	l.lend(t, "--trust", "devbox")
	container := machines.NewNamespace(t, "container")
	container.Borrow(t, l.OIDC.Addr())
	container.Borrow(t, l.Gate.Addr())
	home := filepath.Join(machines.OpenDir(t), "home")
	there := filepath.Join(home, ".local", "state", "sallyport", "run", "browser")
	if err := os.MkdirAll(there, 0o700); err != nil {
		t.Fatal(err)
	}
	for dir := there; dir != filepath.Dir(home); dir = filepath.Dir(dir) {
		l.ada.Own(t, dir)
	}
	here := filepath.Join(l.ada.Home, ".local", "state", "sallyport", "run", "browser")
	if out, err := exec.Command("mount", "--bind", here, there).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", there).Run() })
	cmd := l.inSession("login", l.Gate.URL)(t)
	cmd.Env = append(cmd.Env, "HOME="+home, "SALLYPORT_STATE_DIR="+filepath.Join(home, ".local", "state", "sallyport"))
	cmd.Dir = home
	login := machines.StartProcess(t, within(t, container, l.ada, cmd))
	if status := login.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}
	if n := l.opened(); n != 1 {
		t.Errorf("%d pages were opened, want 1", n)
	}
}

// A container publishes the port of the callback on the loopback of its host. There the callback
// host may be any address.
func TestThePublishedPortOfAContainer(t *testing.T) {
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	container := machines.NewNamespace(t, "container")
	container.Borrow(t, s.OIDC.Addr())
	container.Borrow(t, s.Gate.Addr())
	args := []string{"login", "--callback-host", "0.0.0.0", s.Gate.URL}
	publish(t, container)
	cmd := s.Command(t, t.TempDir(), args...)
	cmd.Env = append(cmd.Env, "container=podman")
	login := machines.StartProcess(t, container.Move(t, cmd))
	page := machines.Person{TrustsAll: true}.LogsIn(t, login.Err.Await(t, machines.Offered)[1])
	machines.CheckSuccessPage(t, page, machines.DefaultCallback, s.Gate.URL)
	if status := login.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}
}

// publish carries connections to port 53682 of this machine to an address of the container that is
// not the one of its loopback listeners.
func publish(t *testing.T, container *machines.Namespace) {
	t.Helper()
	l := machines.Here.Listen(t, "127.0.0.1:53682")
	go func() { // ends with the listener
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				var far net.Conn
				container.Enter(func() (err error) {
					far, err = net.Dial("tcp", "127.0.0.2:53682")
					return err
				})
				if far == nil {
					return
				}
				defer far.Close()
				go io.Copy(far, near)
				io.Copy(near, far)
			}()
		}
	}()
}

// The person sits at the desktop of the workstation, where no helper runs. The session of SSH has
// no display, and yet the page opens there: its desktop is found, or BROWSER of the login
// environment.
func TestViaADesktop(t *testing.T) {
	for _, inEnvironment := range []bool{false, true} {
		t.Run(fmt.Sprint(inEnvironment), func(t *testing.T) {
			dir := machines.OpenDir(t)
			links := machines.WriteFile(t, dir, "links", "", 0o666)
			os.Chmod(links, 0o666)
			browser := machines.WriteFile(t, dir, "browser", "#!/bin/sh\necho \"$1\" >> "+links+"\n", 0o755)
			var config []string
			if inEnvironment {
				config = []string{"SetEnv BROWSER=" + browser}
			}
			d := newDesk(t, config...)
			putSallyport(t, d.ben)
			if !inEnvironment {
				program := d.ben.Command("/bin/sleep", "1000") // a program of the desktop
				program.Env = append(program.Env, "DISPLAY="+machines.StartDisplay(t), "BROWSER="+browser)
				machines.StartProcess(t, within(t, d.workstation, d.ben, program))
			}
			login := d.login(t)
			machines.Poll(t, func() bool { return machines.ReadFile(t, links) != "" }, "a page on the workstation")
			tab := machines.StartTab(t, d.workstation)
			tab.Goto(t, strings.TrimSpace(machines.ReadFile(t, links)))
			tab.Await(t, "127.0.0.1 wants to sign in")
			tab.Click(t, "Continue")
			tab.Await(t, "Sign-in")
			tab.SignIn(t)
			d.finish(t, login, "")
		})
	}
}

// Nobody reaches another machine from here, and yet the browser is lent: to logins that come by
// --callback-via. The page names the other machine as the person does.
func TestCallbackWithoutHost(t *testing.T) {
	d := newDesk(t)
	putSallyport(t, d.ben)
	ssh := filepath.Join(d.ben.Home, ".ssh")
	if err := os.MkdirAll(ssh, 0o700); err != nil {
		t.Fatal(err)
	}
	config := machines.WriteFile(t, ssh, "config", "Host other\n  HostName 192.0.2.7\nHost devbox\n  HostName 127.0.0.1\nHost *\n  User ben\n", 0o600)
	d.ben.Own(t, ssh, config)
	browser, pages := machines.CountingBrowser(t, machines.Person{As: d.ben, TrustsAll: true}.BrowserScript(t))
	if err := os.WriteFile(pages, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	os.Chmod(pages, 0o666)
	helper := machines.StartProcess(t, within(t, d.workstation, d.ben,
		d.ben.Command(machines.Sallyport(t), "callback", "--browser", browser, "--trust", "devbox")))
	helper.Err.Await(t, `ready, logins that come here by --callback-via open your browser`)
	login := d.login(t)
	d.finish(t, login, "")
	helper.Err.Await(t, `devbox wants to sign in to `)
	if text := machines.ReadFile(t, pages); text != "page\n" {
		t.Errorf("opened %q, want one page", text)
	}
	helper.Signal(t, syscall.SIGINT)
}
