package farbrowser

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

const (
	// maxConns is how many connections the browser may have. Chromium opens 32 to a proxy.
	maxConns = 256
	// headerTimeout bounds the wait for a request's header.
	headerTimeout = 10 * time.Second
	// maxHeader is how many bytes a header may have, in either direction.
	maxHeader = 64 << 10
)

// proxy is an HTTP proxy for one login. It serves the person's PAC file, too. It ends with the
// context that it was made with.
type proxy struct {
	sides *sides
	// until is when the person's PAC file stops to name this proxy.
	until time.Time
	// pacPath is the path of the person's PAC file.
	pacPath string
	// asked is closed when a browser has asked for the host of the login page.
	asked chan struct{}
	once  sync.Once
	// plain forwards requests that are not encrypted.
	plain *httputil.ReverseProxy
	log   *slog.Logger
	// ctx ends the connections.
	ctx context.Context
}

// newProxy returns a proxy that connects by sides. It listens nowhere yet.
func newProxy(ctx context.Context, s *sides, until time.Time, log *slog.Logger) *proxy {
	transport := &http.Transport{
		DialContext: s.dial, DisableCompression: true, MaxResponseHeaderBytes: maxHeader, IdleConnTimeout: time.Minute,
		MaxIdleConns: 32,
	}
	context.AfterFunc(ctx, transport.CloseIdleConnections)
	p := &proxy{sides: s, until: until, pacPath: "/" + rand.Text() + "/proxy.pac", asked: make(chan struct{}), log: log, ctx: ctx}
	p.plain = &httputil.ReverseProxy{
		// A proxy forwards the query as it is. ReverseProxy drops parts that it cannot parse.
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.Host, r.Out.URL.RawQuery = r.In.URL.Host, r.In.URL.RawQuery },
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      discardLog(),
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, err error) { p.refuse(w, err) },
	}
	return p
}

// serve listens on a port of 127.0.0.1, where 0 is any, and returns host:port and what ends it. The
// context of the proxy ends it, too. The error says that the port is taken, or that this system
// does not tell who connects although it should.
func (p *proxy) serve(port int) (addr string, stop func(), err error) {
	tcp, err := listenPort(p.ctx, port)
	if err != nil {
		return "", nil, err
	}
	listener, err := newOwnListener(tcp, p.log)
	if err != nil {
		tcp.Close()
		return "", nil, err
	}
	server := &http.Server{
		Handler: p, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeader, IdleTimeout: time.Minute,
		ErrorLog: discardLog(),
	}
	go server.Serve(listener) // ends with stop
	stopWaiting := context.AfterFunc(p.ctx, func() { server.Close() })
	return tcp.Addr().String(), func() { stopWaiting(); server.Close() }, nil
}

// discardLog is for parts of net/http that would write to stderr.
func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		p.connect(w, r)
	case r.URL.Host != "":
		p.forward(w, r)
	default:
		p.servePAC(w, r)
	}
}

// servePAC answers a request to the proxy itself.
func (p *proxy) servePAC(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", pacType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	// A page of another site must not read the file under a name of its own (DNS rebinding).
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || r.Host != local.String() || r.URL.Path != p.pacPath {
		http.Error(w, "not here", http.StatusNotFound)
		return
	}
	io.WriteString(w, pacForPerson(r.Host, append(p.sides.learned(), p.sides.login), p.until))
}

// note notes that a browser asks for a host.
func (p *proxy) note(host string) {
	if canonical(host) == p.sides.login {
		p.once.Do(func() { close(p.asked) })
	}
}

// errPlain refuses a request that is not encrypted. Over TLS, a host that a page has no business
// with has no certificate for the name that the page uses. In the clear nothing protects it, and a
// browser behind a proxy does not notice that a page asks for a private address.
var errPlain = errors.New("without TLS only the login server itself is reached through this connection")

// forward carries a request that is not encrypted.
func (p *proxy) forward(w http.ResponseWriter, r *http.Request) {
	if r.URL.Scheme != "http" || canonical(r.URL.Hostname()) != p.sides.login {
		p.refuse(w, errPlain)
		return
	}
	p.note(p.sides.login)
	p.plain.ServeHTTP(w, r)
}

// refuse answers a request that could not be carried. Browsers do not show the text for https.
func (p *proxy) refuse(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway
	if _, ok := errors.AsType[*AddressError](err); ok || errors.Is(err, errPlain) {
		status = http.StatusForbidden
	}
	p.log.Debug("the local proxy refuses a request of the browser", "err", err)
	http.Error(w, "sallyport: "+err.Error(), status)
}

// connect carries a connection of CONNECT (RFC 9110 section 9.3.6).
func (p *proxy) connect(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.RequestURI)
	if err != nil {
		p.refuse(w, err)
		return
	}
	p.note(host)
	there, err := p.sides.dial(r.Context(), "tcp", r.RequestURI)
	if err != nil {
		p.refuse(w, err)
		return
	}
	defer there.Close()
	browser, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer browser.Close()
	stop := context.AfterFunc(p.ctx, func() { browser.Close(); there.Close() })
	defer stop()
	if _, err := io.WriteString(browser, "HTTP/1.1 200 Connected\r\n\r\n"); err != nil {
		return
	}
	// A WebSocket of ws: is not encrypted and uses CONNECT as well.
	if canonical(host) != p.sides.login && !beginsTLS(buffered.Reader) {
		p.log.Debug("the local proxy ends a connection", "addr", r.RequestURI, "err", errPlain)
		return
	}
	join(&fromBuffer{browser, buffered.Reader}, there)
}

// beginsTLS waits for the first byte, and reports whether it is that of a TLS handshake (RFC 8446
// section 5.1).
func beginsTLS(r *bufio.Reader) bool {
	const handshake = 22
	b, err := r.Peek(1)
	return err == nil && b[0] == handshake
}

// fromBuffer is a connection of which the first bytes were read already.
type fromBuffer struct {
	net.Conn
	r *bufio.Reader
}

// Read implements io.Reader.
func (c *fromBuffer) Read(b []byte) (int, error) { return c.r.Read(b) }

// CloseWrite tells the peer that nothing more follows.
func (c *fromBuffer) CloseWrite() error { return closeWrite(c.Conn) }

// closeWrite ends one direction of a connection, or both if it cannot do that.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// join copies in both directions until both have ended. The caller closes the connections.
func join(a, b net.Conn) {
	var wg sync.WaitGroup
	one := func(to, from net.Conn) {
		if _, err := io.Copy(to, from); err != nil {
			// One that broke ends both. Otherwise the other direction would wait for ever.
			to.Close()
			from.Close()
			return
		}
		closeWrite(to)
	}
	wg.Go(func() { one(a, b) })
	wg.Go(func() { one(b, a) })
	wg.Wait()
}
