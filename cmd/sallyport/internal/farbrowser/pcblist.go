package farbrowser

import (
	"encoding/binary"
	"net/netip"
)

// The kinds of the records in the list of TCP sockets of macOS (xnu, bsd/sys/socketvar.h and
// bsd/netinet/in_pcb.h).
const (
	recordSocket = 0x001 // struct xsocket_n
	recordPCB    = 0x010 // struct xinpcb_n
)

// socketOwner finds the user of the socket that is connected from client to server in the list of
// TCP sockets of macOS. Each record begins with its length and its kind, and is padded to eight
// bytes. A record of the addresses comes before that of the socket. Ports are in network order.
func socketOwner(list []byte, client, server netip.AddrPort) (uid uint32, ok bool) {
	const isIPv4 = 0x1
	if len(list) < 4 {
		return 0, false
	}
	found := false
	for list = skip(list, binary.NativeEndian.Uint32(list)); len(list) >= 8; {
		size, kind := binary.NativeEndian.Uint32(list), binary.NativeEndian.Uint32(list[4:])
		record := list[:min(int(size), len(list))]
		switch {
		case size < 8:
			return 0, false
		case kind == recordPCB && len(record) >= 80:
			remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte(record[60:])), binary.BigEndian.Uint16(record[16:]))
			local := netip.AddrPortFrom(netip.AddrFrom4([4]byte(record[76:])), binary.BigEndian.Uint16(record[18:]))
			found = record[44]&isIPv4 != 0 && local == client && remote == server
		case kind == recordSocket && found && len(record) >= 72:
			return binary.NativeEndian.Uint32(record[64:]), true
		}
		list = skip(list, size)
	}
	return 0, false
}

// skip removes a record of a size from the front of a list.
func skip(list []byte, size uint32) []byte {
	padded := (uint64(size) + 7) &^ 7
	return list[min(padded, uint64(len(list))):]
}
