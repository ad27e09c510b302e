package farbrowser

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport/oauth/procnet"
)

// ownsSocket looks up the owner of the socket that is connected from client to server. It asks the
// kernel for that one socket (sock_diag(7)). Where the kernel lacks that, it reads the table of all
// sockets, which takes some milliseconds: somebody who connects in a loop would keep us busy.
func ownsSocket(client, server netip.AddrPort) bool {
	uid, ok, err := askKernel(client, server)
	if err != nil {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			return false
		}
		var text string
		text, ok = procnet.Connected(string(table), client, server)
		n, err := strconv.ParseUint(text, 10, 32)
		uid, ok = uint32(n), ok && err == nil
	}
	return ok && int(uid) == os.Geteuid()
}

// askKernel returns the owner of a connected IPv4 socket of TCP. It returns false if there is none,
// and an error if the kernel does not answer such a question.
func askKernel(client, server netip.AddrPort) (uid uint32, ok bool, err error) {
	const netlinkInetDiag = 4 // linux/netlink.h, NETLINK_SOCK_DIAG
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, netlinkInetDiag)
	if err != nil {
		return 0, false, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, diagRequest(client, server), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, false, err
	}
	// The kernel answers within sendto. A wait would mean that it never does.
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	if err != nil {
		return 0, false, err
	}
	return readDiag(buf[:n])
}

// sockDiagByFamily is the type of the request and of its answer (linux/sock_diag.h).
const sockDiagByFamily = 20

// diagRequest asks for one socket: a struct nlmsghdr and a struct inet_diag_req_v2
// (linux/inet_diag.h).
func diagRequest(client, server netip.AddrPort) []byte {
	const size = 16 + 56
	b := make([]byte, 0, size)
	b = binary.NativeEndian.AppendUint32(b, size)
	b = binary.NativeEndian.AppendUint16(b, sockDiagByFamily)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence number and sender, which only dumps need
	b = append(b, unix.AF_INET, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // in any state
	b = binary.BigEndian.AppendUint16(b, client.Port())
	b = binary.BigEndian.AppendUint16(b, server.Port())
	for _, a := range []netip.AddrPort{client, server} {
		ip := a.Addr().Unmap().As4()
		b = append(append(b, ip[:]...), make([]byte, 12)...)
	}
	b = append(b, 0, 0, 0, 0)                                // any interface
	return append(b, 255, 255, 255, 255, 255, 255, 255, 255) // INET_DIAG_NOCOOKIE
}

// readDiag reads the answer: a struct inet_diag_msg, or an error.
func readDiag(b []byte) (uid uint32, ok bool, err error) {
	const header = 16
	const state, owner, established = header + 1, header + 64, 1
	switch {
	case len(b) < header+4:
		return 0, false, unix.EBADMSG
	case binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR:
		// The kernel knows no such socket: its owner has closed it.
		if errno := syscall.Errno(-int32(binary.NativeEndian.Uint32(b[header:]))); errno != unix.ENOENT {
			return 0, false, errno
		}
		return 0, false, nil
	case binary.NativeEndian.Uint16(b[4:]) != sockDiagByFamily || len(b) < owner+4:
		return 0, false, unix.EBADMSG
	}
	// A rest of a closed connection belongs to user 0.
	return binary.NativeEndian.Uint32(b[owner:]), b[state] == established, nil
}
