//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

const check = "# Tailscale SSH requires an additional check.\r\n# To authenticate, visit: https://login.example/a/1f2e3d\r\n"

func TestNewNotice(t *testing.T) {
	for _, tt := range []struct{ name, text, want, url string }{
		{"a link on a line", check, "# Tailscale SSH requires an additional check.\n# To authenticate, visit: https://login.example/a/1f2e3d", "https://login.example/a/1f2e3d"},
		{"a link in a sentence", "Go to (https://x.example/a?b=c#d), please.", "Go to (https://x.example/a?b=c#d), please.", "https://x.example/a?b=c#d"},
		{"another scheme", "javascript:alert(1) file:///etc/passwd", "javascript:alert(1) file:///etc/passwd", ""},
		{"steers the terminal", "\x1b]0;x\x07a\u009b31mb", "]0;xa31mb", ""},
		{"no UTF-8", "a\xffb", "a?b", ""},
		{"blank", " \r\n\t", "", ""},
	} {
		if got := newNotice("h", tt.text); got.Text != tt.want || got.URL != tt.url || got.Hop != "h" {
			t.Errorf("%s: got %+v", tt.name, got)
		}
	}
	if got := newNotice("h", strings.Repeat("ä", maxNotice)); len(got.Text) > maxNotice {
		t.Errorf("%d bytes", len(got.Text))
	}
}

// confirmation is a person who confirms a login elsewhere when the test says so.
type confirmation struct {
	asked, given chan struct{}
	once         sync.Once
}

func newConfirmation() *confirmation {
	return &confirmation{asked: make(chan struct{}), given: make(chan struct{})}
}

func (c *confirmation) confirm(ctx context.Context) bool {
	c.once.Do(func() { close(c.asked) })
	select {
	case <-c.given:
		return true
	case <-ctx.Done():
		return false
	}
}

// noticed waits until the tunnel shows a notice.
func noticed(t *testing.T, tun *Tunnel) Notice {
	t.Helper()
	for {
		st, changed := tun.State()
		if st.Notice != (Notice{}) {
			return st.Notice
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("no notice")
		}
	}
}

// A login that waits for a person is dialed once, whoever stops to wait for it.
func TestOneLoginWhileAPersonIsAtWork(t *testing.T) {
	t.Parallel()
	dir, keys := keyDir(t, "id")
	for _, tt := range []struct {
		name   string
		server sshtest.Config
		want   string
	}{
		{"a check with a link", sshtest.Config{NoAuth: true, Banners: []string{check}}, "https://login.example/a/1f2e3d"},
		{"a push, told without a question", sshtest.Config{AuthorizedKeys: []ssh.PublicKey{keys["id"].PublicKey()}, SecondFactor: true,
			Challenges: []sshtest.Challenge{{Instruction: "Pushed a login request to your phone"}}}, "Pushed a login request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newConfirmation()
			tt.server.Confirm = c.confirm
			s := startFake(t, tt.server)
			h := fakeHost(t, "bastion", s)
			h.IdentityFiles, h.IdentityFilesSet = []string{dir + "/id"}, true
			var mu sync.Mutex
			var told []string
			tun := tunnelOf(t, Config{
				Chain: func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil },
				Notice: func(n Notice) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, n.Text)
				},
			})
			ctx, leave := context.WithCancel(t.Context())
			first := make(chan error, 1)
			go func() { // ends when its context does
				first <- tun.Connect(ctx)
			}()
			<-c.asked
			if n := noticed(t, tun); !strings.Contains(n.Text, tt.want) || n.Hop != "bastion" {
				t.Errorf("got %+v", n)
			}
			leave()
			if err := <-first; !errors.Is(err, context.Canceled) {
				t.Errorf("the one that left: %v", err)
			}
			second := make(chan error, 1)
			go func() { // ends with the login
				conn, err := tun.DialContext(t.Context(), "tcp", echo(t))
				if err == nil {
					conn.Close()
				}
				second <- err
			}()
			if st, _ := tun.State(); st.Phase != Dialing {
				t.Errorf("got %+v", st)
			}
			close(c.given)
			if err := <-second; err != nil {
				t.Error(err)
			}
			if s.Accepted() != 1 || s.Logins() != 1 {
				t.Errorf("%d connections, %d logins", s.Accepted(), s.Logins())
			}
			if st, _ := tun.State(); st.Phase != Up || st.Notice != (Notice{}) {
				t.Errorf("got %+v", st)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(told) != 1 {
				t.Errorf("told %q", told)
			}
		})
	}
}

// What the server says last is why it refuses.
func TestRefusalHasTheServersWords(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{Password: "x", Banners: []string{"Welcome\n", "Your account has\r\nexpired.\n"}})
	h := fakeHost(t, "bastion", s)
	err := newTunnel(t, (&person{answers: map[string][]string{"password": {"a", "b", "c"}}}).ask, h).Connect(t.Context())
	auth, ok := errors.AsType[*AuthError](err)
	if !ok || auth.NeedsPerson || auth.Said != "Your account has expired." || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v", err)
	}
}

// The server is gone, or the tunnel is closed, while a person is waited for.
func TestWaitForAPersonEnds(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"server", "tunnel", "patience"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			c := newConfirmation()
			s := startFake(t, sshtest.Config{NoAuth: true, Banners: []string{check}, Confirm: c.confirm})
			h := fakeHost(t, "bastion", s)
			cfg := Config{Chain: func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil }}
			if end == "patience" {
				cfg.patience = time.Millisecond
			}
			tun := tunnelOf(t, cfg)
			result := make(chan error, 1)
			go func() { result <- tun.Connect(t.Context()) }() // ends with the login
			switch end {
			case "server":
				<-c.asked
				s.Close()
			case "tunnel":
				<-c.asked
				tun.Close()
			}
			err := <-result
			timeout, ok := errors.AsType[*TimeoutError](err)
			if err == nil || ok != (end == "patience") || ok && !timeout.Person {
				t.Errorf("got %v", err)
			}
		})
	}
}

// signer takes a while to sign, as a security key does that has to be touched.
type signer struct {
	ssh.MultiAlgorithmSigner
	takes time.Duration
}

func (s signer) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	time.Sleep(s.takes)
	return nil, errors.New("not touched")
}

func TestClockStandsStillWhileAKeySigns(t *testing.T) {
	key, ok := openssh.WriteKey(t, t.TempDir()+"/id", "").(ssh.MultiAlgorithmSigner)
	if !ok {
		t.Fatal("want a signer with algorithms")
	}
	synctest.Test(t, func(t *testing.T) {
		var expired atomic.Bool
		p := &patience{limit: time.Hour, expire: func() { expired.Store(true) }, report: func(progress) {}, show: func(Notice) {}, say: func(string) {}}
		p.clock = newClock(30*time.Second, p.expire)
		a := &authenticator{patience: p}
		a.patiently(signer{key, 33 * time.Second}).(ssh.AlgorithmSigner).SignWithAlgorithm(nil, nil, ssh.KeyAlgoED25519)
		if synctest.Wait(); expired.Load() {
			t.Error("the clock ran while the key signed")
		}
		time.Sleep(time.Hour)
		if synctest.Wait(); !expired.Load() {
			t.Error("a person may take for ever")
		}
	})
}

// A server that never stops talking is not kept, and its words are bounded.
func TestWordsAreBounded(t *testing.T) {
	n := 0
	p := &patience{limit: time.Hour, report: func(progress) {}, show: func(Notice) { n++ }, say: func(string) {}}
	p.clock = newClock(time.Hour, func() {})
	defer p.clock.stop()
	defer p.end()
	for range 3000 {
		p.tell(strings.Repeat("x", 1000))
	}
	if n > maxSaid/1000+1 || len(p.text()) > maxNotice {
		t.Errorf("%d notices, %d bytes", n, len(p.text()))
	}
}

// A question that is open for a while is shown to whoever waits, and no longer when it is answered.
func TestOpenQuestionIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var shown []string
		p := &patience{limit: time.Hour, show: func(Notice) {}, say: func(string) {}, report: func(now progress) {
			mu.Lock()
			defer mu.Unlock()
			shown = append(shown, now.notice.Text)
		}}
		p.clock = newClock(30*time.Second, func() { t.Error("the clock ran while a question was open") })
		defer p.end()
		p.ask("Code: ")() // nobody is there
		over := p.ask("Code: ")
		time.Sleep(time.Minute)
		over()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(shown) != 2 || shown[0] != "Code:" || shown[1] != "" {
			t.Errorf("shown %q", shown)
		}
	})
}
