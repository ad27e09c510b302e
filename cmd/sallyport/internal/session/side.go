package session

import (
	"net/netip"
	"strconv"
	"strings"

	"code.dny.dev/ssrf"
	"golang.org/x/net/idna"
)

// Side is the network that a request leaves into. Each side has its own loopback and its own
// private addresses, so the same address means another host on each.
type Side int

const (
	// Nowhere refuses the request.
	Nowhere Side = iota
	// Here is the network of this machine.
	Here
	// There is the network of the last hop of --via.
	There
	// HereOrThere is Here, and There if the dial itself fails, or leads to an address that is not
	// public.
	HereOrThere
)

// scope says to whom an address means the same host.
type scope int

const (
	// unresolved is the scope of a name that was not looked up.
	unresolved scope = iota
	// public: the same host to everybody.
	public
	// private: the same host within one network (RFC 1918, RFC 4193, RFC 6598). All special-purpose
	// addresses that are nothing else are counted in.
	private
	// linkLocal: the same host to direct neighbours. Clouds have their metadata service there.
	linkLocal
	// loopback: the machine itself.
	loopback
)

// String names the scope in an error.
func (s scope) String() string {
	return [...]string{"an unknown address", "a public address", "a private address", "a link-local address", "a loopback address"}[s]
}

// mayName reports whether the metadata of a server with an address of scope s may lead to an
// address of the scope target. What it names is then in the same network, or public, or a name that
// is judged when its addresses are known. A server whose scope is unknown counts as public.
func (s scope) mayName(target scope) bool {
	switch target {
	case private:
		return s == private || s == loopback || s == linkLocal
	case linkLocal, loopback:
		return s == target
	}
	return true
}

// standing is where a server is that names URLs.
type standing struct {
	// side is Here or There.
	side Side
	// scope is that of the server's address, as far as it is known.
	scope scope
}

// policy decides on which side a request leaves. It knows nothing of names and connections.
type policy struct {
	// via says that there is a tunnel.
	via bool
	// route is the setting oauth-route: auto, via or direct.
	route string
}

// configured is the side of a URL that the person named.
func (p policy) configured() Side {
	switch {
	case !p.via || p.route == "direct":
		return Here
	case p.route == "via":
		return There
	}
	return HereOrThere
}

// named is the side of a host that the server by names. The scope is that of the host.
//
// An address that is not public means a host of the network that by is in. Behind the tunnel, that
// network is the last hop's, so such an address is dialed by the tunnel or not at all. A server
// there that has a public address may not name one. Any other may, also the last hop's loopback:
// the upstream and its login server may both run on the last hop.
func (p policy) named(by standing, host scope) Side {
	switch {
	case host == unresolved || host == public:
		return p.configured()
	case by.side == Here && by.scope.mayName(host):
		return Here
	case by.side == Here, by.scope == public, p.route == "direct":
		return Nowhere
	case host == linkLocal && by.scope != linkLocal:
		return Nowhere
	}
	return There
}

// publicAddresses denies the special-purpose ranges of IANA's registries: this network, private,
// shared, loopback, link-local, reserved, 6to4, Teredo, documentation, benchmarking and multicast.
var publicAddresses = ssrf.New(ssrf.WithAnyNetwork(), ssrf.WithAnyPort())

// scopeOf returns the scope of an address. It judges an address of NAT64, which holds an IPv4
// address in its last four bytes (RFC 6052), by that IPv4 address: a network without IPv4 sees only
// these. The unspecified address leads to the machine itself.
func scopeOf(ip netip.Addr) scope {
	// The ranges hold plain IPv4 addresses, not those mapped into IPv6 (RFC 4291 section 2.5.5.2).
	ip = ip.Unmap().WithZone("")
	if b := ip.As16(); ssrf.IPv6NAT64Prefix.Contains(ip) {
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case ip.IsLoopback() || ip.IsUnspecified():
		return loopback
	case ip.IsLinkLocalUnicast() || ip.IsMulticast():
		return linkLocal
	case publicAddresses.SafeAddr(ip) == nil:
		return public
	}
	return private
}

// hostScope returns the scope of a host in a URL as far as the text tells: it looks up nothing. It
// reads addresses in every form that a browser or a C library reads (127.1, 0x7f000001, 2130706433,
// full-width digits), and the names of loopback (RFC 6761 section 6.3).
func hostScope(host string) scope {
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	host = strings.ToLower(strings.TrimRight(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return scopeOf(ip)
	}
	if ip, ok := parseOldIPv4(host); ok {
		return scopeOf(ip)
	}
	switch label := host[strings.LastIndexByte(host, '.')+1:]; label {
	case "localhost", "localdomain", "localhost4", "localhost6", "localdomain4", "localdomain6", "ip6-localhost", "ip6-loopback":
		return loopback
	}
	return unresolved
}

// parseOldIPv4 reads an IPv4 address as inet_aton(3) does: one to four numbers, each decimal, octal
// or hexadecimal, of which the last fills the remaining bytes.
func parseOldIPv4(host string) (netip.Addr, bool) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var address uint64
	for i, part := range parts {
		n, ok := parseOldNumber(part)
		room := 8
		if i == len(parts)-1 {
			room = 8 * (5 - len(parts))
		}
		if !ok || n >= 1<<room {
			return netip.Addr{}, false
		}
		address = address<<room | n
	}
	return netip.AddrFrom4([4]byte{byte(address >> 24), byte(address >> 16), byte(address >> 8), byte(address)}), true
}

// parseOldNumber reads one number of such an address.
func parseOldNumber(text string) (uint64, bool) {
	base, digits := 10, text
	switch {
	case strings.HasPrefix(text, "0x"):
		base, digits = 16, text[2:]
	case len(text) > 1 && text[0] == '0':
		base, digits = 8, text[1:]
	}
	if digits == "" && base == 16 { // as browsers read it
		return 0, true
	}
	n, err := strconv.ParseUint(digits, base, 64)
	return n, err == nil && digits[0] != '+'
}
