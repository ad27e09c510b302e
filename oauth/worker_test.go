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
	dieBeforePage   = "before the page"
	diePageShown    = "page shown"
	dieCodeReceived = "code received"
	dieBeforeStore  = "before the store" // of the answered code or refresh token
	dieAfterStore   = "after the store"
	dieRefreshing   = "refresh token about to be sent"
)

// workerConfig is what a process of these tests is told.
type workerConfig struct {
	// State and Key are the directories of the store.
	State, Key string
	Upstream   string
	// Die is the point at which the process stops. It is empty for one that does not.
	Die string
	// Ahead is how far its clock is ahead.
	Ahead time.Duration
	// Terminal is Config.AtTerminal.
	Terminal bool
}

// worker is another process with a Transport of its own. It sends one request, and prints what
// happens, a line each: "busy", "page URL ADDR" for a page of its own, "shown URL" for another's,
// "at POINT", "status N", "error TEXT".
type worker struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	in    io.Closer
}

// callbackAddr is the callback address that all workers tell the server. Nobody binds it: each
// worker listens on a free port, and visit goes there.
const callbackAddr = "127.0.0.1:1"

// workerProcess is the inner side of a worker.
type workerProcess struct {
	config workerConfig
	mu     sync.Mutex // of standard output
	bound  string     // where the callback's listener is
}

func (p *workerProcess) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Printf(format+"\n", args...)
}

// dieAt waits for the kill if point is where this process is to die.
func (p *workerProcess) dieAt(point string) {
	if point == p.config.Die {
		p.say("at %s", point)
		select {}
	}
}

// toServer sends a request to the authorization server.
func (p *workerProcess) toServer(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		r.Body = io.NopCloser(strings.NewReader(body))
	}
	switch {
	case strings.Contains(body, "grant_type=authorization_code"):
		p.dieAt(dieCodeReceived)
	case strings.Contains(body, "grant_type=refresh_token"):
		p.dieAt(dieRefreshing)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if strings.Contains(body, "grant_type=") {
		p.dieAt(dieBeforeStore)
	}
	return resp, err
}

// toUpstream sends a request to the upstream.
func (p *workerProcess) toUpstream(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") != "" {
		p.dieAt(dieAfterStore)
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (p *workerProcess) listen(ctx context.Context, _ string) (net.Listener, error) {
	p.dieAt(dieBeforePage)
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err == nil {
		p.bound = ln.Addr().String()
	}
	return ln, err
}

func (p *workerProcess) offer(_ context.Context, prompt Prompt) {
	if prompt.Elsewhere {
		p.say("shown %s", prompt.AuthorizeURL)
		return
	}
	p.say("page %s %s", prompt.AuthorizeURL, p.bound)
	p.dieAt(diePageShown)
}

// sayBusy waits for a login.
func (p *workerProcess) sayBusy(tr *Transport) {
	for {
		s, changed := tr.State()
		if s.Busy {
			p.say("busy")
			return
		}
		<-changed
	}
}

// playWorker is the main function of a worker.
func playWorker(text string) int {
	var p workerProcess
	if err := json.Unmarshal([]byte(text), &p.config); err != nil {
		return 2
	}
	go func() { // a worker does not outlive its test
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	store, err := tokenstore.Open(p.config.State, p.config.Key, tokenstore.Keyring{}, nil)
	if err != nil {
		return 2
	}
	upstream, _ := url.Parse(p.config.Upstream)
	tr, err := New(Config{Upstream: upstream, Realm: "default direct", Store: store, AtTerminal: p.config.Terminal,
		Base: roundTripper(p.toUpstream), AuthBase: roundTripper(p.toServer),
		Callback: CallbackConfig{Addrs: []string{callbackAddr}, Listen: p.listen}, Offer: p.offer})
	if err != nil {
		return 2
	}
	tr.cfg.now = func() time.Time { return wallClock().Add(p.config.Ahead) }
	go p.sayBusy(tr) // ends with the process
	req, _ := http.NewRequest(http.MethodPost, p.config.Upstream, strings.NewReader("x"))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		p.say("error %v", err)
	} else {
		resp.Body.Close()
		p.say("status %d", resp.StatusCode)
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
