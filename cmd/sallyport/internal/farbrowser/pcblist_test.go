package farbrowser

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// record makes a record of macOS's list: its length, its kind, and what fill writes.
func record(size, kind int, fill func(b []byte)) []byte {
	b := make([]byte, (size+7)&^7)
	binary.NativeEndian.PutUint32(b, uint32(size))
	binary.NativeEndian.PutUint32(b[4:], uint32(kind))
	if fill != nil {
		fill(b)
	}
	return b
}

// connection makes the records of one socket.
func connection(local, remote string, uid uint32) []byte {
	l, r := netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)
	b := record(104, recordPCB, func(b []byte) {
		binary.BigEndian.PutUint16(b[16:], r.Port())
		binary.BigEndian.PutUint16(b[18:], l.Port())
		b[44] = 1
		copy(b[60:], r.Addr().AsSlice())
		copy(b[76:], l.Addr().AsSlice())
	})
	b = append(b, record(97, recordSocket, func(b []byte) { binary.NativeEndian.PutUint32(b[64:], uid) })...)
	return append(b, record(32, 2, nil)...) // a buffer
}

func TestSocketOwner(t *testing.T) {
	list := record(24, 0, nil) // struct xinpgen
	list = append(list, connection("127.0.0.1:50000", "127.0.0.1:9", 502)...)
	list = append(list, connection("127.0.0.1:8080", "127.0.0.1:50001", 503)...)
	list = append(list, connection("127.0.0.1:50001", "127.0.0.1:8080", 501)...)
	for _, test := range []struct {
		name           string
		list           []byte
		client, server string
		uid            uint32
		ok             bool
	}{
		{"the client's end", list, "127.0.0.1:50001", "127.0.0.1:8080", 501, true},
		{"the server's end", list, "127.0.0.1:8080", "127.0.0.1:50001", 503, true},
		{"another port", list, "127.0.0.1:50002", "127.0.0.1:8080", 0, false},
		{"nothing", nil, "127.0.0.1:50001", "127.0.0.1:8080", 0, false},
		{"cut", list[:len(list)-100], "127.0.0.1:50001", "127.0.0.1:8080", 0, false},
		{"a record without a length", append(record(24, 0, nil), make([]byte, 64)...), "127.0.0.1:50001", "127.0.0.1:8080", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			uid, ok := socketOwner(test.list, netip.MustParseAddrPort(test.client), netip.MustParseAddrPort(test.server))
			if uid != test.uid || ok != test.ok {
				t.Errorf("got %d, %t; want %d, %t", uid, ok, test.uid, test.ok)
			}
		})
	}
}

// FuzzSocketOwner shows that no list makes the reader fail or go on for ever.
func FuzzSocketOwner(f *testing.F) {
	f.Add(connection("127.0.0.1:50000", "127.0.0.1:9", 502))
	client, server := netip.MustParseAddrPort("127.0.0.1:50000"), netip.MustParseAddrPort("127.0.0.1:9")
	f.Fuzz(func(_ *testing.T, list []byte) { socketOwner(list, client, server) })
}
