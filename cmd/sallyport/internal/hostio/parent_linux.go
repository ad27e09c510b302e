package hostio

import (
	"os"

	"golang.org/x/sys/unix"
)

// OnParentExit calls f when the parent process has ended. It watches the process by a pidfd:
// PR_SET_PDEATHSIG would report the end of the thread that forked. The caller must call stop, after
// which f is not called any more.
//
// It does nothing if the parent is in another PID namespace, or before Linux 5.10. The end of stdin
// then has to do.
func OnParentExit(f func()) (stop func()) {
	parent := os.Getppid()
	if parent <= 1 { // the parent is in another namespace, or has ended already
		return func() {}
	}
	fd, err := unix.PidfdOpen(parent, unix.PIDFD_NONBLOCK)
	if err != nil {
		return func() {}
	}
	pidfd := os.NewFile(uintptr(fd), "parent")
	if os.Getppid() != parent { // it has ended, and another process may have its number now
		pidfd.Close()
		f()
		return func() {}
	}
	conn, err := pidfd.SyscallConn()
	if err != nil {
		pidfd.Close()
		return func() {}
	}
	go func() { // ends with the parent, or with stop
		err := conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
		if err == nil {
			f()
		}
	}()
	return func() { pidfd.Close() }
}
