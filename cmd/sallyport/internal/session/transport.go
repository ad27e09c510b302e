package session

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/roots"
)

const (
	// directDialTimeout bounds a dial from this machine.
	directDialTimeout = 15 * time.Second
	// tlsTimeout bounds a TLS handshake, which may ride on several hops.
	tlsTimeout = 15 * time.Second
	// maxIdleConns is as many as the calls that a busy MCP host has in flight. With fewer, each
	// burst of calls would begin with new handshakes.
	maxIdleConns = 64
	// maxHeader is how many bytes the header of a response may have. The trailer and each interim
	// response may have as many.
	maxHeader = 256 << 10
	// maxRoots is how long a file of root certificates may be, in bytes. That of a system has some
	// 200 KiB.
	maxRoots = 16 << 20
)

// dialFunc opens a connection as net.Dialer.DialContext does.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// openRoots returns the system's roots and those of caFile, which may be empty. The error is a
// *cli.UsageError.
func openRoots(env environment.Environment, caFile string) (*roots.Roots, error) {
	if caFile == "" {
		return roots.New(env.Getenv, nil)
	}
	pem, err := cli.ReadFile(caFile, maxRoots)
	if err != nil {
		return nil, &cli.UsageError{
			Text:  "CA file: " + err.Error(),
			Hints: []string{"--ca-file (SALLYPORT_CA_FILE) names a file of PEM certificates"},
		}
	}
	all, err := roots.New(env.Getenv, pem)
	if err != nil {
		return nil, &cli.UsageError{
			Text:  fmt.Sprintf("CA file %s holds %v", caFile, err),
			Hints: []string{"a DER file is converted by: openssl x509 -inform der -in FILE -out FILE.pem"},
		}
	}
	return all, nil
}

// security is what the TLS connections of a session have in common.
type security struct {
	roots *roots.Roots
	// config says nothing of roots. net/http adds the protocols.
	config *tls.Config
}

// secure returns the security of a session. The certificate may be nil.
func secure(all *roots.Roots, certificate *clientCertificate) security {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if certificate != nil {
		config.GetClientCertificate = certificate.present
	}
	return security{all, config}
}

// handshake makes a TLS connection with addr, which conn leads to. It closes conn if it fails. ctx
// bounds the call alone.
func (s security) handshake(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, tlsTimeout, errHandshakeTimeout)
	defer cancel()
	host := addr[:max(0, strings.LastIndexByte(addr, ':'))] // as net/http does; an IPv6 address keeps its brackets
	secured := s.roots.Client(conn, host, s.config)
	err := secured.HandshakeContext(ctx)
	if err == nil {
		return secured, nil
	}
	conn.Close()
	if errors.Is(err, context.DeadlineExceeded) && context.Cause(ctx) == errHandshakeTimeout {
		return nil, errHandshakeTimeout
	}
	return nil, err
}

// errHandshakeTimeout ends a TLS handshake that takes longer than tlsTimeout.
var errHandshakeTimeout error = handshakeTimeout{}

// handshakeTimeout words what net/http says of such a handshake, and in the same way.
type handshakeTimeout struct{}

// Error implements error.
func (handshakeTimeout) Error() string { return "net/http: TLS handshake timeout" }

// Timeout implements net.Error.
func (handshakeTimeout) Timeout() bool { return true }

// Temporary implements net.Error.
func (handshakeTimeout) Temporary() bool { return true }

// transport is an http.Transport that verifies TLS servers by package roots. Behind an HTTP proxy
// net/http makes the connection with the upstream, and crypto/tls verifies it.
type transport struct {
	*http.Transport
	security
}

// newTransport carries requests over connections of dial. If proxy is nil, it uses no HTTP proxy.
// It sets no limit on a response, which may be a stream that lasts for days.
func newTransport(dial dialFunc, proxy func(*http.Request) (*url.URL, error), s security) *transport {
	t := &transport{&http.Transport{
		Proxy:               proxy,
		TLSClientConfig:     s.config.Clone(), // net/http writes to it
		TLSHandshakeTimeout: tlsTimeout,
		ForceAttemptHTTP2:   true, // net/http leaves HTTP/2 out if DialContext is set
		MaxIdleConns:        maxIdleConns,
		MaxIdleConnsPerHost: maxIdleConns,
		IdleConnTimeout:     90 * time.Second,

		MaxResponseHeaderBytes: maxHeader,
		// A connection may die in silence, as during a laptop's sleep. A ping finds that out.
		// Without it every later request would use the dead connection.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}, s}
	t.dialBy(dial)
	return t
}

// dialBy makes t open its connections by dial, also those of TLS.
func (t *transport) dialBy(dial dialFunc) {
	t.DialContext = dial
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return t.handshake(ctx, conn, addr)
	}
}

// DirectTransport carries requests of a command that has no session. It trusts the system's roots.
func DirectTransport(env environment.Environment) *http.Transport {
	all, _ := openRoots(env, "") // a file alone can be wrong
	return directTransport(env, secure(all, nil)).Transport
}

// directTransport carries requests from this machine, through the proxy of HTTPS_PROXY or
// HTTP_PROXY unless NO_PROXY excepts the host.
func directTransport(env environment.Environment, s security) *transport {
	choose := env.Proxies()
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := directDialer().DialContext(ctx, network, addr)
		if err != nil {
			// The route auto must know that nothing of the request was sent.
			return nil, &DialError{err}
		}
		return conn, nil
	}
	t := newTransport(dial, func(req *http.Request) (*url.URL, error) { return choose(req.URL) }, s)
	if cmp.Or(env.Getenv("HTTPS_PROXY"), env.Getenv("https_proxy")) != "" {
		t.TLSClientConfig.RootCAs = s.roots.Pool()
	}
	t.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, connect *http.Request, resp *http.Response) error {
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		return &DialError{&ProxyError{Proxy: proxy.Host, Addr: connect.Host, Status: resp.StatusCode}}
	}
	return t
}

// directDialer returns the dialer of this machine. Its keepalive probes keep the entry of a NAT
// alive while a stream is idle.
func directDialer() *net.Dialer {
	return &net.Dialer{Timeout: directDialTimeout, KeepAlive: 30 * time.Second}
}

// DialError is an error of the dial itself: nothing of the request has left this machine.
type DialError struct {
	// Err is the error of the dialer.
	Err error
}

// Error is that of the dialer, which names the address already.
func (e *DialError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *DialError) Unwrap() error { return e.Err }

// isDialError reports whether err means that nothing of the request was sent.
func isDialError(err error) bool {
	_, ok := errors.AsType[*DialError](err)
	return ok
}

// ProxyError is the refusal of an HTTP proxy to connect. As after a failed dial, nothing of the
// request has left this machine.
type ProxyError struct {
	// Proxy is host:port of the proxy.
	Proxy string
	// Addr is host:port of the server that was asked for.
	Addr string
	// Status is the proxy's HTTP status.
	Status int
}

// Error names the proxy, because people forget that one is set.
func (e *ProxyError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("proxy %s refuses to connect to %s: status %d %s",
		e.Proxy, e.Addr, e.Status, http.StatusText(e.Status)))
}
