//go:build !windows

package hostkeys

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// sshIsAtLeast tells whether the ssh in PATH is of a release or newer. What an older one says about
// a rule that came later is no verdict.
func sshIsAtLeast(t *testing.T, major, minor int) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), openssh.Tool(t, "ssh"), "-V").CombinedOutput()
	found := regexp.MustCompile(`OpenSSH_(\d+)\.(\d+)`).FindSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("ssh -V: %v: %s", err, out)
	}
	a, _ := strconv.Atoi(string(found[1]))
	b, _ := strconv.Atoi(string(found[2]))
	return a > major || a == major && b >= minor
}

// hostCertificate signs a certificate of a host key.
func hostCertificate(t *testing.T, ca, key ssh.Signer, edit func(*ssh.Certificate)) ssh.Signer {
	t.Helper()
	cert := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.HostCert, KeyId: "id",
		ValidPrincipals: []string{"host.internal"}, ValidBefore: ssh.CertTimeInfinity,
	}
	edit(cert)
	none := cert.ValidPrincipals == nil
	if none {
		cert.ValidPrincipals = []string{"x"} // x/crypto signs no certificate without principals
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	if none {
		cert.ValidPrincipals = nil
		unsigned := *cert
		unsigned.Signature = nil
		text := unsigned.Marshal()
		sig, err := ca.Sign(rand.Reader, text[:len(text)-4]) // the length of the signature is not signed
		if err != nil {
			t.Fatal(err)
		}
		cert.Signature = sig
	}
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// What a host certificate is good for follows OpenSSH 10.3 and newer. An ssh of that age is the
// judge; else the expectation is.
func TestHostCertificatesAsOpenSSH103(t *testing.T) {
	t.Parallel()
	ca, key := sshtest.NewKey(), sshtest.NewKey()
	now := uint64(time.Now().Unix())
	judged := sshIsAtLeast(t, 10, 3)
	principals := func(p ...string) func(*ssh.Certificate) {
		return func(c *ssh.Certificate) { c.ValidPrincipals = p }
	}
	for _, tt := range []struct {
		name  string
		alias string // HostKeyAlias; "" is the address 127.0.0.1
		edit  func(*ssh.Certificate)
		ok    bool
		why   string
	}{
		{"the name", "host.internal", principals("host.internal"), true, ""},
		{"one of several", "host.internal", principals("a", "host.internal", "b"), true, ""},
		{"another name", "host.internal", principals("other.internal"), false, `"host.internal" is none of its principals "other.internal"`},
		{"wildcard", "host.internal", principals("*.internal"), true, ""},
		{"wildcard of several labels", "a.b.internal", principals("*.internal"), true, ""},
		{"wildcard of the bare domain", "internal", principals("*.internal"), false, "none of its principals"},
		{"one character", "host7.internal", principals("host?.internal"), true, ""},
		{"everything", "", principals("*"), true, ""},
		{"address pattern", "", principals("127.0.0.*"), true, ""},
		{"no negation", "host.internal", principals("!host.internal"), false, "none of its principals"},
		{"no list", "host.internal", principals("host.internal,other"), false, "none of its principals"},
		{"other case", "HOST.internal", principals("host.internal"), true, ""},
		{"principal in upper case", "host.internal", principals("HOST.internal"), false, "none of its principals"},
		{"with a port", "", principals("[127.0.0.1]:22"), false, "none of its principals"},
		{"without principals", "", principals(), false, "it names no host"},
		{"for users", "", func(c *ssh.Certificate) { c.CertType, c.ValidPrincipals = ssh.UserCert, []string{"*"} }, false, "not a host certificate"},
		{"not yet valid", "", func(c *ssh.Certificate) { c.ValidAfter, c.ValidPrincipals = now+3600, []string{"*"} }, false, "not yet valid"},
		{"expired", "", func(c *ssh.Certificate) { c.ValidBefore, c.ValidPrincipals = now-1, []string{"*"} }, false, "expired"},
		{"critical option", "", func(c *ssh.Certificate) {
			c.ValidPrincipals, c.CriticalOptions = []string{"*"}, map[string]string{"x@example.org": "y"}
		}, false, "x@example.org"},
		{"extension", "", func(c *ssh.Certificate) {
			c.ValidPrincipals, c.Extensions = []string{"*"}, map[string]string{"x@example.org": "y"}
		}, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, hostCertificate(t, ca, key, tt.edit))
			h := openssh.NewHost(t, "bastion", s.Addr())
			h.HostKeyAlias = tt.alias
			writeFile(t, h.UserKnownHostsFiles[0], "@cert-authority * "+keyLine(ca.PublicKey())+"\n")
			if judged {
				if got, out := sshConnects(t, h); got != tt.ok {
					t.Errorf("ssh connects: %v: %s", got, out)
				}
			}
			err := connects(t, h, nil)
			if (err == nil) != tt.ok {
				t.Fatalf("got %v", err)
			}
			if e, ok := errors.AsType[*Error](err); err != nil && (!ok || !strings.Contains(e.CertErr, tt.why)) {
				t.Errorf("got %v, want %q", err, tt.why)
			}
		})
	}
}

// The line of an authority speaks for the hosts that its patterns name, with and without a port.
func TestAuthorityPatternsAgreeWithSSH(t *testing.T) {
	t.Parallel()
	ca := sshtest.NewKey()
	s := serve(t, hostCertificate(t, ca, sshtest.NewKey(), func(c *ssh.Certificate) { c.ValidPrincipals = []string{"127.0.0.1"} }))
	for _, tt := range []struct {
		hosts string
		ok    bool
	}{
		{"*", true},
		{at(s), true},
		{"127.0.0.1", true},
		{"127.0.0.?", true},
		{"[127.0.0.1]:*", true},
		{"[127.0.0.1]:1", false},
		{"*,!127.0.0.1", true}, // the name with its port is not negated
		{"*,!" + at(s) + ",!127.0.0.1", false},
		{hashedName(make([]byte, 20), at(s)), true},
		{"other", false},
	} {
		t.Run(tt.hosts, func(t *testing.T) {
			t.Parallel()
			h := openssh.NewHost(t, "bastion", s.Addr())
			writeFile(t, h.UserKnownHostsFiles[0], "@cert-authority "+tt.hosts+" "+keyLine(ca.PublicKey())+"\n")
			if got, out := sshConnects(t, h); got != tt.ok {
				t.Errorf("ssh connects: %v: %s", got, out)
			}
			if err := connects(t, h, nil); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// CASignatureAlgorithms says with what an authority may have signed.
func TestCASignatureAlgorithmsAgreeWithSSH(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := generate(t, dir, "ca", "-t", "rsa", "-b", "2048")
	host := openssh.WriteKey(t, filepath.Join(dir, "host"), "")
	for _, tt := range []struct {
		signed, allowed string
		ok              bool
	}{
		{"rsa-sha2-512", "", true},
		{"rsa-sha2-256", "", true},
		{"ssh-rsa", "", false},
		{"rsa-sha2-512", "ssh-ed25519,rsa-sha2-512", true},
		{"rsa-sha2-256", "ssh-ed25519,rsa-sha2-512", false},
		{"ssh-rsa", "ssh-rsa", true},
	} {
		t.Run(tt.signed+" "+tt.allowed, func(t *testing.T) {
			signer := certify(t, dir, "host", host, "-n", "127.0.0.1", "-t", tt.signed)
			s := serve(t, signer)
			h := openssh.NewHost(t, "bastion", s.Addr())
			writeFile(t, h.UserKnownHostsFiles[0], "@cert-authority * "+keyLine(ca.PublicKey())+"\n")
			var options []string
			if tt.allowed != "" {
				h.CASignatureAlgorithms = strings.Split(tt.allowed, ",")
				options = []string{"CASignatureAlgorithms=" + tt.allowed}
			}
			if got, out := sshConnects(t, h, options...); got != tt.ok {
				t.Errorf("ssh connects: %v: %s", got, out)
			}
			if err := connects(t, h, nil); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// RequiredRSASize counts for host keys, plain and in certificates, known or not. ssh has it since
// 9.1.
func TestRequiredRSASizeAgreesWithSSH(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ca := sshtest.NewKey()
	plain := serve(t, signer)
	certified := serve(t, hostCertificate(t, ca, signer, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"*"} }))
	for _, tt := range []struct {
		required int
		ok       bool
	}{{0, true}, {1024, true}, {2048, true}, {2049, false}, {4096, false}} {
		for i, s := range []*sshtest.Server{plain, certified} {
			t.Run(fmt.Sprint(tt.required, []string{" plain", " certificate"}[i]), func(t *testing.T) {
				h := openssh.NewHost(t, "bastion", s.Addr())
				h.RequiredRSASize = tt.required
				writeFile(t, h.UserKnownHostsFiles[0], at(s)+" "+keyLine(signer.PublicKey())+"\n@cert-authority * "+keyLine(ca.PublicKey())+"\n")
				if got, out := sshConnects(t, h, fmt.Sprint("RequiredRSASize=", max(tt.required, 1024))); got != tt.ok {
					t.Errorf("ssh connects: %v: %s", got, out)
				}
				err := connects(t, h, nil)
				if (err == nil) != tt.ok {
					t.Fatalf("got %v", err)
				}
				if e, ok := errors.AsType[*Error](err); err != nil && (!ok || !e.Short || !strings.Contains(err.Error(), "2048 bits, and RequiredRSASize is")) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// A composite ML-DSA key spoils no file, and is named where it is all that is known of a host.
func TestCompositeKeysAreNamed(t *testing.T) {
	t.Parallel()
	composite := "ssh-mldsa44-ed25519@openssh.com " + compositeBlob
	key := sshtest.NewKey()
	s := serve(t, key)
	h := openssh.NewHost(t, "bastion", s.Addr())
	writeFile(t, h.UserKnownHostsFiles[0], "# first\n"+at(s)+" "+composite+" comment\n")
	err := connects(t, h, nil)
	if e, ok := errors.AsType[*Error](err); !ok || !e.Unknown || !strings.Contains(err.Error(), h.UserKnownHostsFiles[0]+":2 holds a composite ML-DSA key") {
		t.Errorf("got %v", err)
	}
	writeFile(t, h.UserKnownHostsFiles[0], at(s)+" "+composite+"\n"+at(s)+" "+keyLine(key.PublicKey())+"\n")
	if err := connects(t, h, nil); err != nil {
		t.Errorf("with another key beside it: %v", err)
	}
	revoked := filepath.Join(t.TempDir(), "revoked")
	h.RevokedHostKeyFiles = []string{revoked}
	for _, text := range []string{composite + "\n", composite + "\n" + keyLine(key.PublicKey()) + "\n"} {
		writeFile(t, revoked, text)
		want := strings.Count(text, "\n") == 1
		if err := connects(t, h, nil); (err == nil) != want {
			t.Errorf("revoked %q: got %v", text, err)
		}
	}
	// A list with an authority of that type is a good list.
	list := krlMagic + hexString("00000001 0000000000000001 0000000000000000 0000000000000000 00000000 00000000")
	ca := ssh.Marshal(struct{ Type, Key string }{"ssh-mldsa44-ed25519@openssh.com", "x"})
	section := slices.Concat(ssh.Marshal(struct{ CA, Reserved string }{string(ca), ""}), []byte(hexString("20 00000008 0000000000000007")))
	if _, err := parseKRL([]byte(list + "\x01" + string(ssh.Marshal(struct{ S string }{string(section)})))); err != nil {
		t.Errorf("list: %v", err)
	}
}

// compositeBlob begins like a key of that type. What follows is of no interest.
const compositeBlob = "AAAAH3NzaC1tbGRzYTQ0LWVkMjU1MTlAb3BlbnNzaC5jb20AAAABeA=="
