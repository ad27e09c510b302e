package cleartext

import (
	"crypto/rand"
	"crypto/rsa"
	"io"
	"net"
	"slices"
	"testing"
	"testing/iotest"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshtest"
)

// slowConn gives one byte at a time.
type slowConn struct {
	net.Conn
	r io.Reader
}

func (c slowConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// The witness of any key exchange has the proof of its session, and of no other. It does not matter
// how the bytes come.
func TestWitness(t *testing.T) {
	t.Parallel()
	short, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := ssh.NewSignerFromKey(short)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: rsaKey.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"x"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, sshtest.NewKey()); err != nil {
		t.Fatal(err)
	}
	certified, err := ssh.NewCertSigner(cert, rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, kex := range slices.Concat(ssh.SupportedAlgorithms().KeyExchanges, ssh.InsecureAlgorithms().KeyExchanges) {
		for i, key := range []ssh.Signer{sshtest.NewKey(), rsaKey, certified} {
			for _, slow := range []bool{false, true} {
				t.Run(kex+" "+[]string{"ed25519", "rsa", "certificate"}[i]+map[bool]string{true: " slowly"}[slow], func(t *testing.T) {
					t.Parallel()
					witnessKex(t, kex, key, slow)
				})
			}
		}
	}
}

func witnessKex(t *testing.T, kex string, key ssh.Signer, slow bool) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with the client
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		config := &ssh.ServerConfig{NoClientAuth: true, Config: ssh.Config{KeyExchanges: []string{kex}}}
		config.AddHostKey(key)
		io.WriteString(conn, "hello\r\nthis is a server\r\n")
		ssh.NewServerConn(conn, config)
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if slow {
		raw = slowConn{raw, iotest.OneByteReader(raw)}
	}
	w := &Witness{Conn: raw}
	conn, _, _, err := ssh.NewClientConn(w, "", &ssh.ClientConfig{
		Config:          ssh.Config{KeyExchanges: []string{kex}},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	b, ok := w.Binding(conn.SessionID())
	if !ok || string(b.HostKey) != string(key.PublicKey().Marshal()) || w.text != nil {
		t.Errorf("binding: %v, %+v", ok, b)
	}
	if _, ok := w.Binding(make([]byte, 32)); ok {
		t.Error("a binding to another session")
	}
}

// No bytes make the witness panic, hold much, or change what is read.
func FuzzWitness(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x15aaaaaaaaaa"))
	f.Add([]byte("SSH-2.0-x\n\x00\x00\x00\x14\x04\x1f\x00\x00\x00\x01a\x00\x00\x00\x01b\x00\x00\x00\x00pppp"))
	f.Add([]byte("no\nSSH-\n\xff\xff\xff\xff\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		defer near.Close()
		go func() { // ends when all is read, or with near
			far.Write(b)
			far.Close()
		}()
		w := &Witness{Conn: near}
		got, err := io.ReadAll(w)
		if err != nil || string(got) != string(b) {
			t.Fatalf("read %q, %v", got, err)
		}
		if _, ok := w.Binding([]byte("session")); ok {
			t.Error("a binding from nothing")
		}
		if len(w.text) > maxKexBytes {
			t.Errorf("%d bytes held", len(w.text))
		}
	})
}
