package farbrowser

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"sync"

	"sallyport/cmd/sallyport/internal/environment"
)

// Exit is a way out of this machine for a browser on another one, which shows the login page of a
// login of this machine. It connects to hosts by the rules of the local proxy: from this machine,
// and through the far side where that fails; to host names alone; and to nothing that is this
// machine. Only the login server may be that, or an address. Its methods may be called
// concurrently.
type Exit struct {
	far     dialFunc
	proxies func(*url.URL) (*url.URL, error)
	log     *slog.Logger

	// mu guards sides, which are those of the present login server.
	mu    sync.Mutex
	sides *sides
}

// errNoFarSide says that there is no other way than from this machine.
var errNoFarSide = errors.New("there is none")

// NewExit returns an Exit. The function far dials through the far side as net.Dialer.DialContext
// does. It is nil if there is no far side.
func NewExit(far func(ctx context.Context, network, addr string) (net.Conn, error), env environment.Environment, log *slog.Logger) *Exit {
	if far == nil {
		far = func(context.Context, string, string) (net.Conn, error) { return nil, errNoFarSide }
	}
	return &Exit{far: far, proxies: env.Proxies(), log: log}
}

// Dial connects to addr, which is host:port, for the login page link. What is known of the hosts of
// another login server is forgotten.
func (e *Exit) Dial(ctx context.Context, link, addr string) (net.Conn, error) {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" {
		return nil, ErrLink
	}
	host := canonical(u.Hostname())
	e.mu.Lock()
	if e.sides == nil || e.sides.login != host {
		e.sides = newSides(e.far, host, e.log)
		e.sides.proxies, e.sides.ownLogin = e.proxies, true
	}
	s := e.sides
	e.mu.Unlock()
	return s.dial(ctx, "tcp", addr)
}
