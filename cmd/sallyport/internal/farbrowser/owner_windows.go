package farbrowser

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/windows"
)

var getExtendedTCPTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

// ownsSocket looks up the process of the socket that is connected from client to server, and
// compares its user with ours.
func ownsSocket(client, server netip.AddrPort) bool {
	pid, ok := processOf(client, server)
	if !ok {
		return false
	}
	theirs, err := userOf(pid)
	if err != nil {
		return false
	}
	ours, err := userOf(windows.GetCurrentProcessId())
	return err == nil && theirs.Equals(ours)
}

// maxTable bounds the table of connections, in bytes.
const maxTable = 16 << 20

// processOf finds a connection in the system's table, an array of MIB_TCPROW_OWNER_PID.
func processOf(client, server netip.AddrPort) (pid uint32, ok bool) {
	const familyIPv4, tableOwnerPIDConnections = 2, 4 // AF_INET, TCP_TABLE_OWNER_PID_CONNECTIONS
	if getExtendedTCPTable.Find() != nil {
		return 0, false
	}
	for size := uint32(64 << 10); size <= maxTable; {
		table := make([]byte, size)
		status, _, _ := getExtendedTCPTable.Call(uintptr(unsafe.Pointer(&table[0])), uintptr(unsafe.Pointer(&size)), 0,
			familyIPv4, tableOwnerPIDConnections, 0)
		switch windows.Errno(status) {
		case windows.ERROR_INSUFFICIENT_BUFFER:
			size += 16 << 10 // connections come and go between two calls
		case windows.ERROR_SUCCESS:
			return findRow(table, client, server)
		default:
			return 0, false
		}
	}
	return 0, false
}

// findRow looks for a connection in a table. Each row has six numbers of 32 bits: state, local
// address and port, remote address and port, process. Addresses and ports are in network order.
func findRow(table []byte, client, server netip.AddrPort) (pid uint32, ok bool) {
	const rowSize = 24
	count := binary.LittleEndian.Uint32(table)
	rows := table[4:]
	for range count {
		if len(rows) < rowSize {
			break
		}
		if addrPort(rows[4:]) == client && addrPort(rows[12:]) == server {
			return binary.LittleEndian.Uint32(rows[20:]), true
		}
		rows = rows[rowSize:]
	}
	return 0, false
}

// addrPort reads an address and a port.
func addrPort(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[4:]))
}

// userOf returns the user of a process.
func userOf(pid uint32) (*windows.SID, error) {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(process)
	var token windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token); err != nil {
		return nil, err
	}
	defer token.Close()
	user, err := token.GetTokenUser()
	if err != nil {
		return nil, err
	}
	return user.User.Sid.Copy()
}
