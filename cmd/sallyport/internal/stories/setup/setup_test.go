//go:build linux

// The stories of a person who sets a workstation up once: the program is put on the other machine,
// and a service lends the browser from then on. Real: sshd, an account of its own on the other
// machine, systemd of a user.
package setup_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// desk is the other machine: an account of its own, behind sshd.
func desk(t *testing.T, lines ...string) (*machines.Account, *machines.SSHD, string) {
	t.Helper()
	account := machines.NewAccount(t)
	server := machines.StartSSHD(t, machines.SSHDOptions{User: account})
	return account, server, machines.WriteSSHConfig(t, machines.Hop{Alias: "desk", SSHD: server, Config: lines})
}

// bin lists ~/.local/bin of an account.
func bin(t *testing.T, account *machines.Account) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(account.Home, ".local", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return strings.Join(names, " ")
}

// One command puts the program there and lends the browser. The second time there is nothing to
// copy.
func TestInstallOnHost(t *testing.T) {
	account, _, config := desk(t)
	home := t.TempDir()
	for _, words := range []string{`desk: sallyport is there now, as ` + account.Home + `/\.local/bin/sallyport`, `desk: sallyport devel is there already`} {
		p := machines.StartProcess(t, machines.Command(t, home, "callback", "--install", "-F", config, "desk"))
		p.Err.Await(t, words)
		p.Err.Await(t, `desk: ready, logins there open your browser here \(sallyport devel there\)`)
		p.Cmd.Process.Signal(syscall.SIGINT)
		if status := p.Wait(t); status != machines.StatusInterrupted {
			t.Errorf("status %d, want %d", status, machines.StatusInterrupted)
		}
	}
	out, err := account.Command(filepath.Join(account.Home, ".local", "bin", "sallyport"), "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "sallyport devel ") {
		t.Errorf("the program there prints %q (%v)", out, err)
	}
	if got := bin(t, account); got != "sallyport" {
		t.Errorf("%s in ~/.local/bin, want sallyport alone", got)
	}
}

// The link breaks in the middle. What was there stays, and the same command does it later.
func TestInstallOverALinkThatBreaks(t *testing.T) {
	account, server, config := desk(t)
	old := machines.WriteFile(t, account.Home, "old", "#!/bin/sh\necho sallyport 0.1.0 go1 linux/amd64\n", 0o755)
	place := filepath.Join(account.Home, ".local", "bin", "sallyport")
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(old, place); err != nil {
		t.Fatal(err)
	}
	account.Own(t, filepath.Join(account.Home, ".local"), filepath.Dir(place), place)
	breaks := fmt.Sprintf(`ProxyCommand=bash -c 'exec 3<>/dev/tcp/%s/%s; cat <&3 & dd bs=64k iflag=count_bytes count=3000000 status=none >&3; kill $!'`, server.Host, server.Port)
	home := t.TempDir()
	p := machines.StartProcess(t, machines.Command(t, home, "callback", "--install", "--share", "off", "-F", config, "-o", breaks, "desk"))
	if status := p.Wait(t); status == machines.StatusDone {
		t.Errorf("status %d after a broken link", status)
	}
	machines.CheckExplained(t, p.Err.String(), `desk has not taken the program`, `what was there is untouched`)
	machines.Poll(t, func() bool { return bin(t, account) == "sallyport" }, "the unfinished file is removed")
	if text := machines.ReadFile(t, place); !strings.Contains(text, "0.1.0") {
		t.Error("the old program is not there any more")
	}
	p = machines.StartProcess(t, machines.Command(t, home, "callback", "--install", "-F", config, "desk"))
	p.Err.Await(t, `desk: ready`)
}

// bootScript makes a machine with systemd of a user, and runs its arguments there. SESSION is a
// name that no other machine has.
const bootScript = `
set -e
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
mkdir -p /sys/fs/cgroup/systemd/"$SESSION"
echo $$ >/sys/fs/cgroup/systemd/"$SESSION"/cgroup.procs
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
/lib/systemd/systemd --user &
while ! systemctl --user is-system-running >/dev/null 2>&1; do sleep 0.1; done
"$@"
code=$?
kill -9 $!
exit $code
`

// A service is installed, runs, comes back after it was killed, and goes.
func TestServiceOfSystemd(t *testing.T) {
	machines.NeedProgram(t, "systemctl", "systemd")
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip("there is no systemd")
	}
	account, server, config := desk(t)
	home, dir := t.TempDir(), machines.OpenDir(t)
	sallyport := machines.Sallyport(t)
	machines.EndShares(t, home)
	script := fmt.Sprintf(`
OAUTH2_CLIENT_SECRET=hush %[1]s callback --service -F %[2]s desk
systemctl --user is-active sallyport-callback
systemctl --user is-enabled sallyport-callback
pid() { systemctl --user show -p MainPID --value sallyport-callback; }
first=$(pid)
tr '\0' '\n' </proc/$first/cmdline
tr '\0' '\n' </proc/$first/environ | grep -E 'ASKPASS|DISPLAY|SECRET' || true
kill -9 $first
while [ "$(pid)" = 0 ] || [ "$(pid)" = $first ]; do sleep 0.2; done
echo came back
%[1]s callback --service --remove
systemctl --user is-active sallyport-callback || echo gone
`, sallyport, config)
	cmd := exec.Command("unshare", "-m", "bash", "-c", bootScript, "boot", "bash", "-c", script)
	cmd.Env = append(machines.Environment(), "HOME="+home, "XDG_RUNTIME_DIR="+dir, "SESSION="+filepath.Base(dir), "DISPLAY=:7")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p := machines.StartProcess(t, cmd)
	status := p.Wait(t)
	out, words := p.Out.String(), p.Err.String()
	if status != machines.StatusDone {
		t.Fatalf("status %d\n%s\n%s", status, out, words)
	}
	for _, want := range []string{"ExecStart=", "active\nenabled\n", "\ncallback\n--unattended\n", "\nSSH_ASKPASS_REQUIRE=never\n", "came back\n", "inactive\ngone\n"} {
		if !strings.Contains("\n"+out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	for _, want := range []string{"the service runs, and starts whenever you log on", "to take it away: sallyport callback --service --remove", "the service is gone"} {
		if !strings.Contains(words, want) {
			t.Errorf("want %q in\n%s", want, words)
		}
	}
	if strings.Contains(out, "hush") {
		t.Errorf("a secret of the terminal is in the service:\n%s", out)
	}
	if n := strings.Count(server.Log.String(), "Accepted publickey for "+account.Name); n == 0 {
		t.Error("the service has not logged in to the desk")
	}
}
