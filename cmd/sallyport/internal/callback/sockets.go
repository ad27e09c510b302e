package callback

import (
	"slices"
	"strconv"
	"strings"
)

// socket is a listening socket of /proc/net/tcp (proc_net_tcp(5)).
type socket struct{ uid, inode string }

// listeningState is TCP_LISTEN in /proc/net/tcp.
const listeningState = "0A"

// The tables print addresses as machine words, so each address stands here for little-endian
// machines first and then for big-endian ones.
var (
	loopbackWords = []string{
		"0100007F", "7F000001",
		"0000000000000000FFFF00000100007F", "00000000000000000000FFFF7F000001",
	}
	anyWords = []string{
		"00000000", "00000000000000000000000000000000",
		"0000000000000000FFFF000000000000", "00000000000000000000FFFF00000000",
	}
)

// listeningSockets finds the sockets in the text of /proc/net/tcp and tcp6 that accept connections
// to 127.0.0.1:port. The kernel prefers those that are bound to exactly this address, so they are
// returned if there are any, and otherwise those that are bound to all addresses.
func listeningSockets(table string, port int) []socket {
	var onLoopback, onAny []socket
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != listeningState {
			continue
		}
		addr, hexPort, _ := strings.Cut(f[1], ":")
		if p, err := strconv.ParseUint(hexPort, 16, 16); err != nil || int(p) != port {
			continue
		}
		switch s := (socket{uid: f[7], inode: f[9]}); {
		case slices.Contains(loopbackWords, addr):
			onLoopback = append(onLoopback, s)
		case slices.Contains(anyWords, addr):
			onAny = append(onAny, s)
		}
	}
	if len(onLoopback) > 0 {
		return onLoopback
	}
	return onAny
}
