//go:build !windows

package sshtunnel

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// Keys of all types, from files plain and encrypted, in all formats that ssh-keygen writes.
func TestKeyTypesOnRealServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tt := range []struct {
		name    string
		args    []string
		server  string
		encrypt bool
		accept  []string // PubkeyAcceptedAlgorithms of ours
	}{
		{name: "ed25519", args: []string{"-t", "ed25519"}},
		{name: "ed25519 encrypted", args: []string{"-t", "ed25519"}, encrypt: true},
		{name: "ecdsa 256", args: []string{"-t", "ecdsa", "-b", "256"}},
		{name: "ecdsa 384", args: []string{"-t", "ecdsa", "-b", "384"}, encrypt: true},
		{name: "ecdsa 521", args: []string{"-t", "ecdsa", "-b", "521"}},
		{name: "ecdsa PEM", args: []string{"-t", "ecdsa", "-m", "PEM"}},
		{name: "rsa, sha2-512", args: []string{"-t", "rsa", "-b", "2048"}, server: "PubkeyAcceptedAlgorithms rsa-sha2-512"},
		{name: "rsa, sha2-256", args: []string{"-t", "rsa", "-b", "2048"}, server: "PubkeyAcceptedAlgorithms rsa-sha2-256", accept: []string{"rsa-sha2-256"}},
		{name: "rsa encrypted", args: []string{"-t", "rsa", "-b", "2048"}, encrypt: true},
		{name: "rsa PEM encrypted", args: []string{"-t", "rsa", "-b", "2048", "-m", "PEM"}, encrypt: true},
		{name: "rsa PKCS8", args: []string{"-t", "rsa", "-b", "2048", "-m", "PKCS8"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key := filepath.Join(dir, tt.name)
			passphrase := ""
			if tt.encrypt {
				passphrase = "secret"
			}
			openssh.Run(t, "ssh-keygen", append([]string{"-q", "-a", "1", "-N", passphrase, "-f", key}, tt.args...)...)
			s := openssh.Start(t, openssh.ReadPublicKey(t, key+".pub"), tt.server)
			h := s.Host(t, "bastion", key)
			h.PubkeyAcceptedAlgorithms = tt.accept
			p := &person{answers: map[string][]string{"passphrase": {"secret"}}}
			if err := newTunnel(t, p.ask, h).Connect(t.Context()); err != nil {
				t.Error(err)
			}
			if got := len(p.asked) == 1; got != tt.encrypt {
				t.Errorf("asked %d times", len(p.asked))
			}
		})
	}
}

// A server that takes SHA-1 only lets us in exactly where PubkeyAcceptedAlgorithms asks for it, by
// a file, by the agent, and by a certificate.
func TestSHA1IsUsedWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "rsa")
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", key)
	sock := startAgent(t, key)
	algorithms := "PubkeyAcceptedAlgorithms ssh-rsa,ssh-rsa-cert-v01@openssh.com"
	plain := openssh.Start(t, openssh.ReadPublicKey(t, key+".pub"), algorithms)
	// The last but one depends on the release of sshd: older ones announce what they know, and not
	// what they accept.
	for _, accepted := range []string{"", "ssh-rsa", "ssh-rsa,rsa-sha2-512", "rsa-sha2-512,ssh-rsa", "ssh-ed25519,rsa-sha2-256"} {
		for _, agent := range []string{"none", sock} {
			t.Run(fmt.Sprint(accepted, " by agent ", agent != "none"), func(t *testing.T) {
				t.Parallel()
				h := plain.Host(t, "bastion", key)
				h.IdentityAgent = agent
				args := []string{"-F", "none", "-p", fmt.Sprint(h.Port), "-i", key, "-o", "BatchMode=yes", "-o", "IdentityAgent=" + agent, "-o", "UserKnownHostsFile=" + h.UserKnownHostsFiles[0]}
				if accepted != "" {
					h.PubkeyAcceptedAlgorithms = strings.Split(accepted, ",")
					args = append(args, "-o", "PubkeyAcceptedAlgorithms="+accepted)
				}
				out, sshErr := exec.CommandContext(t.Context(), openssh.Tool(t, "ssh"), append(args, h.HostName, "true")...).CombinedOutput()
				if want := strings.HasPrefix(accepted, "ssh-rsa"); (sshErr == nil) != want && !strings.HasSuffix(accepted, ",ssh-rsa") {
					t.Errorf("ssh: %v: %s", sshErr, out)
				}
				err := newTunnel(t, nil, h).Connect(t.Context())
				if (err == nil) != (sshErr == nil) {
					t.Fatalf("got %v, ssh %v", err, sshErr)
				}
				if auth, ok := errors.AsType[*AuthError](err); err != nil && (!ok || auth.NeedsPerson) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// A server that does not know SHA-2 gets no RSA key by default, as with ssh. The error says so, and
// names the setting that gets past it.
func TestServerWithoutSHA2(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "rsa")
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", key)
	config := &ssh.ServerConfig{
		PublicKeyAuthAlgorithms: []string{ssh.KeyAlgoRSA},
		PublicKeyCallback:       func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil },
	}
	config.AddHostKey(sshtest.NewKey())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, chans, reqs, err := ssh.NewServerConn(conn, config)
			if err == nil {
				go ssh.DiscardRequests(reqs)
				go func() { // ends with the connection
					for range chans {
					}
				}()
			}
		}
	}()
	h := openssh.NewHost(t, "bastion", ln.Addr().String())
	h.StrictHostKeyChecking, h.IdentityFiles = "accept-new", []string{key}
	err = newTunnel(t, nil, h).Connect(t.Context())
	auth, ok := errors.AsType[*AuthError](err)
	if !ok || len(auth.Tried) > 0 || !strings.Contains(err.Error(), key+": the server knows SHA-1 only for RSA keys") || !strings.Contains(err.Error(), "PubkeyAcceptedAlgorithms +ssh-rsa") {
		t.Errorf("got %v", err)
	}
	h.PubkeyAcceptedAlgorithms = append(sshconfig.DefaultAlgorithms("PubkeyAcceptedAlgorithms"), ssh.KeyAlgoRSA)
	if err := newTunnel(t, nil, h).Connect(t.Context()); err != nil {
		t.Errorf("with +ssh-rsa: %v", err)
	}
}

// strangeSigner shows a certificate whose authority has a key of a type that we do not know.
type strangeSigner struct {
	ssh.Signer
	blob []byte
}

type strangeCert struct {
	ssh.PublicKey
	blob []byte
}

func (s strangeSigner) PublicKey() ssh.PublicKey { return strangeCert{s.Signer.PublicKey(), s.blob} }
func (k strangeCert) Type() string               { return ssh.CertAlgoED25519v01 }
func (k strangeCert) Marshal() []byte            { return k.blob }

// A host certificate of a composite ML-DSA authority is named, with the way past it, and is no
// fault of the network.
func TestHostCertificateOfUnknownAuthority(t *testing.T) {
	t.Parallel()
	key := sshtest.NewKey()
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"x"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, sshtest.NewKey()); err != nil {
		t.Fatal(err)
	}
	ca := string(cert.SignatureKey.Marshal())
	strange := string(ssh.Marshal(struct{ Type, Key string }{"ssh-mldsa44-ed25519", "x"}))
	length := func(s string) string { return string(ssh.Marshal(struct{ S string }{s})) }
	blob := strings.Replace(string(cert.Marshal()), length(ca), length(strange), 1)
	s := startFake(t, sshtest.Config{HostKeys: []ssh.Signer{strangeSigner{key, []byte(blob)}, key}})
	h := openssh.NewHost(t, "bastion", s.Addr())
	h.StrictHostKeyChecking = "accept-new"
	tun := newTunnel(t, nil, h)
	err := tun.Connect(t.Context())
	wrong, ok := errors.AsType[*hostkeys.Error](err)
	if !ok || !wrong.Unknown || !strings.Contains(err.Error(), "ssh-mldsa44-ed25519") || !strings.Contains(err.Error(), "HostKeyAlgorithms -*cert*") {
		t.Fatalf("got %v", err)
	}
	if st, _ := tun.State(); st.Phase != Refused {
		t.Errorf("phase %s", st.Phase)
	}
	h.HostKeyAlgorithms = []string{ssh.KeyAlgoED25519}
	if err := newTunnel(t, nil, h).Connect(t.Context()); err != nil {
		t.Errorf("the plain key: %v", err)
	}
}

// As many keys are offered as the server allows (x/crypto's allows 128), and the last one may be
// the right one, also after one that does not sign.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	keyring := agent.NewKeyring()
	var keys []ssh.PublicKey
	for i := range 120 {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := keyring.Add(agent.AddedKey{PrivateKey: key, Comment: fmt.Sprint("key ", i)}); err != nil {
			t.Fatal(err)
		}
		pub, err := ssh.NewPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, pub)
	}
	s := startFake(t, sshtest.Config{AuthorizedKeys: []ssh.PublicKey{keys[60], keys[119]}, MaxAuthTries: 500})
	h := fakeHost(t, "bastion", s)
	h.IdentityAgent = serveAgent(t, reluctant{keyring.(agent.ExtendedAgent), keys[60]})
	var last AuthInfo
	count := 0
	tun := tunnelOf(t, Config{
		Chain: func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil },
		Trace: &Trace{AuthTried: func(i AuthInfo) { last, count = i, count+1 }},
	})
	if err := tun.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	long := (&AuthError{Tried: make([]string, 1000), Notes: make([]string, 1000)}).Error()
	if len(long) > 400 || !strings.Contains(long, "and 988 more") {
		t.Errorf("an error of %d bytes", len(long))
	}
	if last.Outcome != AuthAccepted || last.Source != "agent: key 119" || count < 120 {
		t.Errorf("%d tries, last %+v", count, last)
	}
}

// reluctant is an agent that does not sign with one of its keys.
type reluctant struct {
	agent.ExtendedAgent
	key ssh.PublicKey
}

func (r reluctant) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	if ssh.FingerprintSHA256(key) == ssh.FingerprintSHA256(r.key) {
		return nil, errors.New("no")
	}
	return r.ExtendedAgent.SignWithFlags(key, data, flags)
}

// RequiredRSASize leaves a user's key out, in a file and in the agent, and says so.
func TestRequiredRSASizeOfUserKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "rsa")
	openssh.Run(t, "ssh-keygen", "-q", "-N", "", "-t", "rsa", "-b", "2048", "-f", key)
	sock := startAgent(t, key)
	s := openssh.Start(t, openssh.ReadPublicKey(t, key+".pub"))
	for _, agent := range []string{"none", sock} {
		for _, required := range []int{0, 2048, 2049} {
			h := s.Host(t, "bastion", key)
			h.IdentityAgent, h.RequiredRSASize = agent, required
			err := newTunnel(t, nil, h).Connect(t.Context())
			if (err == nil) != (required <= 2048) {
				t.Errorf("%d: %v", required, err)
			}
			if err != nil && !strings.Contains(err.Error(), "an RSA key of 2048 bits, and RequiredRSASize is 2049") {
				t.Errorf("%d: %v", required, err)
			}
		}
	}
}

// securityKey is an agent with one FIDO key, as sk-ssh-ed25519@openssh.com signs (PROTOCOL.u2f).
type securityKey struct {
	agent.ExtendedAgent // the rest is not asked for
	private             ed25519.PrivateKey
	pub                 ssh.PublicKey
}

func newSecurityKey(t *testing.T) *securityKey {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	blob := ssh.Marshal(struct {
		Type string
		Key  []byte
		App  string
	}{ssh.KeyAlgoSKED25519, pub, "ssh:"})
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		t.Fatal(err)
	}
	return &securityKey{private: private, pub: key}
}

func (k *securityKey) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: k.pub.Type(), Blob: k.pub.Marshal(), Comment: "security key"}}, nil
}

func (k *securityKey) Extension(string, []byte) ([]byte, error) {
	return nil, agent.ErrExtensionUnsupported
}

func (k *securityKey) SignWithFlags(_ ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	flagsAndCounter := []byte{1, 0, 0, 0, 7} // touched
	signed := slices.Concat(app[:], flagsAndCounter, message[:])
	return &ssh.Signature{Format: k.pub.Type(), Blob: ed25519.Sign(k.private, signed), Rest: flagsAndCounter}, nil
}

// writeFile makes the file that ssh-keygen makes for a security key: a handle instead of a private
// key.
func (k *securityKey) writeFile(t *testing.T, path string) {
	t.Helper()
	secret := ssh.Marshal(struct {
		Check1, Check2 uint32
		Key            []byte `ssh:"rest"`
	}{5, 5, slices.Concat(k.pub.Marshal(), []byte{1}, make([]byte, 8), ssh.Marshal(struct{ C string }{"security key"}), []byte{1, 2, 3})})
	body := ssh.Marshal(struct {
		Cipher, KDF, Options string
		Keys                 uint32
		Public, Secret       []byte
	}{"none", "none", "", 1, k.pub.Marshal(), secret})
	writeFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: append([]byte("openssh-key-v1\x00"), body...)})))
}

func serveAgent(t *testing.T, a agent.Agent) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with ln
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the client
				defer c.Close()
				agent.ServeAgent(a, c)
			}()
		}
	}()
	return ln.Addr().String()
}

// A security key works by the agent, with or without its file. Without the agent, the error
// explains the file.
func TestSecurityKey(t *testing.T) {
	t.Parallel()
	key := newSecurityKey(t)
	s := openssh.Start(t, key.pub)
	file := filepath.Join(t.TempDir(), "id_ed25519_sk")
	key.writeFile(t, file)
	h := s.Host(t, "bastion", file)
	h.IdentitiesOnly = true
	h.SecurityKeyProvider = "none"
	err := newTunnel(t, nil, h).Connect(t.Context())
	if auth, ok := errors.AsType[*AuthError](err); !ok || !strings.Contains(err.Error(), "security key") {
		t.Errorf("without an agent: %v, %v", auth, err)
	}
	h.IdentityAgent = serveAgent(t, key)
	if err := newTunnel(t, nil, h).Connect(t.Context()); err != nil {
		t.Errorf("with the agent: %v", err)
	}
	h.IdentityFiles, h.IdentitiesOnly = nil, false
	if err := newTunnel(t, nil, h).Connect(t.Context()); err != nil {
		t.Errorf("without a file: %v", err)
	}
}

// The person is told to touch a security key in a file, wherever the person is.
func TestTouchIsTold(t *testing.T) {
	t.Parallel()
	key := newSecurityKey(t)
	s := openssh.Start(t, key.pub)
	file := filepath.Join(t.TempDir(), "id_ed25519_sk")
	key.writeFile(t, file)
	var told []Notice
	tun := tunnelOf(t, Config{
		Chain: func(context.Context) ([]*sshconfig.Host, error) {
			return []*sshconfig.Host{s.Host(t, "bastion", file)}, nil
		},
		Notice: func(n Notice) { told = append(told, n) },
		Getenv: func(name string) string { return map[string]string{"SSH_SK_HELPER": "/bin/false"}[name] },
	})
	err := tun.Connect(t.Context())
	if auth, ok := errors.AsType[*AuthError](err); !ok || !strings.Contains(err.Error(), "/bin/false: exit status 1") {
		t.Errorf("got %v, %v", auth, err)
	}
	if len(told) != 1 || told[0].Text != "Confirm user presence for key ED25519-SK "+ssh.FingerprintSHA256(key.pub) {
		t.Errorf("told %+v", told)
	}
}

// noted is an agent that remembers what is added to it.
type noted struct {
	agent.Agent
	added []agent.AddedKey
}

func (n *noted) Add(k agent.AddedKey) error {
	n.added = append(n.added, k)
	return n.Agent.Add(k)
}

func TestAddKeysToAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "id")
	pub := openssh.WriteKey(t, key, "secret").PublicKey()
	writeFile(t, key+".pub", openssh.KeyLine(pub)+" my comment\n")
	s := openssh.Start(t, pub)
	for _, tt := range []struct {
		option  string
		answers []string
		added   bool
		life    uint32
		confirm bool
	}{
		{option: "no"},
		{option: "yes", added: true},
		{option: "3600", added: true, life: 3600},
		{option: "confirm", added: true, confirm: true},
		{option: "confirm 60", added: true, confirm: true, life: 60},
		{option: "ask", answers: []string{"yes"}, added: true},
		{option: "ask", answers: []string{""}, added: true},
		{option: "ask", answers: []string{"no"}},
		{option: "ask"}, // nobody there
	} {
		t.Run(tt.option+strings.Join(tt.answers, ""), func(t *testing.T) {
			t.Parallel()
			n := &noted{Agent: agent.NewKeyring()}
			h := s.Host(t, "bastion", key)
			h.IdentityAgent, h.AddKeysToAgent = serveAgent(t, n), tt.option
			p := &person{answers: map[string][]string{"passphrase": {"secret"}, "add-key": tt.answers}}
			if err := newTunnel(t, p.ask, h).Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := len(n.added) == 1; got != tt.added {
				t.Fatalf("added %d keys", len(n.added))
			}
			if !tt.added {
				return
			}
			if k := n.added[0]; k.Comment != "my comment" || k.LifetimeSecs != tt.life || k.ConfirmBeforeUse != tt.confirm {
				t.Errorf("added %q for %d s, confirm %v", k.Comment, k.LifetimeSecs, k.ConfirmBeforeUse)
			}
		})
	}
	t.Run("real agent", func(t *testing.T) {
		h := s.Host(t, "bastion", key)
		h.IdentityAgent, h.AddKeysToAgent = startAgent(t), "3600"
		p := &person{answers: map[string][]string{"passphrase": {"secret"}}}
		for range 2 { // the second time the agent signs
			if err := newTunnel(t, p.ask, h).Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(p.asked) != 1 {
			t.Errorf("asked %d times", len(p.asked))
		}
		list := exec.CommandContext(t.Context(), openssh.Tool(t, "ssh-add"), "-l")
		list.Env = append(os.Environ(), "SSH_AUTH_SOCK="+h.IdentityAgent)
		out, err := list.CombinedOutput()
		if err != nil || !strings.Contains(string(out), ssh.FingerprintSHA256(pub)+" my comment") {
			t.Errorf("ssh-add: %v: %s", err, out)
		}
	})
}

// The order in which keys are offered is the one of a real ssh with the same agent and files.
func TestKeyOrderAgreesWithSSH(t *testing.T) {
	t.Parallel()
	dir, keys := keyDir(t, "ca", "certified", "beside", "listed", "other1", "other2", "file", "public")
	path := func(n string) string { return filepath.Join(dir, n) }
	openssh.Run(t, "ssh-keygen", "-q", "-s", path("ca"), "-I", "id", "-n", "someone", path("certified.pub"))
	os.Rename(path("certified-cert.pub"), path("cert"))
	openssh.Run(t, "ssh-keygen", "-q", "-s", path("ca"), "-I", "id", "-n", "someone", path("beside.pub"))
	sock := startAgent(t, path("other1"), path("listed"), path("public"), path("other2"))
	os.Remove(path("public"))
	for _, tt := range []struct {
		name  string
		files []string
		certs []string
		only  bool
	}{
		{name: "all", files: []string{"file", "listed", "certified"}, certs: []string{"cert"}},
		{name: "IdentitiesOnly", files: []string{"file", "listed", "certified"}, certs: []string{"cert"}, only: true},
		{name: "lone .pub", files: []string{"public.pub", "file"}},
		{name: "lone .pub, IdentitiesOnly", files: []string{"public.pub"}, only: true},
		{name: "public half only", files: []string{"public", "file"}, only: true},
		{name: "twice", files: []string{"file", "file", "listed"}, only: true},
		{name: "certificate beside", files: []string{"file", "beside", "listed"}},
		{name: "certificate beside a key that another names", files: []string{"file", "beside", "certified"}, certs: []string{"cert"}},
		{name: "two listed", files: []string{"public", "other1", "file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startFake(t, sshtest.Config{AuthorizedKeys: []ssh.PublicKey{keys["ca"].PublicKey()}, MaxAuthTries: 50})
			h := fakeHost(t, "bastion", s)
			h.IdentityAgent, h.IdentitiesOnly, h.IdentityFilesSet = sock, tt.only, true
			args := []string{"-v", "-F", "none", "-p", fmt.Sprint(h.Port), "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=" + h.UserKnownHostsFiles[0],
				"-o", "IdentityAgent=" + sock, "-o", fmt.Sprintf("IdentitiesOnly=%v", map[bool]string{true: "yes", false: "no"}[tt.only]), "-l", "someone"}
			for _, f := range tt.files {
				h.IdentityFiles = append(h.IdentityFiles, path(f))
				args = append(args, "-o", "IdentityFile="+path(f)) // -i leaves out a missing file
			}
			for _, c := range tt.certs {
				h.CertificateFiles = append(h.CertificateFiles, path(c))
				args = append(args, "-o", "CertificateFile="+path(c))
			}
			out, _ := exec.CommandContext(t.Context(), openssh.Tool(t, "ssh"), append(args, h.HostName, "true")...).CombinedOutput() // nobody gets in
			var want, got []string
			for line := range strings.Lines(string(out)) {
				if _, offered, ok := strings.Cut(line, "Offering public key: "); ok {
					for _, f := range strings.Fields(offered) {
						if strings.HasPrefix(f, "SHA256:") {
							want = append(want, f)
						}
					}
				}
			}
			auth, ok := errors.AsType[*AuthError](newTunnel(t, nil, h).Connect(t.Context()))
			if !ok {
				t.Fatal("got in")
			}
			for _, tried := range auth.Tried {
				got = append(got, strings.Fields(tried)[1])
			}
			if len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("got %q\nssh %q\n%q", got, want, auth.Tried)
			}
		})
	}
}

// The error names the methods that cannot be used, and why.
func TestMethodsAreExplained(t *testing.T) {
	t.Parallel()
	gssapi := openssh.Start(t, nil, "PubkeyAuthentication no", "GSSAPIAuthentication yes", "HostbasedAuthentication yes").Addr.String()
	ordinary := startFake(t, sshtest.Config{AuthorizedKeys: []ssh.PublicKey{sshtest.NewKey().PublicKey()}, Password: "x", Challenges: []sshtest.Challenge{{}}, MaxAuthTries: 20}).Addr()
	for _, tt := range []struct {
		name string
		addr string
		edit func(*sshconfig.Host)
		want []string
	}{
		{"GSSAPI only", gssapi, func(*sshconfig.Host) {}, []string{"gssapi-with-mic (GSSAPI, Kerberos) is not supported", `"hostbased" is not supported`}},
		{"turned off", ordinary, func(h *sshconfig.Host) {
			h.PubkeyAuthentication, h.PasswordAuthentication, h.KbdInteractiveAuthentication = false, false, false
		}, []string{"PubkeyAuthentication is off, which rules out publickey", "PasswordAuthentication is off, which rules out password", "KbdInteractiveAuthentication is off, which rules out keyboard-interactive"}},
		{"not preferred", ordinary, func(h *sshconfig.Host) { h.PreferredAuthentications = []string{"publickey"} }, []string{"PreferredAuthentications does not list password"}},
		{"BatchMode", ordinary, func(h *sshconfig.Host) { h.BatchMode = true }, []string{"BatchMode forbids"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := openssh.NewHost(t, "bastion", tt.addr)
			h.StrictHostKeyChecking = "accept-new"
			tt.edit(h)
			err := newTunnel(t, nil, h).Connect(t.Context())
			auth, ok := errors.AsType[*AuthError](err)
			if !ok || auth.NeedsPerson {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in %v", want, err)
				}
			}
		})
	}
}
