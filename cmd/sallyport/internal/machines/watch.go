//go:build linux

package machines

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Watched is a process that somebody else started: a child of the program under test.
type Watched struct{ pid, pidfd int }

// Watch takes note of a running process, so that its number cannot come to mean another one. The process
// is killed when the test ends.
func Watch(t testing.TB, pid int) *Watched {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	t.Cleanup(func() {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		unix.Close(fd)
	})
	return &Watched{pid, fd}
}

// CheckEnds fails the test if the process does not end within Patience.
func (w *Watched) CheckEnds(t testing.TB) {
	t.Helper()
	if !awaitEnd(w.pidfd) {
		t.Errorf("process %d still runs", w.pid)
	}
}
