package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
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

// rootCAs returns the system's roots and those of caFile. It returns nil, which stands for the
// system's roots alone, if caFile is empty. The error is a *cli.UsageError.
func rootCAs(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := cli.ReadFile(caFile, maxRoots)
	if err != nil {
		return nil, &cli.UsageError{
			Text:  "CA file: " + err.Error(),
			Hints: []string{"--ca-file (SALLYPORT_CA_FILE) names a file of PEM certificates"},
		}
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		// A bare container has no roots. The file alone may do.
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, &cli.UsageError{
			Text:  fmt.Sprintf("CA file %s holds no PEM certificate", caFile),
			Hints: []string{"a DER file is converted by: openssl x509 -inform der -in FILE -out FILE.pem"},
		}
	}
	return pool, nil
}

// tlsConfig returns what the TLS connections of a session have in common.
func tlsConfig(roots *x509.CertPool, certificate *clientCertificate) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, GetClientCertificate: certificate.present}
}

// newTransport carries requests over connections of dial. If proxy is nil, it uses no HTTP proxy.
// It sets no limit on a response, which may be a stream that lasts for days.
func newTransport(dial dialFunc, proxy func(*http.Request) (*url.URL, error), config *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:         dial,
		Proxy:               proxy,
		TLSClientConfig:     config.Clone(), // net/http writes to it
		TLSHandshakeTimeout: tlsTimeout,
		ForceAttemptHTTP2:   true, // net/http leaves HTTP/2 out if DialContext is set
		MaxIdleConns:        maxIdleConns,
		MaxIdleConnsPerHost: maxIdleConns,
		IdleConnTimeout:     90 * time.Second,

		MaxResponseHeaderBytes: maxHeader,
		// A connection may die in silence, as during a laptop's sleep. A ping finds that out.
		// Without it every later request would use the dead connection.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}

// DirectTransport carries requests of a command that has no session. It trusts the system's roots.
func DirectTransport(env environment.Environment) *http.Transport { return directTransport(env, nil) }

// directTransport carries requests from this machine, through the proxy of HTTPS_PROXY or
// HTTP_PROXY unless NO_PROXY excepts the host.
func directTransport(env environment.Environment, config *tls.Config) *http.Transport {
	choose := env.Proxies()
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := directDialer().DialContext(ctx, network, addr)
		if err != nil {
			// The route auto must know that nothing of the request was sent.
			return nil, &DialError{err}
		}
		return conn, nil
	}
	t := newTransport(dial, func(req *http.Request) (*url.URL, error) { return choose(req.URL) }, config)
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
