package procnet

import (
	"net/netip"
	"slices"
	"testing"
)

func TestAccepting(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:D1B2 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1 0000000000000000 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0000000000000000 100 0 0 10 0
   2: 0100007F:D1B2 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1001        0 333 1 0000000000000000 100 0 0 10 0
   3: 0200007F:D1B2 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 444 1 0000000000000000 100 0 0 10 0
   4: 00000000:D1B3 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1003        0 555 1 0000000000000000 100 0 0 10 0
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:D1B2 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1004        0 666 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000000000000:D1B4 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1005        0 777 1 0000000000000000 100 0 0 10 0
   2: 00000000000000000000000001000000:D1B5 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1006        0 888 1 0000000000000000 100 0 0 10 0
garbage
`
	tests := []struct {
		name string
		port int
		want []Socket
	}{
		{"the exact address wins over all addresses", 53682, []Socket{{"0100007F", "1000", "111"}}},
		{"all IPv4 addresses", 53683, []Socket{{"00000000", "1003", "555"}}},
		{"all addresses", 53684, []Socket{{"00000000000000000000000000000000", "1005", "777"}}},
		{"IPv6 loopback does not answer for 127.0.0.1", 53685, nil},
		{"nobody", 53686, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Accepting(table, test.port); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	if got := Listening(table, 53682); len(got) != 3 {
		t.Errorf("Listening found %v, want the three sockets on the port", got)
	}
}

func TestConnected(t *testing.T) {
	from, to := netip.MustParseAddrPort("127.0.0.1:39321"), netip.MustParseAddrPort("127.0.0.1:53682")
	local, remote := hexAddrPort(from), hexAddrPort(to)
	row := func(local, remote, state, uid string) string {
		return "   2: " + local + " " + remote + " " + state + " 00000000:00000000 00:00000000 00000000  " + uid + "        0 333 1 0000000000000000 100 0 0 10 0\n"
	}
	for _, test := range []struct {
		name, table, uid string
		ok               bool
	}{
		{"both ends", row(remote, local, "01", "1002") + row(local, remote, "01", "1001"), "1001", true},
		{"the other end alone", row(remote, local, "01", "1002"), "", false},
		{"another connection from that port", row(local, "0100007F:0050", "01", "1002"), "", false},
		{"closed by its owner", row(local, remote, "05", "0"), "", false},
		{"a rest", row(local, remote, "06", "0"), "", false},
		{"nothing", "garbage\n", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if uid, ok := Connected(test.table, from, to); uid != test.uid || ok != test.ok {
				t.Errorf("got %q, %t; want %q, %t", uid, ok, test.uid, test.ok)
			}
		})
	}
}
