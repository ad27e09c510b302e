package farbrowser

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// ownsSocket looks up the owner of the socket that is connected from client to server.
func ownsSocket(client, server netip.AddrPort) bool {
	list, err := unix.SysctlRaw("net.inet.tcp.pcblist_n")
	if err != nil {
		return false
	}
	uid, ok := socketOwner(list, client, server)
	return ok && int(uid) == os.Geteuid()
}
