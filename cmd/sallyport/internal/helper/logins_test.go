package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/localsock"
)

// patience bounds each wait of these tests. It is no assertion.
const patience = time.Minute

// errForeign is what the sign-in of these tests says to a callback of another state.
var errForeign = errors.New("no such sign-in")

// signIn is a sign-in whose logins the tests run.
type signIn struct {
	*Logins
	dir string
	// state is that of the login under way.
	state string
	// got are the queries that belonged to it.
	got chan url.Values
	// outcome is what Deliver returns. finished must be closed first.
	outcome  error
	finished chan struct{}
	// bound counts the ports of this machine that were bound.
	bound atomic.Int32
}

// socketDir returns a directory for helper sockets. That of the test's name may be too long.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "helper")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, folder)
}

func newSignIn(t *testing.T, others map[string]func(context.Context) (net.Conn, error)) *signIn {
	t.Helper()
	s := &signIn{dir: socketDir(t), state: "the-state-of-the-login", got: make(chan url.Values, 100), finished: make(chan struct{})}
	s.Logins = NewLogins(LoginsConfig{
		Dirs: []string{s.dir}, Upstream: "https://mcp.example/mcp", Others: others, Log: slog.New(slog.DiscardHandler),
		Deliver: func(ctx context.Context, u *url.URL) error {
			if u.Query().Get("state") != s.state {
				return errForeign
			}
			s.got <- u.Query()
			select {
			case <-s.finished:
				return s.outcome
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		},
		Belongs: func(err error) bool { return !errors.Is(err, errForeign) },
		Explain: func(err error) string { return "in words: " + err.Error() },
	})
	t.Cleanup(func() { s.Close() })
	return s
}

// begin begins a login, and returns its listener.
func (s *signIn) begin(t *testing.T, w Want) net.Listener {
	t.Helper()
	w.Listen = func(ctx context.Context, addr string, _ []string) (net.Listener, error) {
		s.bound.Add(1)
		return new(net.ListenConfig).Listen(ctx, "tcp", addr)
	}
	if w.Addr == "" {
		w.Addr = "127.0.0.1:53682"
	}
	l, err := s.Listen(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// prompt is that of the login, at the address of its listener.
func (s *signIn) prompt(l net.Listener) Prompt {
	at := "http://" + l.Addr().String()
	return Prompt{
		AuthorizeURL: "https://as.example/authorize?state=" + s.state, State: s.state, Issuer: "https://as.example",
		RedirectURI: at + "/callback/x", StartURL: at + "/start/y", Expires: time.Now().Add(time.Hour),
	}
}

// offer offers a prompt until the function that it returns is called.
func (s *signIn) offer(t *testing.T, p Prompt) (shown <-chan Shown, withdraw func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	all := make(chan Shown, 100)
	var offering sync.WaitGroup
	offering.Go(func() { s.Offer(ctx, p, func(s Shown) { all <- s }) })
	return all, func() {
		cancel()
		offering.Wait()
	}
}

// scripted is a helper that does what a test says.
type scripted struct{ l *localsock.Listener }

func startScripted(t *testing.T, dir string) *scripted {
	t.Helper()
	l, err := Listen([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &scripted{l}
}

// accept returns the connection of a login after the hellos.
func (h *scripted) accept(t *testing.T) *Conn {
	t.Helper()
	raw, err := h.l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return greeted(t, raw)
}

func greeted(t *testing.T, raw net.Conn) *Conn {
	t.Helper()
	conn := NewConn(raw)
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	if err := conn.Greet(); err != nil {
		t.Fatal(err)
	}
	return conn
}

// receive returns the next message, which must be of a type.
func receive(t *testing.T, conn *Conn, want string) Message {
	t.Helper()
	m, err := conn.Receive()
	if err != nil || m.Type != want {
		t.Fatalf("got %+v, %v, want a message of type %s", m, err, want)
	}
	return m
}

func send(t *testing.T, conn *Conn, m Message) {
	t.Helper()
	if err := conn.Send(m); err != nil {
		t.Fatal(err)
	}
}

// hold answers a hold, with another port if there is one.
func hold(t *testing.T, conn *Conn, port string) Message {
	t.Helper()
	m := receive(t, conn, TypeHold)
	uri := m.RedirectURI
	if port != "" {
		uri = "http://127.0.0.1:" + port + "/"
	}
	send(t, conn, Message{Type: TypeHeld, RedirectURI: uri, Host: "devbox"})
	return m
}

func TestAHelperHoldsThePortAndBringsTheCallback(t *testing.T) {
	for _, outcome := range []error{nil, errors.New("the code was refused")} {
		s := newSignIn(t, nil)
		s.outcome = outcome
		h := startScripted(t, s.dir)
		began := make(chan net.Listener, 1)
		go func() { began <- s.begin(t, Want{}) }()
		conn := h.accept(t)
		if m := hold(t, conn, "60000"); m.RedirectURI != "http://127.0.0.1:53682/" || m.Fixed || m.Login == "" || m.Upstream != "https://mcp.example/mcp" {
			t.Errorf("hold is %+v", m)
		}
		l := <-began
		if got := l.Addr().String(); got != "127.0.0.1:60000" {
			t.Errorf("the port is %s, want that of the helper", got)
		}
		p := s.prompt(l)
		shown, withdraw := s.offer(t, p)
		if m := receive(t, conn, TypeLogin); m.AuthorizeURL != p.AuthorizeURL || m.RedirectURI != p.RedirectURI || m.State != p.State || m.Issuer != p.Issuer || !m.Expires.Equal(p.Expires) {
			t.Errorf("login is %+v", m)
		}
		send(t, conn, Message{Type: TypeShown, How: HowConfirm})
		for got := range shown {
			if got.How == HowConfirm && got.Holding == 1 && strings.Join(got.Hosts, " ") == "devbox" {
				break
			}
		}
		send(t, conn, Message{Type: TypeCallback, Query: "state=wrong&code=c"})
		if m := receive(t, conn, TypeOutcome); m.OK || m.Text == "" {
			t.Errorf("the outcome of another's callback is %+v", m)
		}
		send(t, conn, Message{Type: TypeCallback, Query: "code=c&state=" + s.state})
		if q := <-s.got; q.Get("code") != "c" {
			t.Errorf("delivered %v", q)
		}
		withdraw()
		l.Close()
		close(s.finished)
		want := Message{Type: TypeOutcome, OK: outcome == nil}
		if outcome != nil {
			want.Text = "in words: the code was refused"
		}
		if m := receive(t, conn, TypeOutcome); m != want {
			t.Errorf("got %+v, want %+v", m, want)
		}
		receive(t, conn, TypeEnd)
		if n := s.bound.Load(); n != 0 {
			t.Errorf("%d ports of this machine were bound", n)
		}
	}
}

func TestALoginWithoutAHelperBindsAPort(t *testing.T) {
	for name, misbehave := range map[string]func(net.Conn){
		"nobody is there": nil,
		"it never answers": func(c net.Conn) {
			time.Sleep(patience)
		},
		"it sends garbage":          func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") },
		"it speaks another version": func(c net.Conn) { io.WriteString(c, `{"type":"hello","version":2}`+"\n") },
		"it sends a line without end": func(c net.Conn) {
			for range 100 {
				io.WriteString(c, strings.Repeat("x", 1<<10))
			}
		},
		"its port is taken": func(c net.Conn) {
			io.WriteString(c, `{"type":"hello","version":1}`+"\n"+`{"type":"error","kind":"port_busy","text":"nc holds it"}`+"\n")
			io.Copy(io.Discard, c)
		},
		"it holds no port": func(c net.Conn) {
			io.WriteString(c, `{"type":"hello","version":1}`+"\n"+`{"type":"held","redirect_uri":"http://127.0.0.1/"}`+"\n")
			io.Copy(io.Discard, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSignIn(t, nil)
			if misbehave != nil {
				h := startScripted(t, s.dir)
				go func() { // ends with the listener
					for c, err := h.l.Accept(); err == nil; c, err = h.l.Accept() {
						go func() {
							misbehave(c)
							c.Close()
						}()
					}
				}()
			}
			l := s.begin(t, Want{Addr: "127.0.0.1:0", Fixed: true})
			if s.bound.Load() != 1 {
				t.Errorf("no port was bound, at %s", l.Addr())
			}
			// The port of this machine serves.
			go func() { // ends with the listener
				for c, err := l.Accept(); err == nil; c, err = l.Accept() {
					io.WriteString(c, "hello")
					c.Close()
				}
			}()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if b, err := io.ReadAll(c); string(b) != "hello" {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
}

func TestAHelperThatComesLater(t *testing.T) {
	s := newSignIn(t, nil)
	l := s.begin(t, Want{Addr: "127.0.0.1:0"})
	_, withdraw := s.offer(t, s.prompt(l))
	h := startScripted(t, s.dir)
	conn := h.accept(t)
	if m := hold(t, conn, ""); !m.Fixed || m.RedirectURI != "http://"+l.Addr().String()+"/" {
		t.Errorf("hold is %+v, want the port that is bound already, fixed", m)
	}
	receive(t, conn, TypeLogin)
	send(t, conn, Message{Type: TypeCallback, Query: "code=c&state=" + s.state})
	<-s.got
	withdraw()
	l.Close()
	close(s.finished)
	if m := receive(t, conn, TypeOutcome); !m.OK {
		t.Errorf("got %+v", m)
	}
}

// A connection breaks before the callback, between callback and outcome, and after the login:
// before the outcome, and with the outcome in it.
func TestALoginResumesAfterACut(t *testing.T) {
	s := newSignIn(t, nil)
	h := startScripted(t, s.dir)
	began := make(chan net.Listener, 1)
	go func() { began <- s.begin(t, Want{}) }()
	conn := h.accept(t)
	id := hold(t, conn, "").Login
	l := <-began
	_, withdraw := s.offer(t, s.prompt(l))
	receive(t, conn, TypeLogin)
	conn.Close()

	conn = h.accept(t)
	if m := hold(t, conn, ""); m.Login != id || !m.Fixed {
		t.Errorf("after a cut: hold is %+v, want login %s", m, id)
	}
	receive(t, conn, TypeLogin)
	send(t, conn, Message{Type: TypeCallback, Query: "code=c&state=" + s.state})
	<-s.got
	conn.Close()
	withdraw()

	conn = h.accept(t)
	hold(t, conn, "")
	conn.Close()
	l.Close()
	close(s.finished)

	for range 2 {
		conn = h.accept(t) // although the login is over
		hold(t, conn, "")
		if m := receive(t, conn, TypeOutcome); !m.OK {
			t.Errorf("got %+v", m)
		}
		receive(t, conn, TypeEnd)
		conn.Close()
	}
	conn = h.accept(t)
	hold(t, conn, "")
	receive(t, conn, TypeOutcome)
	receive(t, conn, TypeEnd)
	send(t, conn, Message{Type: TypeEnd})
	s.Logins.running.Wait() // nobody is owed anything
}

func TestRefusedAtTheHelper(t *testing.T) {
	s := newSignIn(t, nil)
	h := startScripted(t, s.dir)
	began := make(chan net.Listener, 1)
	go func() { began <- s.begin(t, Want{}) }()
	conn := h.accept(t)
	hold(t, conn, "")
	_, withdraw := s.offer(t, s.prompt(<-began))
	defer withdraw()
	receive(t, conn, TypeLogin)
	send(t, conn, Message{Type: TypeError, Kind: KindRefused})
	if q := <-s.got; q.Get("error") != "access_denied" || q.Get("iss") != "https://as.example" {
		t.Errorf("the login got %v", q)
	}
	close(s.finished)
}

// A new link is fetched from our own page, without a port.
func TestRelink(t *testing.T) {
	s := newSignIn(t, nil)
	h := startScripted(t, s.dir)
	began := make(chan net.Listener, 1)
	go func() { began <- s.begin(t, Want{}) }()
	conn := h.accept(t)
	hold(t, conn, "")
	l := <-began
	var visits atomic.Int32
	p := s.prompt(l)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		link := p.AuthorizeURL // as a page that has not been visited yet
		if n := visits.Add(1); n > 1 {
			link = fmt.Sprint("https://as.example/link/", n)
		}
		http.Redirect(w, r, link, http.StatusSeeOther)
	})}
	go server.Serve(l) // ends with l
	_, withdraw := s.offer(t, p)
	defer withdraw()
	receive(t, conn, TypeLogin)
	for _, want := range []string{"https://as.example/link/2", "https://as.example/link/3"} {
		send(t, conn, Message{Type: TypeRelink})
		if m := receive(t, conn, TypeLogin); m.AuthorizeURL != want || m.State != p.State {
			t.Errorf("got %+v, want %s", m, want)
		}
	}
}

// A login that begins again on another page tells the helper so, on the same connection.
func TestTheLoginBeginsAgain(t *testing.T) {
	s := newSignIn(t, nil)
	h := startScripted(t, s.dir)
	began := make(chan net.Listener, 1)
	go func() { began <- s.begin(t, Want{}) }()
	conn := h.accept(t)
	hold(t, conn, "")
	l := <-began
	_, withdraw := s.offer(t, s.prompt(l))
	receive(t, conn, TypeLogin)
	send(t, conn, Message{Type: TypeCallback, Query: "code=c&state=" + s.state})
	<-s.got
	withdraw()
	s.outcome = errors.New("unknown client")
	close(s.finished)
	again := s.prompt(l)
	again.State = "another-state-of-the-login"
	_, withdraw = s.offer(t, again)
	defer withdraw()
	if m := receive(t, conn, TypeOutcome); m.OK {
		t.Errorf("got %+v", m)
	}
	if m := receive(t, conn, TypeLogin); m.State != again.State {
		t.Errorf("got %+v", m)
	}
}

// freePort returns a port that is free a moment before.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// When the last helper is gone, the port is bound here after all.
func TestAllHelpersGo(t *testing.T) {
	s := newSignIn(t, nil)
	h := startScripted(t, s.dir)
	began := make(chan net.Listener, 1)
	go func() { began <- s.begin(t, Want{}) }()
	conn := h.accept(t)
	hold(t, conn, freePort(t))
	<-began
	h.l.Close()
	conn.Close()
	for deadline := time.Now().Add(patience); s.bound.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no port was bound")
		}
	}
}

// A helper without a socket here, as that of --callback-via, is asked like all others.
func TestAHelperElsewhere(t *testing.T) {
	ours, theirs := net.Pipe()
	s := newSignIn(t, map[string]func(context.Context) (net.Conn, error){
		"away": func(context.Context) (net.Conn, error) { return nil, errors.New("not reached") },
		"desk": func(context.Context) (net.Conn, error) { return theirs, nil },
	})
	began := make(chan net.Listener, 1)
	go func() { began <- s.begin(t, Want{}) }()
	conn := greeted(t, ours)
	hold(t, conn, "")
	<-began
	if s.bound.Load() != 0 {
		t.Error("a port was bound")
	}
}

func TestSocketsOfOthersAreLeftAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a socket of another user")
	}
	s := newSignIn(t, nil)
	h := startScripted(t, s.dir)
	if err := os.Chown(h.l.Path(), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	s.begin(t, Want{Addr: "127.0.0.1:0"})
	if s.bound.Load() != 1 {
		t.Error("another user's socket was asked")
	}
}

func TestStaleSocketsAreRemoved(t *testing.T) {
	s := newSignIn(t, nil)
	h := startScripted(t, s.dir)
	h.l.Leave() // as a process that was killed
	s.begin(t, Want{Addr: "127.0.0.1:0"})
	if left := Sockets([]string{s.dir}); len(left) > 0 && strings.HasPrefix(left[0], s.dir) {
		t.Errorf("%v is left", left)
	}
}

// A login with a list of ports gets the first one that a helper can hold, and HOST binds none. If
// none of them is free there, it binds the first one, and says why the helper shows nothing.
func TestPortsOfAListAreTriedAtTheHelper(t *testing.T) {
	for _, row := range []struct {
		name  string
		taken int
		held  string
	}{{"the second is free", 1, "127.0.0.1:7778"}, {"the last is free", 2, "127.0.0.1:7779"}, {"none is free", 3, ""}} {
		t.Run(row.name, func(t *testing.T) {
			s := newSignIn(t, nil)
			h := startScripted(t, s.dir)
			asked := make(chan Message, 100)
			go func() { // ends with the listener
				for raw, err := h.l.Accept(); err == nil; raw, err = h.l.Accept() {
					go func() {
						c := NewConn(raw)
						defer c.Close()
						c.Greet()
						m, err := c.Receive()
						if err != nil {
							return
						}
						asked <- m
						if port := m.RedirectURI[len("http://127.0.0.1:777"):][0]; int(port-'7') < row.taken {
							c.Send(Message{Type: TypeError, Kind: KindPortBusy, Text: "nc holds it"})
							return
						}
						c.Send(Message{Type: TypeHeld, RedirectURI: m.RedirectURI, Host: "devbox"})
						c.Receive()
					}()
				}
			}()
			l := s.begin(t, Want{Addr: "127.0.0.1:7777", Fixed: true, More: []string{"127.0.0.1:7778", "127.0.0.1:7779"}})
			if row.held == "" {
				shown, _ := s.Logins.Shown()
				if s.bound.Load() != 1 || !strings.Contains(shown.Trouble, "nc holds it; end that program") {
					t.Errorf("bound %d times, and says %+v", s.bound.Load(), shown)
				}
			} else if got := l.Addr().String(); got != row.held || s.bound.Load() != 0 {
				t.Errorf("the login is at %s, want %s; bound here %d times", got, row.held, s.bound.Load())
			}
			for i := range min(row.taken+1, 3) {
				if m := <-asked; !m.Fixed || m.More != (i < 2) {
					t.Errorf("hold %d is %+v", i, m)
				}
			}
		})
	}
}
