package helper

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// carrierOn returns a Carrier whose connections come from a far end in this process.
func carrierOn(t *testing.T, f *farEnd) *Carrier {
	t.Helper()
	c := &Carrier{cfg: CarryConfig{Host: "devbox", Log: slog.New(slog.DiscardHandler)}, arrivals: make(chan net.Conn), changed: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(t.Context())
	c.running.Go(func() { c.takeAll(f.session.Accept) })
	t.Cleanup(func() {
		c.cancel()
		f.session.Close()
		c.running.Wait()
	})
	return c
}

// Other processes of the same user may connect to the socket on HOST, and do what they like. A
// login gets through beside them.
func TestALoginBesideProcessesThatMisbehave(t *testing.T) {
	for name, misbehave := range map[string]func(net.Conn){
		"they say nothing": func(c net.Conn) { io.Copy(io.Discard, c) },
		"they send garbage": func(c net.Conn) {
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, strings.Repeat("\x00\xff", 1<<10))
			}
		},
		"they never read what they are sent": func(c net.Conn) {
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, `{"type":"hello","version":1}`+"\n")
			}
		},
		"they go at once": func(c net.Conn) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f := startFarEnd(t)
			c := carrierOn(t, f)
			path := Sockets([]string{f.dir})[0]
			for range 200 {
				conn, err := Dial(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				go misbehave(conn) // ends with the connection
			}
			s := newSignIn(t, nil)
			s.Logins.cfg.Dirs = []string{f.dir}
			go func() { // ends with the Carrier
				for conn, err := c.Accept(); err == nil; conn, err = c.Accept() {
					go serveHold(conn)
				}
			}()
			s.begin(t, Want{Addr: "127.0.0.1:0"})
			if s.bound.Load() != 0 {
				t.Error("no helper has held the port")
			}
		})
	}
}

// serveHold holds a port for a login, until its connection ends.
func serveHold(conn net.Conn) {
	defer conn.Close()
	h := NewConn(conn)
	h.SetDeadline(time.Now().Add(patience))
	if h.Greet() != nil {
		return
	}
	if m, err := h.Receive(); err == nil && m.Type == TypeHold {
		h.Send(Message{Type: TypeHeld, RedirectURI: "http://127.0.0.1:60000/"})
		io.Copy(io.Discard, conn)
	}
}
