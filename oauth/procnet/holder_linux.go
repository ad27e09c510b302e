package procnet

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Holder finds the process that listens on a TCP port of this machine. It looks up the inode of
// the listening socket, then the process that has that inode open (proc_pid_fd(5)). The result is 0
// if nobody listens, or if the process belongs to another user and /proc does not show its files.
func Holder(port string) (pid int, command string) {
	links := make(map[string]bool)
	for _, s := range listeners(port) {
		links["socket:["+s.Inode+"]"] = true
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

// HolderUser returns the decimal number of the user who listens on a TCP port of this machine. It
// is empty if nobody listens. Unlike the process, /proc shows the user to everybody.
func HolderUser(port string) (uid string) {
	for _, s := range listeners(port) {
		return s.UID
	}
	return ""
}

// listeners returns the sockets of this machine that listen on a TCP port.
func listeners(port string) (all []Socket) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if table, err := os.ReadFile(file); err == nil {
			all = append(all, Listening(string(table), int(n))...)
		}
	}
	return all
}

// ConnectedUser returns the decimal number of the user whose socket on this machine is connected
// from one address of IPv4 to another. It is empty if there is no such socket any more. The result
// known is false if the system does not tell.
func ConnectedUser(from, to netip.AddrPort) (uid string, known bool) {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return "", false
	}
	uid, _ = Connected(string(table), from, to)
	return uid, true
}
