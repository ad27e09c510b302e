package sshtunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sallyport/sshtunnel/netwatch"
	"sallyport/sshtunnel/sshconfig"
)

const (
	// attemptPause is the time between two of ConnectionAttempts, as with ssh.
	attemptPause = time.Second
	// addressDelay is the time between the starts of two addresses of a name (RFC 8305 section 5).
	addressDelay = 250 * time.Millisecond
	// repeatDelay is the time between the starts of two dials of repeat, and maxRepeats is how many
	// of them may be under way. That is 30 s, within which a resolver has asked its next server.
	repeatDelay, maxRepeats = 1500 * time.Millisecond, 20
	// maxUnsent is how much the kernel may hold of what is not sent yet, in bytes. Without a limit,
	// a small packet waits behind megabytes of an upload: 430 ms instead of 180 at 20 Mbit/s and a
	// round trip of 50 ms. This much is sent in 26 ms there, and keeps a connection of 1 Gbit/s
	// busy for 0.5 ms.
	maxUnsent = 64 << 10
)

// dialTransport opens what the SSH protocol of the host runs over.
func (d *dialer) dialTransport(ctx context.Context) (net.Conn, error) {
	h := d.host
	switch {
	case d.via != nil:
		return d.via.open(ctx, "tcp", net.JoinHostPort(h.HostName, strconv.Itoa(h.Port)))
	case d.proxy != nil:
		return d.startProxyCommand(ctx)
	}
	for attempt := 1; ; attempt++ {
		conn, err := repeat(ctx, func(ctx context.Context) (net.Conn, error) { return dialTCP(ctx, h) })
		if tcp, ok := conn.(*net.TCPConn); ok {
			netwatch.LimitUnsent(tcp, maxUnsent)
		}
		if err == nil || attempt >= h.ConnectionAttempts {
			return conn, err
		}
		timer := time.NewTimer(attemptPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// dialTCP connects to the first address of h that answers. net.Dialer races the two address
// families only, so that an address that swallows packets would hold up all others of its family.
func dialTCP(ctx context.Context, h *sshconfig.Host) (net.Conn, error) {
	network := map[string]string{"inet": "ip4", "inet6": "ip6"}[h.AddressFamily]
	if network == "" {
		network = "ip"
	}
	addrs, err := lookup(ctx, network, h.HostName)
	if err != nil {
		return nil, err
	}
	var local []netip.Addr
	if h.BindAddress != "" && h.BindAddress != "*" {
		if local, err = lookup(ctx, network, h.BindAddress); err != nil {
			return nil, fmt.Errorf("BindAddress: %w", err)
		}
	}
	var dials []func(context.Context) (net.Conn, error)
	for _, addr := range interleave(addrs) {
		d := net.Dialer{}
		if !h.TCPKeepAlive {
			d.KeepAlive = -1
		}
		if local != nil {
			if d.LocalAddr = sameFamily(local, addr); d.LocalAddr == nil {
				continue
			}
		}
		target := netip.AddrPortFrom(addr, uint16(h.Port)).String()
		dials = append(dials, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", target) })
	}
	if len(dials) == 0 {
		return nil, fmt.Errorf("no address of %s has the address family of BindAddress %s", h.HostName, h.BindAddress)
	}
	return race(ctx, dials)
}

// lookup returns the addresses of a name, or the address that it is. The network is ip, ip4 or ip6.
// An IPv6 address keeps its zone, which Resolver.LookupNetIP drops.
func lookup(ctx context.Context, network, name string) ([]netip.Addr, error) {
	resolver := new(net.Resolver) // those who share one share its lookups that hang
	if network == "ip4" {
		return resolver.LookupNetIP(ctx, network, name)
	}
	found, err := resolver.LookupIPAddr(ctx, name)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, f := range found {
		if addr, ok := netip.AddrFromSlice(f.IP); ok && (network == "ip" || !addr.Unmap().Is4()) {
			addrs = append(addrs, addr.Unmap().WithZone(f.Zone))
		}
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no IPv6 address", Name: name, IsNotFound: true}
	}
	return addrs, nil
}

// interleave orders addresses so that the two families alternate, beginning with that of the first
// address (RFC 8305 section 4).
func interleave(addrs []netip.Addr) []netip.Addr {
	var families [2][]netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		family := 0
		if a.Is4() != addrs[0].Unmap().Is4() {
			family = 1
		}
		families[family] = append(families[family], a)
	}
	var all []netip.Addr
	for i := range addrs {
		for _, f := range families {
			if i < len(f) {
				all = append(all, f[i])
			}
		}
	}
	return all
}

// sameFamily returns the first of local that can be bound for a connection to remote; nil if there
// is none.
func sameFamily(local []netip.Addr, remote netip.Addr) net.Addr {
	for _, a := range local {
		if a = a.Unmap(); a.Is4() == remote.Is4() {
			return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
		}
	}
	return nil
}

// repeat returns the first connection of dial, which it calls again as long as none has ended. What
// was sent while the machine had no network is lost, and TCP and resolvers repeat it after pauses
// that grow. So a new dial finds the network when it is back, and one that is under way may not.
// When repeat returns, all dials have ended.
func repeat(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialResult)
	timer := time.NewTimer(0) // the first one starts at once
	defer timer.Stop()
	var started []context.CancelFunc // the latest dials, of which some may have ended
	for running := 0; ; {
		select {
		case <-timer.C:
			timer.Reset(repeatDelay)
			one, end := context.WithCancel(ctx)
			if started = append(started, end); len(started) > maxRepeats {
				started[0]()
				started = started[1:]
			}
			running++
			go func() { // ends with the dial, which ctx bounds; repeat waits for the result
				conn, err := dial(one)
				results <- dialResult{conn, err}
			}()
		case r := <-results:
			running--
			if r.err != nil && running > 0 {
				continue
			}
			cancel()
			drop(results, running)
			return r.conn, r.err
		}
	}
}

// dialResult is the result of one of several dials.
type dialResult struct {
	conn net.Conn
	err  error
}

// drop waits for n more results, and closes their connections.
func drop(results <-chan dialResult, n int) {
	for range n {
		if late := <-results; late.conn != nil {
			late.conn.Close()
		}
	}
}

// race returns the first connection of several dials. It starts a dial when the dial before has
// failed or is addressDelay old. When race returns, all dials have ended.
func race(ctx context.Context, dials []func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialResult)
	timer := time.NewTimer(0) // the first one starts at once
	defer timer.Stop()
	running := 0
	var failed []error
	for running > 0 || len(dials) > 0 {
		next := timer.C
		if len(dials) == 0 {
			next = nil
		}
		select {
		case <-next:
			dial := dials[0]
			dials = dials[1:]
			running++
			go func() { // ends with the dial, which ctx bounds; race waits for the result
				conn, err := dial(ctx)
				results <- dialResult{conn, err}
			}()
			timer.Reset(addressDelay)
		case r := <-results:
			running--
			if r.err != nil {
				failed = append(failed, r.err)
				if ctx.Err() != nil {
					dials = nil
				}
				timer.Reset(0)
				continue
			}
			cancel()
			drop(results, running)
			return r.conn, nil
		}
	}
	return nil, oneLine(failed)
}

// oneLine joins errors as errors.Join does, but its text has one line.
func oneLine(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return &joined{errs}
}

type joined struct{ errs []error }

func (j *joined) Unwrap() []error { return j.errs }
func (j *joined) Error() string {
	texts := make([]string, len(j.errs))
	for i, err := range j.errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

const (
	// chunkSize is the largest packet that x/crypto takes or gives at once, in bytes.
	chunkSize = 32 << 10
	// readAheadMin is the size of a Read from which on more is expected, in bytes. It is the size
	// of x/crypto's buffer.
	readAheadMin = 4 << 10
	// readAheadMax is the most that is read at once, in bytes: a few of the largest packets.
	readAheadMax = 4 * chunkSize
)

// readAheadConn reads several packets at once while there is much to read. x/crypto alone needs two
// reads for each packet. Read must not be called concurrently.
type readAheadConn struct {
	net.Conn
	// buf is nil while little comes.
	buf []byte
	// ahead is the part of buf that Read has not returned yet.
	ahead []byte
}

func (c *readAheadConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		if c.buf == nil {
			n, err := c.Conn.Read(p)
			if n >= readAheadMin && n == len(p) {
				c.buf = make([]byte, readAheadMax)
			}
			return n, err
		}
		n, err := c.Conn.Read(c.buf)
		if c.ahead = c.buf[:n]; n < readAheadMin {
			c.buf = nil // an idle connection needs none
		}
		if n == 0 {
			return 0, err
		}
		// An error that came with data comes again at the next Read.
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}
