package callback

import "testing"

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
