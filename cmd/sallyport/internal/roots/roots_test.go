package roots

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// issuer is a certificate authority, or an intermediate one.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial int64

// issue makes a certificate and its key. Without a key it makes a new one, and without a signer
// the certificate signs itself.
func issue(t *testing.T, signer *issuer, key *ecdsa.PrivateKey, template x509.Certificate) *issuer {
	t.Helper()
	var err error
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	serial++
	template.SerialNumber = big.NewInt(serial)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	made := &issuer{cert: &template, key: key}
	if signer == nil {
		signer = made
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, signer.cert, &key.PublicKey, signer.key)
	if err != nil {
		t.Fatal(err)
	}
	if made.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return made
}

// authority makes an authority. Without a signer it is a root.
func authority(t *testing.T, signer *issuer, key *ecdsa.PrivateKey, name string) *issuer {
	t.Helper()
	return issue(t, signer, key, x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
}

// server makes the certificate of a server, or of a client if that is the usage.
func server(t *testing.T, signer *issuer, until time.Time, usage x509.ExtKeyUsage) *issuer {
	t.Helper()
	return issue(t, signer, nil, x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		NotBefore: time.Now().Add(-48 * time.Hour),
		DNSNames:  []string{"server.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	})
}

func (i *issuer) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
}

// presented is a server as a process meets it.
type presented struct {
	Name, Host string
	Chain      [][]byte
	Key        []byte
	// CAFile says that --ca-file is given.
	CAFile bool
	// Want is the verdict where the bundle is as usual: "ok", or the type of the error.
	Want string
	// Quick says that no other roots are read than those that the chain names.
	Quick bool
}

// world is what the processes of the test share.
type world struct {
	Servers []presented
	CAFile  []byte
}

// newWorld makes the servers, and the files of the system in dir: bundle.pem, and certs/.
func newWorld(t *testing.T, dir string) world {
	t.Helper()
	known, listed, private := authority(t, nil, nil, "known"), authority(t, nil, nil, "only in the directory"), authority(t, nil, nil, "private")
	unknown := authority(t, nil, nil, "unknown")
	renewed, old := authority(t, nil, nil, "renewed"), authority(t, nil, nil, "renewed")
	middle := authority(t, known, nil, "intermediate")
	crossed := authority(t, unknown, middle.key, "intermediate")
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	leaf := func(signer *issuer) *issuer { return server(t, signer, later, x509.ExtKeyUsageServerAuth) }
	plain, pinned := leaf(known), leaf(unknown)
	many := []*issuer{leaf(middle), middle}
	for i := range 70 {
		many = append(many, authority(t, unknown, unknown.key, fmt.Sprint("filler ", i)))
		many = append(many, leaf(many[len(many)-1]))
	}
	w := world{CAFile: []byte(private.pem())}
	add := func(name, host, want string, caFile, quick bool, chain ...*issuer) {
		key, err := x509.MarshalPKCS8PrivateKey(chain[0].key)
		if err != nil {
			t.Fatal(err)
		}
		p := presented{Name: name, Host: host, Key: key, CAFile: caFile, Want: want, Quick: quick}
		for _, c := range chain {
			p.Chain = append(p.Chain, c.cert.Raw)
		}
		w.Servers = append(w.Servers, p)
	}
	const unknownAuthority, invalid, name = "x509.UnknownAuthorityError", "x509.CertificateInvalidError", "x509.HostnameError"
	add("valid", "server.test", "ok", false, true, leaf(known))
	add("valid by an intermediate", "server.test", "ok", false, true, leaf(middle), middle)
	add("valid with its root", "server.test", "ok", false, true, leaf(middle), middle, known)
	add("IPv4", "127.0.0.1", "ok", false, true, leaf(known))
	add("IPv6", "[::1]", "ok", false, true, leaf(known))
	add("wrong name", "other.test", name, false, false, leaf(known))
	add("wrong IPv4", "127.0.0.2", name, false, false, leaf(known))
	add("wrong IPv6", "[::2]", name, false, false, leaf(known))
	add("expired", "server.test", invalid, false, false, server(t, known, past, x509.ExtKeyUsageServerAuth))
	add("for clients", "server.test", invalid, false, false, server(t, known, later, x509.ExtKeyUsageClientAuth))
	add("not an authority", "server.test", unknownAuthority, false, false, leaf(plain), plain)
	add("unknown root", "server.test", unknownAuthority, false, false, leaf(unknown))
	add("unknown root with it", "server.test", unknownAuthority, false, false, leaf(unknown), unknown)
	add("missing intermediate", "server.test", unknownAuthority, false, false, leaf(middle))
	add("root in the directory", "server.test", "ok", false, false, leaf(listed))
	add("cross-signed", "server.test", "ok", false, true, leaf(middle), crossed, middle)
	add("cross-signed by the unknown alone", "server.test", unknownAuthority, false, false, leaf(middle), crossed)
	add("another root of that name in the bundle", "server.test", "ok", false, false, leaf(renewed))
	add("old root of that name", "server.test", "ok", false, true, leaf(old))
	add("server in the bundle", "server.test", "ok", false, false, pinned)
	add("CA file", "server.test", "ok", true, true, leaf(private))
	add("CA file not given", "server.test", unknownAuthority, false, false, leaf(private))
	add("known beside the CA file", "server.test", "ok", true, true, leaf(middle), middle)
	add("directory beside the CA file", "server.test", "ok", true, false, leaf(listed))
	add("many issuers", "server.test", "ok", false, false, many...)

	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "certs"), 0o700); err != nil {
		t.Fatal(err)
	}
	filler := authority(t, nil, nil, "filler").pem()
	bundle := filler + known.pem() + old.pem() + pinned.pem()
	write("certs/listed.pem", listed.pem())
	write("certs/renewed.pem", renewed.pem())
	write("bundle.pem", bundle)
	write("other.pem", filler)
	write("empty.pem", "")
	write("words.pem", "# Mozilla\n=====\n\n"+strings.ReplaceAll(bundle, "\n", " \t\r\n")+"\nthe end")
	write("broken.pem", "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n"+
		strings.Replace(filler, "\n", "\nProc-Type: 4\n\n", 1)+
		"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n-----BEGIN DH PARAMETERS-----\nMAMCAQE=\n-----END DH PARAMETERS-----\n"+bundle)
	write("open.pem", strings.Replace(filler, "-----END", "----END", 1)+bundle)
	write("cut.pem", bundle+filler[:len(filler)/2])
	write("mixed.pem", strings.Replace(bundle, "-----END CERTIFICATE", "-----END CRL", 1))
	write("old-name.pem", strings.ReplaceAll(bundle, "CERTIFICATE", "TRUSTED CERTIFICATE"))
	write("headers.pem", strings.ReplaceAll(bundle, "CERTIFICATE-----\nM", "CERTIFICATE-----\nA: b\n\nM"))
	write("indented.pem", " "+strings.ReplaceAll(bundle, "\n", "\n "))
	write("long.pem", "# "+strings.Repeat("x", lineLimit)+"\n"+bundle)
	write("zeros.pem", string(make([]byte, 3*lineLimit))+"\n"+bundle)
	return w
}

// TestVerdicts has servers verified in processes with other files of the system, each time also by
// crypto/tls alone: a process reads the system's roots once. Both verdicts must be the same, to the
// words.
func TestVerdicts(t *testing.T) {
	if !searchable {
		t.Skip("the system verifies")
	}
	if path := os.Getenv("ROOTS_TEST_WORLD"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var w world
		if err := json.Unmarshal(text, &w); err != nil {
			t.Fatal(err)
		}
		for _, p := range w.Servers {
			t.Run(p.Name, func(t *testing.T) { p.check(t, w.CAFile) })
		}
		return
	}
	dir := t.TempDir()
	text, err := json.Marshal(newWorld(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("world.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, dir, usual string }{
		{"usual", at("bundle.pem"), at("certs"), "yes"},
		{"words between", at("words.pem"), at("certs"), "yes"},
		{"broken certificates", at("broken.pem"), at("certs"), "yes"},
		{"block without an end", at("open.pem"), at("certs"), ""},
		{"block cut short", at("cut.pem"), at("certs"), ""},
		{"another end", at("mixed.pem"), at("certs"), ""},
		{"another kind", at("old-name.pem"), at("certs"), ""},
		{"headers", at("headers.pem"), at("certs"), ""},
		{"indented", at("indented.pem"), at("certs"), ""},
		{"long line", at("long.pem"), at("certs"), ""},
		{"zeros", at("zeros.pem"), at("certs"), ""},
		{"elsewhere", at("other.pem"), at("certs"), ""},
		{"empty", at("empty.pem"), at("certs"), ""},
		{"missing", at("none.pem"), at("certs"), ""},
		{"directory for a file", dir, at("certs"), ""},
		{"two directories", at("other.pem"), at("none") + ":" + at("certs"), ""},
		{"the file in the directory", at("other.pem"), dir, ""},
		{"defaults", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestVerdicts$", "-test.v")
			cmd.Env = append(os.Environ(), "ROOTS_TEST_WORLD="+at("world.json"), "ROOTS_TEST_USUAL="+c.usual,
				"SSL_CERT_FILE="+c.file, "SSL_CERT_DIR="+c.dir)
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Count(string(out), "--- PASS: TestVerdicts/") != strings.Count(string(text), `"Name"`) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// check compares both verdicts about a server.
func (p presented) check(t *testing.T, caFile []byte) {
	key, err := x509.ParsePKCS8PrivateKey(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	usual := os.Getenv("ROOTS_TEST_USUAL") != ""
	if !p.CAFile {
		caFile = nil
	}
	serving := &tls.Config{Certificates: []tls.Certificate{{Certificate: p.Chain, PrivateKey: key}}}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r, err := New(os.Getenv, caFile)
		if err != nil {
			t.Fatal(err)
		}
		quick, full := true, r.full
		r.full = func() *x509.CertPool { quick = false; return full() }
		config := &tls.Config{MaxVersion: version}
		_, got := shakeHands(t, serving, func(conn net.Conn) *tls.Conn { return r.Client(conn, p.Host, config) })
		_, want := shakeHands(t, serving, func(conn net.Conn) *tls.Conn {
			return tls.Client(conn, &tls.Config{MaxVersion: version, ServerName: p.Host, RootCAs: full()})
		})
		if fmt.Sprintf("%T %v", got, withoutTime(got)) != fmt.Sprintf("%T %v", want, withoutTime(want)) {
			t.Errorf("got %v, want what crypto/tls says: %v", got, want)
		}
		if usual && (verdict(got) != p.Want || quick != p.Quick) {
			t.Errorf("got %s (%v), only the roots of the chain: %t; want %s, %t", verdict(got), got, quick, p.Want, p.Quick)
		}
	}
}

// withoutTime leaves out what differs from one handshake to the next.
func withoutTime(err error) string {
	if err == nil {
		return ""
	}
	text, _, _ := strings.Cut(err.Error(), "current time")
	return text
}

// verdict is "ok" or the type of the error within a *tls.CertificateVerificationError.
func verdict(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(e.UnverifiedCertificates) > 0 {
		return fmt.Sprintf("%T", e.Err)
	}
	return err.Error()
}

// shakeHands returns the client's state after a handshake, and the client's error.
func shakeHands(t *testing.T, serving *tls.Config, client func(net.Conn) *tls.Conn) (tls.ConnectionState, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // net.Pipe has no buffer, so both could wait to write
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	here, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	done := make(chan struct{})
	go func() { // ends with the connection
		defer close(done)
		there, err := ln.Accept()
		if err != nil {
			return
		}
		defer there.Close()
		far := tls.Server(there, serving)
		if far.Handshake() == nil {
			far.Write([]byte("x")) // which brings a session ticket
		}
	}()
	c := client(here)
	err = c.Handshake()
	if err == nil {
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	state := c.ConnectionState()
	here.Close()
	<-done
	return state, err
}

// TestNameIsNeeded shows that a server without a name, which could not be verified, is refused.
func TestNameIsNeeded(t *testing.T) {
	root := authority(t, nil, nil, "private")
	leaf := server(t, root, time.Now().Add(time.Hour), x509.ExtKeyUsageServerAuth)
	serving := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}}}
	r, err := New(os.Getenv, []byte(root.pem()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shakeHands(t, serving, func(conn net.Conn) *tls.Conn { return r.Client(conn, "", &tls.Config{}) }); err == nil {
		t.Error("a server without a name is accepted")
	}
}

// TestResumption shows that a session is verified again when it is resumed.
func TestResumption(t *testing.T) {
	root := authority(t, nil, nil, "private")
	leaf := server(t, root, time.Now().Add(time.Hour), x509.ExtKeyUsageServerAuth)
	serving := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}}}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := &tls.Config{MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		connect := func(file string) (tls.ConnectionState, error) {
			r, err := New(os.Getenv, []byte(file))
			if err != nil {
				t.Fatal(err)
			}
			return shakeHands(t, serving, func(conn net.Conn) *tls.Conn { return r.Client(conn, "server.test", config) })
		}
		for i, want := range []bool{false, true} {
			if state, err := connect(root.pem()); err != nil || state.DidResume != want {
				t.Errorf("connection %d: %v, resumed %t, want %t", i, err, state.DidResume, want)
			}
		}
		if runtime.GOOS != "linux" {
			continue
		}
		if _, err := connect(""); verdict(err) != "x509.UnknownAuthorityError" {
			t.Errorf("a session is resumed although its root is not trusted any more: %v", err)
		}
	}
}

// TestNew is about the file of --ca-file.
func TestNew(t *testing.T) {
	for _, c := range []struct {
		file string
		want error
	}{
		{"", nil},
		{authority(t, nil, nil, "a").pem(), nil},
		{"nothing", ErrNoCertificate},
		{"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n", ErrNoCertificate},
	} {
		if _, err := New(os.Getenv, []byte(c.file)); err != c.want {
			t.Errorf("%q: got %v, want %v", c.file, err, c.want)
		}
	}
}

// TestPipeIsNotRead leaves a bundle alone that could be read only once.
func TestPipeIsNotRead(t *testing.T) {
	if !searchable {
		t.Skip("the system verifies")
	}
	for path, want := range map[string]string{"/dev/null": "", t.TempDir(): "", "roots_test.go": "roots_test.go", "none": ""} {
		if got := bundlePath(func(string) string { return path }); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

// TestSubjectsOfThisSystem compares the walk through a certificate with the parser, for all roots
// that this system has.
func TestSubjectsOfThisSystem(t *testing.T) {
	path := bundlePath(os.Getenv)
	if path == "" {
		t.Skip("this system has no bundle")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wanted, want := map[string]bool{}, x509.NewCertPool()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			wanted[string(c.RawSubject)] = true
			want.AddCert(c)
		}
	}
	got := x509.NewCertPool()
	if err := searchBundle(path, wanted, got); err != nil || !got.Equal(want) || len(wanted) == 0 {
		t.Errorf("%v; not the roots that crypto/x509 finds", err)
	}
}
