package callback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/oauth/loopback"
	"sallyport/oauth/procnet"
)

const (
	headerTimeout  = 10 * time.Second // for the header of a browser's request
	maxHeaderBytes = 16 << 10
	lastPageTime   = 2 * time.Second // for the browser to get the last answer of a port
	freePortTries  = 20              // for a port that is free on both addresses
)

// loopback4 and loopback6 are the addresses that localhost stands for. A browser may try either.
const loopback4, loopback6 = "127.0.0.1", "::1"

// portTable holds the ports that are in use here. Each is held as long as somebody needs it.
type portTable struct {
	// handler returns what answers the requests to a port.
	handler func(number int) http.Handler

	mu    sync.Mutex
	ports map[int]*port
	// closing are the servers that send their last answers.
	closing sync.WaitGroup
}

// port is one port that is held. The fields are guarded by the table's lock.
type port struct {
	number int
	// listeners are those by the address. One is missing if the machine lacks IPv6, or if another
	// program holds that address and no browser goes there.
	listeners map[string]net.Listener
	server    *http.Server
	// uses is how many hold the port.
	uses int
}

// wanted is a port that is to be held.
type wanted struct {
	// number is the port. 0 is any that is free.
	number int
	// host is the host of the redirect URI. A browser may go to both addresses of localhost.
	host string
	// fixed says that no other port will do.
	fixed bool
}

// wantedBy returns the port of a redirect URI, which checkRedirect returned.
func wantedBy(redirect *url.URL, fixed bool) wanted {
	number, _ := strconv.Atoi(redirect.Port())
	return wanted{number: number, host: strings.ToLower(redirect.Hostname()), fixed: fixed}
}

// hold holds a port until release. The error is a *PortError.
func (t *portTable) hold(ctx context.Context, w wanted) (*port, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.ports[w.number]; p != nil && p.serves(w.host) {
		p.uses++
		return p, nil
	}
	listeners, err := listen(ctx, w)
	if err != nil {
		return nil, err
	}
	p := &port{listeners: listeners, uses: 1}
	for _, l := range listeners {
		p.number = l.Addr().(*net.TCPAddr).Port
	}
	p.server = &http.Server{
		Handler: t.handler(p.number), ReadHeaderTimeout: headerTimeout, IdleTimeout: headerTimeout,
		MaxHeaderBytes: maxHeaderBytes, ConnContext: loopback.WithConn, ErrorLog: log.New(io.Discard, "", 0),
	}
	p.server.SetKeepAlivesEnabled(false) // a browser comes once or twice
	for _, l := range listeners {
		t.closing.Go(func() { p.server.Serve(limit(l)) }) // ends with release
	}
	t.ports[p.number] = p
	return p, nil
}

// release ends a hold.
func (t *portTable) release(p *port) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.uses--; p.uses > 0 {
		return
	}
	delete(t.ports, p.number)
	for _, l := range p.listeners {
		l.Close() // now: another program may want the port at once
	}
	t.closing.Go(func() { // ends within lastPageTime
		ctx, cancel := context.WithTimeout(context.Background(), lastPageTime)
		defer cancel()
		if p.server.Shutdown(ctx) != nil {
			p.server.Close()
		}
	})
}

// serves reports whether the port answers wherever a browser looks for host.
func (p *port) serves(host string) bool {
	for _, addr := range addressesOf(host) {
		if _, ok := p.listeners[addr]; !ok && (addr == loopback4 || hasIPv6()) {
			return false
		}
	}
	return true
}

// addressesOf returns the addresses that a browser may try for the host of a redirect URI.
func addressesOf(host string) []string {
	if host == loopback4 || host == loopback6 {
		return []string{host}
	}
	return []string{loopback4, loopback6}
}

// hasIPv6 reports whether this machine has the address ::1.
func hasIPv6() bool {
	l, err := net.Listen("tcp", net.JoinHostPort(loopback6, "0"))
	if err == nil {
		l.Close()
	}
	return err == nil
}

// listen binds a port on both addresses. If only one can be had, that will do for a fixed port
// whose redirect URI names that address.
func listen(ctx context.Context, w wanted) (map[string]net.Listener, error) {
	if w.number == 0 {
		return listenAnywhere(ctx)
	}
	found := map[string]net.Listener{}
	var failed *PortError
	for _, addr := range []string{loopback4, loopback6} {
		at := net.JoinHostPort(addr, strconv.Itoa(w.number))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
		switch {
		case err == nil:
			found[addr] = l
		case addr == loopback6 && !hasIPv6():
		case failed == nil:
			failed = &PortError{Addr: at, Err: systemError(err)}
		}
	}
	if failed == nil {
		return found, nil
	}
	if need := addressesOf(w.host); w.fixed && len(need) == 1 && found[need[0]] != nil {
		return found, nil
	}
	for _, l := range found {
		l.Close() // before the holder is looked for, which is not us
	}
	failed.Holder = holderOf(w.number)
	return nil, failed
}

// listenAnywhere binds a port that is free on both addresses.
func listenAnywhere(ctx context.Context) (map[string]net.Listener, error) {
	var failed error
	for range freePortTries {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(loopback4, "0"))
		if err != nil {
			return nil, &PortError{Addr: net.JoinHostPort(loopback4, "0"), Err: systemError(err)}
		}
		other := net.JoinHostPort(loopback6, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
		l6, err := new(net.ListenConfig).Listen(ctx, "tcp", other)
		if err == nil {
			return map[string]net.Listener{loopback4: l, loopback6: l6}, nil
		}
		if !hasIPv6() {
			return map[string]net.Listener{loopback4: l}, nil
		}
		l.Close()
		failed = &PortError{Addr: other, Err: systemError(err)}
	}
	return nil, failed
}

// systemError returns the system's own error, without the address that PortError says already.
func systemError(err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Err
	}
	return err
}

// holderOf says who holds a port of this machine, or nothing if the system does not tell. It is
// called when we do not hold it.
func holderOf(number int) string {
	text := strconv.Itoa(number)
	var parts []string
	if pid, command := procnet.Holder(text); pid != 0 {
		parts = append(parts, fmt.Sprintf("process %d (%s)", pid, shown(command)))
	}
	if uid := procnet.HolderUser(text); uid != "" && uid != strconv.Itoa(os.Getuid()) {
		parts = append(parts, userName(uid))
	}
	return strings.Join(parts, " of ")
}

// userName returns the number of a user, and the name if the system knows it.
func userName(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return fmt.Sprintf("user %s (%s)", uid, shown(u.Username))
	}
	return "user " + uid
}

// PortError says that a port of this machine could not be bound.
type PortError struct {
	// Addr is the address, as 127.0.0.1:53682.
	Addr string
	// Holder says who holds the port. It is empty if the system does not tell.
	Holder string
	// Err is the system's error.
	Err error
}

// Error names the port and, if possible, its holder.
func (e *PortError) Error() string {
	text := fmt.Sprintf("callback port %s: %v", e.Addr, e.Err)
	if e.Holder != "" {
		text += ", held by " + e.Holder
	}
	return text
}

// Unwrap returns the system's error.
func (e *PortError) Unwrap() error { return e.Err }
