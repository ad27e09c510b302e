//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// threeHops is a chain of real servers.
func threeHops(t *testing.T, options ...string) (chain []*sshconfig.Host, servers []*openssh.Server) {
	t.Helper()
	key := filepath.Join(t.TempDir(), "id")
	pub := openssh.WriteKey(t, key, "").PublicKey()
	for _, alias := range []string{"one", "two", "three"} {
		s := openssh.Start(t, pub, options...)
		servers = append(servers, s)
		chain = append(chain, s.Host(t, alias, key))
	}
	return chain, servers
}

func TestDialThroughThreeRealHops(t *testing.T) {
	t.Parallel()
	target := echo(t)
	chain, _ := threeHops(t)
	noLeak(t, func() {
		tun := newTunnel(t, nil, chain...)
		for range 3 {
			conn, err := tun.DialContext(t.Context(), "tcp", target)
			if err != nil {
				t.Fatal(err)
			}
			checkEcho(t, conn)
			conn.Close()
		}
		if st, _ := tun.State(); st.Phase != Up {
			t.Errorf("phase %s, want up", st.Phase)
		}
		tun.Close()
	})
}

func TestDialUnixSocket(t *testing.T) {
	t.Parallel()
	chain, _ := threeHops(t)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, ln)
	conn, err := newTunnel(t, nil, chain[0]).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	checkEcho(t, conn)
}

// If a real sshd refuses a connection, the error names the rules that may be the reason.
func TestOpenErrorNamesTheRule(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	ln.Close()
	target, socket := echo(t), filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, unix)
	missing := socket + "-missing"
	for _, tt := range []struct {
		name, option, keyOption, network, addr, want string
		prohibited                                   bool
	}{
		{"AllowTcpForwarding no", "AllowTcpForwarding no", "", "tcp", target, "forbids the connection to " + target + " (sshd_config AllowTcpForwarding,", true},
		{"AllowTcpForwarding remote", "AllowTcpForwarding remote", "", "tcp", target, "AllowTcpForwarding", true},
		{"PermitOpen", "PermitOpen 127.0.0.1:1", "", "tcp", target, "PermitOpen", true},
		{"DisableForwarding", "DisableForwarding yes", "", "tcp", target, "DisableForwarding", true},
		{"restrict", "", "restrict", "tcp", target, "restrict", true},
		{"permitopen", "", `permitopen="127.0.0.1:1"`, "tcp", target, "permitopen", true},
		{"no-port-forwarding", "", "no-port-forwarding", "unix", socket, "no-port-forwarding", false},
		{"AllowStreamLocalForwarding no", "AllowStreamLocalForwarding no", "", "unix", socket, "AllowStreamLocalForwarding", false},
		{"nobody listens", "", "", "tcp", nobody, "could not connect to " + nobody + `: "Connection refused"`, false},
		{"no such name", "", "", "tcp", "no-such-name.invalid:1", "could not connect to no-such-name.invalid:1", false},
		{"no such socket", "", "", "unix", missing, "no such socket", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key := filepath.Join(t.TempDir(), "id")
			pub := openssh.WriteKey(t, key, "").PublicKey()
			s := openssh.Start(t, pub, tt.option)
			writeFile(t, filepath.Join(s.Dir, "authorized_keys"), strings.TrimSpace(tt.keyOption+" "+string(ssh.MarshalAuthorizedKey(pub))))
			_, err := newTunnel(t, nil, s.Host(t, "bastion", key)).DialContext(t.Context(), tt.network, tt.addr)
			open, ok := errors.AsType[*OpenError](err)
			if !ok || open.Hop != "bastion" || open.Addr != tt.addr || open.Prohibited() != tt.prohibited || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %#v: %v", err, err)
			}
		})
	}
}

// MaxSessions counts commands only, so any number of connections share one link.
func TestMaxSessionsDoesNotCountConnections(t *testing.T) {
	t.Parallel()
	target := echo(t)
	key := filepath.Join(t.TempDir(), "id")
	s := openssh.Start(t, openssh.WriteKey(t, key, "").PublicKey(), "MaxSessions 1")
	c := startCable(t, s.Addr.String())
	tun := newTunnel(t, nil, c.host(t, s.Host(t, "bastion", key)))
	p, err := tun.Exec(t.Context(), "cat")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, err = tun.Exec(t.Context(), "cat")
	if open, ok := errors.AsType[*OpenError](err); !ok || !strings.Contains(open.Error(), "MaxSessions") {
		t.Errorf("a second command: %v", err)
	}
	for range 64 {
		conn, err := tun.DialContext(t.Context(), "tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		defer checkEcho(t, conn) // all are open by then
	}
	if n := c.count(); n != 1 {
		t.Errorf("%d SSH connections for 64 streams", n)
	}
}

func TestRemoteForward(t *testing.T) {
	t.Parallel()
	chain, servers := threeHops(t)
	noLeak(t, func() {
		tun := newTunnel(t, nil, chain...)
		ln, err := tun.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serveEcho(t, ln)
		far := func() error {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				return err
			}
			defer conn.Close()
			io.WriteString(conn, "ping")
			conn.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(conn); string(got) != "ping" {
				return errors.Join(err, errors.New("got "+string(got)))
			}
			return nil
		}
		if err := far(); err != nil {
			t.Fatal(err)
		}
		// A second one on the same port is refused by name.
		_, err = tun.Listen(t.Context(), "tcp", ln.Addr().String())
		if busy, ok := errors.AsType[*ListenError](err); !ok || busy.Hop != "three" || busy.Addr != ln.Addr().String() {
			t.Errorf("busy port: got %v", err)
		}
		// The forward comes back with the link, on the same port.
		servers[0].Drop()
		openssh.Eventually(t, "the forward is back", func() bool { return far() == nil })
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		openssh.Eventually(t, "the forward is gone", func() bool {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		tun.Close()
	})
}

func TestRemoteForwardUnix(t *testing.T) {
	t.Parallel()
	chain, _ := threeHops(t)
	tun := newTunnel(t, nil, chain[0])
	path := filepath.Join(t.TempDir(), "s")
	ln, err := tun.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, ln)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	checkEcho(t, conn)
}

// Connections that nobody accepts must not stop the client (x/crypto's Listen does).
func TestListenNeverAccepted(t *testing.T) {
	t.Parallel()
	target := echo(t)
	key := filepath.Join(t.TempDir(), "id")
	s := openssh.Start(t, openssh.WriteKey(t, key, "").PublicKey())
	noLeak(t, func() {
		tun := newTunnel(t, nil, s.Host(t, "bastion", key))
		ln, err := tun.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 * maxUnaccepted {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		conn, err := tun.DialContext(t.Context(), "tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		checkEcho(t, conn)
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		tun.Close()
	})
}

func TestCancelRefused(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{Listen: net.Listen, DenyCancel: true})
	ln, err := newTunnel(t, nil, fakeHost(t, "stubborn", s)).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a forward that was given up still answers")
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	chain, _ := threeHops(t)
	noLeak(t, func() {
		tun := newTunnel(t, nil, chain...)
		p, err := tun.Exec(t.Context(), "cat; echo done")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(p, "in\n")
		p.(interface{ CloseWrite() error }).CloseWrite()
		if out, err := io.ReadAll(p); err != nil || string(out) != "in\ndone\n" {
			t.Errorf("got %q, %v", out, err)
		}
		p.Close()

		p, err = tun.Exec(t.Context(), "echo partly; echo oops >&2; exit 3")
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(p)
		exit, ok := errors.AsType[*ExitError](err)
		if !ok || exit.Status != 3 || string(out) != "partly\n" || !strings.Contains(exit.Stderr, "oops") {
			t.Errorf("got %q, %v", out, err)
		}
		p.Close()

		p, err = tun.Exec(t.Context(), "sleep 1000")
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
		if _, err := p.Read(make([]byte, 1)); err == nil {
			t.Error("Read after Close")
		}
		tun.Close()
	})
}

// A link that is lost comes back by itself, and a call that waits does not notice.
func TestReconnect(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{})
	tun := newTunnel(t, nil, fakeHost(t, "bastion", s))
	conn, err := tun.DialContext(t.Context(), "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	s.Drop()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection survived its link")
	}
	conn, err = tun.DialContext(t.Context(), "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	checkEcho(t, conn)
	s.Drop()
	openssh.Eventually(t, "a third login", func() bool { return s.Logins() == 3 }) // nobody waits: it was up before
}

// A server that was away for long and is there again may be restarted once more. The attempts that
// reached nobody then make nobody wait.
func TestShortLinkAfterAnOutage(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{})
	tun := newTunnel(t, nil, fakeHost(t, "bastion", s))
	ask(tun, func(l *loop) int { l.failures = 8; return 0 })
	for i, most := range []time.Duration{0, backoff(0), backoff(1)} {
		if err := tun.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Drop()
		openssh.Eventually(t, "the end of the link", func() bool { return ask(tun, func(l *loop) bool { return l.shortLinks > i }) })
		if pause := ask(tun, func(l *loop) time.Duration { return l.pause }); pause > 2*most {
			t.Errorf("after %d short links the pause is %v", i+1, pause)
		}
	}
}

func TestDeadLinkIsFound(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{})
	h := fakeHost(t, "bastion", s)
	h.ServerAliveSet, h.ServerAliveInterval, h.ServerAliveCountMax = true, 20*time.Millisecond, 3
	tun := newTunnel(t, nil, h)
	conn, err := tun.DialContext(t.Context(), "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	openssh.Eventually(t, "keepalives", func() bool { return s.Keepalives() > 3 })
	s.Freeze()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection survived its link")
	}
	openssh.Eventually(t, "a second login", func() bool { return s.Logins() == 2 })
}

// A server that falls silent is given up after ConnectTimeout, and the error names the stage.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "id")
	openssh.WriteKey(t, key, "")
	for _, tt := range []struct {
		name  string
		stall sshtest.Stall
		stage string
	}{
		{"after TCP", sshtest.StallTCP, StageHandshake},
		{"after banner", sshtest.StallBanner, StageHandshake},
		{"in key exchange", sshtest.StallKeyExchange, StageHandshake},
		{"in auth", sshtest.StallAuth, StageAuth},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			first := startFake(t, sshtest.Config{})
			s := startFake(t, sshtest.Config{Stall: tt.stall})
			h := fakeHost(t, "silent", s)
			h.ConnectTimeout = 300 * time.Millisecond
			h.IdentityFiles = []string{key}
			noLeak(t, func() {
				tun := newTunnel(t, nil, fakeHost(t, "first", first), h)
				err := tun.Connect(t.Context())
				hop, ok := errors.AsType[*HopError](err)
				if !ok || hop.Hop != "silent" || hop.Stage != tt.stage {
					t.Errorf("got %v", err)
				}
				if _, ok := errors.AsType[*TimeoutError](err); !ok {
					t.Errorf("not a timeout: %v", err)
				}
				tun.Close()
			})
		})
	}
}

// If the context of a call ends, the error says also why there is no link.
func TestDialContextTellsTheLastError(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := openssh.NewHost(t, "gone", ln.Addr().String())
	ln.Close()
	tun := newTunnel(t, nil, h)
	if err := tun.Connect(t.Context()); err == nil {
		t.Fatal("connected to nobody")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = tun.DialContext(ctx, "tcp", "upstream:1")
	hop, ok := errors.AsType[*HopError](err)
	if !errors.Is(err, context.DeadlineExceeded) || !ok || hop.Hop != "gone" || hop.Stage != StageConnect {
		t.Errorf("got %v", err)
	}
	if st, _ := tun.State(); st.Hop != "gone" || st.Err == nil {
		t.Errorf("state %+v", st)
	}
}

// A server that never answers a request for a channel holds up no other call, and nothing is left
// over after Close.
func TestOpenNeverAnswered(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{Stall: sshtest.StallOpen})
	noLeak(t, func() {
		tun := newTunnel(t, nil, fakeHost(t, "bastion", s))
		if err := tun.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		cancel(why)
		if _, err := tun.DialContext(ctx, "tcp", "x:1"); !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
		ctx, stop := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, why)
		defer stop()
		if _, err := tun.DialContext(ctx, "tcp", "x:1"); !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
		tun.Close()
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{Stall: sshtest.StallBanner})
	noLeak(t, func() {
		tun := newTunnel(t, nil, fakeHost(t, "silent", s))
		errs := make(chan error)
		go func() {
			_, err := tun.DialContext(context.Background(), "tcp", "x:1")
			errs <- err
		}()
		waitPhase(t, tun, Dialing)
		tun.Close()
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		tun.Close()
		if _, err := tun.Listen(t.Context(), "tcp", "127.0.0.1:0"); !errors.Is(err, ErrClosed) {
			t.Errorf("Listen after Close: %v", err)
		}
	})
}

func TestProxyCommand(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{})
	h := fakeHost(t, "bastion", s)
	h.ProxyCommand = "nc " + strings.ReplaceAll(s.Addr(), ":", " ")
	if _, err := os.Stat("/bin/bash"); err == nil {
		h.ProxyCommand = "bash -c 'echo to stderr >&2; exec 3<>/dev/tcp/" + strings.ReplaceAll(s.Addr(), ":", "/") + "; cat <&3 & exec cat >&3'"
	} else {
		openssh.Tool(t, "nc")
	}
	noLeak(t, func() {
		tun := newTunnel(t, nil, h)
		conn, err := tun.DialContext(t.Context(), "tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		checkEcho(t, conn)
		tun.Close()
	})
}

// net/http works over the tunnel as a client and as a server. Between two requests, its server sets
// read deadlines that lie in the past.
func TestHTTPBothWays(t *testing.T) {
	t.Parallel()
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	t.Cleanup(hs.Close)
	s := startFake(t, sshtest.Config{Listen: net.Listen})
	tun := newTunnel(t, nil, fakeHost(t, "bastion", s))
	ln, err := tun.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	remotes := map[string]bool{}
	far := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remotes[r.RemoteAddr] = true
		io.WriteString(w, "hello")
	})}
	go far.Serve(ln) // ends with far
	t.Cleanup(func() { far.Close() })
	client := func(dial func(context.Context, string, string) (net.Conn, error)) *http.Client {
		tr := &http.Transport{DialContext: dial}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	for name, get := range map[string]func() (*http.Response, error){
		"client": func() (*http.Response, error) { return client(tun.DialContext).Get(hs.URL) },
		"server": func() func() (*http.Response, error) {
			c := client(nil)
			return func() (*http.Response, error) { return c.Get("http://" + ln.Addr().String()) }
		}(),
	} {
		for range 3 {
			resp, err := get()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if body, err := io.ReadAll(resp.Body); string(body) != "hello" {
				t.Errorf("%s: got %q, %v", name, body, err)
			}
			resp.Body.Close()
		}
	}
	if len(remotes) != 1 {
		t.Errorf("%d connections for 3 requests: keep-alive is broken", len(remotes))
	}
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog, reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := startFake(t, sshtest.Config{})
	tun := newTunnel(t, nil, fakeHost(t, "bastion", s))
	dial := func() net.Conn {
		conn, err := tun.DialContext(t.Context(), "tcp", silent.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	conn := dial()
	for _, deadline := range []time.Time{time.Unix(1, 0), time.Now().Add(10 * time.Millisecond)} {
		conn.SetReadDeadline(deadline)
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: got %v", err)
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Errorf("the other direction: got %v", err)
		}
	}
	conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := conn.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: got %v", err)
	}
	conn.Close()
	if err := conn.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
	conn = dial()
	go conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed while reading: got %v", err)
	}
}
