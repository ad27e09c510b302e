package oauth

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

const workerVariable = "OAUTH_TEST_WORKER"

// Points at which a worker stops, says so, and is killed.
const (
	dieBeforeLink   = "before the link"
	dieLinkShown    = "link shown"
	dieCodeReceived = "code received"
	dieBeforeStore  = "before the store" // of the answered code or refresh token
	dieAfterStore   = "after the store"
	dieRefreshing   = "refresh token about to be sent"
)

// workerConfig is what a process of these tests is told.
type workerConfig struct {
	State, Key string // directories
	Upstream   string
	Die        string        // where; "" nowhere
	At         time.Duration // what its clock is ahead
	Terminal   bool
}

// worker is another process with a Transport of its own. It sends one request, and prints what
// happens, a line each: "busy", "page LINK ADDR" for a page of its own, "shown LINK" for
// another's, "at POINT", "status N", "error TEXT".
type worker struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	in    io.Closer
}

// callbackAddr is the callback address that all workers tell the server; each listens elsewhere.
const callbackAddr = "127.0.0.1:53682"

func playWorker(text string) int {
	var c workerConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return 2
	}
	go func() { // a worker does not outlive its test
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	die := func(point string) {
		if point == c.Die {
			say("at %s", point)
			select {} // for the kill
		}
	}
	auth := roundTripper(func(r *http.Request) (*http.Response, error) {
		body := ""
		if r.Body != nil {
			b, _ := io.ReadAll(r.Body)
			body = string(b)
			r.Body = io.NopCloser(strings.NewReader(body))
		}
		switch {
		case strings.Contains(body, "grant_type=authorization_code"):
			die(dieCodeReceived)
		case strings.Contains(body, "grant_type=refresh_token"):
			die(dieRefreshing)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if strings.Contains(body, "grant_type=") {
			die(dieBeforeStore)
		}
		return resp, err
	})
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") != "" {
			die(dieAfterStore)
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	store, err := tokenstore.Open(c.State, c.Key, tokenstore.Keyring{}, nil)
	if err != nil {
		return 2
	}
	var bound string
	upstream, _ := url.Parse(c.Upstream)
	tr, err := New(Config{Upstream: upstream, Realm: "default direct", Store: store, Base: base, AuthBase: auth,
		AtTerminal: c.Terminal,
		Callback: CallbackConfig{Addrs: []string{callbackAddr}, Listen: func(ctx context.Context, _ string) (net.Listener, error) {
			die(dieBeforeLink)
			ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			if err == nil {
				bound = ln.Addr().String()
			}
			return ln, err
		}},
		Offer: func(_ context.Context, p Prompt) {
			if p.Elsewhere {
				say("shown %s", p.AuthorizeURL)
				return
			}
			say("page %s %s", p.AuthorizeURL, bound)
			die(dieLinkShown)
		}})
	if err != nil {
		return 2
	}
	tr.cfg.now = func() time.Time { return time.Now().Round(0).Add(c.At) }
	go func() { // ends with the process
		for {
			s, changed := tr.State()
			if s.Busy {
				say("busy")
				return
			}
			<-changed
		}
	}()
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, c.Upstream, strings.NewReader("x"))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		say("error %v", err)
	} else {
		resp.Body.Close()
		say("status %d", resp.StatusCode)
	}
	select {} // until the end of stdin
}

// startWorker starts a process on w's store and upstream. It ends with the test.
func (w *world) startWorker(c workerConfig) *worker {
	w.t.Helper()
	c.State, c.Key, c.Upstream = w.dir+"/state", w.dir+"/config", w.upstream.String()
	text, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	p := &worker{t: w.t, cmd: exec.Command(self), lines: make(chan string, 1000)}
	p.cmd.Env = append(os.Environ(), workerVariable+"="+string(text))
	p.cmd.Stderr = w.t.Output()
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the process
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	})
	w.t.Cleanup(func() { p.kill(); wg.Wait(); p.cmd.Wait() })
	return p
}

func (p *worker) kill() { p.cmd.Process.Kill() }

// await returns the rest of the next line that begins with word.
func (p *worker) await(word string) string {
	p.t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("the worker ended before it said %q", word)
			}
			if rest, ok := strings.CutPrefix(line, word); ok {
				return strings.TrimSpace(rest)
			}
			p.t.Logf("worker %d: %s", p.cmd.Process.Pid, line)
		case <-limit:
			p.t.Fatalf("still waiting for %q", word)
		}
	}
}

// visit is the person at the page of a worker, "LINK ADDR".
func (w *world) visit(page string) {
	link, addr, _ := strings.Cut(page, " ")
	dial := func(ctx context.Context, network, to string) (net.Conn, error) {
		if to == callbackAddr {
			to = addr
		}
		return new(net.Dialer).DialContext(ctx, network, to)
	}
	_, err := oauthtest.Browser{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}.Open(w.t.Context(), link)
	if err != nil {
		w.t.Logf("browser: %v", err) // whom it came back to may have been killed
	}
}

// serve has the person visit the pages of workers until each has got its answer, and
// returns the time of the first page or answer, and the number of pages.
func (w *world) serve(workers []*worker) (first time.Time, pages int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range workers {
		wg.Go(func() {
			limit := time.After(time.Minute)
			for {
				var line string
				select {
				case l, ok := <-p.lines:
					if !ok {
						w.t.Errorf("worker %d ended without an answer", p.cmd.Process.Pid)
						return
					}
					line = l
				case <-limit:
					w.t.Errorf("worker %d still has no answer", p.cmd.Process.Pid)
					return
				}
				page, opened := strings.CutPrefix(line, "page ")
				answered := strings.HasPrefix(line, "status ")
				mu.Lock()
				if first.IsZero() && (opened || answered) {
					first = time.Now()
				}
				if opened {
					pages++
				}
				mu.Unlock()
				switch {
				case opened:
					wg.Go(func() { w.visit(page) })
				case answered && line == "status 200":
					return
				case answered || strings.HasPrefix(line, "error "):
					w.t.Errorf("worker %d: %s", p.cmd.Process.Pid, line)
					return
				}
			}
		})
	}
	wg.Wait()
	return first, pages
}

// takeover is the ceiling of the time in which another process takes over.
const takeover = 6 * time.Second

func TestAnotherTakesOverWhenTheLeaderIsKilled(t *testing.T) {
	for point, want := range map[string]oauthtest.Stats{
		dieBeforeLink:   {Registrations: 1, Authorizations: 1, Codes: 1},
		dieLinkShown:    {Registrations: 1, Authorizations: 1, Codes: 1},
		dieCodeReceived: {Registrations: 1, Authorizations: 2, Codes: 1},
		dieBeforeStore:  {Registrations: 1, Authorizations: 2, Codes: 2},
		dieAfterStore:   {Registrations: 1, Authorizations: 1, Codes: 1},
	} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			w.as.Now = nil
			leader := w.startWorker(workerConfig{Die: point})
			leader.await("busy")
			var others []*worker
			if point != dieAfterStore { // then nobody waits any more
				for range 3 {
					others = append(others, w.startWorker(workerConfig{}))
				}
			}
			if point == dieBeforeLink {
				for _, p := range others {
					p.await("busy")
				}
			} else {
				page := leader.await("page")
				for _, p := range others {
					link, _, _ := strings.Cut(page, " ")
					if got := p.await("shown"); got != link {
						t.Errorf("another process shows %s, the leader %s", got, link)
					}
				}
				if point != dieLinkShown {
					go w.visit(page) // ends with the leader
				}
			}
			leader.await("at " + point)
			if point == dieAfterStore {
				others = append(others, w.startWorker(workerConfig{}))
			}
			leader.kill()
			killed := time.Now()
			first, _ := w.serve(others)
			if took := first.Sub(killed); took > takeover {
				t.Errorf("taken over after %v", took)
			} else {
				t.Logf("taken over after %v", took)
			}
			w.wantStats(want)
		})
	}
}

func TestRefreshSurvivesKill(t *testing.T) {
	for point, want := range map[string]oauthtest.Stats{
		dieRefreshing:  {Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1},
		dieBeforeStore: {Registrations: 1, Authorizations: 2, Codes: 2, Refreshes: 2}, // what the server spent is spent: asked again, not locked out
		dieAfterStore:  {Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1},
	} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			w.as.Now = nil
			w.serve([]*worker{w.startWorker(workerConfig{})})
			leader := w.startWorker(workerConfig{Die: point, At: 2 * time.Hour})
			leader.await("at " + point)
			var others []*worker
			for range 3 {
				others = append(others, w.startWorker(workerConfig{At: 2 * time.Hour}))
			}
			leader.kill()
			w.serve(others)
			w.wantStats(want)
		})
	}
}

// A login in a terminal goes before the one that waits, which then counts on it.
func TestTerminalTakesOver(t *testing.T) {
	w := newWorld(t)
	w.as.Now = nil
	proxies := []*worker{w.startWorker(workerConfig{})}
	proxies[0].await("page")
	proxies = append(proxies, w.startWorker(workerConfig{}))
	proxies[1].await("shown")
	terminal := w.startWorker(workerConfig{Terminal: true})
	page := terminal.await("page")
	link, _, _ := strings.Cut(page, " ")
	for _, p := range proxies {
		if got := p.await("shown"); got != link {
			t.Errorf("a proxy shows %s, the terminal %s", got, link)
		}
	}
	go w.visit(page) // ends with the terminal
	w.serve(append(proxies, terminal))
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
}
