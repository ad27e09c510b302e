package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"
)

// neighbours keeps requests that an upstream's metadata asks for off this machine and its private
// network (MCP, Security Best Practices, Server-Side Request Forgery). An upstream that is there
// itself may name its neighbours, and the settings may name anybody. The address is judged when it is
// dialed: a name may resolve to another one each time.
type neighbours struct {
	direct  *http.Transport // for whom the rule does not hold; honours proxies
	checked *http.Transport // dials public addresses only; no proxy

	upstream *url.URL
	trusted  []string // origins that the settings name

	public, private atomic.Bool // what addresses the upstream was reached at
}

// newNeighbours lays the rule over direct, and has direct tell where the upstream is.
func newNeighbours(direct *http.Transport, upstream *url.URL, trusted []string) *neighbours {
	n := &neighbours{direct: direct, checked: direct.Clone(), upstream: upstream, trusted: trusted}
	dial := direct.DialContext
	direct.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil && addr == dialAddr(upstream) {
			n.note(conn.RemoteAddr())
		}
		return conn, err
	}
	n.checked.Proxy = nil
	n.checked.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialer := directDialer()
		dialer.Control = func(_, resolved string, _ syscall.RawConn) error {
			if ip, err := netip.ParseAddrPort(resolved); err != nil || !isPublic(ip.Addr()) {
				return &neighbourError{addr: addr, resolved: resolved}
			}
			return nil
		}
		return dialer.DialContext(ctx, network, addr)
	}
	return n
}

func (n *neighbours) RoundTrip(req *http.Request) (*http.Response, error) {
	origin := req.URL.Scheme + "://" + req.URL.Host
	for _, trusted := range n.trusted {
		if origin == trusted {
			return n.direct.RoundTrip(req)
		}
	}
	if n.upstreamIsPrivate(req.Context()) {
		return n.direct.RoundTrip(req)
	}
	proxy, err := n.direct.Proxy(req)
	if err != nil || proxy == nil {
		return n.checked.RoundTrip(req)
	}
	// A name is the proxy's to resolve, in a network that is not ours to judge.
	if ip, err := netip.ParseAddr(req.URL.Hostname()); err == nil && !isPublic(ip) {
		return nil, &neighbourError{addr: req.URL.Host, resolved: ip.String()}
	}
	return n.direct.RoundTrip(req)
}

func (n *neighbours) note(addr net.Addr) {
	if ip, err := netip.ParseAddrPort(addr.String()); err == nil && !isPublic(ip.Addr()) {
		n.private.Store(true)
	} else {
		n.public.Store(true)
	}
}

// upstreamIsPrivate goes by where the upstream was reached, before that by what its name resolves to.
// One that was ever reached in public stays public, whatever its name server says later.
func (n *neighbours) upstreamIsPrivate(ctx context.Context) bool {
	switch {
	case n.public.Load():
		return false
	case n.private.Load():
		return true
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", n.upstream.Hostname())
	for _, ip := range ips {
		if isPublic(ip) {
			return false
		}
	}
	return err == nil
}

// dialAddr is what net/http dials for u.
func dialAddr(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// special are ranges of the IANA special-purpose registries that netip has no word for: this network,
// shared address space (RFC 6598), reserved ones, a network's own NAT64 (RFC 8215), 6to4.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
}

// nat64 holds IPv4 addresses in their last four bytes (RFC 6052): all that a network without IPv4 sees.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// isPublic reports an address that means the same host to everybody.
func isPublic(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if b := ip.As16(); nat64.Contains(ip) {
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	return ip.IsGlobalUnicast() && !ip.IsPrivate()
}

// neighbourError is a request that metadata asked for and that the rule forbids.
type neighbourError struct{ addr, resolved string }

func (e *neighbourError) Error() string {
	return fmt.Sprintf("the upstream's metadata leads to %s, which is %s: no public address, as the upstream's own is", e.addr, e.resolved)
}
