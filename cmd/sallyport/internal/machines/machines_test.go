//go:build linux

package machines_test

import (
	"net"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { machines.Main(m) }

// TestOwnMachine shows that nothing of the real machine's network is here, and that what is done to
// /etc is not done there.
func TestOwnMachine(t *testing.T) {
	machines.NeedMachine(t)
	links, err := net.Interfaces()
	if err != nil || len(links) != 1 || links[0].Name != "lo" {
		t.Errorf("interfaces: %v, %v, want a loopback alone", links, err)
	}
	for _, addr := range []string{"127.0.0.1:53682", "[::1]:53682"} {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			t.Error(err)
			continue
		}
		listener.Close()
	}
	a := machines.NewAccount(t)
	out, err := a.Command("id", "-un").CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != a.Name {
		t.Errorf("id: got %q, %v, want %q", got, err, a.Name)
	}
	var etc unix.Statfs_t
	if err := unix.Statfs("/etc", &etc); err != nil || etc.Type != unix.TMPFS_MAGIC {
		t.Errorf("/etc is of type %#x, %v, want a copy in memory", etc.Type, err)
	}
}

// TestSallyport builds the command and runs it.
func TestSallyport(t *testing.T) {
	p := machines.StartProcess(t, machines.Command(t, t.TempDir(), "--help"))
	if status := p.Wait(t); status != machines.StatusDone || !strings.Contains(p.Out.String(), "sallyport") {
		t.Errorf("--help: status %d, %q", status, p.Out)
	}
}
