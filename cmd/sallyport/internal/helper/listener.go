package helper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// followTimeout bounds how long a new link may take.
const followTimeout = 30 * time.Second

// listener is what Logins.Listen returns. Its connections come from this process, and from those
// listeners that were added by feed.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	onEnd  func()
	once   sync.Once

	// mu guards what follows.
	mu sync.Mutex
	// addr is host:port of the redirect URI.
	addr string
	// fed are the listeners that were added.
	fed []net.Listener
}

func newListener(addr string, onEnd func()) *listener {
	return &listener{conns: make(chan net.Conn), closed: make(chan struct{}), onEnd: onEnd, addr: addr}
}

// Accept returns the next connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept, and closes the listeners that were added.
func (l *listener) Close() error {
	var errs []error
	l.once.Do(func() {
		close(l.closed)
		l.mu.Lock()
		fed := l.fed
		l.mu.Unlock()
		for _, one := range fed {
			errs = append(errs, one.Close())
		}
		l.onEnd()
	})
	return errors.Join(errs...)
}

// Addr returns the address of the redirect URI, which another machine may hold.
func (l *listener) Addr() net.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return textAddr(l.addr)
}

// HoldsElsewhere reports whether Addr may have another port than the login has asked for.
func (l *listener) HoldsElsewhere() bool { return true }

func (l *listener) setAddr(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addr = addr
}

// isBound reports whether a port of this machine is bound.
func (l *listener) isBound() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.fed) > 0
}

// feed adds the connections of another listener, which Close closes. It closes that at once, and
// reports false, if this one is closed.
func (l *listener) feed(from net.Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		from.Close()
		return false
	default:
	}
	l.fed = append(l.fed, from)
	go func() { // ends with from, which Close closes
		for {
			conn, err := from.Accept()
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				select {
				case <-time.After(100 * time.Millisecond): // as with too many open files
					continue
				case <-l.closed:
					return
				}
			}
			l.give(context.Background(), conn)
		}
	}()
	return true
}

// give hands a connection to Accept, or closes it.
func (l *listener) give(ctx context.Context, conn net.Conn) error {
	select {
	case l.conns <- conn:
		return nil
	case <-l.closed:
		conn.Close()
		return net.ErrClosed
	case <-ctx.Done():
		conn.Close()
		return context.Cause(ctx)
	}
}

// dial connects to this process.
func (l *listener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	if err := l.give(ctx, theirs); err != nil {
		ours.Close()
		return nil, err
	}
	return ours, nil
}

// follow visits a page of our own that leads to the login page, and returns the link. The error
// holds no part of the link.
func (l *listener) follow(ctx context.Context, start string) (string, error) {
	ctx, cancel := runningTimeout(ctx, followTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, start, nil)
	if err != nil {
		return "", errors.New("the page that leads to the login cannot be asked for")
	}
	resp, err := (&http.Transport{DialContext: l.dial, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("the page that leads to the login: %w", err)
	}
	defer resp.Body.Close()
	link := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusSeeOther || link == "" {
		return "", fmt.Errorf("the page that leads to the login: status %d", resp.StatusCode)
	}
	return link, nil
}

// textAddr is host:port.
type textAddr string

// Network returns tcp.
func (textAddr) Network() string { return "tcp" }

// String returns host:port.
func (a textAddr) String() string { return string(a) }
