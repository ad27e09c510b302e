//go:build !windows

package userkeys

import (
	"cmp"
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
	"sallyport/sshtunnel/sshtest/openssh"
)

// orderCases are configurations, what the agent holds, and the order in which OpenSSH 10.5 offers
// the keys, recorded from `ssh -Z`. A name with -cert is a certificate, and one with @ is in the
// agent. K stands for the directory of the keys.
var orderCases = []struct {
	name, config string
	// agent names what the agent holds, in its order.
	agent string
	want  string
	// ssh is what ssh offers besides, to no avail: a key twice, or a public key alone. "" is
	// nothing.
	ssh string
}{
	{"files alone", "IdentityFile K/rsa\nIdentityFile K/ed\n", "", "rsa rsa-cert ed ed-cert", ""},
	{"files alone, the other way round", "IdentityFile K/ed\nIdentityFile K/rsa\n", "", "ed ed-cert rsa rsa-cert", ""},
	{"agent alone", "IdentityFile none\n", "rsa ed", "rsa@ ed@", ""},
	{"listed before others", "IdentityFile K/ed\n", "rsa ec ed", "ed@ rsa@ ec@ ed-cert@", ""},
	{"the agent's order among listed ones", "IdentityFile K/ed\nIdentityFile K/rsa\n", "rsa ed", "rsa@ ed@ ed-cert@ rsa-cert@", ""},
	{"only the listed ones", "IdentityFile K/ed\nIdentitiesOnly yes\n", "rsa ec ed", "ed@ ed-cert@", ""},
	{"files last", "IdentityFile K/rsa\nIdentityFile K/ed\n", "ec ed", "ed@ ec@ rsa rsa-cert ed-cert@", ""},
	{"a public key selects", "IdentityFile K/pub/ec.pub\nIdentitiesOnly yes\n", "rsa ec ed", "ec@", ""},
	{"a public key without an agent", "IdentityFile K/pub/ec.pub\nIdentityFile K/ed\n", "", "ed ed-cert", "ec ed ed-cert"},
	{"a certificate of the agent", "IdentityFile none\n", "rsa ed-cert ed", "ed-cert@ rsa@ ed@", ""},
	{"a certificate of the agent, listed", "IdentityFile K/ed\nIdentitiesOnly yes\n", "rsa ed-cert ed", "ed-cert@ ed@", ""},
	{"CertificateFile", "IdentityFile K/ec\nCertificateFile K/rsa-cert.pub\nIdentityFile K/rsa\n", "", "rsa-cert ec rsa", ""},
	{"CertificateFile with its key in the agent", "IdentityFile K/ec\nCertificateFile K/rsa-cert.pub\n", "rsa", "rsa-cert@ rsa@ ec", ""},
	{"only some types", "IdentityFile K/rsa\nIdentityFile K/ed\nPubkeyAcceptedAlgorithms rsa-*\n", "ed", "rsa rsa-cert", ""},
	{"no certificates", "IdentityFile K/rsa\nIdentityFile K/ed\nPubkeyAcceptedAlgorithms -*cert*\n", "ed", "ed@ rsa", ""},
	{"long RSA keys only", "IdentityFile K/rsa\nIdentityFile K/ed\nRequiredRSASize 3072\n", "rsa ec", "ec@ ed ed-cert", ""},
	{"the same file twice", "IdentityFile K/ed\nIdentityFile K/pub/../ed\n", "", "ed ed-cert", "ed ed-cert ed ed-cert"},
	{"a file that is not there", "IdentityFile K/gone\nIdentityFile K/ed\n", "", "ed ed-cert", ""},
	{"no agent", "IdentityFile K/ed\nIdentityAgent none\n", "rsa ed", "ed ed-cert", ""},
}

// The keys are offered in ssh's order. If SALLYPORT_SSH names an ssh of 10.5 or newer, its `ssh -Z`
// is asked, too.
func TestOrderOfKeys(t *testing.T) {
	dir := t.TempDir()
	keys := makeOrderKeys(t, dir)
	for _, tt := range orderCases {
		t.Run(tt.name, func(t *testing.T) {
			socket := serveOrderAgent(t, keys, strings.Fields(tt.agent))
			config := filepath.Join(t.TempDir(), "config")
			text := strings.ReplaceAll(tt.config, "K/", dir+"/")
			if err := os.WriteFile(config, []byte("IdentityAgent "+socket+"\n"+text), 0o600); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text, "IdentityAgent none") {
				if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(ourOrder(t, config, keys), " "); got != tt.want {
				t.Errorf("order = %s, want %s", got, tt.want)
			}
			if program := os.Getenv("SALLYPORT_SSH"); program != "" {
				// It does not say that a certificate's key is in the agent.
				want := strings.ReplaceAll(cmp.Or(tt.ssh, tt.want), "-cert@", "-cert")
				got := strings.ReplaceAll(strings.Join(sshOrder(t, program, config, keys), " "), "-cert@", "-cert")
				if got != want {
					t.Errorf("ssh -Z has %s, want %s", got, want)
				}
			}
		})
	}
}

// orderKey is a key with its certificate.
type orderKey struct {
	name        string
	private     any
	public      ssh.PublicKey
	certificate *ssh.Certificate
}

// makeOrderKeys writes three keys into dir, two of them with a certificate, and the public half of
// the third into dir/pub.
func makeOrderKeys(t *testing.T, dir string) (keys []orderKey) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	openssh.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at("ca"))
	for name, kind := range map[string]string{"rsa": "rsa", "ed": "ed25519", "ec": "ecdsa"} {
		args := []string{"-q", "-t", kind, "-N", "", "-C", name, "-f", at(name)}
		if kind == "rsa" {
			args = append(args, "-b", "2048")
		}
		openssh.Run(t, "ssh-keygen", args...)
		text, err := os.ReadFile(at(name))
		if err != nil {
			t.Fatal(err)
		}
		private, err := ssh.ParseRawPrivateKey(text)
		if err != nil {
			t.Fatal(err)
		}
		k := orderKey{name: name, private: private, public: openssh.ReadPublicKey(t, at(name)+".pub")}
		if name != "ec" {
			openssh.Run(t, "ssh-keygen", "-q", "-s", at("ca"), "-I", name, "-n", "me", at(name)+".pub")
			k.certificate = openssh.ReadPublicKey(t, at(name)+"-cert.pub").(*ssh.Certificate)
		}
		keys = append(keys, k)
	}
	if err := os.Mkdir(at("pub"), 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(at("ec.pub"))
	if err == nil {
		err = os.WriteFile(at("pub/ec.pub"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// serveOrderAgent starts an agent with the named keys and certificates, and returns its socket.
func serveOrderAgent(t *testing.T, keys []orderKey, names []string) string {
	t.Helper()
	keyring := agent.NewKeyring()
	for _, name := range names {
		plain, isCert := strings.CutSuffix(name, "-cert")
		i := slices.IndexFunc(keys, func(k orderKey) bool { return k.name == plain })
		added := agent.AddedKey{PrivateKey: keys[i].private, Comment: plain}
		if isCert {
			added.Certificate = keys[i].certificate
		}
		if err := keyring.Add(added); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "order") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() { // ends with listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // ends with conn, which the client closes
				defer conn.Close()
				agent.ServeAgent(keyring, conn)
			}()
		}
	}()
	return filepath.Join(dir, "s")
}

// ourOrder is what Collect returns.
func ourOrder(t *testing.T, config string, keys []orderKey) (names []string) {
	t.Helper()
	r := &sshconfig.Resolver{UserFile: config, UserFileRequired: true}
	h, err := r.Resolve(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	a, err := OpenAgent(t.Context(), h, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	collected := Collect(Config{
		Host: h, Agent: a, Note: func(text string) { t.Log(text) }, AgentFailed: func(err error) { t.Error(err) },
		NeedsPerson: func() {}, SignFailed: func(error) {},
	})
	for _, k := range collected {
		public := k.Signer.PublicKey()
		name := nameOfKey(keys, hostkeys.Fingerprint(public))
		if hostkeys.IsCertificateAlgorithm(public.Type()) {
			name += "-cert"
		}
		if k.InAgent {
			name += "@"
		}
		names = append(names, name)
	}
	return names
}

// sshOrder is what `ssh -Z` prints: a file or a comment, the type, the fingerprint, and remarks.
func sshOrder(t *testing.T, program, config string, keys []orderKey) (names []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "-F", config, "-Z", "x")
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s -Z: %v", program, err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		i := slices.IndexFunc(fields, func(s string) bool { return strings.HasPrefix(s, "SHA256:") })
		if i < 1 {
			continue // a file that is not there, or whose public half is not known
		}
		name := nameOfKey(keys, fields[i])
		if strings.HasSuffix(fields[i-1], "-CERT") {
			name += "-cert"
		}
		if slices.Contains(fields[i:], "agent") {
			name += "@"
		}
		names = append(names, name)
	}
	return names
}

func nameOfKey(keys []orderKey, fingerprint string) string {
	for _, k := range keys {
		if hostkeys.Fingerprint(k.public) == fingerprint {
			return k.name
		}
	}
	return fingerprint
}
