package explain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"sallyport/cmd/sallyport/internal/session"
)

// networkRows explain what the operating system, DNS and TLS say of a connection. The order counts:
// a CertificateVerificationError wraps the errors of x509 above it, and nearly every error here is
// a network error, whose row comes last but one.
var networkRows = []row{
	unreachable(KindTLS, func(g given, e x509.HostnameError) []string {
		return hints(
			fmt.Sprintf("the certificate is for %s; the URL must name one of these", certificateNames(e.Certificate)),
			unless(g.Via != "", "behind a bastion use --via HOST with the upstream's real name, not a forwarded port"))
	}),
	unreachable(KindTLS, func(g given, _ x509.UnknownAuthorityError) []string {
		if g.CAFile != "" {
			return []string{"the certificate is of none of the authorities in --ca-file, and of none that this system knows"}
		}
		return []string{"if your organisation has a certificate authority of its own: --ca-file FILE"}
	}),
	explainInvalid,
	unreachable(KindTLS, func(given, *tls.CertificateVerificationError) []string {
		return []string{"the server's certificate is not valid; is the clock right?"}
	}),
	unreachable(KindTLS, func(given, tls.RecordHeaderError) []string {
		return []string{"the server does not speak TLS on this port; is http or another port meant?"}
	}),
	explainCertificate,
	explainAlert,
	unreachable(KindUnreachable, func(g given, e *session.ProxyError) []string {
		return hints("HTTPS_PROXY names the proxy; NO_PROXY excepts hosts from it",
			unless(g.Via != "", "if the upstream is behind a bastion: --via HOST"))
	}),
	explainProxyDial,
	unreachable(KindUnreachable, func(g given, e *net.DNSError) []string {
		return []string{fmt.Sprintf("check the spelling of %q, and the network", e.Name) +
			unless(g.Via != "", "; if only a bastion knows the name: --via HOST")}
	}),
	isError(KindTimeout, context.DeadlineExceeded, "check the network; a firewall may drop the packets"),
	isError(KindUnreachable, syscall.ECONNREFUSED, "nothing listens at that address and port; is the server running, and the URL right?"),
	isError(KindUnreachable, syscall.ECONNRESET, "the other side, or a firewall on the way, resets the connection; sallyport connects again by itself"),
	explainClosed,
	func(_ given, err error) (Explanation, bool) {
		return Explanation{
			Kind: KindUnreachable, Text: withoutQuery(err), Status: StatusUnreachable,
			Hints: []string{"check the network; sallyport tries again"},
		}, isNetworkError(err)
	},
	func(_ given, err error) (Explanation, bool) {
		return Explanation{Kind: KindOther, Text: "interrupted", Status: StatusInterrupted}, errors.Is(err, context.Canceled)
	},
}

// unreachable makes the row of the errors that are or wrap an E.
func unreachable[E error](kind string, words func(g given, e E) []string) row {
	return func(g given, err error) (Explanation, bool) {
		e, ok := errors.AsType[E](err)
		if !ok {
			return Explanation{}, false
		}
		return Explanation{Kind: kind, Text: g.textOf(kind, err), Hints: words(g, e), Status: StatusUnreachable}, true
	}
}

// isError makes the row of the errors that are or wrap target.
func isError(kind string, target error, hint string) row {
	return func(_ given, err error) (Explanation, bool) {
		return Explanation{Kind: kind, Text: withoutQuery(err), Hints: []string{hint}, Status: StatusUnreachable}, errors.Is(err, target)
	}
}

// explainCertificate explains a server that asked for a client certificate. Its text leaves out
// what net/http was about when the server's alert came, because that differs each time.
func explainCertificate(_ given, err error) (Explanation, bool) {
	e, ok := errors.AsType[*session.CertificateError](err)
	if !ok {
		return Explanation{}, false
	}
	hint := "name yours: --client-cert FILE, and --client-cert-key FILE if its key is in another file"
	if e.Presented {
		hint = "its administrator knows which certificates it takes; is that of --client-cert still valid?"
	}
	plain := *e
	if op, ok := errors.AsType[*net.OpError](e.Err); ok {
		plain.Err = op
	}
	return Explanation{Kind: KindTLS, Text: plain.Error(), Hints: []string{hint}, Status: StatusUnreachable}, true
}

// alertProtocolVersion is the alert of a server that speaks none of our TLS versions (RFC 8446
// section 6.2).
const alertProtocolVersion tls.AlertError = 70

// explainAlert explains a server that ended the TLS handshake, for another reason than a client
// certificate. Op is what crypto/tls calls an alert of the other side.
func explainAlert(g given, err error) (Explanation, bool) {
	op, ok := errors.AsType[*net.OpError](err)
	hint := "the other side ends the TLS handshake: ask its operator what it wants"
	if ok && op.Err != nil && op.Err.Error() == alertProtocolVersion.Error() { // the type of op.Err is not exported
		hint = "the server takes no TLS of 1.2 or later: its operator has to switch one of these on"
	}
	return Explanation{Kind: KindTLS, Text: g.about(err), Status: StatusUnreachable, Hints: []string{hint}}, ok && op.Op == "remote error"
}

// explainInvalid explains a certificate that is of a known authority and not valid. The text of the
// error is left out: it holds the time, so each time it would look like another error.
func explainInvalid(g given, err error) (Explanation, bool) {
	e, ok := errors.AsType[x509.CertificateInvalidError](err)
	out := Explanation{Kind: KindTLS, Text: g.about(err), Status: StatusUnreachable,
		Hints: []string{"the owner of the server must give it another certificate"}}
	if ok && e.Reason == x509.Expired && e.Cert != nil {
		from, until := e.Cert.NotBefore.UTC().Format(time.DateTime), e.Cert.NotAfter.UTC().Format(time.DateTime)
		out.Text = strings.Replace(out.Text, e.Error(), fmt.Sprintf("the certificate is good from %s to %s", from, until), 1)
		out.Hints = []string{"is the clock of this machine right? otherwise the owner of the server must renew its certificate"}
	}
	return out, ok
}

// explainProxyDial explains an HTTP proxy that cannot be reached.
func explainProxyDial(_ given, err error) (Explanation, bool) {
	op, ok := errors.AsType[*net.OpError](err)
	return Explanation{Kind: KindUnreachable, Text: withoutQuery(err), Status: StatusUnreachable, Hints: []string{
		"the HTTP proxy that HTTPS_PROXY or HTTP_PROXY names cannot be reached: correct the variable, or except the host by NO_PROXY",
	}}, ok && op.Op == "proxyconnect"
}

// explainClosed explains a connection that ended too early. Go calls that only "EOF".
func explainClosed(g given, err error) (Explanation, bool) {
	return Explanation{
		Kind: KindUnreachable, Status: StatusUnreachable,
		Text:  "connection closed by the other side: " + g.about(err),
		Hints: []string{"the connection to the upstream broke, or the upstream ended; sallyport connects again by itself"},
	}, errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// isNetworkError reports whether err comes from dialing, from a connection, or from net/http.
func isNetworkError(err error) bool {
	_, op := errors.AsType[*net.OpError](err)
	_, inHTTP := errors.AsType[*url.Error](err)
	_, dial := errors.AsType[*session.DialError](err)
	return op || inHTTP || dial
}

// maxCertificateNames bounds the names that a hint lists. A certificate may have hundreds.
const maxCertificateNames = 4

// certificateNames lists the hosts that a certificate is for. Verification ignores the common name,
// so it is not among them.
func certificateNames(cert *x509.Certificate) string {
	names := cert.DNSNames
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no host"
	}
	return strings.Join(names[:min(len(names), maxCertificateNames)], ", ")
}

// withoutQuery words an error of net/http without the query and user of its URL, which may hold
// secrets.
func withoutQuery(err error) string {
	e, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err.Error()
	}
	where := e.URL
	if u, parseErr := url.Parse(e.URL); parseErr == nil {
		u.RawQuery, u.Fragment, u.User = "", "", nil
		where = u.String()
	}
	return where + ": " + e.Err.Error()
}
