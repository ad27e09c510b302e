//go:build linux

package callback_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/cmd/sallyport/internal/machines"
)

// kind is an SSH server as people have it, and what serves there.
type kind struct {
	name string
	// config has lines of sshd_config.
	config []string
	// options stand before the key in authorized_keys.
	options string
	// shell is the login shell. Empty is /bin/sh.
	shell string
	// bare says that HOST has no sallyport but the one of the test.
	bare bool
	// dropbear says that the server is dropbear.
	dropbear bool

	// want is what `sallyport callback` says, and the login comes through. It is empty if nothing
	// serves; then refused is what it says.
	want, refused string
}

// forced stands for a command that the server runs in place of ours, and that prints something.
const forced = "/bin/echo only backups here"

var kinds = []kind{
	{name: "as installed", want: "sallyport .* there"},
	{name: "AllowTcpForwarding no", config: []string{"AllowTcpForwarding no"}, want: "sallyport .* there"},
	{name: "AllowStreamLocalForwarding no", config: []string{"AllowStreamLocalForwarding no"}, want: "sallyport .* there"},
	{name: "DisableForwarding yes", config: []string{"DisableForwarding yes"}, want: "sallyport .* there"},
	{name: "restrict in authorized_keys", options: "restrict", want: "sallyport .* there"},
	{name: "a shell that talks first", shell: "talking", want: "sallyport .* there"},
	{name: "ForceCommand", config: []string{"ForceCommand " + forced}, want: "a forwarded Unix socket"},
	{name: "ForceCommand that waits", config: []string{"ForceCommand /bin/cat"}, want: "a forwarded Unix socket"},
	{name: "command= in authorized_keys", options: `command="` + forced + `"`, want: "a forwarded Unix socket"},
	{name: "MaxSessions 0", config: []string{"MaxSessions 0"}, want: "a forwarded Unix socket"},
	{name: "a shell that lets nobody in", shell: "/usr/sbin/nologin", want: "a forwarded Unix socket"},
	{name: "ForceCommand, streams from HOST only", config: []string{"ForceCommand " + forced, "AllowStreamLocalForwarding remote"},
		want: "a socket is forwarded, which could not be tried"},
	{name: "no sallyport on HOST", bare: true, want: "a forwarded Unix socket"},
	// The login there makes the socket its own.
	{name: "StreamLocalBindMask 0777", config: []string{"ForceCommand " + forced, "StreamLocalBindMask 0777"}, want: "a socket is forwarded, which could not be tried"},
	{name: "StreamLocalBindMask 0777, no sallyport", bare: true, config: []string{"StreamLocalBindMask 0777"}, want: "a forwarded Unix socket"},
	{name: "StreamLocalBindMask 0111, no sallyport", bare: true, config: []string{"StreamLocalBindMask 0111"}, refused: "other users there may connect to it"},
	{name: "StreamLocalBindMask 0111", config: []string{"StreamLocalBindMask 0111"}, want: "sallyport .* there"},
	{name: "no sallyport, no forwarding", bare: true, config: []string{"DisableForwarding yes"}, refused: "no sallyport was found on devbox"},
	{name: "ForceCommand, no forwarding", config: []string{"ForceCommand " + forced, "DisableForwarding yes"}, refused: "devbox lets no login there reach this machine"},
	{name: "MaxSessions 0, no forwarding", config: []string{"MaxSessions 0", "AllowStreamLocalForwarding no"}, refused: "devbox lets no login there reach this machine"},
	{name: "restrict,command=", options: `restrict,command="` + forced + `"`, refused: "devbox lets no login there reach this machine"},
	{name: "dropbear", dropbear: true, want: "sallyport .* there"},
}

// TestKindsOfServers prints a table of what serves at which server. Where something serves, a login
// on HOST is finished on the workstation through it.
func TestKindsOfServers(t *testing.T) {
	site := machines.NewDirectSite(t, machines.OIDCOptions{})
	var table strings.Builder
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			said := k.try(t, site)
			fmt.Fprintf(&table, "| %-38s | %s\n", k.name, said)
		})
	}
	t.Logf("what serves at which server:\n%s", table.String())
}

// try lends the browser to a server of the kind, signs in there, and returns what was said.
func (k kind) try(t *testing.T, site *machines.Site) string {
	t.Helper()
	l := &lending{Site: site, ada: machines.NewAccount(t), home: t.TempDir(), workstation: newWorkstation(t, site)}
	k.setShell(t, l.ada)
	if k.dropbear {
		l.sshd = startDropbear(t, l.ada)
	} else {
		keys := filepath.Join(machines.OpenDir(t), "keys")
		l.sshd = machines.StartSSHD(t, machines.SSHDOptions{User: l.ada, Config: append([]string{"AuthorizedKeysFile " + keys}, k.config...)})
		line := strings.TrimSpace(k.options + " " + publicKey(t, l.sshd.IdentityFile))
		if err := os.WriteFile(keys, []byte(line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !k.bare {
		putSallyport(t, l.ada)
	}
	l.workstation.Borrow(t, l.sshd.Addr)
	l.config = machines.WriteSSHConfig(t, machines.Hop{Alias: "devbox", SSHD: l.sshd})
	browser := machines.Person{NS: l.workstation, TrustsAll: true}.BrowserScript(t)
	cmd := machines.Command(t, l.home, "callback", "-F", l.config, "--browser", browser, "--trust", "devbox", "devbox")
	l.helper = machines.StartProcess(t, l.workstation.Move(t, cmd))
	if k.refused != "" {
		if status := l.helper.Wait(t); status == 0 {
			t.Errorf("callback ended with status %d", status)
		}
		machines.CheckExplained(t, l.helper.Err.String(), k.refused, `--install devbox|sallyport login --paste`)
		return firstLine(l.helper.Err.String())
	}
	said := l.helper.Err.Await(t, `devbox: (.*)`)[1]
	if !regexp.MustCompile(k.want).MatchString(said) {
		t.Errorf("callback says %q, want %q", said, k.want)
	}
	if k.bare {
		l.helper.Err.Await(t, `no sallyport was found on devbox`)
	}
	login := machines.StartProcess(t, l.inSession("login", l.Gate.URL)(t))
	login.Err.Await(t, machines.Offered)
	if machines.Here.Listens(t, 53682) {
		t.Error("HOST has bound the port of the callback")
	}
	if status := login.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}
	l.helper.Signal(t, syscall.SIGINT)
	l.helper.Wait(t)
	return said
}

// setShell gives the account the login shell of the kind.
func (k kind) setShell(t *testing.T, a *machines.Account) {
	t.Helper()
	shell := k.shell
	switch shell {
	case "":
		return
	case "talking":
		shell = machines.WriteFile(t, machines.OpenDir(t), "shell", "#!/bin/sh\necho 'Welcome to devbox!'\nprintf 'you have mail> '\nexec /bin/sh \"$@\"\n", 0o755)
	}
	a.SetShell(t, shell)
}

// publicKey returns the line of authorized_keys for a private key.
func publicKey(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// startDropbear starts dropbear, which lets an account in.
func startDropbear(t *testing.T, a *machines.Account) *machines.SSHD {
	t.Helper()
	dropbear := machines.NeedProgram(t, "dropbear", "dropbear-bin")
	machines.NeedProgram(t, "dropbearkey", "dropbear-bin")
	dir := machines.OpenDir(t)
	signer, identity := machines.NewKey(t, dir, "id_ed25519")
	dotSSH := filepath.Join(a.Home, ".ssh")
	if err := os.Mkdir(dotSSH, 0o700); err != nil {
		t.Fatal(err)
	}
	keys := machines.WriteFile(t, dotSSH, "authorized_keys", string(ssh.MarshalAuthorizedKey(signer.PublicKey())), 0o600)
	a.Own(t, dotSSH, keys)
	host := filepath.Join(dir, "dropbear_key")
	made := machines.StartProcess(t, machines.Here.Command(t, "dropbearkey", "-t", "ed25519", "-f", host))
	if made.Wait(t) != 0 {
		t.Fatal("dropbearkey failed")
	}
	line := regexp.MustCompile(`ssh-ed25519 \S+`).FindString(made.Out.String())
	free := machines.Here.Listen(t, "127.0.0.1:0")
	_, number, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	machines.StartProcess(t, machines.Here.Command(t, dropbear, "-F", "-E", "-p", "127.0.0.1:"+number, "-r", host))
	machines.Poll(t, func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+number)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, "dropbear listens")
	return &machines.SSHD{
		Addr: "127.0.0.1:" + number, Host: "127.0.0.1", Port: number, User: a.Name, IdentityFile: identity,
		KnownHosts: fmt.Sprintf("[127.0.0.1]:%s %s\n", number, line),
	}
}

// firstLine returns the first line of a text without the program's name.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimPrefix(line, "sallyport: ")
}
