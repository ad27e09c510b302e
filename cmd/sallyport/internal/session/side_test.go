package session

import (
	"net/netip"
	"testing"
)

func TestScopeOf(t *testing.T) {
	for text, want := range map[string]scope{
		"1.1.1.1": public, "2606:4700::1111": public, "64:ff9b::101:101": public,
		"127.0.0.1": loopback, "127.9.9.9": loopback, "::1": loopback, "::ffff:127.0.0.1": loopback, "0.0.0.0": loopback, "::": loopback,
		"64:ff9b::7f00:1": loopback, "::ffff:0.0.0.0": loopback,
		"10.1.2.3": private, "172.16.0.1": private, "192.168.1.1": private, "::ffff:10.1.2.3": private, "fd00::1": private,
		"100.64.0.1": private, "64:ff9b::a00:1": private, "0.1.2.3": private, "255.255.255.255": private,
		"192.0.2.1": private, "198.18.0.1": private, "2001:db8::1": private, "2001::1": private, "64:ff9b:1::1": private,
		"2002:7f00:1::": private, "::127.0.0.1": private, "fec0::1": private,
		"169.254.169.254": linkLocal, "fe80::1%eth0": linkLocal, "64:ff9b::a9fe:a9fe": linkLocal, "224.0.0.1": linkLocal, "ff02::1": linkLocal,
	} {
		if got := scopeOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

// TestHostScope reads hosts as name servers, C libraries and browsers may read them.
func TestHostScope(t *testing.T) {
	for text, want := range map[string]scope{
		"mcp.example": unresolved, "127.0.0.1.nip.io": unresolved, "localhost.example": unresolved, "1.2.3.4.5": unresolved,
		"0x.example": unresolved, "": unresolved, "256.1": unresolved, "1..1": unresolved, "0x1ffffffff": unresolved, "08": unresolved,
		"1.1.1.1": public, "1.1.1.1.": public, "1.257": public,
		"localhost": loopback, "LocalHost": loopback, "localhost.": loopback, "a.localhost": loopback, "localhost.localdomain": loopback,
		"ip6-localhost": loopback, "127.0.0.1.": loopback, "127.1": loopback, "127.0.1": loopback, "0x7f.1": loopback, "0X7F000001": loopback,
		"2130706433": loopback, "017700000001": loopback, "0177.0.0.01": loopback, "0": loopback, "0x0": loopback, "\uff11\uff12\uff17.0.0.1": loopback,
		"127\u30020\u30020\u30021": loopback, "::1": loopback, "::ffff:7f00:1": loopback, "0:0:0:0:0:0:0:1": loopback,
		"10.0.0.1": private, "0xa.1": private, "167772161": private, "fd00::1": private,
		"169.254.169.254": linkLocal, "2852039166": linkLocal, "fe80::1%1": linkLocal,
	} {
		if got := hostScope(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// TestSide is the table of which side a request leaves to. The servers that name hosts stand in
// lines, the hosts that they name in columns.
func TestSide(t *testing.T) {
	direct, auto := policy{route: "auto"}, policy{via: true, route: "auto"}
	viaOnly, directOnly := policy{via: true, route: "via"}, policy{via: true, route: "direct"}
	hosts := []scope{unresolved, public, private, linkLocal, loopback}
	for _, test := range []struct {
		name string
		policy
		by   standing
		want []Side // for each of hosts
	}{
		{"direct, public", direct, standing{Here, public}, []Side{Here, Here, Nowhere, Nowhere, Nowhere}},
		{"direct, of no known address", direct, standing{Here, unresolved}, []Side{Here, Here, Nowhere, Nowhere, Nowhere}},
		{"direct, private", direct, standing{Here, private}, []Side{Here, Here, Here, Nowhere, Nowhere}},
		{"direct, link-local", direct, standing{Here, linkLocal}, []Side{Here, Here, Here, Here, Nowhere}},
		{"direct, loopback", direct, standing{Here, loopback}, []Side{Here, Here, Here, Nowhere, Here}},

		{"via, public", auto, standing{There, public}, []Side{HereOrThere, HereOrThere, Nowhere, Nowhere, Nowhere}},
		{"via, of no known address", auto, standing{There, unresolved}, []Side{HereOrThere, HereOrThere, There, Nowhere, There}},
		{"via, private", auto, standing{There, private}, []Side{HereOrThere, HereOrThere, There, Nowhere, There}},
		{"via, link-local", auto, standing{There, linkLocal}, []Side{HereOrThere, HereOrThere, There, There, There}},
		{"via, loopback", auto, standing{There, loopback}, []Side{HereOrThere, HereOrThere, There, Nowhere, There}},
		{"a public login server of an upstream via", auto, standing{Here, public}, []Side{HereOrThere, HereOrThere, Nowhere, Nowhere, Nowhere}},
		{"a configured login server here of an upstream via", auto, standing{Here, loopback}, []Side{HereOrThere, HereOrThere, Here, Nowhere, Here}},

		{"via, oauth-route via", viaOnly, standing{There, loopback}, []Side{There, There, There, Nowhere, There}},
		{"via, oauth-route via, public", viaOnly, standing{There, public}, []Side{There, There, Nowhere, Nowhere, Nowhere}},
		{"via, oauth-route direct", directOnly, standing{There, loopback}, []Side{Here, Here, Nowhere, Nowhere, Nowhere}},
	} {
		for i, host := range hosts {
			if got := test.named(test.by, host); got != test.want[i] {
				t.Errorf("%s, names %v: got %v, want %v", test.name, host, got, test.want[i])
			}
		}
	}
	for p, want := range map[policy]Side{direct: Here, auto: HereOrThere, viaOnly: There, directOnly: Here} {
		if got := p.configured(); got != want {
			t.Errorf("%+v, named by the person: got %v, want %v", p, got, want)
		}
	}
}
