//go:build linux

package callback_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// HOST's sshd is restarted while a login waits for the person, and may have other settings then.
// The login goes on in the same page.
func TestSSHDIsRestartedInMidLogin(t *testing.T) {
	site := machines.NewDirectSite(t, machines.OIDCOptions{})
	const exec, forward = `devbox: ready, logins there open your browser here \(sallyport`, `devbox: ready, logins there open your browser here \(a forwarded`
	noCommands := "ForceCommand " + forced
	for _, row := range []struct {
		name string
		// first are the settings of sshd, of which the helper says ready.
		first []string
		ready string
		// restart restarts it. Then the helper says told, if that is not empty.
		restart func(*testing.T, *machines.SSHDaemon, *machines.Process)
		told    string
	}{
		{"the daemon alone", nil, exec, func(t *testing.T, d *machines.SSHDaemon, _ *machines.Process) {
			d.Kill()
			d.Start(t)
		}, ""},
		{"with its connections", nil, exec, func(t *testing.T, d *machines.SSHDaemon, _ *machines.Process) {
			d.KillAll()
			d.Start(t)
		}, `devbox is reachable again`},
		{"away for half a minute", nil, exec, func(t *testing.T, d *machines.SSHDaemon, _ *machines.Process) {
			d.KillAll()
			select {
			case <-time.After(30 * time.Second):
			case <-t.Context().Done():
			}
			d.Start(t)
		}, `devbox is reachable again`},
		{"it runs no commands any more", nil, exec, func(t *testing.T, d *machines.SSHDaemon, _ *machines.Process) {
			d.KillAll()
			d.Start(t, noCommands)
		}, forward},
		{"it has no sessions any more", nil, exec, func(t *testing.T, d *machines.SSHDaemon, _ *machines.Process) {
			d.KillAll()
			d.Start(t, "MaxSessions 0")
		}, forward},
		{"it runs commands now", []string{noCommands}, forward, func(t *testing.T, d *machines.SSHDaemon, _ *machines.Process) {
			d.KillAll()
			d.Start(t)
		}, exec},
		{"it permits nothing, and then something", nil, exec, func(t *testing.T, d *machines.SSHDaemon, helper *machines.Process) {
			d.KillAll()
			d.Start(t, noCommands, "DisableForwarding yes")
			helper.Err.Await(t, `devbox lets no login there reach this machine`)
			d.KillAll()
			d.Start(t, "AllowStreamLocalForwarding no")
		}, exec},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			l := &lending{Site: site, ada: machines.NewAccount(t), home: t.TempDir(), workstation: newWorkstation(t, site)}
			daemon := machines.StartSSHDaemon(t, machines.SSHDOptions{User: l.ada, Config: row.first})
			l.workstation.Borrow(t, daemon.Addr)
			l.config = machines.WriteSSHConfig(t, machines.Hop{Alias: "devbox", SSHD: daemon.SSHD})
			putSallyport(t, l.ada)
			links := filepath.Join(machines.OpenDir(t), "links")
			browser := machines.WriteFile(t, filepath.Dir(links), "browser", "#!/bin/sh\necho \"$1\" >> "+links+"\n", 0o755)
			cmd := machines.Command(t, l.home, "callback", "-F", l.config, "--browser", browser, "devbox")
			l.helper = machines.StartProcess(t, l.workstation.Move(t, cmd))
			l.helper.Err.Await(t, row.ready)
			tab := machines.StartTab(t, l.workstation)
			host := machines.StartHost(t, l.proxy(t), nil)
			var opened []string
			pages := func() bool {
				text, _ := os.ReadFile(links)
				opened = strings.Fields(string(text))
				return len(opened) > 0
			}
			machines.Poll(t, pages, "a page on the workstation")
			tab.Goto(t, opened[0])
			tab.Click(t, "Continue")
			tab.Await(t, "Sign-in")
			row.restart(t, daemon, l.helper)
			if row.told != "" {
				l.helper.Err.Await(t, `(?s)ready.*`+row.told)
			}
			tab.SignIn(t)
			tab.Await(t, "devbox is signed in")
			host.Echo(t)
			if pages(); len(opened) != 1 {
				t.Errorf("%d pages were opened, want 1", len(opened))
			}
			host.Close(t)
		})
	}
}
