//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// If the user has set nothing, a server that has never answered a request is not given up, because
// ssh would not either. If the user has set ServerAliveInterval, it is, as with ssh.
func TestServerThatAnswersNoRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		alive    alive
		answered bool // it has answered before
		lives    bool
	}{
		{"ours", alive{15 * time.Second, 3, true}, false, true},
		{"ours, and it has answered before", alive{15 * time.Second, 3, true}, true, false},
		{"the user's", alive{15 * time.Second, 3, false}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, p := quietLink("bastion")
				l.tasks.Go(func() { l.keepalive(0, tt.alive) })
				if tt.answered {
					time.Sleep(time.Minute)
				}
				p.dead.Store(true)
				if !tt.lives {
					endsAfter(t, l)
					if _, ok := errors.AsType[*SilentError](context.Cause(l.life)); !ok {
						t.Errorf("lost by %v", context.Cause(l.life))
					}
					return
				}
				time.Sleep(time.Hour)
				l.tasks.Go(func() { l.probe("after a sleep of 1h", func() bool { return false }) })
				time.Sleep(time.Hour)
				if l.life.Err() != nil {
					t.Errorf("given up: %v", context.Cause(l.life))
				}
				// It begins to answer after all, and then is like any other.
				p.dead.Store(false)
				p.once.Do(func() { close(p.closed) })
				l.fail(errLost)
				l.tasks.Wait()
			})
		})
	}
}

// The hop before is asked in the place of a server that answers nothing.
func TestHopBeforeAMuteServerIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, outer := quietLink("outer")
		last, inner := quietLink("inner")
		l.hops = append(l.hops, last.hops[0])
		inner.dead.Store(true)
		l.tasks.Go(func() { l.keepalive(1, alive{15 * time.Second, 3, true}) })
		time.Sleep(time.Hour)
		if l.life.Err() != nil || outer.pings.Load() == 0 {
			t.Fatalf("%v after %d pings of the outer hop", context.Cause(l.life), outer.pings.Load())
		}
		outer.dead.Store(true)
		l.tasks.Go(func() {
			<-l.life.Done()
			inner.once.Do(func() { close(inner.closed) })
		})
		endsAfter(t, l)
		if hop, ok := errors.AsType[*HopError](context.Cause(l.life)); !ok || hop.Hop != "outer" {
			t.Errorf("lost by %v", context.Cause(l.life))
		}
	})
}

// The same with a real TCP connection and a server that answers no global request: the link stays
// while TCP works, and is lost when TCP does not confirm any more.
func TestMuteServerAndTCP(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{Stall: sshtest.StallRequest})
	target := echo(t)
	h := fakeHost(t, "bastion", s)
	h.ServerAliveSet = false
	noLeak(t, func() {
		tun := tunnelOf(t, Config{Chain: chainOf(h), settings: settings{aliveInterval: 200 * time.Millisecond}})
		if err := tun.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		l := linkOf(tun)
		openssh.Eventually(t, "the server counts as mute", func() bool { return l.last().heartbeat().mute.Load() })
		openssh.Eventually(t, "nudges", func() bool { return s.Keepalives() > 10 })
		checkEcho(t, mustDial(t, tun, target))
		if l.life.Err() != nil || s.Logins() != 1 {
			t.Errorf("lost by %v, %d logins", context.Cause(l.life), s.Logins())
		}
		tun.Close()
	})
}

// A link is dialed again by itself only if it was used when it was lost.
func TestUnusedLinkIsNotDialedAgain(t *testing.T) {
	t.Parallel()
	target := echo(t)
	for _, tt := range []struct {
		name string
		use  func(t *testing.T, tun *Tunnel)
		want string
	}{
		{"unused", func(t *testing.T, tun *Tunnel) { tun.Connect(t.Context()) }, Idle},
		{"a connection was closed before", func(t *testing.T, tun *Tunnel) {
			mustDial(t, tun, target).Close()
			hp := linkOf(tun).last().(*sshHop)
			openssh.Eventually(t, "the end of the channel", func() bool { return hp.streams.Load() == 0 })
			hp.idleSince.Store(0) // as if it were long ago
			if mine, ok := ownLink(tun).last().(*muxHop); ok {
				mine.streams.IdleSince.Store(0)
			}
		}, Idle},
		{"a connection is open", func(t *testing.T, tun *Tunnel) { mustDial(t, tun, target) }, Up},
		{"a listener is open", func(t *testing.T, tun *Tunnel) {
			if _, err := tun.Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
		}, Up},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startFake(t, sshtest.Config{Listen: net.Listen})
			tun := newTunnel(t, nil, fakeHost(t, "bastion", s))
			tt.use(t, tun)
			before := linkOf(tun)
			s.Drop()
			<-before.closed
			st := waitPhase(t, tun, tt.want)
			if st.Err != nil {
				t.Errorf("state %+v", st)
			}
			checkEcho(t, mustDial(t, tun, target)) // the next call dials
			if got := s.Logins(); got != 2 {
				t.Errorf("%d logins, want 2", got)
			}
		})
	}
}

// A server that ends each connection right after the login must not be logged in to without a
// pause, because each login may ask a person.
func TestServerThatDropsEachLogin(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{Listen: net.Listen})
	tun := newTunnel(t, nil, fakeHost(t, "bastion", s))
	if _, err := tun.Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil { // so that the tunnel is wanted
		t.Fatal(err)
	}
	var lost []time.Time
	for range 4 {
		waitPhase(t, tun, Up)
		before := linkOf(tun)
		s.Drop()
		<-before.closed
		lost = append(lost, time.Now())
		openssh.Eventually(t, "another link", func() bool {
			st, _ := tun.State()
			return st.Phase == Up && linkOf(tun) != before
		})
	}
	// The pauses are none, 0.5 s, 0.5 to 1 s and 1 to 2 s.
	if took := lost[3].Sub(lost[0]); took < time.Second {
		t.Errorf("four logins within %v, want pauses", took)
	}
}
