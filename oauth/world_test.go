package oauth

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(workerVariable); config != "" {
		os.Exit(playWorker(config))
	}
	// The store syncs every file. On a busy disk that takes most of the time of these tests, so
	// they use a directory in memory where the system has one.
	dir, err := os.MkdirTemp("/dev/shm", "oauth-test-")
	if err == nil {
		os.Setenv("TMPDIR", dir)
	}
	status := m.Run()
	if err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// world is an upstream behind a token check, its authorization server at another
// origin, and a person who follows every link.
type world struct {
	t        *testing.T
	as       *oauthtest.Server
	upstream *url.URL
	store    *tokenstore.Store
	dir      string // of the store

	mu    sync.Mutex
	now   time.Time
	pages []oauthtest.Page
	links []string
	seen  []string // "METHOD path body" that passed the check
	log   bytes.Buffer
}

func (w *world) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log.Write(b)
	return w.t.Output().Write(b)
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// useWallClock gives the server the real time, for tests with other processes. It takes the
// server's lock, because the server already runs.
func (w *world) useWallClock() { w.as.Set(func(*oauthtest.Knobs) { w.as.Now = nil }) }

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	as := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.as.ServeHTTP(rw, r) }))
	t.Cleanup(as.Close)
	var guarded http.Handler
	up := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { guarded.ServeHTTP(rw, r) }))
	t.Cleanup(up.Close)
	w.upstream, _ = url.Parse(up.URL + "/mcp")
	w.as = oauthtest.New(as.URL, w.upstream.String())
	w.as.Now = w.clock
	guarded = w.as.Guard(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.seen = append(w.seen, r.Method+" "+r.URL.Path+" "+string(b))
		w.mu.Unlock()
		io.WriteString(rw, "hello")
	}))
	var err error
	if w.store, err = tokenstore.Open(w.dir+"/state", w.dir+"/config", tokenstore.Keyring{}, w.logger()); err != nil {
		t.Fatal(err)
	}
	return w
}

// recordSuffix ends the name of each file of the store whose value was saved under a name without a
// slash: an account's record.
const recordSuffix = "-e3b0c44298fc1c149afbf4c8.sealed"

// recordFile returns the file of the only record in the store.
func (w *world) recordFile() string {
	w.t.Helper()
	list, err := filepath.Glob(filepath.Join(w.dir, "state", "*"+recordSuffix))
	if err != nil || len(list) != 1 {
		w.t.Fatalf("the store holds the records %q (%v), want one", list, err)
	}
	return list[0]
}

// old makes w a 2025-03-26 server: the authorization server at the upstream's origin.
func (w *world) old() {
	guarded := w.as.Guard(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "hello") }))
	up := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mcp" {
			guarded.ServeHTTP(rw, r)
		} else {
			w.as.ServeHTTP(rw, r)
		}
	}))
	w.t.Cleanup(up.Close)
	w.upstream, _ = url.Parse(up.URL + "/mcp")
	w.as.Issuer, w.as.Resource = up.URL, w.upstream.String()
	w.as.Set(func(k *oauthtest.Knobs) { k.NoResourceMetadata = true })
}

// open is the person, whose page stays open when the prompt is withdrawn.
func (w *world) open(ctx context.Context, p Prompt) {
	page, err := oauthtest.Browser{Transport: &http.Transport{DisableKeepAlives: true}}.Open(context.WithoutCancel(ctx), p.AuthorizeURL)
	if err != nil {
		w.t.Errorf("browser: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages, w.links = append(w.pages, page), append(w.links, p.AuthorizeURL)
}

func (w *world) transport(change func(*Config)) *Transport {
	w.t.Helper()
	cfg := Config{Upstream: w.upstream, Realm: "default direct", Store: w.store, Offer: w.open, Log: w.logger()}
	if change != nil {
		change(&cfg)
	}
	tr, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	tr.cfg.now, tr.cfg.pageInterval, tr.cfg.freshPauses = w.clock, 0, []time.Duration{time.Millisecond}
	tr.cfg.questionPauses = []time.Duration{0}
	w.t.Cleanup(func() { tr.Close() })
	return tr
}

// beginSignIn begins a sign-in whose login page nobody opens, and returns its prompt. The outcome
// of the sign-in comes through done.
func (w *world) beginSignIn(change func(*Config)) (tr *Transport, p Prompt, done <-chan error) {
	w.t.Helper()
	offered, outcome := make(chan Prompt, 1), make(chan error, 1)
	tr = w.transport(change)
	tr.cfg.Offer = func(_ context.Context, p Prompt) { offered <- p }
	go func() { outcome <- tr.SignIn(w.t.Context()) }() // ends with the login
	return tr, await(w.t, offered), outcome
}

func (w *world) post(tr *Transport, body string) (status int, err error) {
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.upstream.String(), strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

func (w *world) mustPost(tr *Transport) {
	w.t.Helper()
	if status, err := w.post(tr, "ping"); err != nil || status != http.StatusOK {
		w.t.Fatalf("got status %d, error %v", status, err)
	}
}

func (w *world) wantStats(want oauthtest.Stats) {
	w.t.Helper()
	got := w.as.Stats()
	got.Unauthorized = want.Unauthorized
	if got != want {
		w.t.Errorf("server was asked %+v, want %+v", got, want)
	}
}

// noSecrets fails if a secret of the server's stands in the log or in texts.
func (w *world) noSecrets(texts ...string) {
	w.t.Helper()
	w.mu.Lock()
	texts = append(texts, w.log.String())
	secrets := w.as.Secrets()
	for _, l := range w.links {
		u, _ := url.Parse(l)
		secrets = append(secrets, u.Query().Get("state"))
	}
	w.mu.Unlock()
	if len(secrets) == 0 {
		w.t.Error("the server made no secret")
	}
	for _, s := range secrets {
		for _, text := range texts {
			if s != "" && strings.Contains(text, s) {
				w.t.Errorf("secret %q stands in %q", s, text)
			}
		}
	}
}

// samePort has every login come back to the same port, which belongs to w until the test ends. So
// other tests cannot take it between two logins.
func (w *world) samePort() func(*Config) {
	w.t.Helper()
	ln, err := new(net.ListenConfig).Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ln.Close() })
	conns := make(chan net.Conn)
	go func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			select {
			case conns <- conn:
			case <-w.t.Context().Done():
				conn.Close()
			}
		}
	}()
	return func(c *Config) {
		c.Callback.Addrs = []string{ln.Addr().String()}
		c.Callback.Listen = func(context.Context, string) (net.Listener, error) {
			return &heldPort{addr: ln.Addr(), conns: conns, closed: make(chan struct{})}, nil
		}
	}
}

// heldPort is a listener whose port stays bound when it is closed.
type heldPort struct {
	addr   net.Addr
	conns  <-chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *heldPort) Addr() net.Addr { return l.addr }
func (l *heldPort) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *heldPort) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
