package farbrowser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"
)

const (
	// nearTimeout bounds a dial from this machine. It is short: a firewall that drops packets would
	// otherwise hold up each first visit to a host of the far side.
	nearTimeout = 3 * time.Second
	// farTimeout bounds a dial through the far side, which may have to connect first.
	farTimeout = 30 * time.Second
	// maxHosts is how many hosts one login may lead to. A login page needs some ten.
	maxHosts = 512
)

// dialFunc opens a connection as net.Dialer.DialContext does.
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// side is where a host is reached.
type side int

const (
	// unknown: no connection has been made yet.
	unknown side = iota
	// near: from this machine.
	near
	// far: through the far side alone.
	far
)

// sides connects to hosts on the side where they are reached: from this machine, and through the
// far side if the dial from here fails. The first connection to a host decides for all later ones.
// So a host that is reached from here is never looked for in the far network, whatever its name
// server says later (DNS rebinding). The methods may be called concurrently.
type sides struct {
	// through dials through the far side.
	through dialFunc
	// proxies chooses this machine's HTTP proxy for a URL. If it is nil, there is none.
	proxies func(*url.URL) (*url.URL, error)
	// login is the canonical host of the login page.
	login string
	// ownLogin says that the login server may be this machine: the browser is on another one.
	ownLogin bool
	// log gets a line for each host.
	log *slog.Logger

	// mu guards places.
	mu     sync.Mutex
	places map[string]*place
}

// place is what is known of one host.
type place struct {
	// deciding holds a token while a first connection is being made.
	deciding chan struct{}

	// mu guards the fields below.
	mu   sync.Mutex
	side side
	// public says that the host was reached from here at a public address.
	public bool
}

func newSides(through dialFunc, login string, log *slog.Logger) *sides {
	return &sides{through: through, login: login, log: log, places: map[string]*place{}}
}

// errManyHosts ends a login that leads to more than maxHosts hosts.
var errManyHosts = errors.New("too many hosts for one login")

// place returns the place of a canonical host.
func (s *sides) place(host string) (*place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.places[host]
	if p == nil {
		if len(s.places) >= maxHosts {
			return nil, errManyHosts
		}
		p = &place{deciding: make(chan struct{}, 1)}
		s.places[host] = p
	}
	return p, nil
}

// where returns the side of a place, and whether it is known to be public.
func (p *place) where() (side, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.side, p.public
}

func (p *place) set(at side, public bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.side, p.public = at, p.public || public
}

// dial connects to addr, which is host:port. An *AddressError says that addr must not be connected
// to. The context bounds the dial alone.
func (s *sides) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	host = canonical(host)
	if err := checkHost(host, s.login); err != nil && !s.isOwnLogin(host) {
		return nil, err
	}
	p, err := s.place(host)
	if err != nil {
		return nil, err
	}
	addr = net.JoinHostPort(host, port)
	if at, _ := p.where(); at != unknown {
		return s.dialSide(ctx, p, addr)
	}
	select {
	case p.deciding <- struct{}{}:
		defer func() { <-p.deciding }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return s.dialSide(ctx, p, addr)
}

// dialSide connects on the side of p, and finds that side out if it is unknown.
func (s *sides) dialSide(ctx context.Context, p *place, addr string) (net.Conn, error) {
	at, _ := p.where()
	if at == far {
		return s.dialFar(ctx, addr)
	}
	conn, err := s.dialNear(ctx, p, addr)
	if _, refused := errors.AsType[*AddressError](err); err == nil || at == near || refused || ctx.Err() != nil {
		return conn, err
	}
	conn, farErr := s.dialFar(ctx, addr)
	if farErr != nil { // nothing is remembered: the next connection tries both again
		return nil, fmt.Errorf("from here: %w; through the far side: %w", err, farErr)
	}
	s.log.Debug("a host of the login is reached through the far side alone", "addr", addr, "err", err)
	p.set(far, false)
	return conn, nil
}

// isOwnLogin reports whether a host is the login server, and may be this machine.
func (s *sides) isOwnLogin(host string) bool { return s.ownLogin && host == s.login }

// dialFar connects through the far side.
func (s *sides) dialFar(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, farTimeout)
	defer cancel()
	return s.through(ctx, "tcp", addr)
}

// dialNear connects from this machine, and notes a success. It looks at each address before it
// dials it: a look at the name alone would not do, because a name server may answer otherwise the
// second time.
func (s *sides) dialNear(ctx context.Context, p *place, addr string) (net.Conn, error) {
	_, wasPublic := p.where()
	host, port, _ := net.SplitHostPort(addr)
	if proxy := s.proxyFor(addr, port); proxy != nil {
		conn, err := dialByProxy(ctx, proxy, addr)
		if err == nil {
			p.set(near, false)
		}
		return conn, err
	}
	var mu sync.Mutex // both families may be dialed at once
	var refusal *AddressError
	dialer := net.Dialer{Timeout: nearTimeout, Control: func(_, resolved string, _ syscall.RawConn) error {
		ip, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return err
		}
		reason := ""
		switch {
		case isThisMachine(ip.Addr()) && !s.isOwnLogin(canonical(host)):
			reason = thisMachine
		case wasPublic && isPrivate(ip.Addr()):
			reason = turnedPrivate
		default:
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		refusal = &AddressError{host, reason}
		return refusal
	}}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	mu.Lock()
	defer mu.Unlock()
	// One refused address among several refuses the host: no honest name has such a set.
	if refusal != nil {
		if conn != nil {
			conn.Close()
		}
		return nil, refusal
	}
	if err != nil {
		return nil, err
	}
	ip, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	p.set(near, err == nil && !isPrivate(ip.Addr()))
	return conn, nil
}

// proxyFor returns this machine's HTTP proxy for addr, or nil.
func (s *sides) proxyFor(addr, port string) *url.URL {
	if s.proxies == nil {
		return nil
	}
	scheme := "https"
	if port == "80" {
		scheme = "http"
	}
	proxy, err := s.proxies(&url.URL{Scheme: scheme, Host: addr})
	if err != nil || proxy == nil || proxy.Scheme != "http" && proxy.Scheme != "https" {
		return nil
	}
	return proxy
}

// learned lists the hosts that are reached through the far side alone.
func (s *sides) learned() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hosts []string
	for host, p := range s.places {
		if at, _ := p.where(); at == far {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
