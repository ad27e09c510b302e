// Package roots verifies the certificates of TLS servers against the system's roots and those of
// --ca-file, without the price of all roots at the start of each process.
//
// crypto/x509 reads and parses every root that it can find before it verifies the first chain. On
// Debian these are a bundle of some 140 certificates, and the same 140 once more, as files in a
// directory. For a process that talks to one server that was about half of the processor time of
// its start, and 1 MiB of its memory.
//
// So a chain is verified twice at most. The first time, the roots are those of --ca-file, and of
// the bundle those alone whose subject the chain names as an issuer. If that fails, for whatever
// reason, crypto/x509 verifies the chain against all roots, and its verdict counts. What the first
// step accepts, the second one would accept as well: its roots are a subset, and all else is the
// same. So no more is accepted than by crypto/x509, and each refusal is its own.
//
// macOS and Windows verify by the system. There, and in FIPS mode, crypto/tls does it all.
package roots

import (
	"crypto/fips140"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
)

// maxNames bounds the issuers that are remembered. A server of an endless number of chains would
// fill the memory otherwise. A chain beyond it is verified against all roots.
const maxNames = 64

// Roots are the certificates that the chain of a server must lead to. The zero value stands for
// the system's roots, and must not be copied. Its methods may be called concurrently.
type Roots struct {
	// files holds the certificates of --ca-file, as PEM. It is nil if there are none.
	files []byte
	// bundle is the path of the system's bundle of roots. It is empty if there is none to use.
	bundle string

	// full returns all roots. It is nil for the zero value.
	full func() *x509.CertPool

	// mu guards what follows.
	mu sync.Mutex
	// looked holds the hashes of the issuers that the bundle was searched for.
	looked map[[sha256.Size]byte]bool
	// found holds the roots of --ca-file, and those of the bundle with these issuers as subjects.
	// It is replaced when it grows, because verification reads it without the lock.
	found *x509.CertPool
}

// ErrNoCertificate says that a text holds no PEM certificate.
var ErrNoCertificate = errors.New("no PEM certificate")

// New returns the system's roots and those in the PEM text of a file, which may be empty. getenv
// returns the variables of this process. The error is ErrNoCertificate if the text is not empty
// and holds no certificate.
func New(getenv func(name string) string, pem []byte) (*Roots, error) {
	r := &Roots{files: pem, bundle: bundlePath(getenv), found: x509.NewCertPool()}
	if len(pem) > 0 && !r.found.AppendCertsFromPEM(pem) {
		return nil, ErrNoCertificate
	}
	r.full = sync.OnceValue(r.load)
	return r, nil
}

// load returns all roots. It returns nil, which stands for the system's, without --ca-file.
func (r *Roots) load() *x509.CertPool {
	if len(r.files) == 0 {
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		// A bare container has no roots. The file alone may do.
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(r.files)
	return pool
}

// Pool returns all roots, for tls.Config.RootCAs. They are read now if there is a --ca-file.
func (r *Roots) Pool() *x509.CertPool { return r.full() }

// Client returns the client's side of a TLS connection with the server named host, which may be an
// IP address. It adds to a copy of config how the server is verified; config must say nothing of
// that. The errors of the handshake are those of crypto/tls.
func (r *Roots) Client(conn net.Conn, host string, config *tls.Config) *tls.Conn {
	config = config.Clone()
	config.ServerName = host
	if !searchable || fips140.Enabled() {
		config.RootCAs = r.full()
		return tls.Client(conn, config)
	}
	// This turns off the verification by crypto/tls alone. VerifyConnection, which takes its place,
	// is called in every handshake, also when a session is resumed. The name is that of the caller,
	// because ConnectionState.ServerName is empty for an IP address.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if err := r.verify(state.PeerCertificates, host); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
		}
		return nil
	}
	return tls.Client(conn, config)
}

// verify verifies the chain of the server host. Its error is that of crypto/x509 with all roots.
func (r *Roots) verify(chain []*x509.Certificate, host string) error {
	if len(chain) == 0 || host == "" { // without a name, x509 would verify none
		return errors.New("the server has no certificate or no name")
	}
	options := x509.VerifyOptions{DNSName: host, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	// Without a root, Verify would take the system's if this were nil.
	if options.Roots = r.candidates(chain); options.Roots != nil {
		if _, err := chain[0].Verify(options); err == nil {
			return nil
		}
	}
	options.Roots = r.full()
	_, err := chain[0].Verify(options)
	return err
}

// candidates returns the roots that may verify a chain, or nil if all roots are to be tried.
func (r *Roots) candidates(chain []*x509.Certificate) *x509.CertPool {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := map[string]bool{}
	var hashes [][sha256.Size]byte
	for _, c := range chain {
		name := string(c.RawIssuer)
		if hash := sha256.Sum256(c.RawIssuer); !r.looked[hash] && !wanted[name] {
			wanted[name] = true
			hashes = append(hashes, hash)
		}
	}
	switch {
	case len(wanted) == 0 || r.bundle == "":
		return r.found
	case len(r.looked)+len(wanted) > maxNames:
		return nil
	}
	pool := r.found.Clone()
	if searchBundle(r.bundle, wanted, pool) != nil {
		return nil
	}
	if r.looked == nil {
		r.looked = map[[sha256.Size]byte]bool{}
	}
	for _, hash := range hashes {
		r.looked[hash] = true
	}
	r.found = pool
	return pool
}
