package sshtunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/sshtunnel/netwatch"
	"sallyport/sshtunnel/sshconfig"
)

func TestWhichHopsAreAsked(t *testing.T) {
	t.Parallel()
	set := func(interval time.Duration, count int) *sshconfig.Host {
		return &sshconfig.Host{ServerAliveSet: true, ServerAliveInterval: interval, ServerAliveCountMax: count}
	}
	unset, ours := &sshconfig.Host{ServerAliveCountMax: 3}, alive{15 * time.Second, 3, true}
	for _, tt := range []struct {
		name  string
		chain []*sshconfig.Host
		want  []alive
	}{
		{"nothing set", []*sshconfig.Host{unset, unset}, []alive{{}, ours}},
		{"an outer hop of its own", []*sshconfig.Host{set(5*time.Second, 2), unset}, []alive{{5 * time.Second, 2, false}, ours}},
		{"both", []*sshconfig.Host{set(5*time.Second, 2), set(time.Minute, 1)}, []alive{{5 * time.Second, 2, false}, {time.Minute, 1, false}}},
		{"switched off inside: the hop before is asked", []*sshconfig.Host{unset, unset, set(0, 3)}, []alive{{}, ours, {}}},
		{"switched off", []*sshconfig.Host{set(0, 3)}, []alive{{}}},
		{"count 0", []*sshconfig.Host{set(time.Second, 0)}, []alive{{time.Second, 1, false}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := aliveOf(tt.chain, defaultAliveInterval); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// quietPeer is the far end of a hop in memory. It answers keepalives unless it is dead.
type quietPeer struct {
	conn   *netwatch.Conn
	local  net.Addr
	dead   atomic.Bool
	pings  atomic.Int32
	once   sync.Once
	closed chan struct{}
}

// answer is the request of a heartbeat.
func (p *quietPeer) answer() error {
	p.pings.Add(1)
	if p.dead.Load() {
		<-p.closed
		return io.EOF
	}
	p.send()
	return nil
}

// send delivers a byte.
func (p *quietPeer) send() { p.conn.Read(make([]byte, 1)) }

// peerConn is the hop's connection to a quietPeer.
type peerConn struct {
	net.Conn
	p *quietPeer
}

func (c peerConn) Read(b []byte) (int, error)  { return len(b), nil }
func (c peerConn) Write(b []byte) (int, error) { return len(b), nil }
func (c peerConn) LocalAddr() net.Addr         { return c.p.local }
func (c peerConn) Close() error {
	c.p.once.Do(func() { close(c.p.closed) })
	return nil
}

// quietLink is a link of one hop in memory, with neither keepalive nor watch.
func quietLink(alias string) (*link, *quietPeer) {
	p := &quietPeer{closed: make(chan struct{}), local: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}}
	p.conn = &netwatch.Conn{Conn: peerConn{p: p}}
	h := &sshHop{where: place{alias: alias}, conn: p.conn, beat: &heartbeat{conn: p.conn, request: p.answer}}
	h.life, h.end = context.WithCancelCause(context.Background())
	l := newLink()
	l.hops = []hop{h}
	return l, p
}

// endsAfter waits for the link's end and returns how long that took.
func endsAfter(t *testing.T, l *link) time.Duration {
	t.Helper()
	began := time.Now()
	select {
	case <-l.life.Done():
	case <-time.After(24 * time.Hour):
		t.Fatal("the link has outlived its peer by a day")
	}
	took := time.Since(began)
	l.tasks.Wait() // nothing is left
	return took
}

func TestKeepaliveFindsADeadPeer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		alive alive
	}{
		{"ours", alive{defaultAliveInterval, defaultAliveCount, true}},
		{"one probe", alive{10 * time.Second, 1, false}},
		{"many", alive{time.Second, 30, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, p := quietLink("bastion")
				l.tasks.Go(func() { l.keepalive(0, tt.alive) })
				time.Sleep(10 * time.Minute)
				if l.life.Err() != nil || p.pings.Load() == 0 {
					t.Fatalf("a peer that answers: err %v after %d pings", context.Cause(l.life), p.pings.Load())
				}
				p.dead.Store(true)
				limit := tt.alive.interval * time.Duration(tt.alive.count)
				if took := endsAfter(t, l); took > limit || took < limit-tt.alive.interval {
					t.Errorf("a dead peer was found after %v, want at most %v", took, limit)
				}
				hop, ok := errors.AsType[*HopError](context.Cause(l.life))
				if !ok || hop.Hop != "bastion" || hop.Stage != StageLink {
					t.Errorf("got %v", context.Cause(l.life))
				}
			})
		})
	}
}

// Bytes of any kind are a sign of life. A busy hop is not asked, and a hop that sends is not given
// up although it does not answer.
func TestKeepaliveCountsAnyByte(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := quietLink("")
		p.dead.Store(true)
		l.tasks.Go(func() { l.keepalive(0, alive{15 * time.Second, 3, false}) })
		for range 100 {
			time.Sleep(10 * time.Second)
			p.send()
		}
		if n := p.pings.Load(); n != 0 {
			t.Errorf("%d pings to a busy hop", n)
		}
		for range 100 {
			time.Sleep(40 * time.Second)
			p.send()
		}
		if l.life.Err() != nil {
			t.Fatalf("given up: %v", context.Cause(l.life))
		}
		if n := p.pings.Load(); n != 1 {
			t.Errorf("%d pings are under way, want 1 that is never answered", n)
		}
		if took := endsAfter(t, l); took > 45*time.Second {
			t.Errorf("found after %v", took)
		}
	})
}

// A pause between two attempts ends when the machine wakes or gets an address. The next pauses are
// short again. When the clock is set back, nothing changes.
func TestBackoffEndsWithNews(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(*testMachine)
		want bool
	}{
		{"sleep", func(m *testMachine) { m.slept.Store(int64(time.Hour)) }, true},
		{"new address", func(m *testMachine) { m.off.Store(false) }, true},
		{"the clock is set back", func(m *testMachine) { m.slept.Store(-int64(time.Hour)) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &testMachine{}
				m.off.Store(true)
				attempts := make(chan time.Time)
				tun, err := New(Config{settings: settings{machine: m.machine()}, Chain: func(context.Context) ([]*sshconfig.Host, error) {
					attempts <- time.Now()
					return nil, &HopError{Stage: StageConnect, Err: errors.New("no route to host")}
				}})
				if err != nil {
					t.Fatal(err)
				}
				defer tun.Close()
				go tun.DialContext(t.Context(), "tcp", "x:1") // ends with tun
				last := <-attempts
				for range 20 {
					last = <-attempts
				}
				time.Sleep(time.Second) // 15 to 30 follow
				tt.do(m)
				next := <-attempts
				first, second := next.Sub(last), (<-attempts).Sub(next)
				if got := first <= time.Second+watchInterval && second <= time.Second; got != tt.want {
					t.Errorf("the next pauses are %v and %v", first, second)
				}
			})
		})
	}
}

// testMachine is a machine that can be put to sleep and taken off its network.
type testMachine struct {
	slept atomic.Int64 // nanoseconds, in all
	off   atomic.Bool
}

func (m *testMachine) machine() netwatch.Machine {
	return netwatch.Machine{
		Wall: func() time.Time { return time.Now().Round(0).Add(time.Duration(m.slept.Load())) },
		Addrs: func() ([]net.Addr, error) {
			if m.off.Load() {
				return nil, nil
			}
			return []net.Addr{&net.IPNet{IP: net.IPv4(192, 0, 2, 1)}}, nil
		},
	}
}

func TestProbeAfterSleepOrLostAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(*testMachine)
		want string // in the error of a dead link
	}{
		{"sleep", func(m *testMachine) { m.slept.Store(int64(time.Hour)) }, "after a sleep of 1h0m0s"},
		{"address gone", func(m *testMachine) { m.off.Store(true) }, "after the local address 192.0.2.1 was lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, p := quietLink("bastion")
				m := &testMachine{}
				l.tasks.Go(func() { l.watch(m.machine(), true) })
				time.Sleep(time.Hour)
				if n := p.pings.Load(); n != 0 {
					t.Errorf("%d pings for no reason", n)
				}
				tt.do(m)
				time.Sleep(time.Minute)
				if l.life.Err() != nil {
					t.Fatalf("a link that answers was given up: %v", context.Cause(l.life))
				}
				if p.pings.Load() == 0 {
					t.Fatal("no ping")
				}
				m.off.Store(false)
				time.Sleep(time.Minute)
				p.dead.Store(true)
				m.slept.Store(0) // the wall clock set back is no sleep
				time.Sleep(time.Minute)
				if l.life.Err() != nil {
					t.Fatalf("given up: %v", context.Cause(l.life))
				}
				tt.do(m)
				if took := endsAfter(t, l); took > watchInterval+blindLimit {
					t.Errorf("found after %v", took)
				}
				if !strings.Contains(context.Cause(l.life).Error(), tt.want) {
					t.Errorf("got %v, want %q", context.Cause(l.life), tt.want)
				}
			})
		})
	}
}

// If the system does not list the address of the link, as in some containers, its absence means
// nothing.
func TestNoProbeForAnUnlistedAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := quietLink("")
		m := &testMachine{}
		m.off.Store(true)
		l.tasks.Go(func() { l.watch(m.machine(), true) })
		time.Sleep(time.Hour)
		if n := p.pings.Load(); n != 0 {
			t.Errorf("%d pings", n)
		}
		l.close(ErrClosed)
	})
}

// A server that owes an answer and is silent is found within 5 s. One that owes none, one that may
// be busy, and one that has never answered, are left to keepalive.
func TestDoubt(t *testing.T) {
	t.Parallel()
	use := func(p *quietPeer) { p.conn.Write(make([]byte, 200)) }
	for _, tt := range []struct {
		name string
		// before is done while the peer lives, after once it is dead.
		before, after func(*link, *quietPeer)
		// want is how long the link lives at least and at most.
		atLeast, atMost time.Duration
	}{
		{"used", nil, func(_ *link, p *quietPeer) { use(p) }, 3 * time.Second, 5 * time.Second},
		{"used again and again", nil, func(l *link, p *quietPeer) {
			l.tasks.Go(func() {
				for l.life.Err() == nil {
					use(p)
					time.Sleep(50 * time.Millisecond)
				}
			})
		}, 3 * time.Second, 5 * time.Second},
		{"not used", nil, nil, 30 * time.Second, 46 * time.Second},
		{"asked by keepalive only", nil, func(l *link, p *quietPeer) { l.last().heartbeat().ping(&l.tasks) }, 30 * time.Second, 46 * time.Second},
		{"used before, and answered", func(_ *link, p *quietPeer) { use(p); p.send() }, nil, 30 * time.Second, 46 * time.Second},
		{"it looks up a name first", func(l *link, _ *quietPeer) {
			h := l.last().(*sshHop)
			h.beat.heldBy = h.blocking.at
			h.blocking.add("name:1")
		}, func(_ *link, p *quietPeer) { use(p) }, 30 * time.Second, 46 * time.Second},
		{"a name is wanted later", func(l *link, _ *quietPeer) { h := l.last().(*sshHop); h.beat.heldBy = h.blocking.at }, func(l *link, p *quietPeer) {
			use(p)
			time.Sleep(10 * time.Millisecond)
			l.last().(*sshHop).blocking.add("name:1")
		}, 3 * time.Second, 5 * time.Second},
		{"much moves", nil, func(l *link, p *quietPeer) {
			l.tasks.Go(func() {
				for range 60 {
					p.conn.Write(make([]byte, busyFlow))
					time.Sleep(500 * time.Millisecond)
				}
			})
		}, 30 * time.Second, 46 * time.Second},
		{"a distant server", func(l *link, _ *quietPeer) { l.last().heartbeat().best.Store(int64(3 * time.Second)) },
			func(_ *link, p *quietPeer) { use(p) }, 12 * time.Second, 14 * time.Second},
		{"a login with a person, whom a knock would spare", func(l *link, _ *quietPeer) { l.attended = true },
			func(_ *link, p *quietPeer) { use(p) }, 8 * time.Second, 11 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, p := quietLink("bastion")
				l.tasks.Go(func() { l.watch((&testMachine{}).machine(), true) })
				l.tasks.Go(func() { l.keepalive(0, alive{defaultAliveInterval, defaultAliveCount, true}) })
				for range 60 { // to use it is no reason
					use(p)
					p.send()
					time.Sleep(time.Second + time.Millisecond)
				}
				time.Sleep(time.Minute) // it has answered now
				if l.life.Err() != nil || !l.last().heartbeat().heard.Load() {
					t.Fatalf("a server that answers is given up: %v", context.Cause(l.life))
				}
				if tt.before != nil {
					tt.before(l, p)
				}
				p.dead.Store(true)
				if tt.after != nil {
					tt.after(l, p)
				}
				if took := endsAfter(t, l); took < tt.atLeast || took > tt.atMost {
					t.Errorf("found after %v, want %v to %v", took, tt.atLeast, tt.atMost)
				}
			})
		})
	}
}

// A server that has never answered a request is not given up because it is silent, and an answer
// that comes late, but comes, ends the doubt.
func TestDoubtIsNoProof(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := quietLink("")
		l.tasks.Go(func() { l.watch((&testMachine{}).machine(), true) })
		p.dead.Store(true)
		p.conn.Write(make([]byte, 200))
		time.Sleep(time.Hour)
		if l.life.Err() != nil {
			t.Fatalf("a server that answers no request is given up: %v", context.Cause(l.life))
		}
		l.last().heartbeat().heard.Store(true)
		for range 100 {
			p.conn.Write(make([]byte, 200))
			time.Sleep(3 * time.Second)
			p.send()
		}
		if l.life.Err() != nil {
			t.Errorf("a slow server is given up: %v", context.Cause(l.life))
		}
		l.close(ErrClosed)
	})
}
