//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"sallyport/sshtunnel/sshtest/openssh"
)

// startForward forwards a listener of this machine to addr on the last hop of tun.
func startForward(t *testing.T, ctx context.Context, tun *Tunnel, network, addr string) (near string, ended <-chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 1)
	go func() { // ends with ctx or tun
		err := tun.Forward(ctx, ln, network, addr)
		if ln.Close() == nil { // to dial it would tell nothing: another test may have got the port
			t.Errorf("%s: the listener is open", network)
		}
		errs <- err
	}()
	return ln.Addr().String(), errs
}

func mustConnect(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func TestForward(t *testing.T) {
	t.Parallel()
	target := echo(t)
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	defer hs.Close()
	socket := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, unix)
	f := startFaulty(t)
	noLeak(t, func() {
		tun := newTunnel(t, nil, f.host)
		for network, addr := range map[string]string{"tcp": target, "unix": socket} {
			ctx, cancel := context.WithCancelCause(t.Context())
			at, ended := startForward(t, ctx, tun, network, addr)
			conn := mustConnect(t, at)
			checkEcho(t, conn)
			io.WriteString(conn, "all")
			conn.CloseWrite() // and the answer still comes
			if got, err := io.ReadAll(conn); string(got) != "all" || err != nil {
				t.Errorf("%s: %q, %v", network, got, err)
			}
			idle := mustConnect(t, at)
			checkEcho(t, idle)
			enough := errors.New("enough")
			cancel(enough)
			if err := <-ended; err != enough {
				t.Errorf("%s: Forward returns %v", network, err)
			}
			if _, err := idle.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: a connection outlives the forward", network)
			}
		}

		// What the far side refuses ends one connection; a lost link ends those that are open, and
		// the next one gets through.
		at, ended := startForward(t, t.Context(), tun, "tcp", target)
		refused, _ := startForward(t, t.Context(), tun, "tcp", "127.0.0.1:1")
		web, _ := startForward(t, t.Context(), tun, "tcp", hs.Listener.Addr().String())
		if got, err := io.ReadAll(mustConnect(t, refused)); len(got) > 0 {
			t.Errorf("nobody listens: %q, %v", got, err)
		}
		for range 2 {
			tr := &http.Transport{}
			resp, err := (&http.Client{Transport: tr}).Get("http://" + web)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			tr.CloseIdleConnections()
			conn := mustConnect(t, at)
			checkEcho(t, conn)
			f.cut(true)
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("a connection outlives its link")
			}
		}
		tun.Close()
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("Forward returns %v", err)
		}
	})
}

// Connections that wait for a link are bounded, and end with the forward.
func TestForwardWhileDown(t *testing.T) {
	t.Parallel()
	f := startFaulty(t)
	f.lead("127.0.0.1:1")
	noLeak(t, func() {
		tun := newTunnel(t, nil, f.host)
		ctx, cancel := context.WithCancel(t.Context())
		at, ended := startForward(t, ctx, tun, "tcp", "x:1")
		var conns []net.Conn
		for range 2 * maxUnaccepted {
			conns = append(conns, mustConnect(t, at))
		}
		openssh.Eventually(t, "as many wait as may", func() bool {
			return ask(tun, func(l *loop) int { return len(l.calls) }) == maxUnaccepted
		})
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Forward returns %v", err)
		}
		for _, conn := range conns {
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("a connection outlives the forward")
			}
			conn.Close()
		}
		tun.Close()
		f.cut(true)
	})
}

// farPipe is the far side of join, without a tunnel.
type farPipe struct {
	net.Conn
	gone chan struct{}
}

func (f farPipe) CloseWrite() error      { return nil }
func (f farPipe) Ended() <-chan struct{} { return f.gone }

// When the link is lost, a near side that is silent is closed.
func TestJoinEndsWithTheLink(t *testing.T) {
	t.Parallel()
	near, silent := net.Pipe()
	far, link := net.Pipe()
	gone, joined := make(chan struct{}), make(chan struct{})
	go func() { // ends with both
		defer close(joined)
		join(t.Context(), near, farPipe{far, gone})
	}()
	link.Close()
	close(gone)
	<-joined
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v", err)
	}
}
