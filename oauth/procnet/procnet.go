// Package procnet reads Linux's table of TCP sockets, the text of /proc/net/tcp and
// /proc/net/tcp6 (proc_pid_net(5)). [Listening] and [Accepting] work on text, so that the table of
// another machine can be read as well. Only [Holder] and [HolderUser] open
// files, and they do so only on Linux.
package procnet

import (
	"slices"
	"strconv"
	"strings"
)

// Socket is one listening socket of the table.
type Socket struct {
	// Address is the local address in hexadecimal, as the table writes it: in 32-bit words whose
	// byte order is that of the machine.
	Address string
	// UID is the decimal number of the user who owns the socket.
	UID string
	// Inode is the decimal inode number of the socket. /proc/PID/fd has it as "socket:[INODE]".
	Inode string
}

// The hexadecimal forms of an address, first those of a little-endian machine, then those of a
// big-endian one: IPv4, then the same address mapped into IPv6.
var (
	loopback4 = []string{"0100007F", "0000000000000000FFFF00000100007F", "7F000001", "00000000000000000000FFFF7F000001"}
	wildcard  = []string{"00000000", "0000000000000000FFFF000000000000", "00000000000000000000FFFF00000000",
		"00000000000000000000000000000000"}
)

// Listening returns the sockets in table that listen on port, whatever their address. Lines that
// are no rows of the table are ignored.
func Listening(table string, port int) []Socket {
	const listen = "0A" // TCP_LISTEN
	const local, state, uid, inode = 1, 3, 7, 9
	var all []Socket
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) <= inode || f[state] != listen {
			continue
		}
		addr, hexPort, _ := strings.Cut(f[local], ":")
		if p, err := strconv.ParseUint(hexPort, 16, 16); err == nil && int(p) == port {
			all = append(all, Socket{Address: addr, UID: f[uid], Inode: f[inode]})
		}
	}
	return all
}

// Accepting returns the sockets in table that may accept a connection to 127.0.0.1:port. These are
// the sockets bound to exactly that address, which the kernel prefers. Without one, these are the
// sockets bound to all addresses.
func Accepting(table string, port int) []Socket {
	var exact, all []Socket
	for _, s := range Listening(table, port) {
		switch {
		case slices.Contains(loopback4, s.Address):
			exact = append(exact, s)
		case slices.Contains(wildcard, s.Address):
			all = append(all, s)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return all
}
