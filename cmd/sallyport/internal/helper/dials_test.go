package helper

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// desk is a helper that has connections made by the login.
func desk(t *testing.T, conn *Conn) *Dialer {
	t.Helper()
	d := NewDialer(conn)
	go func() { // ends with the connection
		defer d.Close()
		defer conn.Close()
		for {
			m, err := conn.Receive()
			if err != nil {
				return
			}
			if m.Type == TypeBytes {
				d.Take(m.Bytes)
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		d.Close()
	})
	return d
}

// A helper has the login make connections: several at once, with more bytes than any buffer holds,
// as long as the login page is shown, and to the hosts that the login allows.
func TestTheLoginDials(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() { // ends with the listener
		for conn, err := echo.Accept(); err == nil; conn, err = echo.Accept() {
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	s := newSignIn(t, nil)
	h := startScripted(t, s.dir)
	var links sync.Map
	s.cfg.Dial = func(ctx context.Context, link, addr string) (net.Conn, error) {
		links.Store(link, true)
		if addr != "login.example:443" {
			return nil, errors.New("not there")
		}
		return new(net.Dialer).DialContext(ctx, "tcp", echo.Addr().String())
	}
	var l net.Listener
	begun := make(chan struct{})
	go func() { l = s.begin(t, Want{Addr: "127.0.0.1:0"}); close(begun) }()
	conn := h.accept(t)
	if m := hold(t, conn, "4242"); !m.Dials {
		t.Errorf("%+v offers no connections", m)
	}
	<-begun
	d := desk(t, conn)
	if _, err := d.Dial(t.Context(), "tcp", "login.example:443"); err == nil || !strings.Contains(err.Error(), errNotNow.Error()) {
		t.Errorf("before the login page: %v", err)
	}
	p := s.prompt(l)
	_, withdraw := s.offer(t, p)
	for { // the prompt is there some time soon
		conn, err := d.Dial(t.Context(), "tcp", "login.example:443")
		if err == nil {
			conn.Close()
			break
		}
		if !strings.Contains(err.Error(), errNotNow.Error()) {
			t.Fatal(err)
		}
	}
	if _, err := d.Dial(t.Context(), "tcp", "other.example:443"); err == nil || !strings.Contains(err.Error(), "not there") {
		t.Errorf("another host: %v", err)
	}
	if _, ok := links.Load(p.AuthorizeURL); !ok {
		t.Error("the login page was not named")
	}
	text := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	var all sync.WaitGroup
	for range 3 * dialedBacklog {
		all.Go(func() {
			conn, err := d.Dial(t.Context(), "tcp", "login.example:443")
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			go conn.Write(text)
			got := make([]byte, len(text))
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, text) {
				t.Errorf("the bytes that came back are others: %v", err)
			}
		})
	}
	all.Wait()
	open, err := d.Dial(t.Context(), "tcp", "login.example:443")
	if err != nil {
		t.Fatal(err)
	}
	withdraw()
	l.Close()
	io.ReadAll(open) // returns, with or without an error
	if _, err := d.Dial(t.Context(), "tcp", "login.example:443"); err == nil {
		t.Error("the login dials after its end")
	}
}
