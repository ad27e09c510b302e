// Package procnet reads Linux's table of TCP sockets, the text of /proc/net/tcp and
// /proc/net/tcp6 (proc_pid_net(5)). [Listening] and [Accepting] work on text, so that the table of
// another machine can be read as well. Only [Holder] and [HolderUser] open
// files, and they do so only on Linux.
package procnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
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

// loopback6 is ::1, on a little-endian and on a big-endian machine.
var loopback6 = []string{"00000000000000000000000001000000", "00000000000000000000000000000001"}

// IsLoopback reports whether only processes of the machine itself reach the socket: its address is
// 127.0.0.1 or ::1.
func (s Socket) IsLoopback() bool {
	return slices.Contains(loopback4, s.Address) || slices.Contains(loopback6, s.Address)
}

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

// Connected returns the user who owns the socket that is connected from one IPv4 address to
// another. It returns false if there is none. A connection that its owner has closed is none: the
// table says of a rest of it that it belongs to user 0. The table must be that of this machine.
func Connected(table string, from, to netip.AddrPort) (uid string, ok bool) {
	const local, remote, state, owner = 1, 2, 3, 7
	const established = "01" // TCP_ESTABLISHED
	wantLocal, wantRemote := hexAddrPort(from), hexAddrPort(to)
	for line := range strings.Lines(table) {
		// Most lines are of other connections, and the table may have thousands.
		if !strings.Contains(line, wantLocal) {
			continue
		}
		f := strings.Fields(line)
		if len(f) > owner && f[local] == wantLocal && f[remote] == wantRemote && f[state] == established {
			return f[owner], true
		}
	}
	return "", false
}

// hexAddrPort writes an IPv4 address and port as the table of this machine does.
func hexAddrPort(a netip.AddrPort) string {
	b := a.Addr().Unmap().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(b[:]), a.Port())
}
