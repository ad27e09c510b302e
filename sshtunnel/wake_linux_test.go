package sshtunnel

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/sshtunnel/netwatch"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
)

// napper is a machine whose sleeps are told by hand.
type napper struct{ slept atomic.Int64 }

func (n *napper) nap(d time.Duration) { n.slept.Add(int64(d)) }

func (n *napper) machine() netwatch.Machine {
	m := netwatch.This()
	m.Wall = func() time.Time { return time.Now().Round(0).Add(time.Duration(n.slept.Load())) }
	return m
}

// wakeTest wakes a machine whose network comes some seconds later.
type wakeTest struct {
	// cut and mend are arguments of ip that take the network away and bring it back.
	cut, mend string
	// far is the namespace of the server, and sshd is the process there that accepts.
	far  string
	sshd int
	host *sshconfig.Host
}

// run wakes the machine. meanwhile is done while it has no network, and then check is called at the
// moment when it has one again.
func (w wakeTest) run(t *testing.T, meanwhile func(), check func(tun *Tunnel, conn net.Conn, before *link)) {
	var n napper
	chain := func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{w.host}, nil }
	noLeak(t, func() {
		tun := tunnelOf(t, Config{Chain: chain, settings: settings{machine: n.machine()}})
		conn := mustDial(t, tun, "127.0.0.1:22")
		before := linkOf(tun)
		openssh.Run(t, "ip", strings.Fields(w.cut)...)
		meanwhile()
		n.nap(time.Hour)
		<-time.After(4 * time.Second) // longer than a link may take to answer on a network
		openssh.Run(t, "ip", strings.Fields(w.mend)...)
		check(tun, conn, before)
		conn.Close() // what was not read would keep it
		tun.Close()
	})
}

func testWake(t *testing.T, w wakeTest) {
	t.Run("the link lives", func(t *testing.T) {
		w.run(t, func() {}, func(tun *Tunnel, conn net.Conn, before *link) {
			openssh.Eventually(t, "the link has answered", before.last().heartbeat().heard.Load)
			got := make([]byte, 4)
			if _, err := conn.Read(got); err != nil || string(got) != "SSH-" {
				t.Errorf("got %q, %v", got, err)
			}
			if linkOf(tun) != before || before.life.Err() != nil {
				t.Errorf("another login, for %v", context.Cause(before.life))
			}
		})
	})
	t.Run("the link is dead", func(t *testing.T) {
		w.run(t, func() { w.freezeSessions(t) }, func(tun *Tunnel, _ net.Conn, before *link) {
			back := time.Now()
			conn, err := tun.DialContext(t.Context(), "tcp", "127.0.0.1:22")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 4)); err != nil {
				t.Error(err)
			}
			took := time.Since(back)
			t.Logf("first answer %v after the network; the link was lost by %v", took, context.Cause(before.life))
			if took > 3*5*time.Second {
				t.Errorf("the first answer came %v after the network", took)
			}
			if silent, ok := errors.AsType[*SilentError](context.Cause(before.life)); !ok || silent.Why == "" {
				t.Errorf("lost by %v", context.Cause(before.life))
			}
		})
	})
}

// freezeSessions stops all sessions of the server. Their connections live and do not answer, as if
// a firewall had forgotten them.
func (w wakeTest) freezeSessions(t *testing.T) {
	pids, err := exec.Command("ip", "netns", "pids", w.far).Output()
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(string(pids)) {
		if pid, err := strconv.Atoi(word); err == nil && pid != w.sshd {
			syscall.Kill(pid, syscall.SIGSTOP)
		}
	}
}

// An attempt whose machine has slept begins anew, because its connection may be dead. One that a
// person is at work on does not.
func TestAttemptAfterSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n napper
		began := make(chan time.Time, 10)
		tun, err := New(Config{settings: settings{machine: n.machine()}, Chain: func(ctx context.Context) ([]*sshconfig.Host, error) {
			began <- time.Now()
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer tun.Close()
		go tun.DialContext(t.Context(), "tcp", "x:1") // ends with tun
		<-began
		time.Sleep(time.Hour)
		woke := time.Now()
		n.nap(time.Hour)
		if took := (<-began).Sub(woke); took > watchInterval {
			t.Errorf("begins anew after %v", took)
		}
		tun.send(func(l *loop) { l.attempt.patient = true })
		time.Sleep(time.Hour)
		n.nap(time.Hour)
		time.Sleep(time.Hour)
		if len(began) > 0 {
			t.Error("an attempt was dropped that a person is at work on")
		}
	})
}

// A dial that was sent without a network waits for ever. The next one connects.
func TestRepeat(t *testing.T) {
	t.Parallel()
	for _, back := range []time.Duration{0, 10 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			near, far := net.Pipe()
			defer far.Close()
			conn, err := repeat(t.Context(), func(ctx context.Context) (net.Conn, error) {
				if time.Since(began) >= back {
					return near, nil
				}
				<-ctx.Done()
				return nil, context.Cause(ctx)
			})
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if took := time.Since(began); took > back+repeatDelay {
				t.Errorf("network after %v, connection after %v", back, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		refused, calls := errors.New("refused"), 0
		if _, err := repeat(t.Context(), func(context.Context) (net.Conn, error) {
			calls++
			return nil, refused
		}); err != refused || calls != 1 {
			t.Errorf("%v after %d calls", err, calls)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var running atomic.Int32
		if _, err := repeat(ctx, func(ctx context.Context) (net.Conn, error) {
			if n := running.Add(1); n > maxRepeats+1 { // one that was told to end may not have noticed
				t.Errorf("%d at once", n)
			}
			defer running.Add(-1)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}); err != context.DeadlineExceeded {
			t.Error(err)
		}
	})
}
