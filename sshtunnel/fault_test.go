//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// faulty is a real server at the end of a cable.
type faulty struct {
	*cable
	host   *sshconfig.Host
	server *openssh.Server
	pub    ssh.PublicKey // that may log in
}

// startFaulty makes one that is watched at short intervals: 3 x 200 ms.
func startFaulty(t *testing.T, options ...string) *faulty {
	t.Helper()
	key := filepath.Join(t.TempDir(), "id")
	f := &faulty{pub: openssh.WriteKey(t, key, "").PublicKey()}
	f.server = openssh.Start(t, f.pub, options...)
	f.cable = startCable(t, f.server.Addr.String())
	f.host = f.cable.host(t, f.server.Host(t, "bastion", key))
	f.host.ServerAliveSet, f.host.ServerAliveInterval, f.host.ServerAliveCountMax = true, 200*time.Millisecond, 3
	return f
}

// linkOf returns the tunnel's link; nil if it has none. Over a shared connection, it is that of the
// server.
func linkOf(tun *Tunnel) *link {
	if sh, ok := shares.Load(tun); ok {
		tun = sh.(*share).tunnel
	}
	return ownLink(tun)
}

// ownLink returns the link that the tunnel itself has.
func ownLink(tun *Tunnel) *link { return ask(tun, func(l *loop) *link { return l.link }) }

// ask reads something that the loop of a tunnel owns.
func ask[T any](tun *Tunnel, f func(*loop) T) T {
	answer := make(chan T, 1)
	tun.send(func(l *loop) { answer <- f(l) })
	return <-answer
}

func mustDial(t *testing.T, tun *Tunnel, target string) net.Conn {
	t.Helper()
	conn, err := tun.DialContext(t.Context(), "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// A link that is up has a fault. The test looks at a connection over it, at a call that comes while
// the tunnel is down, and at the goroutines.
func TestFaultsOfALink(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		cut      func(*faulty)
		mend     func(*faulty) // nil: nothing need be done
		survives bool          // the connection does
	}{
		{"reset", func(f *faulty) { f.cut(true) }, nil, false},
		{"orderly end", func(f *faulty) { f.cut(false) }, nil, false},
		{"sshd killed and restarted with the same key", func(f *faulty) {
			f.lead("127.0.0.1:1")
			f.server.Kill()
		}, func(f *faulty) { f.lead(f.server.Addr.String()) }, false},
		{"one connection is dead", func(f *faulty) { f.freeze(false) }, nil, false},
		{"black hole", func(f *faulty) { f.freeze(true) }, func(f *faulty) { f.thaw() }, false},
		{"nothing", func(*faulty) {}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := echo(t)
			f := startFaulty(t)
			noLeak(t, func() {
				tun := newTunnel(t, nil, f.host)
				conn := mustDial(t, tun, target)
				checkEcho(t, conn)
				before := linkOf(tun)
				tt.cut(f)
				if tt.survives {
					checkEcho(t, conn)
				} else if _, err := conn.Read(make([]byte, 1)); err == nil {
					t.Error("the connection survived")
				}
				if tt.mend != nil {
					// A call waits within its own context, and is told what stands in the way.
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					defer cancel()
					if _, err := tun.DialContext(ctx, "tcp", target); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("while it is down: %v", err)
					}
					waiting := make(chan net.Conn)
					go func() {
						conn, _ := tun.DialContext(t.Context(), "tcp", target)
						waiting <- conn
					}()
					tt.mend(f)
					if conn := <-waiting; conn != nil {
						checkEcho(t, conn)
					} else {
						t.Error("a call that waited has failed")
					}
				}
				checkEcho(t, mustDial(t, tun, target))
				if after := linkOf(tun); (after == before) != tt.survives {
					t.Error("not the link that was expected")
				}
				tun.Close()
				f.cut(true)
			})
		})
	}
}

// A black hole that is shorter than keepalive allows does no harm.
func TestShortBlackHole(t *testing.T) {
	t.Parallel()
	target := echo(t)
	f := startFaulty(t)
	f.host.ServerAliveInterval = time.Minute
	noLeak(t, func() {
		tun := newTunnel(t, nil, f.host)
		conn := mustDial(t, tun, target)
		f.freeze(true)
		if _, err := io.WriteString(conn, "held "); err != nil {
			t.Fatal(err)
		}
		f.thaw()
		checkEchoAfter(t, conn, "held ")
		if n := f.count(); n != 1 {
			t.Errorf("%d connections", n)
		}
		tun.Close()
	})
}

func checkEchoAfter(t *testing.T, conn net.Conn, sent string) {
	t.Helper()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != sent {
		t.Fatalf("got %q, %v", got, err)
	}
	checkEcho(t, conn)
}

// A server that comes back with another key is refused, and not tried again.
func TestRestartedWithAnotherKey(t *testing.T) {
	t.Parallel()
	target := echo(t)
	f := startFaulty(t)
	other := openssh.Start(t, f.pub)
	noLeak(t, func() {
		tun := newTunnel(t, nil, f.host)
		mustDial(t, tun, target)
		f.lead(other.Addr.String())
		f.cut(true)
		st := waitPhase(t, tun, Refused)
		key, ok := errors.AsType[*hostkeys.Error](st.Err)
		if !ok || !key.Changed || st.Hop != "bastion" {
			t.Errorf("state %+v", st)
		}
		n := f.count()
		for range 3 {
			if _, err := tun.DialContext(t.Context(), "tcp", target); !errors.Is(err, st.Err) {
				t.Errorf("got %v", err)
			}
		}
		if f.count() != n {
			t.Errorf("%d more connections after the refusal", f.count()-n)
		}
		tun.Close()
	})
}

// A server that resets each connection is tried again while somebody waits.
func TestResetWhileDialing(t *testing.T) {
	t.Parallel()
	target := echo(t)
	f := startFaulty(t)
	f.lead("127.0.0.1:1") // a cable that leads nowhere resets
	noLeak(t, func() {
		tun := newTunnel(t, nil, f.host)
		err := tun.Connect(t.Context())
		if hop, ok := errors.AsType[*HopError](err); !ok || hop.Hop != "bastion" { // connect or handshake, as the reset comes
			t.Errorf("got %v", err)
		}
		if st, _ := tun.State(); st.Phase != Down {
			t.Errorf("phase %s", st.Phase)
		}
		f.lead(f.server.Addr.String())
		if _, err := tun.DialContext(t.Context(), "tcp", target); err != nil {
			t.Error(err)
		}
		tun.Close()
	})
}

// A connection that is cut during a login is not a refusal: the tunnel must come back.
func TestCutDuringLogin(t *testing.T) {
	t.Parallel()
	for _, reset := range []bool{true, false} {
		key := filepath.Join(t.TempDir(), "id")
		openssh.WriteKey(t, key, "")
		s := startFake(t, sshtest.Config{Stall: sshtest.StallAuth})
		c := startCable(t, s.Addr())
		h := c.host(t, fakeHost(t, "bastion", s))
		h.IdentityFiles = []string{key}
		noLeak(t, func() {
			tun := newTunnel(t, nil, h)
			errs := make(chan error)
			go func() { errs <- tun.Connect(t.Context()) }()
			openssh.Eventually(t, "a login", func() bool { return s.Asked() > 0 })
			c.cut(reset)
			err := <-errs
			if _, refused := errors.AsType[*AuthError](err); refused || err == nil {
				t.Errorf("reset %v: got %v", reset, err)
			}
			if st, _ := tun.State(); st.Phase != Down {
				t.Errorf("reset %v: phase %s", reset, st.Phase)
			}
			tun.Close()
		})
	}
}

// A peer that does not read fills the window of its own stream and holds up no other.
func TestWindowNeverOpened(t *testing.T) {
	t.Parallel()
	target := echo(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog, reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	f := startFaulty(t)
	noLeak(t, func() {
		tun := newTunnel(t, nil, f.host)
		stuck := mustDial(t, tun, silent.Addr().String())
		var sent atomic.Int64
		ended := make(chan error)
		go func() {
			for {
				n, err := stuck.Write(make([]byte, 1<<20))
				sent.Add(int64(n))
				if err != nil {
					ended <- err
					return
				}
			}
		}()
		openssh.Eventually(t, "a full window", func() bool {
			before := sent.Load()
			for range 5 { // round trips of another stream
				conn := mustDial(t, tun, target)
				checkEcho(t, conn)
				conn.Close()
			}
			return before > 0 && sent.Load() == before
		})
		stuck.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		checkEcho(t, mustDial(t, tun, target))
		tun.Close()
	})
}

// Each side may be the first to close its direction.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f := startFaulty(t)
	noLeak(t, func() {
		tun := newTunnel(t, nil, f.host)
		for _, weFirst := range []bool{true, false} {
			near := mustDial(t, tun, ln.Addr().String())
			far, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			first, second := near, far
			if !weFirst {
				first, second = far, near
			}
			io.WriteString(first, "all")
			first.(interface{ CloseWrite() error }).CloseWrite()
			if got, err := io.ReadAll(second); string(got) != "all" || err != nil {
				t.Errorf("first %q, %v", got, err)
			}
			io.WriteString(second, "answer")
			second.(interface{ CloseWrite() error }).CloseWrite()
			if got, err := io.ReadAll(first); string(got) != "answer" || err != nil {
				t.Errorf("second %q, %v", got, err)
			}
			near.Close()
			far.Close()
		}
		tun.Close()
	})
}

// After a reconnect, the old session on the far side may still hold the port of a remote forward.
func TestForwardWhosePortIsBusyAfterReconnect(t *testing.T) {
	t.Parallel()
	f := startFaulty(t)
	refused := make(chan struct{}, 100)
	tun, err := New(Config{
		Chain: func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{f.host}, nil },
		Log: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			if strings.Contains(string(p), "remote forward not granted") {
				refused <- struct{}{}
			}
			return t.Output().Write(p)
		}), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	ln, err := tun.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, ln)
	old := f.all()
	f.freeze(false) // the old session lives on at the far side
	<-refused
	for _, w := range old {
		w.end(true)
	}
	openssh.Eventually(t, "the forward is back", func() bool {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return false
		}
		defer conn.Close()
		io.WriteString(conn, "ping")
		conn.(*net.TCPConn).CloseWrite()
		got, _ := io.ReadAll(conn)
		return string(got) == "ping"
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Requests for a channel that a server does not answer are bounded. Beyond the bound, a link
// without connections is given up, and a link with connections refuses more.
func TestUnansweredOpensAreBounded(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{Stall: sshtest.StallOpen})
	noLeak(t, func() {
		tun := newTunnel(t, nil, fakeHost(t, "bastion", s))
		if err := tun.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		why := errors.New("why")
		leave := func() error {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, why)
			defer cancel()
			_, err := tun.DialContext(ctx, "tcp", "x:1")
			return err
		}
		hp := linkOf(tun).last().(*sshHop)
		hp.streams.Add(1)
		for hp.unanswered.Load() < maxUnanswered {
			leave() // counted a moment later
		}
		_, err := tun.DialContext(t.Context(), "tcp", "x:1")
		if open, ok := errors.AsType[*OpenError](err); !ok || open.Reason != ssh.ResourceShortage {
			t.Errorf("got %v", err)
		}
		hp.streams.Add(-1)
		openssh.Eventually(t, "a new link", func() bool {
			leave()
			return s.Logins() > 1
		})
		tun.Close()
	})
}
