package hostio

import (
	"os"

	"golang.org/x/sys/unix"
)

// OpenStdin returns stdin as the runtime's poller can watch it, where it is a pipe or a socket: the
// goroutine that waits there goes on without the detour over a thread that sits in a system call.
// restore is to be called at the end.
func OpenStdin() (in *os.File, restore func()) {
	restore = func() {}
	var st unix.Stat_t
	if err := unix.Fstat(0, &st); err != nil {
		return os.Stdin, restore
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		// It is opened anew, since whoever shares the description would share its O_NONBLOCK.
		fd, err := unix.Open("/proc/self/fd/0", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return os.Stdin, restore
		}
		defer unix.Close(fd)
		// In place of the old one, so that the pipe ends for its writer with this reader.
		if err := unix.Dup3(fd, 0, unix.O_CLOEXEC); err != nil {
			return os.Stdin, restore
		}
	case unix.S_IFSOCK:
		// That of a host on Node.js. It cannot be opened anew; Node.js itself, as a server, sets
		// the flag, too. But what we write to must not have it.
		flags, err := unix.FcntlInt(0, unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK != 0 || sameFile(st, 1) || sameFile(st, 2) || unix.SetNonblock(0, true) != nil {
			return os.Stdin, restore
		}
		restore = func() { unix.SetNonblock(0, false) }
	default:
		return os.Stdin, restore
	}
	return os.NewFile(0, "stdin"), restore
}

// sameFile reports whether fd is of the file or the socket st.
func sameFile(st unix.Stat_t, fd int) bool {
	var other unix.Stat_t
	return unix.Fstat(fd, &other) == nil && other.Dev == st.Dev && other.Ino == st.Ino
}
