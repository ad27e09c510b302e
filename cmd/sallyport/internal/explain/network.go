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

	"sallyport/cmd/sallyport/internal/session"
)

// networkRows explain what the operating system, DNS and TLS say of a connection. The order counts:
// a CertificateVerificationError wraps the errors of x509 above it, and nearly every error here is
// a network error, whose row comes last but one.
var networkRows = []row{
	unreachable(KindTLS, func(err error) ([]string, bool) {
		e, ok := errors.AsType[x509.HostnameError](err)
		if !ok {
			return nil, false
		}
		return []string{
			fmt.Sprintf("the certificate is for %s; the URL must name one of these", certificateNames(e.Certificate)),
			"behind a bastion use --via HOST with the upstream's real name, not a forwarded port",
		}, true
	}),
	unreachable(KindTLS, typeHint[x509.UnknownAuthorityError]("if your organisation has a certificate authority of its own: --ca-file FILE")),
	unreachable(KindTLS, typeHint[*tls.CertificateVerificationError]("the server's certificate is not valid; is the clock right?")),
	unreachable(KindTLS, func(err error) ([]string, bool) {
		e, ok := errors.AsType[*session.CertificateError](err)
		if !ok {
			return nil, false
		}
		if e.Presented {
			return []string{"its administrator knows which certificates it takes; is that of --client-cert still valid?"}, true
		}
		return []string{"name yours: --client-cert FILE, and --client-cert-key FILE if its key is in another file"}, true
	}),
	unreachable(KindTLS, typeHint[tls.RecordHeaderError]("the server does not speak TLS on this port; is http or another port meant?")),
	unreachable(KindUnreachable, func(err error) ([]string, bool) {
		e, ok := errors.AsType[*net.DNSError](err)
		if !ok {
			return nil, false
		}
		return []string{fmt.Sprintf("check the spelling of %q, and the network; if only a bastion knows the name: --via HOST", e.Name)}, true
	}),
	unreachable(KindUnreachable, typeHint[*session.ProxyError]("HTTPS_PROXY names the proxy; NO_PROXY excepts hosts from it; if the upstream is behind a bastion: --via HOST")),
	unreachable(KindTimeout, valueHint(context.DeadlineExceeded, "check the network; a firewall may drop the packets")),
	unreachable(KindUnreachable, valueHint(syscall.ECONNREFUSED, "nothing listens at that address and port; is the server running, and the URL right?")),
	explainClosed,
	unreachable(KindUnreachable, func(err error) ([]string, bool) {
		return []string{"check the network; sallyport tries again"}, isNetworkError(err)
	}),
	func(err error) (Explanation, bool) {
		return Explanation{Kind: KindOther, Text: "interrupted", Status: StatusInterrupted}, errors.Is(err, context.Canceled)
	},
}

// unreachable makes the row of the errors for which hints returns true.
func unreachable(kind string, hints func(error) ([]string, bool)) row {
	return func(err error) (Explanation, bool) {
		h, ok := hints(err)
		return Explanation{Kind: kind, Text: withoutQuery(err), Hints: h, Status: StatusUnreachable}, ok
	}
}

// typeHint gives one hint for errors that are or wrap an E.
func typeHint[E error](hint string) func(error) ([]string, bool) {
	return func(err error) ([]string, bool) {
		_, ok := errors.AsType[E](err)
		return []string{hint}, ok
	}
}

// valueHint gives one hint for errors that are or wrap target.
func valueHint(target error, hint string) func(error) ([]string, bool) {
	return func(err error) ([]string, bool) { return []string{hint}, errors.Is(err, target) }
}

// explainClosed explains a connection that ended too early. Go calls that only "EOF".
func explainClosed(err error) (Explanation, bool) {
	return Explanation{
		Kind: KindUnreachable, Status: StatusUnreachable,
		Text:  "connection closed by the other side: " + withoutQuery(err),
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
