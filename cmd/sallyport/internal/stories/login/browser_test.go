//go:build linux

package login_test

import (
	"os"
	"path/filepath"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// A browser is started where a window can appear. Where none can, or would appear on another
// machine, the person is told what to do.
func TestBrowserIsStartedWhereAWindowCanAppear(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		env    []string
		opened bool
		hint   string // on stderr
	}{
		{"no display", nil, false, `no browser could be started here \(no display here\).*sallyport callback \S+@`},
		{"X", []string{"DISPLAY=:9"}, true, ""},
		{"Wayland", []string{"WAYLAND_DISPLAY=wayland-9"}, true, ""},
		{"in an SSH session", []string{"DISPLAY=:9", "SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22"}, false,
			`is your browser on another machine\? there, run: sallyport callback \S+@`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := machines.NewFakeSite(t)
			dir := machines.OpenDir(t)
			machines.WriteFile(t, dir, "xdg-open", "#!/bin/sh\nexec "+s.Browser+` "$@"`+"\n", 0o755)
			env := append(test.env, "PATH="+dir+":"+os.Getenv("PATH"))
			p := machines.StartProcess(t, s.Command(env, "login", "--callback-port", "0", "--token-store", "memory",
				"--state-dir", filepath.Join(dir, "state")))
			link := p.Err.Await(t, machines.Offered)[1]
			if !test.opened {
				p.Err.Await(t, "hint: "+test.hint)
				p.Err.Await(t, "hint: does the browser end at a page that it cannot open\\? .* type: sallyport login --paste")
				machines.Curl(t, nil, "-L", link)
			}
			if status := p.Wait(t); status != machines.StatusDone {
				t.Errorf("status %d", status)
			}
			if _, err := os.Stat(s.Children); (err == nil) != test.opened {
				t.Errorf("a browser was started: %t, want %t", err == nil, test.opened)
			}
		})
	}
}
