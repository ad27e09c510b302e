package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
)

// upstreamRows makes the rows of the way to the upstream.
type upstreamRows struct{ *walk }

// meetLimit bounds the first request to the upstream.
const meetLimit = 20 * time.Second

// meeting is what the first request to the upstream met.
type meeting struct {
	mu sync.Mutex
	// addresses are those of the name, and dns is why there are none.
	addresses []string
	dns       error
	// peer is where the connection led.
	peer string
	// tls is that of the connection, as far as it came.
	tls *tls.ConnectionState
	// status, date and server are of the answer. The status is 0 without one.
	status int
	date   time.Time
	server string
	// asked and answered are when the request was sent and the answer came.
	asked, answered time.Time
	// err is why there is no answer.
	err error
}

// tell sends one request without a token, and makes the rows of the way to the upstream.
func (w upstreamRows) tell(ctx context.Context) {
	direct := []string{idProxy, idName, idTCP}
	if w.s == nil {
		w.skipAll(w.why, append(direct, idTLS, idHTTP, idClock)...)
		return
	}
	if len(w.chains) > 0 && w.chains[0].prefix == viaPrefix {
		w.skip(idProxy, "no HTTP proxy is used through SSH")
		if !w.reached() {
			w.skipAll("the upstream is not reached", idTLS, idHTTP, idClock)
			return
		}
		w.begin(idTLS)
		w.met = w.meet(ctx)
	} else {
		w.begin(idName)
		w.met = w.meet(ctx)
		w.tellDirect()
	}
	w.tellTLS()
	w.tellHTTP()
	w.tellClock()
}

// meet sends one GET to the upstream.
func (w upstreamRows) meet(ctx context.Context) *meeting {
	m := &meeting{asked: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, meetLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, m.trace()), http.MethodGet, w.s.Upstream.String(), nil)
	if err != nil {
		m.err = err
		return m
	}
	req.Header = w.s.Header.Clone()
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := w.s.Parts.Bare().RoundTrip(req)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answered = time.Now()
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%s: no answer within %v: %w", session.PlainURL(w.s.Upstream), meetLimit, err)
		}
		m.err = err
		return m
	}
	resp.Body.Close()
	m.status, m.server = resp.StatusCode, resp.Header.Get("Server")
	m.date, _ = http.ParseTime(resp.Header.Get("Date"))
	if m.tls == nil {
		m.tls = resp.TLS
	}
	return m
}

// trace returns the hooks of the request.
func (m *meeting) trace() *httptrace.ClientTrace {
	locked := func(f func()) {
		m.mu.Lock()
		defer m.mu.Unlock()
		f()
	}
	return &httptrace.ClientTrace{
		DNSDone: func(i httptrace.DNSDoneInfo) {
			locked(func() {
				m.dns = i.Err
				for _, a := range i.Addrs {
					m.addresses = append(m.addresses, a.String())
				}
			})
		},
		ConnectDone: func(_, addr string, err error) {
			if err == nil {
				locked(func() { m.peer = addr })
			}
		},
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			if err == nil {
				locked(func() { m.tls = &state })
			}
		},
	}
}

// tellDirect makes the rows of a connection that this machine opens.
func (w upstreamRows) tellDirect() {
	m, host := w.met, w.s.Upstream.Hostname()
	proxy := w.proxy()
	refused, isProxyError := errors.AsType[*session.ProxyError](m.err)
	op, isOp := errors.AsType[*net.OpError](m.err)
	switch {
	case proxy == nil:
		w.skip(idProxy, "no HTTP proxy is set for the upstream")
	case isOp && op.Op == "proxyconnect", m.peer == "" && m.err != nil && !isProxyError:
		w.fail(idProxy, m.err)
		w.skipAll("the HTTP proxy is not reached", idName, idTCP)
		return
	default:
		w.ok(idProxy, "by the proxy "+session.PlainURL(proxy))
		w.skip(idName, "the HTTP proxy resolves "+host)
		if isProxyError {
			w.fail(idTCP, refused)
		} else {
			w.ok(idTCP, "connected by the proxy")
		}
		return
	}
	_, dns := errors.AsType[*net.DNSError](m.err)
	switch {
	case isAddress(host):
		w.skip(idName, host+" is an address")
	case dns:
		w.fail(idName, m.err)
		w.skip(idTCP, "the name does not resolve")
		return
	default:
		w.ok(idName, fmt.Sprintf("%s is %s", host, strings.Join(m.addresses, ", ")))
	}
	if m.peer == "" && m.err != nil {
		w.fail(idTCP, m.err)
		return
	}
	w.ok(idTCP, "connected to "+m.peer)
}

// proxy returns the HTTP proxy of direct requests to the upstream, or nil.
func (w upstreamRows) proxy() *url.URL {
	req := &http.Request{URL: w.s.Upstream}
	proxy, err := session.DirectTransport(w.Env).Proxy(req)
	if err != nil {
		return nil
	}
	return proxy
}

// tellTLS makes the row of the certificate.
func (w upstreamRows) tellTLS() {
	m := w.met
	switch {
	case w.resultOf(idTCP) != OK:
		w.skip(idTLS, "the upstream is not reached")
	case w.s.Upstream.Scheme == "http":
		w.skip(idTLS, "the URL is http: nothing is encrypted but by SSH")
	case m.tls == nil || m.err != nil && w.Words.Error(m.err).Kind == explain.KindTLS:
		w.fail(idTLS, m.err, chainOf(m.err)...)
	default:
		w.tellCertificate(m.tls)
	}
}

// longestLife is the longest lifetime of a certificate that somebody means to renew.
const longestLife = 20 * 365 * 24 * time.Hour

// tellCertificate makes the row of a certificate that is good.
func (w upstreamRows) tellCertificate(state *tls.ConnectionState) {
	leaf := state.PeerCertificates[0]
	left, life := time.Until(leaf.NotAfter), leaf.NotAfter.Sub(leaf.NotBefore)
	c := Check{ID: idTLS, Result: OK, Evidence: certificateLines(state.PeerCertificates),
		Summary: fmt.Sprintf("%s, certificate of %s, good for %s more", tls.VersionName(state.Version), person.OneLine(leaf.Issuer.String()), days(left))}
	// Who renews certificates by themselves does so earlier.
	if left < 7*24*time.Hour && left < life/10 && life < longestLife {
		c.Result, c.Next = Warn, []string{"the owner of the server must renew its certificate"}
	}
	w.add(c)
}

// days words a time to the day, or to the hour if it is short.
func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Hour).String()
	}
	return count(int(d/(24*time.Hour)), "day")
}

// chainOf words the certificates that an error is about.
func chainOf(err error) []string {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificateLines(e.UnverifiedCertificates)
	}
	return nil
}

// maxCertificates bounds the certificates that are shown.
const maxCertificates = 8

// certificateLines words the certificates of a chain.
func certificateLines(chain []*x509.Certificate) []string {
	var lines []string
	for _, c := range chain[:min(len(chain), maxCertificates)] {
		names := c.DNSNames
		for _, ip := range c.IPAddresses {
			names = append(names, ip.String())
		}
		line := fmt.Sprintf("certificate of %q by %q from %s to %s", c.Subject, c.Issuer, c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly))
		if len(names) > 0 {
			line += ", for " + strings.Join(names[:min(len(names), maxCertificates)], ", ")
		}
		lines = append(lines, line)
	}
	return lines
}

// tellHTTP makes the row of the first answer.
func (w upstreamRows) tellHTTP() {
	m := w.met
	switch {
	case w.resultOf(idTCP) != OK:
		w.skip(idHTTP, "the upstream is not reached")
	case w.resultOf(idTLS) == Fail:
		w.skip(idHTTP, "the certificate is not trusted")
	case m.err != nil:
		e := w.Words.Error(m.err)
		if len(e.Hints) == 0 {
			e.Hints = []string{"check host and port of the URL: what listens there does not speak HTTP"}
		}
		w.failWith(idHTTP, e)
	default:
		server := ""
		if m.server != "" {
			server = " from " + fmt.Sprintf("%q", m.server)
		}
		w.ok(idHTTP, fmt.Sprintf("status %d%s to a GET without a token, in %v", m.status, server, m.answered.Sub(m.asked).Round(time.Millisecond)))
	}
}

// The clock may differ by skewNoted without a word, and by skewTold without harm.
const (
	skewNoted = 30 * time.Second
	skewTold  = 2 * time.Minute
)

// tellClock compares the clock of this machine with the Date of the upstream's answer.
func (w upstreamRows) tellClock() {
	m := w.met
	if m.status == 0 || m.date.IsZero() {
		w.skip(idClock, "no answer has told the time")
		return
	}
	// The answer was made between the two times. A Date has whole seconds.
	ahead := time.Duration(0)
	switch {
	case m.date.Add(time.Second).Before(m.asked):
		ahead = m.asked.Sub(m.date)
	case m.date.After(m.answered):
		ahead = m.answered.Sub(m.date)
	}
	words := fmt.Sprintf("this machine's clock is %v ahead of the upstream's", ahead.Round(time.Second))
	if ahead < 0 {
		words = fmt.Sprintf("this machine's clock is %v behind the upstream's", -ahead.Round(time.Second))
	}
	hint := []string{"set the clock of this machine, or have that of the upstream set (timedatectl, w32tm, sntp)"}
	evidence := fmt.Sprintf("Date %s, here %s", m.date.UTC().Format(time.DateTime), m.answered.UTC().Format(time.DateTime))
	switch size := max(ahead, -ahead); {
	case size <= skewNoted:
		w.ok(idClock, "the clocks agree", evidence)
	case size <= skewTold:
		w.add(Check{ID: idClock, Result: Warn, Summary: words, Evidence: []string{evidence}, Next: hint})
	default:
		w.failWith(idClock, explain.Explanation{Kind: explain.KindOther, Text: words, Hints: hint, Status: explain.StatusFailed}, evidence)
	}
}
