package session

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync/atomic"
	"syscall"

	"code.dny.dev/ssrf"
)

// ssrfGuard keeps requests that an upstream's metadata asks for away from this machine and its
// private network (MCP, Security Best Practices, Server-Side Request Forgery). An upstream that has
// a private address itself may name private addresses, and the settings may name any. The guard
// checks each address when it is dialed, because a name may resolve to another one each time. It
// may be used concurrently.
type ssrfGuard struct {
	// direct sends the requests that the guard does not restrict. It honours HTTP proxies.
	direct *http.Transport
	// public dials public addresses only, and uses no HTTP proxy.
	public *http.Transport
	// upstream is the MCP server, whose own address decides what its metadata may name.
	upstream *url.URL
	// trusted holds the origins that the settings name.
	trusted []string

	// reachedPublic and reachedPrivate say at which kinds of addresses the upstream was reached.
	reachedPublic, reachedPrivate atomic.Bool
}

// newSSRFGuard returns a guard in front of direct. From now on direct reports to the guard where it
// reaches the upstream.
func newSSRFGuard(direct *http.Transport, upstream *url.URL, trusted []string) *ssrfGuard {
	g := &ssrfGuard{direct: direct, public: direct.Clone(), upstream: upstream, trusted: trusted}
	dial := direct.DialContext
	direct.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil && addr == dialAddr(upstream) {
			g.reached(conn.RemoteAddr())
		}
		return conn, err
	}
	// With a proxy, the address that is dialed and checked would be the proxy's.
	g.public.Proxy = nil
	g.public.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialer := directDialer()
		// Control is called with each address that is about to be dialed. A check of the name
		// before the dial would not do, because a name server may answer otherwise the second time.
		dialer.Control = func(_, resolved string, _ syscall.RawConn) error {
			if ip, err := netip.ParseAddrPort(resolved); err != nil || !isPublic(ip.Addr()) {
				return &PrivateAddressError{Addr: addr, Resolved: resolved}
			}
			return nil
		}
		return dialer.DialContext(ctx, network, addr)
	}
	return g
}

// RoundTrip implements http.RoundTripper.
func (g *ssrfGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	if slices.Contains(g.trusted, origin(req.URL)) || g.upstreamIsPrivate(req.Context()) {
		return g.direct.RoundTrip(req)
	}
	proxy, err := g.direct.Proxy(req)
	if err != nil || proxy == nil {
		return g.public.RoundTrip(req)
	}
	// The proxy resolves names, in a network that this process does not see. Only an address that
	// stands in the URL itself can be checked here.
	if ip, err := netip.ParseAddr(req.URL.Hostname()); err == nil && !isPublic(ip) {
		return nil, &PrivateAddressError{Addr: req.URL.Host, Resolved: ip.String()}
	}
	return g.direct.RoundTrip(req)
}

// reached notes an address where the upstream was reached.
func (g *ssrfGuard) reached(addr net.Addr) {
	if ip, err := netip.ParseAddrPort(addr.String()); err == nil && !isPublic(ip.Addr()) {
		g.reachedPrivate.Store(true)
	} else {
		g.reachedPublic.Store(true)
	}
}

// upstreamIsPrivate goes by where the upstream was reached and, before the first connection, by
// what its name resolves to. An upstream that was ever reached at a public address stays public,
// whatever its name server says later.
func (g *ssrfGuard) upstreamIsPrivate(ctx context.Context) bool {
	switch {
	case g.reachedPublic.Load():
		return false
	case g.reachedPrivate.Load():
		return true
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", g.upstream.Hostname())
	return err == nil && !slices.ContainsFunc(ips, isPublic)
}

// dialAddr returns host:port as net/http dials u.
func dialAddr(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// publicAddresses denies the special-purpose ranges of IANA's registries: this network, private,
// shared, loopback, link-local, reserved, 6to4, Teredo, documentation, benchmarking and multicast.
var publicAddresses = ssrf.New(ssrf.WithAnyNetwork(), ssrf.WithAnyPort())

// isPublic reports whether the address means the same host to everybody. It judges an address of
// NAT64, which holds an IPv4 address in its last four bytes (RFC 6052), by that IPv4 address: a
// network without IPv4 sees only these.
func isPublic(ip netip.Addr) bool {
	// The ranges hold plain IPv4 addresses, not those mapped into IPv6 (RFC 4291 section 2.5.5.2).
	ip = ip.Unmap().WithZone("")
	if b := ip.As16(); ssrf.IPv6NAT64Prefix.Contains(ip) {
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	return publicAddresses.SafeAddr(ip) == nil
}

// PrivateAddressError says that metadata of a public upstream leads to an address that is not
// public.
type PrivateAddressError struct {
	// Addr is host:port as the metadata names it.
	Addr string
	// Resolved is the address behind it.
	Resolved string
}

// Error names both, because the name alone looks harmless.
func (e *PrivateAddressError) Error() string {
	return fmt.Sprintf("the upstream's metadata leads to %s, which is %s: no public address, as the upstream's own is", e.Addr, e.Resolved)
}
