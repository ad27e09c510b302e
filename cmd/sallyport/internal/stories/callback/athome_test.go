//go:build linux

package callback_test

import (
	"os"
	"path/filepath"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// A person sits at HOST today, although another machine lends its browser. The browser of HOST
// opens as well, and brings the callback.
func TestThePersonSitsAtHost(t *testing.T) {
	l := lendBrowser(t)
	nothing := machines.WriteFile(t, machines.OpenDir(t), "nothing", "#!/bin/sh\nexit 0\n", 0o755)
	cmd := machines.Command(t, l.home, "callback", "-F", l.config, "--browser", nothing, "devbox")
	l.helper = machines.StartProcess(t, l.workstation.Move(t, cmd))
	l.helper.Err.Await(t, `devbox: ready`)

	browser := machines.Person{As: l.ada, TrustsAll: true}.BrowserScript(t)
	bin := filepath.Dir(machines.WriteFile(t, machines.OpenDir(t), "xdg-open", "#!/bin/sh\nexec "+browser+" \"$@\"\n", 0o755))
	login := l.ada.Command(machines.Sallyport(t), "login", l.Gate.URL)
	login.Env = append(login.Env, "SALLYPORT_CA_FILE="+l.CA.File, "DISPLAY=:9", "PATH="+bin+":"+os.Getenv("PATH"))
	p := machines.StartProcess(t, login)
	if status := p.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}
	l.helper.Err.Await(t, `devbox wants to sign in to`)
}
