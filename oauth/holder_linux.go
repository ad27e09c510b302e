package oauth

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// portHolder finds who listens on a TCP port of this machine: the socket's inode in
// proc_pid_net(5), then the process that has it open. 0 where the process is another
// user's and /proc does not tell.
func portHolder(port string) (pid int, command string) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, ""
	}
	inodes := make(map[string]bool)
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listeners(file, n, inodes)
	}
	if len(inodes) == 0 {
		return 0, ""
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil || !inodes[link] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return pid, strings.TrimSpace(string(comm))
	}
	return 0, ""
}

// listeners adds "socket:[INODE]" of each listening socket on port.
func listeners(file string, port uint64, inodes map[string]bool) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	const local, state, inode, listen = 1, 3, 9, "0A"
	for s := bufio.NewScanner(f); s.Scan(); {
		field := strings.Fields(s.Text())
		if len(field) <= inode || field[state] != listen {
			continue
		}
		_, hex, _ := strings.Cut(field[local], ":")
		if p, err := strconv.ParseUint(hex, 16, 16); err == nil && p == port {
			inodes["socket:["+field[inode]+"]"] = true
		}
	}
}
