//go:build !windows

package sshtunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/muxstream"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// clientOf makes a tunnel whose streams go through the share that now returns.
func clientOf(t *testing.T, cfg Config, now func() *share) *Tunnel {
	t.Helper()
	cfg.Log = testLog(t)
	if cfg.Shared == nil {
		cfg.Shared = wayTo("one", now)
	}
	if cfg.Chain == nil {
		cfg.Chain = func(context.Context) ([]*sshconfig.Host, error) {
			return []*sshconfig.Host{{Alias: "mine"}}, nil // what the client calls the bastion
		}
	}
	tun, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tun.Close() })
	return tun
}

// shareOf starts a share of a fake server.
func shareOf(t *testing.T, s *sshtest.Server) *share {
	t.Helper()
	return startShare(t, ServerConfig{Tunnel: Config{Chain: chainOf(fakeHost(t, "bastion", s))}})
}

// sharedClient makes a tunnel through a share of its own.
func sharedClient(t *testing.T, cfg Config) (*Tunnel, *share, *sshtest.Server) {
	t.Helper()
	s := startFake(t, sshtest.Config{Listen: net.Listen})
	sh := shareOf(t, s)
	return clientOf(t, cfg, func() *share { return sh }), sh, s
}

// statusOf asks a share how it is.
func statusOf(t *testing.T, sh *share) mux.Status {
	t.Helper()
	conn, err := sh.dialer()(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, err := mux.AskStatus(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// Thirty clients cause one login, and the status names them.
func TestSharedByMany(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{})
	sh := shareOf(t, s)
	var wg sync.WaitGroup
	for i := range 30 {
		tun := clientOf(t, Config{Purpose: fmt.Sprint("client ", i)}, func() *share { return sh })
		wg.Go(func() {
			if conn, err := tun.DialContext(t.Context(), "tcp", target); err != nil {
				t.Error(err)
			} else {
				checkEcho(t, conn)
			}
		})
	}
	wg.Wait()
	st := statusOf(t, sh)
	if s.Logins() != 1 || st.Streams != 30 || st.Opened != 30 || st.BytesIn != st.BytesOut || st.BytesIn < 30 ||
		len(st.Users) != 30 || !strings.HasPrefix(st.Users[7].Purpose, "client ") || st.Phase != Up || st.Connections != 1 {
		t.Errorf("%d logins, status %+v", s.Logins(), st)
	}
}

// A stalled reader holds up nobody else, and 200 streams share one login. The figure is that at
// which a second connection is opened.
func TestSharedStreams(t *testing.T) {
	t.Parallel()
	target := echo(t)
	noise, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer noise.Close()
	go func() { // ends with noise
		for {
			c, err := noise.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				for buf := make([]byte, 64<<10); err == nil; {
					_, err = c.Write(buf)
				}
			}()
		}
	}()
	tun, sh, _ := sharedClient(t, Config{})
	stalled := mustDial(t, tun, noise.Addr().String())
	openssh.Eventually(t, "more than a window has come", func() bool { return statusOf(t, sh).BytesIn > 100<<10 })
	var conns []net.Conn
	for range 200 {
		conns = append(conns, mustDial(t, tun, target))
	}
	for _, c := range conns {
		checkEcho(t, c)
		c.Close()
	}
	openssh.Eventually(t, "one stream is left", func() bool { return statusOf(t, sh).Streams == 1 })
	stalled.Close() // although bytes wait for it
	openssh.Eventually(t, "no stream is left", func() bool { return statusOf(t, sh).Streams == 0 })
}

// A client that closes a stream ends the channel, also if the far side neither reads nor writes.
func TestSharedCloseOfStalledWriter(t *testing.T) {
	t.Parallel()
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog, reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	tun, sh, _ := sharedClient(t, Config{})
	conn := mustDial(t, tun, deaf.Addr().String())
	conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := conn.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("write: %v", err)
	}
	half := mustDial(t, tun, deaf.Addr().String())
	half.(farConn).CloseWrite()
	quiet := mustDial(t, tun, deaf.Addr().String())
	for _, c := range []net.Conn{conn, half, quiet} {
		c.Close()
	}
	openssh.Eventually(t, "no stream is left", func() bool { return statusOf(t, sh).Streams == 0 })
}

// The end of one direction is passed on, and the other one goes on.
func TestSharedHalfClose(t *testing.T) {
	t.Parallel()
	tun, _, _ := sharedClient(t, Config{})
	for range 20 {
		conn := mustDial(t, tun, echo(t))
		want := bytes.Repeat([]byte("0123456789"), 50<<10)
		go func() { // ends when all is sent
			conn.Write(want)
			conn.(farConn).CloseWrite()
		}()
		if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		select {
		case <-conn.(farConn).Ended():
		case <-t.Context().Done():
		}
		conn.Close()
		if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
	}
}

// When the share ends, streams end as those of a lost link do, and the next call finds another one.
func TestSharedEndMidStream(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{})
	var current atomic.Pointer[share]
	current.Store(shareOf(t, s))
	tun := clientOf(t, Config{}, current.Load)
	conn := mustDial(t, tun, target)
	checkEcho(t, conn)
	old := current.Swap(shareOf(t, s))
	old.Stop()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	openssh.Eventually(t, "writing fails", func() bool { _, err := conn.Write([]byte("x")); return err != nil })
	checkEcho(t, mustDial(t, tun, target))
	if got := s.Logins(); got != 2 {
		t.Errorf("%d logins", got)
	}
}

// A share that drains keeps its streams, and the tunnel shows no error. New streams and listeners
// go to the next share.
func TestSharedDrain(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{Listen: net.Listen})
	var current atomic.Pointer[share]
	current.Store(shareOf(t, s))
	tun := clientOf(t, Config{}, current.Load)
	conn := mustDial(t, tun, target)
	ln, err := tun.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, ln)
	before := ownLink(tun)
	old := current.Swap(shareOf(t, s))
	local, err := old.dialer()(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := mux.AskDrain(t.Context(), local, "a test"); err != nil {
		t.Fatal(err)
	}
	<-before.closed
	checkEcho(t, conn)
	checkEcho(t, mustDial(t, tun, target))
	openssh.Eventually(t, "the forward is back", func() bool {
		far, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			return false
		}
		defer far.Close()
		far.SetDeadline(time.Now().Add(time.Second))
		_, err = far.Write([]byte("x"))
		n, _ := far.Read(make([]byte, 1))
		return err == nil && n == 1
	})
	if st, _ := tun.State(); st.Err != nil {
		t.Errorf("state %+v", st)
	}
	checkEcho(t, conn)
	conn.Close()
	<-old.done // its last stream has ended
	if got := s.Logins(); got != 2 {
		t.Errorf("%d logins", got)
	}
}

// Tunnel.Close ends also the streams of a share that drains.
func TestSharedCloseAfterDrain(t *testing.T) {
	t.Parallel()
	tun, sh, _ := sharedClient(t, Config{})
	conn := mustDial(t, tun, echo(t))
	before := ownLink(tun)
	sh.Drain("a test")
	<-before.closed
	checkEcho(t, conn)
	tun.Close()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	<-sh.done
}

// A change of ssh_config leads new streams to another share, and the old ones live on.
func TestSharedConfigChanges(t *testing.T) {
	t.Parallel()
	target := echo(t)
	one, two := startFake(t, sshtest.Config{}), startFake(t, sshtest.Config{})
	shares := map[string]*share{"one": shareOf(t, one), "two": shareOf(t, two)}
	var key atomic.Value
	key.Store("one")
	var broken atomic.Bool
	tun := clientOf(t, Config{
		Chain: func(context.Context) ([]*sshconfig.Host, error) {
			if broken.Load() {
				return nil, errors.New("a misspelled keyword")
			}
			return []*sshconfig.Host{{Alias: "mine"}}, nil
		},
		Shared: func(ctx context.Context, chain []*sshconfig.Host) (mux.Way, error) {
			now := key.Load().(string)
			return wayTo(now, func() *share { return shares[now] })(ctx, chain)
		},
	}, nil)
	old := mustDial(t, tun, target)
	later := func() { ownLink(tun).last().(*muxHop).resolved.Add(-int64(resolveInterval)) }
	broken.Store(true)
	later()
	checkEcho(t, mustDial(t, tun, target))
	broken.Store(false)
	key.Store("two")
	checkEcho(t, mustDial(t, tun, target))
	if one.Logins() != 1 || two.Logins() != 0 {
		t.Errorf("too early: %d and %d logins", one.Logins(), two.Logins())
	}
	later()
	checkEcho(t, mustDial(t, tun, target))
	if st, _ := tun.State(); one.Logins() != 1 || two.Logins() != 1 || st.Err != nil {
		t.Errorf("%d and %d logins, state %+v", one.Logins(), two.Logins(), st)
	}
	checkEcho(t, old)
}

// gate is a connection that can be made silent, as by a server that is stopped.
type gate struct {
	*net.UnixConn
	shut *atomic.Bool
	over chan struct{}
	once sync.Once
}

func (g *gate) Read(p []byte) (int, error) {
	n, err := g.UnixConn.Read(p)
	if g.shut.Load() {
		<-g.over
		return 0, net.ErrClosed
	}
	return n, err
}

func (g *gate) Close() error {
	g.once.Do(func() { close(g.over) })
	return g.UnixConn.Close()
}

// A share that does not answer is given up, its streams end, and another one is found.
func TestSharedSilence(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{})
	first, second := shareOf(t, s), shareOf(t, s)
	var shut atomic.Bool
	finds := 0
	tun := clientOf(t, Config{Shared: func(context.Context, []*sshconfig.Host) (mux.Way, error) {
		return mux.Way{Key: "one", Find: func(context.Context) (mux.Dialer, error) {
			if finds++; finds > 1 {
				return second.dialer(), nil
			}
			return silentDialer(first, &shut), nil
		}}, nil
	}}, nil)
	conn := mustDial(t, tun, target)
	checkEcho(t, conn)
	before := ownLink(tun)
	shut.Store(true)
	<-before.closed
	if silent, ok := errors.AsType[*SilentError](context.Cause(before.life)); !ok || silent.After != pongLimit {
		t.Errorf("lost by %v", context.Cause(before.life))
	}
	if _, err := conn.Write([]byte("x")); err == nil {
		t.Error("a stream outlives a silent share")
	}
	checkEcho(t, mustDial(t, tun, target))
}

// Where nothing can be shared, the chain is dialed in this process.
func TestSharedUnavailable(t *testing.T) {
	t.Parallel()
	target := echo(t)
	nobody := func(context.Context) (net.Conn, error) { return nil, errors.New("refused") }
	for _, tt := range []struct {
		name string
		way  func() (mux.Way, error)
		want string
	}{
		{"no way", func() (mux.Way, error) { return mux.Way{}, fmt.Errorf("no directory: %w", mux.ErrUnavailable) }, ""},
		{"not found", func() (mux.Way, error) {
			return mux.Way{Find: func(context.Context) (mux.Dialer, error) {
				return nil, fmt.Errorf("not started: %w", mux.ErrUnavailable)
			}}, nil
		}, ""},
		{"always gone", func() (mux.Way, error) {
			return mux.Way{Find: func(context.Context) (mux.Dialer, error) { return nobody, nil }}, nil
		}, ""},
		{"another error", func() (mux.Way, error) { return mux.Way{}, errors.New("no such thing") }, "no such thing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startFake(t, sshtest.Config{})
			tun := clientOf(t, Config{
				Chain:  chainOf(fakeHost(t, "bastion", s)),
				Shared: func(context.Context, []*sshconfig.Host) (mux.Way, error) { return tt.way() },
			}, nil)
			if err := tun.Connect(t.Context()); tt.want != "" {
				if err == nil || err.Error() != tt.want {
					t.Errorf("got %v", err)
				}
				return
			}
			checkEcho(t, mustDial(t, tun, target))
		})
	}
}

// Errors have their types, and name the hops as the client does.
func TestSharedErrors(t *testing.T) {
	t.Parallel()
	tun, _, _ := sharedClient(t, Config{})
	_, err := tun.DialContext(t.Context(), "tcp", "127.0.0.1:1")
	if open, ok := errors.AsType[*OpenError](err); !ok || open.Hop != "mine" || open.Addr != "127.0.0.1:1" {
		t.Errorf("open: %#v", err)
	}
	ln, err := tun.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, err = tun.Listen(t.Context(), "tcp", ln.Addr().String())
	if busy, ok := errors.AsType[*ListenError](err); !ok || busy.Hop != "mine" {
		t.Errorf("listen: %#v", err)
	}
	s := startFake(t, sshtest.Config{Password: "secret"})
	sh := shareOf(t, s)
	tun = clientOf(t, Config{}, func() *share { return sh })
	err = tun.Connect(t.Context())
	if auth, ok := errors.AsType[*AuthError](err); !ok || auth.Hop != "mine" || !auth.NeedsPerson {
		t.Errorf("login: %#v", err)
	}
	if st, _ := tun.State(); st.Phase != NeedsPerson || st.Hop != "mine" {
		t.Errorf("state %+v", st)
	}
}

// When nobody can reach the socket of a share any more, the streams live on, no error is shown, and
// new streams go to another share.
func TestSharedSocketRemoved(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{})
	var current atomic.Pointer[share]
	current.Store(shareOf(t, s))
	tun := clientOf(t, Config{}, current.Load)
	conn := mustDial(t, tun, target)
	old := current.Swap(shareOf(t, s))
	if err := os.Remove(old.path); err != nil {
		t.Fatal(err)
	}
	checkEcho(t, mustDial(t, tun, target))
	checkEcho(t, conn)
	if st, _ := tun.State(); st.Err != nil || len(statusOf(t, current.Load()).Users) != 1 {
		t.Errorf("state %+v", st)
	}
	conn.Close()
	openssh.Eventually(t, "the client leaves", func() bool { return !old.people.attached() })
}

// silentDialer leads to a share that answers nothing any more once shut is set.
func silentDialer(sh *share, shut *atomic.Bool) mux.Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := sh.dialer()(ctx)
		if err != nil {
			return nil, err
		}
		return &gate{UnixConn: conn.(*net.UnixConn), shut: shut, over: make(chan struct{})}, nil
	}
}

// A client stays attached to a share that drains as long as it has a stream there. The stream ends
// if the share does not answer.
func TestSharedSilenceWhileDraining(t *testing.T) {
	t.Parallel()
	var shut atomic.Bool
	s := startFake(t, sshtest.Config{})
	sh := shareOf(t, s)
	tun := clientOf(t, Config{Shared: func(context.Context, []*sshconfig.Host) (mux.Way, error) {
		return mux.Way{Key: "one", Find: func(context.Context) (mux.Dialer, error) { return silentDialer(sh, &shut), nil }}, nil
	}}, nil)
	conn := mustDial(t, tun, echo(t))
	before := ownLink(tun)
	sh.Drain("a test")
	<-before.closed
	checkEcho(t, conn)
	if !sh.people.attached() {
		t.Error("the client has left")
	}
	shut.Store(true)
	if _, err := conn.(*muxstream.Conn).Conn.Conn.(*gate).UnixConn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	conn.Close()
}

// A call that is given up says nothing about the share.
func TestSharedCallGivenUp(t *testing.T) {
	t.Parallel()
	target := echo(t)
	tun, _, s := sharedClient(t, Config{})
	mustDial(t, tun, target)
	before := ownLink(tun)
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Microsecond)
		if conn, err := tun.DialContext(ctx, "tcp", target); err == nil {
			conn.Close()
		}
		cancel()
	}
	checkEcho(t, mustDial(t, tun, target))
	if ownLink(tun) != before || s.Logins() != 1 {
		t.Error("another link")
	}
}

// A request runs once, or not at all, when its connections are ended because their share drains. An
// HTTP client asks for it again on another connection. Only if it just begins when it hears of the
// end, net/http takes its POST for one that may have run, as it does whenever a connection ends.
func TestSharedDrainCostsNoRequest(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	runs := map[string]int{}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		runs[string(body)]++
		mu.Unlock()
		w.Write(body)
	}))
	defer upstream.Close()
	tun, sh, _ := sharedClient(t, Config{})
	client := &http.Client{Transport: &http.Transport{DialContext: tun.DialContext}}
	defer client.CloseIdleConnections()
	if err := tun.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	hop := ownLink(tun).last().(*muxHop)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends by stop
		defer close(stopped)
		for !isDone(stop) {
			hop.streams.Retire(muxstream.DrainLimit-muxstream.DrainLimit/6000, false) // 10 ms of quiet are too long
			time.Sleep(time.Millisecond)
		}
	}()
	const requests = 200
	failed := 0
	for i := range requests {
		name := fmt.Sprint("request ", i)
		resp, err := client.Post(upstream.URL, "text/plain", strings.NewReader(name))
		if err != nil {
			t.Log(err)
			failed++
			mu.Lock()
			ran := runs[name]
			mu.Unlock()
			if ran > 0 {
				t.Fatal("it has run")
			}
			continue
		}
		got, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil || string(got) != name {
			t.Fatalf("got %q, %v", got, err)
		}
		time.Sleep(time.Duration(i%20) * time.Millisecond) // as long as a connection may be quiet, about
	}
	close(stop)
	<-stopped
	mu.Lock()
	defer mu.Unlock()
	for name, n := range runs {
		if n != 1 {
			t.Errorf("%s has run %d times", name, n)
		}
	}
	if opened := statusOf(t, sh).Opened; len(runs)+failed != requests || failed > requests/20 || opened < 3 {
		t.Errorf("%d requests over %d connections, %d failed", len(runs), opened, failed)
	}
}
