package helper

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/yamux"
)

func TestReadGreeting(t *testing.T) {
	good := greetingMark + `{"protocol":1,"version":"v1","socket":"/run/x.sock"}` + "\n"
	for name, tt := range map[string]struct {
		text string
		want string // the socket; "" if there is no greeting
	}{
		"alone":                     {good, "/run/x.sock"},
		"after a motd":              {"Welcome!\r\n\r\n* * *\n" + good, "/run/x.sock"},
		"after a prompt":            {"alice@devbox:~$ " + good, "/run/x.sock"},
		"after half a greeting":     {greetingMark + "{\n" + good, "/run/x.sock"},
		"after a long line":         {strings.Repeat("x", 50<<10) + "\n" + good, "/run/x.sock"},
		"after binary bytes":        {"\x00\xff\x1b[2J\n" + good, "/run/x.sock"},
		"without an end":            {strings.TrimSuffix(good, "\n"), ""},
		"nothing":                   {"", ""},
		"after too much":            {strings.Repeat("yes\n", 20<<10) + good, ""},
		"after one line of no end":  {strings.Repeat("x", 100<<10) + good, ""},
		"something else altogether": {"This account is not available.\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := readGreeting(bufio.NewReaderSize(strings.NewReader(tt.text), maxFirstLine))
			if g.Socket != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %+v, %v, want socket %q", g, err, tt.want)
			}
		})
	}
}

// farEnd is a far end in this process, and the workstation's end of its session.
type farEnd struct {
	dir     string
	session *yamux.Session
	// stdin is the workstation's end of its stdin.
	stdin *io.PipeWriter
	ended chan error
}

func startFarEnd(t *testing.T) *farEnd {
	t.Helper()
	f := &farEnd{dir: socketDir(t), ended: make(chan error, 1)}
	in, stdin := io.Pipe()
	stdout, out := io.Pipe()
	f.stdin = stdin
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { f.ended <- FarEnd{Dirs: []string{f.dir}, Version: "v1", In: in, Out: out}.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		stdin.Close()
		stdout.Close()
		running.Wait()
	})
	r := bufio.NewReader(stdout)
	if g, err := readGreeting(r); err != nil || g.Socket == "" || g.Protocol != Version || g.Version != "v1" {
		t.Fatalf("the greeting is %+v, %v", g, err)
	}
	session, err := yamux.Server(&pipes{r, stdin}, sessionConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	f.session = session
	return f
}

// One hundred logins of as many sign-ins go through one far end at the same time.
func TestAHundredLoginsThroughAFarEnd(t *testing.T) {
	f := startFarEnd(t)
	go func() { // ends with the session
		for {
			raw, err := f.session.Accept()
			if err != nil {
				return
			}
			go func() {
				conn := NewConn(raw)
				defer conn.Close()
				if conn.Greet() != nil {
					return
				}
				for {
					m, err := conn.Receive()
					if err != nil {
						return
					}
					switch m.Type {
					case TypeHold:
						conn.Send(Message{Type: TypeHeld, RedirectURI: m.RedirectURI})
					case TypeLogin:
						conn.Send(Message{Type: TypeCallback, Query: "code=c&state=" + m.State})
					}
				}
			}()
		}
	}()
	var all sync.WaitGroup
	for range 100 {
		s := newSignIn(t, nil)
		s.Logins.cfg.Dirs = []string{f.dir}
		all.Go(func() {
			l := s.begin(t, Want{})
			_, withdraw := s.offer(t, s.prompt(l))
			<-s.got
			withdraw()
			l.Close()
			close(s.finished)
			s.Close()
			if s.bound.Load() != 0 {
				t.Error("a port was bound")
			}
		})
	}
	all.Wait()
}

// The far end goes with its stdin, and so do its socket and its connections.
func TestAFarEndEndsWithItsStdin(t *testing.T) {
	f := startFarEnd(t)
	sockets := Sockets([]string{f.dir})
	conn, err := Dial(t.Context(), sockets[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	f.stdin.Close()
	if err := <-f.ended; err != nil {
		t.Error(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the connection goes on: %d bytes, %v", n, err)
	}
	for _, path := range Sockets([]string{f.dir}) {
		if strings.HasPrefix(path, f.dir) {
			t.Errorf("%s is left", path)
		}
	}
}

// A connection that the workstation opens leads to the socket of the far end, and comes back.
func TestAFarEndProvesItself(t *testing.T) {
	f := startFarEnd(t)
	there, err := f.session.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	io.WriteString(there, "probe\n")
	back, err := f.session.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	opened := &openedConn{Conn: back}
	if err := opened.readFirstLine(); err != nil || string(opened.first) != "probe\n" {
		t.Errorf("got %q, %v", opened.first, err)
	}
}

func TestAFarEndThatCannotHaveASocketSaysSo(t *testing.T) {
	stdout, out := io.Pipe()
	defer stdout.Close()
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120), folder)
	ended := make(chan error, 1)
	go func() {
		ended <- FarEnd{Dirs: []string{long}, In: strings.NewReader(""), Out: out}.Run(t.Context())
		out.Close()
	}()
	g, err := greetingOf(t.Context(), "devbox", bufio.NewReader(stdout), stdout)
	if told, ok := errors.AsType[*FarEndError](err); !ok || told.Text == "" || g.Socket != "" {
		t.Errorf("got %+v, %v", g, err)
	}
	if <-ended == nil {
		t.Error("the far end reports no error")
	}
}

func TestOpenedConnReturnsWhatItRead(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		io.WriteString(theirs, "first\nsecond")
		io.WriteString(theirs, " third")
		theirs.Close()
	}()
	o := &openedConn{Conn: ours}
	if err := o.readFirstLine(); err != nil || string(o.first) != "first\n" {
		t.Fatalf("got %q, %v", o.first, err)
	}
	if b, err := io.ReadAll(o); string(b) != "first\nsecond third" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

// What HOST says of itself stands in lines for the person, so it cannot be a sentence of its own.
func TestAGreetingIsNoText(t *testing.T) {
	for _, version := range []string{"1.0 there). Now run: curl evil.example", "\x1b[2J", "1\u202e", strings.Repeat("1", 61)} {
		var b strings.Builder
		if err := (greeting{Protocol: Version, Version: version, System: version}).write(&b); err != nil {
			t.Fatal(err)
		}
		if g, err := readGreeting(bufio.NewReader(strings.NewReader(b.String()))); err != nil || g.Version != "" || g.System != "" {
			t.Errorf("got %+v, %v", g, err)
		}
	}
	const line = greetingMark + `{"protocol":1,"version":"v1.2.3-0.2026+dirty","system":"Linux x86_64"}` + "\n"
	if g, err := readGreeting(bufio.NewReader(strings.NewReader(line))); err != nil || g.Version != "v1.2.3-0.2026+dirty" || g.System != "Linux x86_64" {
		t.Errorf("got %+v, %v", g, err)
	}
}
