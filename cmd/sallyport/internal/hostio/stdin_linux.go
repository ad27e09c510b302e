package hostio

import (
	"os"

	"golang.org/x/sys/unix"
)

// OpenStdin returns stdin in a form that the runtime's poller can watch, if it is a pipe or a
// socket. A read then parks a goroutine, and occupies no thread in a system call, so that one
// processor is enough (OneProcessor). With stdin left alone and as many processors as there are, a
// call takes 2.5 times the processor time (BenchmarkAgainstPeers, direct, 10 ms). The caller must
// call restore at the end of the process.
func OpenStdin() (in *os.File, restore func()) {
	keep := func() {}
	var st unix.Stat_t
	if err := unix.Fstat(0, &st); err != nil {
		return os.Stdin, keep
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		if !reopenStdin() {
			return os.Stdin, keep
		}
		return os.NewFile(0, "stdin"), keep
	case unix.S_IFSOCK:
		// Node.js gives its servers sockets, and sets O_NONBLOCK on them itself. A socket cannot be
		// opened a second time. If stdout or stderr is the same socket, it must stay blocking.
		flags, err := unix.FcntlInt(0, unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 || isSameFile(st, 1) || isSameFile(st, 2) || unix.SetNonblock(0, true) != nil {
			return os.Stdin, keep
		}
		return os.NewFile(0, "stdin"), func() { unix.SetNonblock(0, false) }
	}
	return os.Stdin, keep
}

// reopenStdin replaces descriptor 0 by a second, nonblocking one of the same pipe. Other processes
// may share the first one, and would share its O_NONBLOCK too. It takes the place of the first one
// so that the writer sees the end of the pipe when this process ends.
func reopenStdin() bool {
	fd, err := unix.Open("/proc/self/fd/0", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Dup3(fd, 0, unix.O_CLOEXEC) == nil
}

// isSameFile reports whether the descriptor fd is of the file or socket st.
func isSameFile(st unix.Stat_t, fd int) bool {
	var other unix.Stat_t
	return unix.Fstat(fd, &other) == nil && other.Dev == st.Dev && other.Ino == st.Ino
}
