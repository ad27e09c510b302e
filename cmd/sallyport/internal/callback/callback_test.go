package callback

import (
	"slices"
	"testing"
)

func TestListeningSockets(t *testing.T) {
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
		want []socket
	}{
		{"the exact address wins over all addresses", 53682, []socket{{"1000", "111"}}},
		{"all IPv4 addresses", 53683, []socket{{"1003", "555"}}},
		{"all addresses", 53684, []socket{{"1005", "777"}}},
		{"IPv6 loopback does not answer for 127.0.0.1", 53685, nil},
		{"nobody", 53686, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := listeningSockets(table, test.port); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestOwnHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:53682": true, "localhost:53682": true, "[::1]:53682": true,
		"127.0.0.1": false, "127.0.0.1:53683": false, "evil.example:53682": false, "127.0.0.1.evil.example:53682": false, "": false,
	} {
		if got := isOwnHost(host, 53682); got != want {
			t.Errorf("%q: got %t, want %t", host, got, want)
		}
	}
}
