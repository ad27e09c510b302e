package procnet

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Holder finds the process that listens on a TCP port of this machine. It looks up the inode of
// the listening socket, then the process that has that inode open (proc_pid_fd(5)). The result is 0
// if nobody listens, or if the process belongs to another user and /proc does not show its files.
func Holder(port string) (pid int, command string) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, ""
	}
	links := make(map[string]bool)
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, s := range Listening(string(table), int(n)) {
			links["socket:["+s.Inode+"]"] = true
		}
	}
	if len(links) == 0 {
		return 0, ""
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil || !links[link] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return pid, strings.TrimSpace(string(comm))
	}
	return 0, ""
}
