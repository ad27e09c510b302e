package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"
)

const (
	directDialTimeout = 15 * time.Second
	tlsTimeout        = 15 * time.Second
	maxIdleConns      = 64 // as many as calls that a busy host keeps in flight
)

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// rootCAs are the system's roots and those of caFile; nil means the system's alone.
func rootCAs(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, &usageError{text: "CA file: " + err.Error(), hints: []string{"--ca-file (SALLYPORT_CA_FILE) names a file of PEM certificates"}}
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, &usageError{text: fmt.Sprintf("CA file %s holds no PEM certificate", caFile), hints: []string{"a DER file is converted by: openssl x509 -inform der -in FILE -out FILE.pem"}}
	}
	return pool, nil
}

// newTransport carries requests over connections of dial; proxy is nil where none may be used.
// It sets no limit on a response, which may be a stream that lasts for days.
func newTransport(dial dialFunc, proxy func(*http.Request) (*url.URL, error), roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DialContext:         dial,
		Proxy:               proxy,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: tlsTimeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        maxIdleConns,
		MaxIdleConnsPerHost: maxIdleConns,
		IdleConnTimeout:     90 * time.Second,
		// A connection that died in silence, as in a laptop's sleep, is found by a ping; without, it
		// would be used for every later request.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}

// dialError marks an error of the dial itself: nothing of the request has left this machine.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// directTransport goes out from this machine, through the proxy of HTTPS_PROXY or HTTP_PROXY
// unless NO_PROXY excepts the host.
func directTransport(env environment, roots *x509.CertPool) *http.Transport {
	either := func(name, lower string) string {
		if value := env.Getenv(name); value != "" {
			return value
		}
		return env.Getenv(lower)
	}
	choose := (&httpproxy.Config{
		HTTPProxy:  either("HTTP_PROXY", "http_proxy"),
		HTTPSProxy: either("HTTPS_PROXY", "https_proxy"),
		NoProxy:    either("NO_PROXY", "no_proxy"),
	}).ProxyFunc()
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := directDialer().DialContext(ctx, network, addr)
		if err != nil {
			return nil, &dialError{err}
		}
		return conn, nil
	}
	t := newTransport(dial, func(req *http.Request) (*url.URL, error) { return choose(req.URL) }, roots)
	t.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, connect *http.Request, resp *http.Response) error {
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		return &dialError{&proxyError{proxy: proxy.Host, addr: connect.Host, status: resp.StatusCode}}
	}
	return t
}

func directDialer() *net.Dialer {
	return &net.Dialer{Timeout: directDialTimeout, KeepAlive: 30 * time.Second}
}

// proxyError is the refusal of an HTTP proxy to connect: as with a failed dial, nothing of the
// request itself has left this machine.
type proxyError struct {
	proxy, addr string
	status      int
}

func (e *proxyError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("proxy %s refuses to connect to %s: status %d %s", e.proxy, e.addr, e.status, http.StatusText(e.status)))
}

// directThenVia sends a request directly, and through the tunnel where the direct dial itself
// fails: an authorization server may be reachable from one side only. The way that worked is kept
// for the origin. A request is never sent twice.
type directThenVia struct {
	direct, via http.RoundTripper

	mu      sync.Mutex
	viaOnly map[string]bool // origins whose direct dial failed
}

func (d *directThenVia) RoundTrip(req *http.Request) (*http.Response, error) {
	origin := req.URL.Scheme + "://" + req.URL.Host
	if d.usesVia(origin) {
		return d.via.RoundTrip(req)
	}
	again := req
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return d.direct.RoundTrip(req)
		}
		body, err := req.GetBody() // RoundTrip closes the first one, sent or not
		if err != nil {
			return nil, err
		}
		again = req.Clone(req.Context())
		again.Body = body
	}
	resp, err := d.direct.RoundTrip(req)
	if err == nil || !isDialError(err) || req.Context().Err() != nil {
		if again != req {
			again.Body.Close()
		}
		return resp, err
	}
	resp, viaErr := d.via.RoundTrip(again)
	if viaErr != nil {
		return nil, fmt.Errorf("directly: %w; through SSH: %w", err, viaErr)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.viaOnly[origin] = true
	return resp, nil
}

func (d *directThenVia) usesVia(origin string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.viaOnly[origin]
}

func isDialError(err error) bool {
	_, ok := errors.AsType[*dialError](err)
	return ok
}
