package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// openStdin returns stdin as the runtime's poller can watch it, where it is a pipe: the goroutine that waits there goes on
// without the detour over a thread that sits in a system call. It is opened anew for that,
// since whoever shares the description would share its O_NONBLOCK.
func openStdin() *os.File {
	var st unix.Stat_t
	if err := unix.Fstat(0, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return os.Stdin
	}
	fd, err := unix.Open("/proc/self/fd/0", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.Stdin
	}
	defer unix.Close(fd)
	// In place of the old one, so that the pipe ends for its writer with this reader.
	if err := unix.Dup3(fd, 0, unix.O_CLOEXEC); err != nil {
		return os.Stdin
	}
	return os.NewFile(0, "stdin")
}
