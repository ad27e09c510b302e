package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
)

// clientCertificate is the TLS client certificate of --client-cert. It tells who we are, and is no
// secret. Even so, only two kinds of servers get it: the upstream, and the authorization server
// that oauth works with. It is not for other origins that metadata names, nor for those that a
// redirect leads to.
//
// The files are read again when they have changed, because such certificates are short-lived and
// something else renews them. A clientCertificate may be used concurrently.
type clientCertificate struct {
	// certFile and keyFile hold the certificate and its key. Both may be the same file.
	certFile, keyFile string
	// log must not be nil.
	log *slog.Logger

	// mu guards what follows.
	mu sync.Mutex
	// loaded is the certificate that is presented. It is nil if the settings name none.
	loaded *tls.Certificate
	// seen says what the files looked like when they were last read.
	seen [2]fileStamp
	// permitted holds the origins that get the certificate, wanted those that asked for one, and
	// answered those that have answered a request.
	permitted, wanted, answered map[string]bool
}

// fileStamp tells whether a file has changed.
type fileStamp struct {
	modified time.Time
	size     int64
}

// openCertificate reads the certificate of the settings. If they name none, nothing is presented,
// and send still tells of a server that wants one. The error is a *cli.UsageError.
func openCertificate(settings cli.Upstream, log *slog.Logger) (*clientCertificate, error) {
	c := &clientCertificate{
		certFile: settings.ClientCert, keyFile: settings.ClientCertKey, log: log,
		permitted: map[string]bool{}, wanted: map[string]bool{}, answered: map[string]bool{},
	}
	if c.certFile == "" && c.keyFile == "" {
		return c, nil
	}
	if c.certFile == "" {
		return nil, &cli.UsageError{
			Text:  "--client-cert-key needs --client-cert",
			Hints: []string{"--client-cert FILE names the certificate of that key"},
		}
	}
	if c.keyFile == "" {
		c.keyFile = c.certFile
	}
	c.seen = c.stamps()
	loaded, err := loadCertificate(c.certFile, c.keyFile)
	if err != nil {
		return nil, err
	}
	c.loaded = loaded
	// As with a secret on the command line, others who can read the key are worth a warning.
	if fi, err := os.Stat(c.keyFile); err == nil && runtime.GOOS != "windows" && fi.Mode().Perm()&0o077 != 0 {
		log.Warn("others on this machine can read the private key of --client-cert; chmod 600 closes it", "file", c.keyFile)
	}
	if now := time.Now(); now.After(loaded.Leaf.NotAfter) {
		log.Warn("the certificate of --client-cert has expired", "file", c.certFile, "expired", loaded.Leaf.NotAfter)
	}
	return c, nil
}

// requestOrigin is the key of a context's value: the origin of the request that a connection is
// opened for.
type requestOrigin struct{}

// send sends req by next. The connection may present the certificate if permitted is set, now or in
// an earlier request to the same origin. A connection that may not present it is closed after the
// request, so that no later request uses it.
func (c *clientCertificate) send(req *http.Request, next http.RoundTripper, permitted bool) (*http.Response, error) {
	name := origin(req.URL)
	out := req.WithContext(context.WithValue(req.Context(), requestOrigin{}, name))
	c.mu.Lock()
	if permitted {
		c.permitted[name] = true
	}
	presents := c.loaded != nil && c.permitted[name]
	out.Close = out.Close || c.loaded != nil && !presents
	c.mu.Unlock()
	resp, err := next.RoundTrip(out)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.answered[name] = true
	case c.wanted[name] && (isAlert(err) || !c.answered[name] && isBroken(err)):
		return nil, &CertificateError{Host: req.URL.Host, Presented: presents, Err: err}
	}
	return resp, err
}

// isAlert reports whether the other side ended the connection by an alert of TLS.
func isAlert(err error) bool {
	const alertOp = "remote error" // as crypto/tls words it
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == alertOp
}

// isBroken reports whether a connection broke before its answer came, in whatever words net/http
// has for that. In TLS 1.3 a server refuses a client's certificate after the handshake, so its
// alert may be lost behind our request.
func isBroken(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	dial := ok && e.Op == "dial" || isDialError(err)
	return !dial && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// present is GetClientCertificate of tls.Config. It is called when the server has asked for a
// certificate. An HTTP proxy that is reached by https and asks for one gets that of the origin
// behind it.
func (c *clientCertificate) present(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, _ := info.Context().Value(requestOrigin{}).(string)
	c.wanted[name] = true
	if c.loaded == nil || !c.permitted[name] {
		return new(tls.Certificate), nil // which presents none
	}
	if now := c.stamps(); now != c.seen {
		c.seen = now
		if loaded, err := loadCertificate(c.certFile, c.keyFile); err == nil {
			c.loaded = loaded
		} else {
			// A renewal may write one file after the other. The old certificate may still do.
			c.log.Warn("the changed files of --client-cert cannot be used; the certificate read before stays in use", "err", err)
		}
	}
	return c.loaded, nil
}

// CertificateError is the refusal of a server that asked for a client certificate.
type CertificateError struct {
	// Host is the server's host, with the port if the URL names one.
	Host string
	// Presented says that the certificate of --client-cert was presented.
	Presented bool
	// Err is how the connection ended.
	Err error
}

// Error names the server.
func (e *CertificateError) Error() string {
	if e.Presented {
		return fmt.Sprintf("%s refuses the client certificate: %v", e.Host, e.Err)
	}
	return fmt.Sprintf("%s wants a client certificate: %v", e.Host, e.Err)
}

// Unwrap returns Err.
func (e *CertificateError) Unwrap() error { return e.Err }

// stamps says how the two files are now. A file that cannot be seen has a zero stamp.
func (c *clientCertificate) stamps() (s [2]fileStamp) {
	for i, path := range []string{c.certFile, c.keyFile} {
		if fi, err := os.Stat(path); err == nil {
			s[i] = fileStamp{fi.ModTime(), fi.Size()}
		}
	}
	return s
}

// loadCertificate reads a certificate with its chain, and its key. The certificate that the key
// belongs to may be at any place in the chain. The error is a *cli.UsageError.
func loadCertificate(certFile, keyFile string) (*tls.Certificate, error) {
	chain, err := readPEM("client certificate", "client-cert", certFile, isCertificate)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, &cli.UsageError{
			Text: fmt.Sprintf("client certificate file %s holds no PEM certificate", certFile),
			Hints: []string{
				"a .p12 or .pfx file is converted by: openssl pkcs12 -in FILE -out FILE.pem -nodes",
				"a DER file is converted by: openssl x509 -inform der -in FILE -out FILE.pem",
			},
		}
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	for i := range chain {
		ordered := slices.Concat(chain[i:i+1], chain[:i], chain[i+1:])
		var text []byte
		for _, block := range ordered {
			text = append(text, pem.EncodeToMemory(block)...)
		}
		var certificate tls.Certificate
		if certificate, err = tls.X509KeyPair(text, pem.EncodeToMemory(key)); err == nil {
			certificate.Leaf, err = x509.ParseCertificate(certificate.Certificate[0])
			return &certificate, err
		}
	}
	if _, broken := x509.ParseCertificate(chain[0].Bytes); broken == nil {
		return nil, &cli.UsageError{
			Text:  fmt.Sprintf("the private key in %s does not belong to the client certificate in %s (%v)", keyFile, certFile, err),
			Hints: []string{"--client-cert and --client-cert-key must name a pair"},
		}
	}
	return nil, &cli.UsageError{Text: fmt.Sprintf("client certificate file %s: %v", certFile, err)}
}

// readKey reads the one private key in a file. The error is a *cli.UsageError.
func readKey(path string) (*pem.Block, error) {
	keys, err := readPEM("client certificate's key", "client-cert-key", path, isPrivateKey)
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, &cli.UsageError{
			Text:  fmt.Sprintf("%s holds no private key in PEM form", path),
			Hints: []string{"--client-cert-key FILE names the key of the client certificate"},
		}
	}
	key := keys[0]
	switch {
	case key.Type == "ENCRYPTED PRIVATE KEY" || key.Headers["DEK-Info"] != "":
		return nil, &cli.UsageError{
			Text:  fmt.Sprintf("the private key in %s is encrypted, and nobody could type its passphrase", path),
			Hints: []string{"write it without one into a file of mode 600: (umask 077; openssl pkey -in FILE -out FILE.key)"},
		}
	case key.Type == "OPENSSH PRIVATE KEY":
		return nil, &cli.UsageError{
			Text:  fmt.Sprintf("the private key in %s is an SSH key, not one of a TLS certificate", path),
			Hints: []string{"--client-cert-key FILE names the key of the client certificate"},
		}
	}
	return key, nil
}

// isCertificate reports whether a PEM block of this type is a certificate.
func isCertificate(kind string) bool { return kind == "CERTIFICATE" || kind == "X509 CERTIFICATE" }

// isPrivateKey reports whether a PEM block of this type is a private key, encrypted or not.
func isPrivateKey(kind string) bool {
	return slices.Contains([]string{
		"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY",
	}, kind)
}

// readPEM returns the PEM blocks of a file whose type fits. The argument what names the file for
// people. The error is a *cli.UsageError.
func readPEM(what, flag, path string, fits func(kind string) bool) ([]*pem.Block, error) {
	text, err := readSmallFile(path)
	if err != nil {
		return nil, &cli.UsageError{
			Text:  what + " file: " + err.Error(),
			Hints: []string{"--" + flag + " names a PEM file"},
		}
	}
	var blocks []*pem.Block
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return blocks, nil
		}
		if fits(block.Type) {
			if block.Type == "X509 CERTIFICATE" { // an old name, which crypto/tls does not know
				block.Type = "CERTIFICATE"
			}
			blocks = append(blocks, block)
		}
	}
}
