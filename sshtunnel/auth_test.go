//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/channel"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// person answers questions by their kind, and remembers them.
type person struct {
	mu      sync.Mutex
	answers map[string][]string // by kind, used up in turn
	asked   []Question
}

func (p *person) ask(_ context.Context, q Question) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, q)
	left := p.answers[q.Kind]
	if len(left) == 0 {
		return "", ErrNoPerson
	}
	p.answers[q.Kind] = left[1:]
	return left[0], nil
}

// startAgent runs a real ssh-agent and returns its socket.
func startAgent(t *testing.T, keys ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "s")
	cmd := exec.Command(openssh.Tool(t, "ssh-agent"), "-D", "-a", sock)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	openssh.Eventually(t, "the agent listens", func() bool {
		c, err := net.Dial("unix", sock)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	for _, k := range keys {
		add := exec.Command(openssh.Tool(t, "ssh-add"), "-q", k)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v: %s", err, out)
		}
	}
	return sock
}

// dir holds keys named after their files.
func keyDir(t *testing.T, names ...string) (dir string, keys map[string]ssh.Signer) {
	t.Helper()
	dir, keys = t.TempDir(), map[string]ssh.Signer{}
	for _, n := range names {
		keys[n] = openssh.WriteKey(t, filepath.Join(dir, n), "")
	}
	return dir, keys
}

func TestAgentSignsOnRealServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, kind := range [][]string{{"ed25519"}, {"ecdsa", "-b", "384"}, {"rsa", "-b", "2048"}} {
		t.Run(kind[0], func(t *testing.T) {
			key := filepath.Join(dir, kind[0])
			openssh.Run(t, "ssh-keygen", append([]string{"-q", "-N", "", "-f", key, "-t"}, kind...)...)
			sock := startAgent(t, key)
			s := openssh.Start(t, openssh.ReadPublicKey(t, key+".pub"))
			h := s.Host(t, "bastion", key+".pub") // a lone .pub selects the agent's key
			h.IdentityAgent, h.IdentitiesOnly = "", true
			os.Remove(key)
			tun := tunnelOf(t, Config{
				Chain:  func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil },
				Getenv: func(k string) string { return map[string]string{"SSH_AUTH_SOCK": sock}[k] },
			})
			if err := tun.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// OpenSSH's order: the agent's listed keys, its other keys, files, each with the certificate beside
// it.
func TestKeyOrder(t *testing.T) {
	t.Parallel()
	dir, keys := keyDir(t, "ca", "certified", "listed", "other", "file")
	path := func(n string) string { return filepath.Join(dir, n) }
	openssh.Run(t, "ssh-keygen", "-q", "-s", path("ca"), "-I", "id", "-n", "someone", path("certified.pub"))
	sock := startAgent(t, path("other"), path("listed"))
	offered := func(edit func(*sshconfig.Host)) []string {
		s := startFake(t, sshtest.Config{AuthorizedKeys: []ssh.PublicKey{keys["ca"].PublicKey()}, MaxAuthTries: 50})
		h := fakeHost(t, "bastion", s)
		h.IdentityAgent = sock
		h.IdentityFiles, h.IdentityFilesSet = []string{path("certified"), path("file"), path("listed")}, true
		edit(h)
		err := newTunnel(t, nil, h).Connect(t.Context())
		auth, ok := errors.AsType[*AuthError](err)
		if !ok {
			t.Fatalf("got %v", err)
		}
		var names []string
		for _, tried := range auth.Tried {
			_, label, _ := strings.Cut(tried, " (")
			names = append(names, strings.TrimPrefix(strings.TrimSuffix(label, ")"), dir+"/"))
		}
		return names
	}
	if got, want := offered(func(*sshconfig.Host) {}), []string{"listed", "agent: test", "certified", "certified-cert.pub", "file"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := offered(func(h *sshconfig.Host) { h.IdentitiesOnly = true }), []string{"listed", "certified", "certified-cert.pub", "file"}; !slices.Equal(got, want) {
		t.Errorf("IdentitiesOnly: got %q, want %q", got, want)
	}
}

func TestUserCertificateOnRealServer(t *testing.T) {
	t.Parallel()
	dir, _ := keyDir(t, "ca", "id")
	key := filepath.Join(dir, "id")
	s := openssh.Start(t, nil, "TrustedUserCAKeys "+filepath.Join(dir, "ca.pub"))
	h := s.Host(t, "bastion", key)
	openssh.Run(t, "ssh-keygen", "-q", "-s", filepath.Join(dir, "ca"), "-I", "id", "-n", h.User, key+".pub")
	if err := newTunnel(t, nil, h).Connect(t.Context()); err != nil {
		t.Errorf("implicit -cert.pub: %v", err)
	}
	os.Rename(key+"-cert.pub", filepath.Join(dir, "elsewhere"))
	h.CertificateFiles = []string{filepath.Join(dir, "elsewhere")}
	if err := newTunnel(t, nil, h).Connect(t.Context()); err != nil {
		t.Errorf("CertificateFile: %v", err)
	}
}

// The passphrase is asked for after the server accepted the key, and not for a key it does not
// want.
func TestPassphraseOnlyForAcceptedKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unwanted, wanted := filepath.Join(dir, "unwanted"), filepath.Join(dir, "wanted")
	openssh.WriteKey(t, unwanted, "other secret")
	s := openssh.Start(t, openssh.WriteKey(t, wanted, "secret").PublicKey())
	h := s.Host(t, "bastion", wanted)
	h.IdentityFiles = []string{unwanted, wanted}
	p := &person{answers: map[string][]string{"passphrase": {"wrong", "secret"}}}
	if err := newTunnel(t, p.ask, h).Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(p.asked) != 2 || !strings.Contains(p.asked[0].Prompt, wanted) || p.asked[0].Hop != "bastion" || p.asked[0].Echo {
		t.Errorf("asked %+v", p.asked)
	}
}

func TestKeyboardInteractiveAfterKey(t *testing.T) {
	t.Parallel()
	dir, keys := keyDir(t, "id")
	s := startFake(t, sshtest.Config{
		AuthorizedKeys: []ssh.PublicKey{keys["id"].PublicKey()}, SecondFactor: true,
		Challenges: []sshtest.Challenge{
			{Instruction: "first\x1b[2J", Prompts: []string{"Token: "}, Echo: []bool{true}, Answers: []string{"123"}},
			{},
			{Prompts: []string{"PIN: ", "Again: "}, Answers: []string{"4", "4"}},
		},
	})
	h := fakeHost(t, "bastion", s)
	h.IdentityFiles = []string{filepath.Join(dir, "id")}
	p := &person{answers: map[string][]string{"keyboard-interactive": {"123", "4", "4"}}}
	if err := newTunnel(t, p.ask, h).Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if q := p.asked[0]; !q.Echo || strings.ContainsRune(q.Prompt, 0x1b) || !strings.Contains(q.Prompt, "first") {
		t.Errorf("asked %+v", q)
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{Password: "right", MaxAuthTries: 20})
	for _, tt := range []struct {
		name    string
		answers []string
		edit    func(*sshconfig.Host)
		asked   int
		ok      bool
		person  bool
	}{
		{name: "third time lucky", answers: []string{"a", "b", "right"}, asked: 3, ok: true},
		{name: "refused", answers: []string{"a", "b", "c", "right"}, asked: 3},
		{name: "nobody", asked: 1, person: true},
		{name: "BatchMode", answers: []string{"right"}, edit: func(h *sshconfig.Host) { h.BatchMode = true }},
		{name: "PasswordAuthentication no", answers: []string{"right"}, edit: func(h *sshconfig.Host) { h.PasswordAuthentication = false }},
		{name: "PreferredAuthentications", answers: []string{"right"}, edit: func(h *sshconfig.Host) { h.PreferredAuthentications = []string{"publickey"} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := fakeHost(t, "bastion", s)
			if tt.edit != nil {
				tt.edit(h)
			}
			p := &person{answers: map[string][]string{"password": tt.answers}}
			tun := newTunnel(t, p.ask, h)
			err := tun.Connect(t.Context())
			if len(p.asked) != tt.asked {
				t.Errorf("asked %d times, want %d", len(p.asked), tt.asked)
			}
			if tt.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			auth, ok := errors.AsType[*AuthError](err)
			hop, _ := errors.AsType[*HopError](err)
			if !ok || auth.NeedsPerson != tt.person || !slices.Equal(auth.Methods, []string{"password"}) || hop.Stage != StageAuth {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "right") {
				t.Error("the password is in the error")
			}
			want := map[bool]string{true: NeedsPerson, false: Refused}[tt.person]
			if st, _ := tun.State(); st.Phase != want || st.Hop != "bastion" {
				t.Errorf("state %+v, want %s", st, want)
			}
			// Neither is tried again at once: it would lock the account.
			before := s.Accepted()
			if _, err := tun.DialContext(t.Context(), "tcp", "x:1"); err == nil || s.Accepted() != before {
				t.Errorf("DialContext: %v, %d more connections", err, s.Accepted()-before)
			}
		})
	}
}

func TestTooManyKeysOnRealServer(t *testing.T) {
	t.Parallel()
	dir, keys := keyDir(t, "a", "b", "c")
	s := openssh.Start(t, keys["c"].PublicKey(), "MaxAuthTries 2")
	h := s.Host(t, "bastion", "")
	h.IdentityFiles = []string{dir + "/a", dir + "/b", dir + "/c"}
	err := newTunnel(t, nil, h).Connect(t.Context())
	if auth, ok := errors.AsType[*AuthError](err); !ok || !auth.TooMany || !strings.Contains(err.Error(), "IdentitiesOnly") {
		t.Errorf("got %v", err)
	}
}

func TestUnusableKeysAreTold(t *testing.T) {
	t.Parallel()
	dir, _ := keyDir(t, "open", "locked")
	os.Chmod(dir+"/open", 0o644)
	openssh.WriteKey(t, dir+"/locked", "secret")
	s := startFake(t, sshtest.Config{AuthorizedKeys: []ssh.PublicKey{openssh.ReadPublicKey(t, dir+"/locked.pub")}})
	h := fakeHost(t, "bastion", s)
	h.IdentityFiles, h.IdentityFilesSet = []string{dir + "/open", dir + "/missing", dir + "/locked"}, true
	h.IdentityAgent = dir + "/nosuch"
	err := newTunnel(t, nil, h).Connect(t.Context())
	auth, ok := errors.AsType[*AuthError](err)
	if !ok || !auth.NeedsPerson {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"chmod 600", "missing: ", "agent at ", "locked: passphrase: nobody"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

// The clock of ConnectTimeout stands still while a person thinks, and only then.
func TestTimeoutWaitsForThePerson(t *testing.T) {
	t.Parallel()
	signer := sshtest.NewKey()
	for _, tt := range []struct {
		name          string
		server, asked time.Duration // that the server takes, before the question and after; and the person
		ok            bool
	}{
		{"a slow person", 9 * time.Second, time.Hour, true},
		{"a slow server", 21 * time.Second, time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := openssh.NewHost(t, "bastion", "127.0.0.1:1")
			h.ConnectTimeout = 20 * time.Second
			writeFile(t, h.UserKnownHostsFiles[0], "[127.0.0.1]:1 "+string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
			synctest.Test(t, func(t *testing.T) {
				config := &ssh.ServerConfig{PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
					time.Sleep(tt.server)
					return nil, nil
				}}
				config.AddHostKey(signer)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				cfg := &Config{Log: testLog(t), Notice: func(Notice) {}, settings: settings{patience: time.Minute}, Ask: func(ctx context.Context, q Question) (string, error) {
					time.Sleep(tt.asked)
					return "password", context.Cause(ctx)
				}}
				prepared := prepare(ctx, cfg, h)
				defer prepared.end()
				via := memoryHop{serve: func(conn net.Conn) {
					time.Sleep(tt.server)
					if c, _, _, err := ssh.NewServerConn(conn, config); err == nil {
						c.Wait()
					}
				}}
				l := newLink()
				d := &dialer{cfg: cfg, host: h, prepared: prepared, via: via, link: l, report: func(progress) {}}
				hp, err := d.dial(ctx)
				if _, timeout := errors.AsType[*TimeoutError](err); (err == nil) != tt.ok || timeout == tt.ok {
					t.Errorf("got %v", err)
				}
				if err == nil {
					hp.close(ErrClosed)
					l.tasks.Wait()
				}
				time.Sleep(time.Minute) // the server notices
			})
		})
	}
}

// memoryHop is a hop whose connections are pipes to serve. It uses no socket, so that it can be in
// a bubble of synctest.
type memoryHop struct {
	hop   // only what is below is called
	serve func(net.Conn)
}

func (h memoryHop) open(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	reqs := make(chan *ssh.Request)
	go func() { // ends with the pipe
		defer far.Close()
		h.serve(far)
	}()
	// A channel.Conn has buffers, and x/crypto needs some: both ends write before they read.
	return channel.New(channel.Setup{Link: ctx, Channel: &memoryChannel{pipe: near, reqs: reqs}, Requests: reqs, Serve: ssh.DiscardRequests, GoodbyeLimit: goodbyeLimit}), nil
}

type memoryChannel struct {
	ssh.Channel // only what is below is called
	pipe        net.Conn
	reqs        chan *ssh.Request
	once        sync.Once
}

func (c *memoryChannel) Read(p []byte) (int, error)  { return c.pipe.Read(p) }
func (c *memoryChannel) Write(p []byte) (int, error) { return c.pipe.Write(p) }
func (c *memoryChannel) CloseWrite() error           { return nil }
func (c *memoryChannel) Close() error {
	c.once.Do(func() { close(c.reqs) })
	return c.pipe.Close()
}
