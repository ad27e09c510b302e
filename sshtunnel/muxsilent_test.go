//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshtest/openssh"
)

// opensOver opens a stream as a Server does.
func opensOver(ctx context.Context, p *pool, target string) (net.Conn, *link, error) {
	r := serverReach{pool: p}
	far, release, err := r.open(ctx, mux.Request{Network: "tcp", Address: target})
	if err != nil {
		return nil, nil, err
	}
	return pooled{pipeOf(far.stream), release}, far.link, nil
}

// pipeOf makes a net.Conn of a stream. It ends when either end does.
func pipeOf(stream mux.Stream) net.Conn {
	near, far := net.Pipe()
	go func() { // ends with the stream
		defer far.Close()
		for buf := make([]byte, 4<<10); ; {
			n, err := stream.Read(buf)
			if err != nil {
				return
			}
			far.Write(buf[:n])
		}
	}()
	go func() { // ends with near
		defer stream.Close()
		for buf := make([]byte, 4<<10); ; {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			stream.Write(buf[:n])
		}
	}()
	return near
}

// The process of a connection is stopped while it should open a stream to a name. It may be looking
// up the name, so it is not given up. But the stream, and those that come later, are opened on
// another connection. When the process goes on, nothing was lost.
func TestSecondConnectionBesideASilentOne(t *testing.T) {
	t.Parallel()
	_, port, _ := net.SplitHostPort(echo(t))
	target := net.JoinHostPort("localhost", port)
	f := startFaulty(t)
	f.host.ServerAliveSet = false
	noLeak(t, func() {
		p, end := poolOf(newTunnel(t, nil, f.host))
		defer end()
		before, first, err := opensOver(t.Context(), p, target)
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		checkEcho(t, before)
		f.server.Signal(syscall.SIGSTOP)
		for range 2 {
			conn, l, err := opensOver(t.Context(), p, target)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if l == first {
				t.Error("opened by a process that is stopped")
			}
			checkEcho(t, conn)
		}
		f.server.Signal(syscall.SIGCONT)
		checkEcho(t, before)
		if first.life.Err() != nil || f.count() != 2 || p.connections() != 2 {
			t.Errorf("%d logins, %d connections; the first: %v", f.count(), p.connections(), context.Cause(first.life))
		}
		openssh.Eventually(t, "the first is as good as before", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.lanes[0].rank() == laneGood
		})
	})
}

// If the process stays as it is, its connection is given up after a while: the other one has opened
// a stream to the same name.
func TestSecondConnectionOutwaitsTheFirst(t *testing.T) {
	t.Parallel()
	_, port, _ := net.SplitHostPort(echo(t))
	target := net.JoinHostPort("localhost", port)
	f := startFaulty(t)
	f.host.ServerAliveSet = false
	noLeak(t, func() {
		p, end := poolOf(newTunnel(t, nil, f.host))
		defer end()
		before, first, err := opensOver(t.Context(), p, target)
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		f.server.Signal(syscall.SIGSTOP)
		conn, _, err := opensOver(t.Context(), p, target)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		<-first.life.Done()
		if silent, ok := errors.AsType[*SilentError](context.Cause(first.life)); !ok || silent.After > defaultAliveInterval*defaultAliveCount/2 {
			t.Errorf("lost by %v", context.Cause(first.life))
		}
		checkEcho(t, conn)
		f.server.Signal(syscall.SIGCONT)
	})
}

// The process of a connection is stopped while it should open a stream to an address, or start a
// command. It would do everything else meanwhile, so its connection is given up, and there is no
// second one beside it.
func TestNoExcuseForSilence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(ctx context.Context, l *link, address string) error
	}{
		{"address", func(ctx context.Context, l *link, address string) error {
			_, err := l.last().open(ctx, "tcp", address)
			return err
		}},
		{"Unix socket", func(ctx context.Context, l *link, _ string) error {
			_, err := l.last().open(ctx, "unix", "/nowhere")
			return err
		}},
		{"command", func(ctx context.Context, l *link, _ string) error {
			_, err := l.last().exec(ctx, "true")
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := echo(t)
			f := startFaulty(t)
			f.host.ServerAliveSet = false
			noLeak(t, func() {
				p, end := poolOf(newTunnel(t, nil, f.host))
				defer end()
				before, first, err := opensOver(t.Context(), p, address)
				if err != nil {
					t.Fatal(err)
				}
				defer before.Close()
				f.server.Signal(syscall.SIGSTOP)
				pending := make(chan error, 1)
				go func() { pending <- tt.do(t.Context(), first, address) }() // ends with the link
				conn, _, err := opensOver(t.Context(), p, address)
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
				if _, silent := errors.AsType[*SilentError](context.Cause(first.life)); !silent {
					t.Errorf("lost by %v", context.Cause(first.life))
				}
				if err := <-pending; !errors.Is(err, errLost) {
					t.Errorf("what was asked of a process that is stopped: %v", err)
				}
				f.server.Signal(syscall.SIGCONT)
				if f.count() != 2 {
					t.Errorf("%d logins", f.count())
				}
			})
		})
	}
}

// A link is given up for the sake of the address that its server is busy with, and for no other: a
// slow lookup of one name says nothing about another one.
func TestOnlyTheSameAddressIsAProof(t *testing.T) {
	t.Parallel()
	for address, givenUp := range map[string]bool{"slow:1": true, "other:1": false} {
		t.Run(address, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, peer := quietLink("bastion")
				l.doubted = true
				h := l.last().(*sshHop)
				h.beat.heldBy = h.blocking.at
				p := newPool(nil)
				h.blocking.add("slow:1")
				h.blocking.add("other:1") // is behind
				h.beat.heard.Store(true)
				peer.dead.Store(true)
				peer.conn.Write(make([]byte, 200))
				time.Sleep(silentAfter)
				if isSilent(l) {
					t.Error("silent, and nobody has asked")
				}
				p.mu.Lock()
				p.askLocked(l)
				p.mu.Unlock()
				time.Sleep(echoLimit)
				if !isSilent(l) {
					t.Error("not silent")
				}
				p.outwait(l, address)
				time.Sleep(time.Minute)
				if (l.life.Err() != nil) != givenUp {
					t.Errorf("the link: %v", context.Cause(l.life))
				}
				p.cancel()
				l.close(ErrClosed)
				p.tasks.Wait()
			})
		})
	}
}
