package farbrowser

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"sallyport/cmd/sallyport/internal/lazyregexp"

	"golang.org/x/net/idna"
)

// AddressError says that a host is, or leads to, an address that the local proxy does not connect
// to.
type AddressError struct {
	// Host is the host as the browser asked for it.
	Host string
	// Reason says what is wrong with it.
	Reason string
}

// Error names the host.
func (e *AddressError) Error() string { return fmt.Sprintf("%q %s", e.Host, e.Reason) }

// The reasons of an AddressError.
const (
	noName        = "is no host name"
	anAddress     = "is an address, and only host names are carried"
	thisMachine   = "leads to this machine"
	turnedPrivate = "led to a public address before and leads to a private one now"
)

// hostName matches the names that DNS and /etc/hosts have: letters, digits, hyphens and underscores
// in labels of at most 63. Names of other alphabets reach a proxy in ASCII (RFC 3492).
var hostName = lazyregexp.New(`^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$`)

// numeric matches a last label that makes a host an IPv4 address, in whichever of inet_aton(3)'s
// forms: 127.1, 0x7f000001, 2130706433 (WHATWG URL, section 3.5, "ends in a number").
var numeric = lazyregexp.New(`^([0-9]+|0x[0-9a-f]*)$`)

// canonical returns a host in the form in which hosts are compared: in ASCII (RFC 3492) and lower
// case, without the dot of the root.
func canonical(host string) string {
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// checkHost returns an *AddressError for a canonical host that may not be connected to, as far as
// its text tells. The host login is that of the login page, and only it may be an address.
func checkHost(host, login string) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		switch {
		case isThisMachine(ip):
			return &AddressError{host, thisMachine}
		case host != login:
			return &AddressError{host, anAddress}
		}
		return nil
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case len(host) > 253 || !hostName().MatchString(host):
		return &AddressError{host, noName}
	case numeric().MatchString(last):
		return &AddressError{host, anAddress}
	}
	switch last {
	// RFC 6761 section 6.3, and the names in the /etc/hosts of common systems.
	case "localhost", "localdomain", "localhost4", "localhost6", "localdomain4", "localdomain6", "ip6-localhost", "ip6-loopback":
		return &AddressError{host, thisMachine}
	}
	return nil
}

// thisNetwork holds addresses that the kernel takes for this machine (RFC 1122 section 3.2.1.3).
var thisNetwork = netip.MustParsePrefix("0.0.0.0/8")

// isThisMachine reports whether an address leads to this machine or to the link that it is on:
// loopback, unspecified, link-local, multicast, and each address of its interfaces.
func isThisMachine(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || thisNetwork.Contains(ip) {
		return true
	}
	// The list is read each time, because a laptop moves. Without the list nothing may be dialed.
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, addr := range own {
		if network, ok := addr.(*net.IPNet); ok {
			if mine, ok := netip.AddrFromSlice(network.IP); ok && mine.Unmap() == ip {
				return true
			}
		}
	}
	return false
}

// sharedSpace is the address space of carriers (RFC 6598), which is as private as that of RFC 1918.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// isPrivate reports whether an address means another host in another network.
func isPrivate(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsPrivate() || sharedSpace.Contains(ip) || ip.IsLoopback() || ip.IsLinkLocalUnicast()
}
