package hostio

import (
	"os"

	"golang.org/x/sys/unix"
)

// OnParentExit calls f when the process that started this one has ended. It watches the process
// itself: PR_SET_PDEATHSIG would come with the end of the thread that forked. The returned function
// ends the watch.
func OnParentExit(f func()) (stop func()) {
	parent := os.Getppid()
	if parent <= 1 { // of another namespace, or gone before we came
		return func() {}
	}
	fd, err := unix.PidfdOpen(parent, unix.PIDFD_NONBLOCK)
	if err != nil {
		return func() {} // before Linux 5.10; the end of stdin is left
	}
	pidfd := os.NewFile(uintptr(fd), "parent")
	if os.Getppid() != parent { // it ended, and the number may be another's now
		pidfd.Close()
		f()
		return func() {}
	}
	watch, err := pidfd.SyscallConn()
	if err != nil {
		pidfd.Close()
		return func() {}
	}
	go func() { // ends with the parent, or with stop
		err := watch.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
		if err == nil {
			f()
		}
	}()
	return func() { pidfd.Close() }
}
