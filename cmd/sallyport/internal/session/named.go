package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sallyport/oauth"

	"golang.org/x/net/idna"
)

// namedRoute sends requests to the URLs that metadata names, each on the side of whoever named it
// (MCP, Security Best Practices, Server-Side Request Forgery). An address of this machine or of a
// private network is dialed only where a server of the same network names it, or where the person
// has configured its origin. Addresses are checked when they are dialed, because a name may resolve
// to another one each time. A namedRoute may be used concurrently.
//
// A name that only the last hop resolves cannot be checked. It is harmless, because the request is
// https, and a service that the name does not belong to has no certificate for it.
type namedRoute struct {
	policy
	// upstream is the MCP server.
	upstream *url.URL
	// trusted holds the origins that the settings name.
	trusted []string
	// direct dials from this machine without a check. It honours HTTP proxies.
	direct *transport
	// limited dials, for each scope of a server, only what such a server may name. They use no HTTP
	// proxy.
	limited map[scope]*transport
	// either dials from this machine or by the tunnel.
	either *autoRoute

	// mu guards reached.
	mu sync.Mutex
	// reached says at which kind of address a server was reached from here, by host:port.
	reached map[string]scope
}

// newNamedRoute returns a route in front of direct and through. From now on direct reports where it
// reaches servers.
func newNamedRoute(p policy, upstream *url.URL, trusted []string, direct *transport, through http.RoundTripper) *namedRoute {
	m := &namedRoute{policy: p, upstream: upstream, trusted: trusted, direct: direct, either: newAutoRoute(through),
		limited: map[scope]*transport{}, reached: map[string]scope{}}
	dial := direct.DialContext
	for _, s := range []scope{public, private, linkLocal, loopback} {
		// With a proxy, the address that is dialed and checked would be the proxy's.
		m.limited[s] = newTransport(func(ctx context.Context, network, addr string) (net.Conn, error) {
			return m.dial(ctx, network, addr, s)
		}, nil, direct.security)
	}
	direct.dialBy(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			m.note(addr, conn.RemoteAddr())
		}
		return conn, err
	})
	return m
}

// dial dials addr, on behalf of a server with an address of the scope by.
func (m *namedRoute) dial(ctx context.Context, network, addr string, by scope) (net.Conn, error) {
	dialer := directDialer()
	// Control is called with each address that is about to be dialed. A check of the name before
	// the dial would not do, because a name server may answer otherwise the second time.
	dialer.Control = func(_, resolved string, _ syscall.RawConn) error {
		ip, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return err
		}
		if s := scopeOf(ip.Addr()); !by.mayName(s) {
			return &PrivateAddressError{Addr: addr, Resolved: ip.Addr().String(), Scope: s.String()}
		}
		return nil
	}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, &DialError{err}
	}
	m.note(addr, conn.RemoteAddr())
	return conn, nil
}

// note notes where a server was reached. One that was ever reached at a public address stays
// public, whatever its name server says later.
func (m *namedRoute) note(addr string, reached net.Addr) {
	ip, err := netip.ParseAddrPort(reached.String())
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reached[addr] != public {
		m.reached[addr] = scopeOf(ip.Addr())
	}
}

// RoundTrip implements http.RoundTripper.
func (m *namedRoute) RoundTrip(req *http.Request) (*http.Response, error) {
	server, byPerson := oauth.NamedBy(req)
	if byPerson || m.isTrusted(req.URL) {
		return m.send(req, m.configured(), m.direct, isDialError)
	}
	if server == nil {
		server = m.upstream
	}
	by, host := m.standingOf(req.Context(), server), hostScope(req.URL.Hostname())
	side := m.named(by, host)
	if side == Nowhere {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, &PrivateAddressError{Server: server.Host, Addr: req.URL.Host, Scope: host.String()}
	}
	resp, err := m.send(req, side, m.fromHere(req, by), func(err error) bool {
		_, private := errors.AsType[*PrivateAddressError](err)
		return isDialError(err) && (!private || by.side == There && by.scope != public)
	})
	if e, ok := errors.AsType[*PrivateAddressError](err); ok {
		e.Server = server.Host
	}
	return resp, err
}

// send sends a request on a side. From this machine it leaves by here. Its error decides whether
// the tunnel may be tried.
func (m *namedRoute) send(req *http.Request, side Side, here http.RoundTripper, mayRetry func(error) bool) (*http.Response, error) {
	switch side {
	case Here:
		return here.RoundTrip(req)
	case There:
		return m.either.via.RoundTrip(req)
	}
	return m.either.send(req, here, mayRetry)
}

// fromHere returns what dials from this machine on behalf of the server by.
func (m *namedRoute) fromHere(req *http.Request, by standing) http.RoundTripper {
	// An HTTP proxy resolves names, in a network that this process does not see. Only an address
	// that stands in the URL itself can be checked, and the policy has done that.
	if proxy, err := m.direct.Proxy(req); err != nil || proxy != nil {
		return m.direct
	}
	if by.side == Here && by.scope != unresolved {
		return m.limited[by.scope]
	}
	return m.limited[public]
}

// lookupTimeout bounds a question to the name server that only a check needs.
const lookupTimeout = 5 * time.Second

// standingOf says where a server is that names URLs. It goes by where the server was reached and,
// before the first connection, by its name. It asks the name server only then.
func (m *namedRoute) standingOf(ctx context.Context, server *url.URL) standing {
	m.mu.Lock()
	reached := m.reached[dialAddr(server)]
	m.mu.Unlock()
	isThere := m.via && (m.route == "via" || origin(server) == origin(m.upstream) || m.either.usesVia(origin(server)))
	if reached != unresolved && !isThere {
		return standing{Here, reached}
	}
	at := hostScope(server.Hostname())
	if at == unresolved {
		at = lookUp(ctx, server.Hostname())
	}
	switch {
	case !m.via:
		return standing{Here, at}
	case !isThere && (at == public || m.isTrusted(server)):
		return standing{Here, at}
	case at != public && hostScope(server.Hostname()) == unresolved:
		// What the name means here says nothing of the other network, but a public address is the
		// same in both.
		at = unresolved
	}
	return standing{There, at}
}

// lookUp returns the scope of the addresses of a name: public if any is, and otherwise that which
// may name the least. It is unresolved if there is none.
func lookUp(ctx context.Context, host string) scope {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return unresolved
	}
	at := unresolved
	for _, ip := range ips {
		if s := scopeOf(ip); at == unresolved || s < at {
			at = s
		}
	}
	return at
}

// mayOpen reports whether the browser may be sent to u, which the server at by names. The browser
// looks names up by itself, so only what stands in u counts. A page on the other side's loopback is
// allowed to a server there: the person may have forwarded its port.
func (m *namedRoute) mayOpen(by, u *url.URL) bool {
	host := hostScope(u.Hostname())
	if host == unresolved || host == public || m.isTrusted(u) {
		return true
	}
	return m.named(m.standingOf(context.Background(), by), host) != Nowhere
}

// isTrusted reports whether the settings name the origin of u.
func (m *namedRoute) isTrusted(u *url.URL) bool { return slices.Contains(m.trusted, origin(u)) }

// origin returns the scheme, the host and the port of u.
func origin(u *url.URL) string { return strings.ToLower(u.Scheme) + "://" + dialAddr(u) }

// dialAddr returns host:port as net/http dials u.
func dialAddr(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	host := u.Hostname()
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	return net.JoinHostPort(strings.ToLower(host), port)
}

// PrivateAddressError says that metadata leads to an address that the server may not name: one of
// this machine or of a private network, where the server is elsewhere.
type PrivateAddressError struct {
	// Server is the host, with its port, whose words led there.
	Server string
	// Addr is host:port as the metadata names it.
	Addr string
	// Resolved is the address behind a name.
	Resolved string
	// Scope is what kind of address that is.
	Scope string
}

// Error names the address too, because the name alone looks harmless.
func (e *PrivateAddressError) Error() string {
	address := e.Scope
	if e.Resolved != "" && !strings.Contains(e.Addr, e.Resolved) {
		address = e.Resolved + ", " + address
	}
	return fmt.Sprintf("%s leads to %s, which is %s, and may not: it is not known to be in the same network", e.Server, e.Addr, address)
}
