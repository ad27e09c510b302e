package farbrowser

import (
	"net/netip"
	"os"
	"strconv"

	"sallyport/oauth/procnet"
)

// ownsSocket looks up the owner of the socket that is connected from client to server.
func ownsSocket(client, server netip.AddrPort) bool {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return false
	}
	uid, ok := procnet.Connected(string(table), client, server)
	return ok && uid == strconv.Itoa(os.Geteuid())
}
