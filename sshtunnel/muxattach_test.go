//go:build !windows

package sshtunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// asked is a person who is asked by a client of a share.
type asked struct {
	// came gets the prompts, and withdrawn is told when one is taken back.
	came, withdrawn chan string
	// answer is what the person says. Nobody is there if it is nil.
	answer chan string
}

func newAsked() *asked {
	return &asked{came: make(chan string, 8), withdrawn: make(chan string, 8), answer: make(chan string)}
}

func (a *asked) ask(ctx context.Context, q Question) (string, error) {
	a.came <- q.Hop + ": " + q.Prompt
	if a.answer == nil {
		return "", ErrNoPerson
	}
	select {
	case text := <-a.answer:
		return text, nil
	case <-ctx.Done():
		a.withdrawn <- q.Prompt
		return "", context.Cause(ctx)
	}
}

// passwordShare starts a share of a server that wants a password.
func passwordShare(t *testing.T) (*share, *sshtest.Server) {
	t.Helper()
	s := startFake(t, sshtest.Config{Password: "secret"})
	return shareOf(t, s), s
}

// attached waits until a share has n clients.
func attached(t *testing.T, sh *share, n int) {
	t.Helper()
	openssh.Eventually(t, fmt.Sprintf("%d clients are attached", n), func() bool { return len(statusOf(t, sh).Users) == n })
}

// A question goes to the client that came first and can ask. It is asked once, and serves all.
func TestSharedQuestion(t *testing.T) {
	t.Parallel()
	sh, s := passwordShare(t)
	now := func() *share { return sh }
	first, second := newAsked(), newAsked()
	mute := clientOf(t, Config{}, now)
	tuns := []*Tunnel{clientOf(t, Config{Ask: first.ask}, now), clientOf(t, Config{Ask: second.ask}, now), mute}
	var wg sync.WaitGroup
	for i, tun := range tuns {
		wg.Go(func() {
			if err := tun.Connect(t.Context()); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
		if i == 0 {
			if prompt := <-first.came; !strings.HasPrefix(prompt, "mine: ") || !strings.Contains(prompt, "password") {
				t.Errorf("asked %q", prompt)
			}
		}
	}
	attached(t, sh, 3)
	// All see what is in the way.
	openssh.Eventually(t, "the question is shown", func() bool {
		st, _ := mute.State()
		return st.Phase == Dialing && st.Hop == "mine" && strings.Contains(st.Notice.Text, "password")
	})
	first.answer <- "secret"
	wg.Wait()
	if len(second.came) != 0 || s.Logins() != 1 {
		t.Errorf("asked again: %d, %d logins", len(second.came), s.Logins())
	}
}

// A client with a terminal is asked before one that came earlier.
func TestSharedQuestionToTerminal(t *testing.T) {
	t.Parallel()
	var p people
	p.init()
	for i, who := range []mux.Attach{{}, {Ask: true}, {Ask: true, Terminal: true}, {Ask: true, Terminal: true}} {
		who.PID = i
		p.enter(nil, who)
	}
	tried := map[*attachment]bool{}
	var order []int
	for a := p.next(tried); a != nil; a = p.next(tried) {
		tried[a] = true
		order = append(order, a.PID)
	}
	if got := fmt.Sprint(order); got != "[2 3 1]" {
		t.Errorf("asked in the order %v", got)
	}
}

// A question moves on if nobody is there, or if the client that is asked goes away. It is taken
// back when nobody waits for the answer.
func TestSharedQuestionMovesOn(t *testing.T) {
	t.Parallel()
	sh, _ := passwordShare(t)
	now := func() *share { return sh }
	nobody, leaves, stays := newAsked(), newAsked(), newAsked()
	nobody.answer = nil
	results := make(chan error, 3)
	var tuns []*Tunnel
	for i, who := range []*asked{leaves, nobody, stays} {
		tun := clientOf(t, Config{Ask: who.ask}, now)
		tuns = append(tuns, tun)
		go func() { results <- tun.Connect(context.Background()) }() // ends at Close
		attached(t, sh, i+1)
	}
	<-leaves.came
	tuns[0].Close()
	if err := <-results; !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	<-leaves.withdrawn
	<-nobody.came
	<-stays.came
	stays.answer <- "secret"
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// A client that comes when the others could not answer has an attempt of its own.
func TestSharedLateAnswer(t *testing.T) {
	t.Parallel()
	sh, s := passwordShare(t)
	now := func() *share { return sh }
	nobody, late := newAsked(), newAsked()
	release := make(chan struct{})
	proxy := clientOf(t, Config{Ask: func(ctx context.Context, q Question) (string, error) {
		nobody.came <- q.Prompt
		<-release
		return "", ErrNoPerson
	}}, now)
	failed := make(chan error, 1)
	go func() { failed <- proxy.Connect(t.Context()) }() // ends with the attempt
	<-nobody.came
	login := clientOf(t, Config{Ask: late.ask}, now)
	done := make(chan error, 1)
	go func() { done <- login.Connect(t.Context()) }() // ends with the attempt
	attached(t, sh, 2)
	close(release)
	<-late.came
	late.answer <- "secret"
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-failed; err != nil { // the question had moved on in time
		t.Log(err)
	}
	if s.Logins() != 1 {
		t.Errorf("%d logins", s.Logins())
	}
}

// What a server says is shown by all clients that wait, once, and by those that come later.
func TestSharedNotices(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{Password: "secret", Banners: []string{"open https://login.example/x please\n"}})
	sh := shareOf(t, s)
	now := func() *share { return sh }
	person := newAsked()
	var mu sync.Mutex
	heard := map[int][]Notice{}
	connect := func(i int) chan error {
		cfg := Config{Notice: func(n Notice) {
			mu.Lock()
			defer mu.Unlock()
			heard[i] = append(heard[i], n)
		}}
		if i == 0 {
			cfg.Ask = person.ask
		}
		tun, done := clientOf(t, cfg, now), make(chan error, 1)
		go func() { done <- tun.Connect(t.Context()) }() // ends with the attempt
		return done
	}
	all := []chan error{connect(0)}
	<-person.came
	for i := range 3 {
		all = append(all, connect(i+1))
	}
	attached(t, sh, 4)
	openssh.Eventually(t, "all have heard", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(heard) == 4
	})
	person.answer <- "secret"
	for _, done := range all {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i, notices := range heard {
		if len(notices) != 1 || notices[0].Hop != "mine" || notices[0].URL != "https://login.example/x" {
			t.Errorf("client %d: %+v", i, notices)
		}
	}
}

// A share that nobody uses ends by itself, and so does one that is too old. One that was superseded
// never dials.
func TestSharedEnds(t *testing.T) {
	t.Parallel()
	target := echo(t)
	for _, tt := range []struct {
		name   string
		change func(*ServerConfig)
		// open keeps a stream.
		open   bool
		logins int
	}{
		{"idle", func(c *ServerConfig) { c.Idle = 50 * time.Millisecond }, false, 1},
		{"too old", func(c *ServerConfig) { c.Max = time.Second }, true, 1},
		{"superseded", func(c *ServerConfig) { c.Superseded = func() bool { return true } }, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startFake(t, sshtest.Config{})
			cfg := ServerConfig{Tunnel: Config{Chain: chainOf(fakeHost(t, "bastion", s))}}
			tt.change(&cfg)
			sh := startShare(t, cfg)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tun := clientOf(t, Config{}, func() *share { return sh })
			var conn net.Conn
			if tt.open {
				conn = mustDial(t, tun, target)
			} else {
				go tun.Connect(ctx) // ends with ctx, or with the share
			}
			if conn != nil {
				<-sh.drained
				checkEcho(t, conn) // calls in flight are let finish
				asked, err := net.Dial("unix", sh.path)
				if err != nil {
					t.Fatal("a server that drains cannot be asked:", err)
				}
				if status, err := mux.AskStatus(t.Context(), asked); err != nil || !status.Draining || status.Streams != 1 {
					t.Errorf("status %+v, %v", status, err)
				}
				conn.Close()
			}
			<-sh.done
			if st, _ := tun.State(); st.Err != nil && tt.logins > 0 {
				t.Errorf("state %+v", st)
			}
			cancel()
			if _, err := os.Lstat(sh.path); err == nil || s.Logins() > tt.logins {
				t.Errorf("the socket: %v; %d logins", err, s.Logins())
			}
		})
	}
}

// rawClient connects to a share and reads its greeting.
func rawClient(t *testing.T, sh *share) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("unix", sh.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"mux":1,`) {
		t.Fatalf("greeting %q, %v", line, err)
	}
	return conn, r
}

// Whatever a client says, it gets an answer or the end of its connection, and others are served.
func TestSharedGarbage(t *testing.T) {
	t.Parallel()
	_, sh, _ := sharedClient(t, Config{})
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n":               mux.TypeBadRequest,
		"\n":                                   mux.TypeBadRequest,
		"[]\n":                                 mux.TypeBadRequest,
		strings.Repeat("x", mux.MaxLine+1):     mux.TypeBadRequest,
		`{"mux":1}` + "\n":                     mux.TypeUnknownOp,
		`{"mux":1,"op":"fly"}` + "\n":          mux.TypeUnknownOp,
		`{"mux":1,"op":"attach"}` + "\n":       mux.TypeUnknownOp,
		`{"mux":2,"op":"attach"}` + "\n":       mux.TypeUnknownVersion,
		`{"mux":1,"op":"dial"}` + "\n":         mux.TypeNotAttached,
		`{"mux":1,"op":"accept","id":"7"}`:     "",
		`{"mux":1,"op":"wait","id":""}` + "\n": "no such command",
		`{"mux":7,"op":"status"}` + "\n":       `"phase":"idle"`,
	} {
		conn, r := rawClient(t, sh)
		io.WriteString(conn, request)
		conn.(*net.UnixConn).CloseWrite()
		line, _ := r.ReadString('\n')
		if !strings.Contains(line, want) {
			t.Errorf("%.40q: got %q, want %s", request, line, want)
		}
		if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%.40q: then %q, %v", request, rest, err)
		}
	}
}

// A client that sends no request is dropped in the end, and holds up nobody.
func TestSharedSlowClient(t *testing.T) {
	t.Parallel()
	tun, sh, _ := sharedClient(t, Config{})
	slow, r := rawClient(t, sh)
	io.WriteString(slow, `{"mux":1`)
	checkEcho(t, mustDial(t, tun, echo(t)))
	if _, err := io.ReadAll(r); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the slow client: %v", err)
	}
}

// A thousand clients that come and go leave nothing behind.
func TestSharedThousandConnects(t *testing.T) {
	t.Parallel()
	_, sh, _ := sharedClient(t, Config{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				conn, err := net.Dial("unix", sh.path)
				if err != nil {
					t.Error(err)
					return
				}
				conn.Close()
			}
		})
	}
	wg.Wait()
	openssh.Eventually(t, "all are forgotten", func() bool {
		return sh.clients.Count() == 0
	})
}

// While a share cannot reach its hops, calls wait in it, and all clients show what is in the way.
// Connect fails at once. The clients have no pauses of their own: one attempt serves all.
func TestSharedWaits(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{})
	c := startCable(t, "127.0.0.1:1") // leads nowhere
	sh := startShare(t, ServerConfig{Tunnel: Config{Chain: chainOf(c.host(t, fakeHost(t, "bastion", s)))}})
	now := func() *share { return sh }
	waiting := make(chan net.Conn, 3)
	var tuns []*Tunnel
	for range 3 {
		tun := clientOf(t, Config{}, now)
		tuns = append(tuns, tun)
		go func() { // ends with the call
			conn, err := tun.DialContext(t.Context(), "tcp", target)
			if err != nil {
				t.Error(err)
			}
			waiting <- conn
		}()
	}
	for _, tun := range tuns {
		st := waitPhase(t, tun, Down)
		if hop, ok := errors.AsType[*HopError](st.Err); !ok || hop.Hop != "mine" || st.Hop != "mine" {
			t.Errorf("state %+v", st)
		}
	}
	attached(t, sh, 3)
	before := statusOf(t, sh).Users
	openssh.Eventually(t, "some attempts", func() bool { return c.count() > 4 })
	if after := statusOf(t, sh).Users; len(after) != 3 || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("clients have come and gone: %v, then %v", before, after)
	}
	if pause := ask(sh.tunnel, func(l *loop) time.Duration { return l.pause }); pause > sharedPause {
		t.Errorf("the pause is %v", pause)
	}
	for _, tun := range []*Tunnel{tuns[0], clientOf(t, Config{}, now)} {
		err := tun.Connect(t.Context())
		if hop, ok := errors.AsType[*HopError](err); !ok || hop.Hop != "mine" {
			t.Errorf("Connect: %v", err)
		}
		if st, _ := tun.State(); st.Err == nil {
			t.Errorf("state %+v", st)
		}
	}
	c.lead(s.Addr())
	for range tuns {
		if conn := <-waiting; conn != nil {
			checkEcho(t, conn)
		}
	}
	if s.Logins() != 1 {
		t.Errorf("%d logins", s.Logins())
	}
}

// A new call makes a share that rests between two attempts dial at once.
func TestSharedCallEndsPause(t *testing.T) {
	t.Parallel()
	target := echo(t)
	s := startFake(t, sshtest.Config{})
	c := startCable(t, "127.0.0.1:1")
	sh := startShare(t, ServerConfig{Tunnel: Config{Chain: chainOf(c.host(t, fakeHost(t, "bastion", s)))}})
	tun := clientOf(t, Config{}, func() *share { return sh })
	go tun.DialContext(t.Context(), "tcp", target) // ends with the test
	waitPhase(t, tun, Down)
	openssh.Eventually(t, "a long pause", func() bool {
		return ask(sh.tunnel, func(l *loop) bool {
			if l.attempt == nil {
				l.pause = time.Hour
			}
			return l.attempt == nil
		})
	})
	c.lead(s.Addr())
	checkEcho(t, mustDial(t, tun, target))
}
