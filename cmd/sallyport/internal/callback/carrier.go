package callback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/session"
)

// Limits of one carried callback. Its answer may take as long as a token exchange on the host.
const (
	headerTimeout   = 10 * time.Second
	maxHeaderBytes  = 64 << 10
	callbackTimeout = 2 * time.Minute
)

// Carrier carries callbacks from loopback ports of this machine to its hosts. Its methods are
// called one after the other: Listen, Serve, Close.
type Carrier struct {
	// Hosts are asked in turn. The first one on which this user listens gets the callback.
	Hosts []*Host
	// Explain words an error for people, and reports it to the person.
	Explain func(error) (text string, hints []string)
	// Log must not be nil.
	Log *slog.Logger

	listeners []net.Listener
}

// Listen binds the ports on 127.0.0.1. The error is a *PortError. The caller must call Close.
func (c *Carrier) Listen(ctx context.Context, ports []int) error {
	for _, port := range ports {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return &PortError{Addr: addr, Err: err}
		}
		c.listeners = append(c.listeners, l)
	}
	return nil
}

// Serve carries callbacks until ctx ends. It calls ready for each port.
func (c *Carrier) Serve(ctx context.Context, ready func(port int)) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for _, l := range c.listeners {
		port := l.Addr().(*net.TCPAddr).Port
		server := &http.Server{
			Handler:           c.handler(port),
			ReadHeaderTimeout: headerTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          log.New(io.Discard, "", 0),
		}
		serving.Go(func() { server.Serve(l) }) // ends with server.Close
		defer server.Close()
		ready(port)
	}
	<-ctx.Done()
}

// Close frees the ports.
func (c *Carrier) Close() error {
	var errs []error
	for _, l := range c.listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// handler carries GET requests with a loopback Host to the same port of the first host on which
// this user listens. It refuses everything else.
func (c *Carrier) handler(port int) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: &http.Transport{
			// Each request gets a connection of its own, and so a check of its own.
			DisableKeepAlives:     true,
			DisableCompression:    true,
			ResponseHeaderTimeout: callbackTimeout,
			DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx, port) },
		},
		FlushInterval: -1, // the page of a login grows while the token is fetched
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite:       rewrite,
		ErrorHandler:  c.refuse,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet:
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "only GET is carried", http.StatusMethodNotAllowed)
		case !isOwnHost(r.Host, port):
			http.Error(w, "the Host header is not this loopback port", http.StatusForbidden)
		default:
			ctx, cancel := context.WithTimeout(r.Context(), callbackTimeout)
			defer cancel()
			proxy.ServeHTTP(w, r.WithContext(ctx))
		}
	})
}

func (c *Carrier) dial(ctx context.Context, port int) (net.Conn, error) {
	var errs []error
	for _, host := range c.Hosts {
		conn, err := host.dialOwned(ctx, port)
		if err == nil {
			c.Log.Info("callback carried", "host", host.Name)
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func rewrite(r *httputil.ProxyRequest) {
	r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
	r.Out.Host = r.In.Host // the listener on the host checks it, as the handler here does
	// A browser sends what it keeps for 127.0.0.1 to every port of it.
	r.Out.Header.Del("Cookie")
	r.Out.Header.Del("Authorization")
	r.Out.Header.Del("Upgrade")
}

func (c *Carrier) refuse(w http.ResponseWriter, _ *http.Request, err error) {
	text, hints := c.Explain(err)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusBadGateway)
	fmt.Fprintf(w, "sallyport callback: %s\n", text)
	for _, hint := range hints {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

// isOwnHost reports whether a Host header is that of a browser that really meant this port. A name
// that a web site pointed at 127.0.0.1 (DNS rebinding) is not.
func isOwnHost(hostport string, port int) bool {
	host, p, err := net.SplitHostPort(hostport)
	return err == nil && p == strconv.Itoa(port) && session.IsLoopback(host)
}

// PortError says that a port of this machine could not be bound.
type PortError struct {
	// Addr is the address, as 127.0.0.1:53682.
	Addr string
	// Err is the system's error.
	Err error
}

func (e *PortError) Error() string { return fmt.Sprintf("callback port %s: %v", e.Addr, e.Err) }
func (e *PortError) Unwrap() error { return e.Err }
