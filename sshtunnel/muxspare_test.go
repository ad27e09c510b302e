//go:build !windows

package sshtunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
)

// counter is a server that answers each line with the number of its connection.
type counter struct {
	*net.TCPAddr
	ln net.Listener
	// greeting is sent to who connects.
	greeting string

	mu       sync.Mutex
	accepted int
	open     map[net.Conn]struct{}
	// ended is set by end.
	ended bool
}

// startCounter starts one. If it is single, it serves one connection after the other.
func startCounter(t *testing.T, single bool, greeting string) *counter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{TCPAddr: ln.Addr().(*net.TCPAddr), ln: ln, greeting: greeting, open: map[net.Conn]struct{}{}}
	var tasks sync.WaitGroup
	tasks.Go(func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			n := c.enter(conn)
			if single {
				c.serve(conn, n)
			} else {
				tasks.Go(func() { c.serve(conn, n) }) // ends with the connection, at the latest by end
			}
		}
	})
	t.Cleanup(func() {
		c.end()
		tasks.Wait()
	})
	return c
}

// enter notes a connection and returns its number.
func (c *counter) enter(conn net.Conn) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted++
	c.open[conn] = struct{}{}
	if c.ended {
		conn.Close()
	}
	return c.accepted
}

func (c *counter) serve(conn net.Conn, n int) {
	defer func() {
		conn.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, conn)
	}()
	io.WriteString(conn, c.greeting)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		fmt.Fprintln(conn, n)
	}
}

// counts returns how many connections have come, and how many are open.
func (c *counter) counts() (accepted, open int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.accepted, len(c.open)
}

// hangUp closes all connections.
func (c *counter) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.Close()
	}
}

// end ends the server.
func (c *counter) end() {
	c.ln.Close()
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.hangUp()
}

// number asks for the number of a connection.
func number(t *testing.T, conn net.Conn) (n int) {
	t.Helper()
	if _, err := fmt.Fprintln(conn, "?"); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscanln(conn, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// sparing is a server of a real connection, and a tunnel through it.
type sparing struct {
	*faulty
	share *share
	tun   *Tunnel
}

func startSparing(t *testing.T, cfg ServerConfig) *sparing {
	t.Helper()
	s := &sparing{faulty: startFaulty(t)}
	s.host.ServerAliveSet = false
	cfg.Tunnel.Chain = func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{s.host}, nil }
	s.share = startShare(t, cfg)
	s.tun = s.newTunnel(t)
	return s
}

// newTunnel makes a tunnel through the server.
func (s *sparing) newTunnel(t *testing.T) *Tunnel {
	t.Helper()
	chain := func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{s.host}, nil }
	tun, err := New(Config{Chain: chain, Log: testLog(t), Shared: wayTo("test", func() *share { return s.share })})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tun.Close() })
	return tun
}

// warm shows that a server serves two connections at once, closes them, and waits for the spare.
func (s *sparing) warm(t *testing.T, up *counter) {
	t.Helper()
	a, b := mustDial(t, s.tun, up.String()), mustDial(t, s.tun, up.String())
	for _, conn := range []net.Conn{a, b} {
		io.ReadFull(conn, make([]byte, len(up.greeting)))
		number(t, conn)
	}
	openssh.Eventually(t, "a spare", func() bool {
		number(t, b)
		return s.share.spares.Count() == 1
	})
	a.Close()
	b.Close()
	openssh.Eventually(t, "nothing but the spare", func() bool {
		_, open := up.counts()
		return open == 1 && s.share.streams.Count() == 0
	})
}

// A spare is there before the need. It costs no round trip, and it is no stream.
func TestSpareNeedsNoRoundTrip(t *testing.T) {
	t.Parallel()
	const greeting = "welcome "
	up := startCounter(t, false, greeting)
	s := startSparing(t, ServerConfig{})
	noLeak(t, func() {
		s.warm(t, up)
		if st := s.share.status(); st.Streams != 0 || st.Spares != 1 || st.Opened != 2 || st.IdleSince.IsZero() {
			t.Errorf("%+v", st)
		}
		hop := linkOf(s.share.tunnel).last().(*sshHop)
		if n, lanes := hop.streams.Load(), onLanes(s.share.pool); n != 0 || lanes[0] != 0 {
			t.Errorf("the spare counts: %d, %v", n, lanes)
		}
		s.freeze(false) // nothing passes the network now
		conn := mustDial(t, s.tun, up.String())
		got := make([]byte, len(greeting))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != greeting {
			t.Errorf("early data: %q, %v", got, err)
		}
		if n, lanes := hop.streams.Load(), onLanes(s.share.pool); n != 1 || lanes[0] != 1 {
			t.Errorf("the stream does not count: %d, %v", n, lanes)
		}
		s.thaw()
		if n := number(t, conn); n != 3 {
			t.Errorf("it is connection %d", n)
		}
		openssh.Eventually(t, "the next spare", func() bool {
			accepted, open := up.counts()
			return accepted == 4 && open == 2 && s.share.spares.Count() == 1
		})
		conn.(interface{ CloseWrite() error }).CloseWrite()
		if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		conn.Close()
		openssh.Eventually(t, "no stream", func() bool { return hop.streams.Load() == 0 && onLanes(s.share.pool)[0] == 0 })
		s.tun.Close()
		s.share.Stop()
		<-s.share.done
		openssh.Eventually(t, "no spare", func() bool { _, open := up.counts(); return open == 0 })
	})
}

// A spare that its server has closed is not taken, and what cannot be reached has none.
func TestSpareOfServerThatRestarts(t *testing.T) {
	t.Parallel()
	up := startCounter(t, false, "")
	s := startSparing(t, ServerConfig{})
	s.warm(t, up)
	up.hangUp()
	openssh.Eventually(t, "another spare", func() bool {
		accepted, _ := up.counts()
		return accepted > 3
	})
	conn := mustDial(t, s.tun, up.String())
	if n := number(t, conn); n < 4 {
		t.Errorf("it is connection %d", n)
	}
	conn.Close()
	up.end()
	openssh.Eventually(t, "the refusal", func() bool { // a spare may just have been opened
		conn, err := s.tun.DialContext(t.Context(), "tcp", up.String())
		if err == nil {
			conn.Close()
		}
		_, refused := errors.AsType[*OpenError](err)
		return refused
	})
	if n := s.share.spares.Count(); n != 0 {
		t.Errorf("%d spares", n)
	}
}

// A server that serves one connection after the other sees the connections that were asked for, and
// no other one.
func TestNoSpareForServerOfOneConnection(t *testing.T) {
	t.Parallel()
	up := startCounter(t, true, "")
	s := startSparing(t, ServerConfig{})
	for i := range 3 {
		a, b := mustDial(t, s.tun, up.String()), mustDial(t, s.tun, up.String())
		fmt.Fprintln(b, "?") // waits until a is closed
		for range 3 {
			number(t, a)
		}
		a.Close()
		var n int
		fmt.Fscanln(b, &n)
		for range 3 {
			n = max(n, number(t, b))
		}
		if n != 3*i+2 {
			t.Errorf("it is connection %d", n)
		}
		b.Close()
		other, err := net.Dial("tcp", up.String())
		if err != nil {
			t.Fatal(err)
		}
		if n := number(t, other); n != 3*(i+1) { // or a spare was before it
			t.Errorf("it is connection %d", n)
		}
		other.Close()
	}
	if n := s.share.spares.Count(); n != 0 {
		t.Errorf("%d spares", n)
	}
}

// A spare does not keep a server from ending, and ends with it.
func TestSpareEndsWithItsServer(t *testing.T) {
	t.Parallel()
	for name, idle := range map[string]time.Duration{"unused": time.Second, "drained": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := startCounter(t, false, "")
			s := startSparing(t, ServerConfig{Idle: idle})
			s.warm(t, up)
			if idle == 0 {
				s.share.Drain("asked to")
			}
			<-s.share.done
			openssh.Eventually(t, "no spare", func() bool { _, open := up.counts(); return open == 0 })
		})
	}
}

// A spare ends with its link, does not make the server dial the next one, and comes back with it.
func TestSpareEndsWithItsLink(t *testing.T) {
	t.Parallel()
	up := startCounter(t, false, "")
	s := startSparing(t, ServerConfig{})
	s.warm(t, up)
	s.tun.Close() // so that no client asks for the chain
	s.cut(true)
	waitPhaseNot(t, s.share.tunnel, Up)
	openssh.Eventually(t, "no spare", func() bool { _, open := up.counts(); return open == 0 && s.share.spares.Count() == 0 })
	if n := s.count(); n != 1 {
		t.Errorf("%d logins", n)
	}
	s.tun = s.newTunnel(t)
	conn := mustDial(t, s.tun, up.String())
	number(t, conn)
	openssh.Eventually(t, "a spare", func() bool { return s.share.spares.Count() == 1 })
	conn.Close()
}

// waitPhaseNot waits until the tunnel is in another phase.
func waitPhaseNot(t *testing.T, tun *Tunnel, phase string) {
	t.Helper()
	for {
		st, changed := tun.State()
		if st.Phase != phase {
			return
		}
		<-changed
	}
}

// A spare is not taken if new streams go around its connection, or if that was silent for so long
// that it may be dead.
func TestSpareOfDoubtfulConnectionIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, doubt := range map[string]func(ln *lane){
		"bulk":   func(ln *lane) { ln.slow = true },
		"silent": func(ln *lane) { ln.link.last().heartbeat().conn.At.Add(-int64(spareTrust)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := startCounter(t, false, "")
			s := startSparing(t, ServerConfig{})
			s.warm(t, up)
			p := s.share.pool
			p.mu.Lock()
			doubt(p.lanes[0])
			p.mu.Unlock()
			conn := mustDial(t, s.tun, up.String())
			if n := number(t, conn); n == 3 {
				t.Error("the spare was taken")
			}
			conn.Close()
		})
	}
}

// One session of MCP over HTTP/1.1 has a stream of events open beside its calls, and so shows that
// the server serves two connections at once.
func TestSessionBringsASpare(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	t.Cleanup(up.Close)
	s := startSparing(t, ServerConfig{})
	transport := &http.Transport{DialContext: s.tun.DialContext}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	call := func(method string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, up.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	call(http.MethodPost).Body.Close() // initialize
	defer call(http.MethodGet).Body.Close()
	openssh.Eventually(t, "a spare", func() bool {
		call(http.MethodPost).Body.Close()
		return s.share.spares.Count() == 1
	})
}

// A Unix socket has no spare.
func TestNoSpareForUnixSocket(t *testing.T) {
	t.Parallel()
	s := startSparing(t, ServerConfig{})
	path := t.TempDir() + "/s"
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, ln)
	var conns []net.Conn
	for range 2 {
		conn, err := s.tun.DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for range 5 {
		checkEcho(t, conns[0])
		checkEcho(t, conns[1])
	}
	if c := s.share.spares.Take(t.Context(), path); c != nil || s.share.spares.Count() != 0 {
		t.Error("a spare")
	}
	conns[0].Close()
	conns[1].Close()
}
