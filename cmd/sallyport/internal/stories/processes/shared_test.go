//go:build linux

package processes_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// A directory of sockets that belongs to somebody else is neither asked nor used, whoever listens
// there. The person learns whose it is.
func TestSharedDirectory(t *testing.T) {
	t.Parallel()
	machines.NeedMachine(t)
	const stranger = 60_124
	for _, test := range []struct {
		name       string
		uid        int
		mode       os.FileMode
		says, hint string
	}{
		{"another user's", stranger, 0o700, "belongs to user 60124", "XDG_RUNTIME_DIR"},
		{"open to all", 0, 0o777, "is open to others (mode 0777)", "chmod 700 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			runtime := t.TempDir()
			dir := filepath.Join(runtime, "sallyport")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("unix", filepath.Join(dir, "1-X.sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			asked := make(chan struct{})
			go func() { // ends with l
				if conn, err := l.Accept(); err == nil {
					conn.Close()
					close(asked)
				}
			}()
			if err := os.Chown(dir, test.uid, test.uid); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, test.mode); err != nil {
				t.Fatal(err)
			}
			home := t.TempDir()
			status := func() (out, stderr string) {
				cmd := machines.Command(t, home, "status")
				cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+runtime)
				p := machines.StartProcess(t, cmd)
				if got := p.Wait(t); got != machines.StatusDone {
					t.Errorf("status %d", got)
				}
				return p.Out.String(), p.Err.String()
			}
			out, stderr := status()
			if !strings.Contains(out, "no proxy runs here") || !strings.Contains(stderr, test.says) || !strings.Contains(stderr, "hint: "+test.hint) {
				t.Errorf("status says %q and %q", out, stderr)
			}
			// A proxy takes the state directory instead, where status finds it.
			upstream := machines.StartMCP(t, nil)
			cmd := machines.Command(t, home, "--grant", "none", upstream)
			cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+runtime)
			machines.StartHost(t, cmd, nil).Echo(t)
			if out, _ := status(); !strings.Contains(out, "proxy ") || !strings.Contains(out, upstream) {
				t.Errorf("status with a proxy says %q", out)
			}
			select {
			case <-asked:
				t.Error("the socket was asked")
			default:
			}
		})
	}
}
