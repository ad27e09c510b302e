package oauth

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/oauth2"

	"sallyport/oauth/asclient"
	"sallyport/oauth/loopback"
	"sallyport/oauth/oauthtest"
)

func s256(verifier string) string { return oauth2.S256ChallengeFromVerifier(verifier) }

func TestStrayRequestsAreIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr, p, done := w.beginSignIn(nil)
	link, _ := url.Parse(p.AuthorizeURL)
	state := link.Query().Get("state")
	for _, tt := range []struct {
		name, method, query, host string
		want                      int
	}{
		{"favicon", "GET", "/favicon.ico", "", 404},
		{"wrong path", "GET", "/other?code=x&state=" + state, "", 404},
		{"no state", "GET", "/callback?code=x", "", 400},
		{"wrong state", "GET", "/callback?code=x&state=y", "", 400},
		{"wrong state, denied", "GET", "/callback?error=access_denied&state=y", "", 400},
		{"error without a state in a frame", "GET", "/callback?error=access_denied#Sec-Fetch-Dest=iframe", "", 400},
		{"error without a state by a script", "GET", "/callback?error=access_denied#Sec-Fetch-Mode=no-cors", "", 400},
		{"error of another issuer without a state", "GET", "/callback?error=access_denied&iss=https://evil.example", "", 400},
		{"path of another issuer", "GET", "/callback/0011223344556677?code=x&state=" + state, "", 404},
		{"rebound host", "GET", "/callback?code=x&state=" + state, "evil.example", 421},
		{"other port", "GET", "/callback?code=x&state=" + state, "127.0.0.1:1", 421},
		{"posted", "POST", "/callback?code=x&state=" + state, "", 405},
	} {
		back, _ := url.Parse(p.RedirectURI)
		req, _ := http.NewRequestWithContext(t.Context(), tt.method, "http://"+back.Host+tt.query, nil)
		req.Host = tt.host
		if name, value, ok := strings.Cut(req.URL.Fragment, "="); ok {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.want || strings.Contains(string(body), state) {
			t.Errorf("%s: got status %d, want %d: %s", tt.name, resp.StatusCode, tt.want, body)
		}
	}
	for _, stranger := range []string{"/callback?code=x&state=y", "/callback/00?code=x&state=" + state, "/?code=x&state=" + state} {
		u, _ := url.Parse("http://127.0.0.1:1" + stranger)
		if err := tr.Deliver(t.Context(), u); !errors.Is(err, ErrNoSignIn) {
			t.Errorf("Deliver of %s: %v", stranger, err)
		}
	}
	w.open(t.Context(), p)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestStartPage leads to the login: that for a browser's arguments once, neither anybody who
// guesses.
func TestStartPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, p, done := w.beginSignIn(func(c *Config) { c.Callback.Addrs = []string{"0.0.0.0:0"} })
	if state, _ := url.Parse(p.AuthorizeURL); strings.Contains(p.StartURL+p.BrowserURL, state.Query().Get("state")) || p.StartURL == p.BrowserURL {
		t.Errorf("start pages %s and %s name the state, or each other", p.StartURL, p.BrowserURL)
	}
	visit := func(method, link, host string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, link, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	guess := p.BrowserURL[:len(p.BrowserURL)-1]
	for _, tt := range []struct {
		name, method, link, host string
		want                     int
	}{
		{"guessed", "GET", guess, "", 404},
		{"without a nonce", "GET", guess[:strings.LastIndexByte(guess, '/')+1], "", 404},
		{"of a rebound name", "GET", p.BrowserURL, "evil.example", 421},
		{"only looked at", "HEAD", p.BrowserURL, "", 405},
		{"first visit", "GET", p.BrowserURL, "", 303},
		{"second visit", "GET", p.BrowserURL, "", 410},
		{"the other one", "GET", p.StartURL, "", 303},
		{"the other one again", "GET", p.StartURL, "", 303},
	} {
		resp := visit(tt.method, tt.link, tt.host)
		location := resp.Header.Get("Location")
		if resp.StatusCode != tt.want || (location == p.AuthorizeURL) != (tt.want == 303) || tt.want != 303 && location != "" {
			t.Errorf("%s: status %d to %q, want %d", tt.name, resp.StatusCode, location, tt.want)
		}
	}
	w.open(t.Context(), p) // the printed link is still good
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPages reads what the person sees at the end, and holds back what a page could do.
func TestPages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		knobs  oauthtest.Knobs
		status int
		want   []string
	}{
		{"success", oauthtest.Knobs{}, 200, []string{"<h1>Signed in</h1>", "You can close this tab"}},
		{"denied", oauthtest.Knobs{Deny: "access_denied"}, 400, []string{"<h1>Not signed in</h1>", "access_denied", "Type this again."}},
		{"code not taken", oauthtest.Knobs{TokenError: "invalid_grant"}, 400, []string{"<h1>Not signed in</h1>", "invalid_grant", "Type this again."}},
		{"script in an error code", oauthtest.Knobs{Deny: "<script>x</script>"}, 400, []string{"&lt;script&gt;x"}},
		{"iss of another server", oauthtest.Knobs{WrongIss: "https://evil.example"}, 400, []string{"issuer_mismatch"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.as.Set(func(k *oauthtest.Knobs) { *k = tt.knobs })
			tr := w.transport(func(c *Config) { c.Callback.Retry = "Type this again." })
			if err := tr.SignIn(t.Context()); (err == nil) != (tt.status == 200) {
				t.Errorf("sign-in: %v", err)
			}
			tr.Close() // waits for the person
			p := w.pages[0]
			for _, want := range append(tt.want, w.upstream.String()) {
				if !strings.Contains(p.Body, want) {
					t.Errorf("page lacks %q: %s", want, p.Body)
				}
			}
			if p.Status != tt.status {
				t.Errorf("status %d, want %d", p.Status, tt.status)
			}
			for _, forbidden := range []string{"src=", "href=", "url(", "@import", "<script", "evil.example"} {
				if strings.Contains(p.Body, forbidden) {
					t.Errorf("page holds %q", forbidden)
				}
			}
			for name, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; style-src 'sha256-", "Referrer-Policy": "no-referrer",
				"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
			} {
				if got := p.Header.Get(name); !strings.HasPrefix(got, want) {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			w.noSecrets(p.Body)
		})
	}
}

// TestNextPort takes the second port where the first is busy, says who holds that, and has
// registered both. The second stays bound from before the person is asked until the end.
func TestNextPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addrs := []string{busy.Addr().String(), spare.Addr().String()}
	tr := w.transport(func(c *Config) {
		c.Callback.Addrs = addrs
		c.Callback.Listen = func(ctx context.Context, addr string) (net.Listener, error) {
			if addr == addrs[1] {
				return spare, nil // free, and nobody else's meanwhile
			}
			return new(net.ListenConfig).Listen(ctx, "tcp", addr)
		}
	})
	w.mustPost(tr)
	if got, want := w.as.Authorized().Get("redirect_uri"), "http://"+addrs[1]+"/callback"; got != want {
		t.Errorf("redirect_uri is %q, want %q", got, want)
	}
	var registered []string
	for _, uri := range w.as.Registered()["redirect_uris"].([]any) {
		registered = append(registered, uri.(string))
	}
	slices.Sort(registered)
	want := []string{"http://" + addrs[0] + "/callback", "http://" + addrs[1] + "/callback"}
	if slices.Sort(want); !slices.Equal(registered, want) {
		t.Errorf("registered %q, want %q", registered, want)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if holder := "in use by process " + strconv.Itoa(os.Getpid()); runtime.GOOS == "linux" && !strings.Contains(w.log.String(), holder) {
		t.Errorf("the log does not name the holder: %q", holder)
	}
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(func(c *Config) {
		c.Callback.RedirectURI = "https://workstation.example/back?to=here" // nobody listens there
		c.Offer = nil
	})
	done := make(chan error, 1)
	go func() { done <- tr.SignIn(t.Context()) }()
	var p Prompt
	for p.AuthorizeURL == "" {
		s, changed := tr.State()
		if p = s.Prompt; p.AuthorizeURL == "" {
			<-changed
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, p.AuthorizeURL, nil)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	cut := back.Query()
	cut.Del("iss")
	if err := tr.Deliver(t.Context(), &url.URL{RawQuery: cut.Encode()}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("its query without iss: %v, want %v", err, ErrIncomplete)
	}
	if err := tr.Deliver(t.Context(), back); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := tr.Deliver(t.Context(), back); err != nil {
		t.Errorf("the same callback again: %v, want the same outcome", err)
	}
	if err := tr.Deliver(t.Context(), &url.URL{RawQuery: back.RawQuery}); err != nil {
		t.Errorf("its query alone: %v, want the same outcome", err)
	}
	if err := tr.Deliver(t.Context(), &url.URL{RawQuery: "code=x&state=y"}); !errors.Is(err, ErrNoSignIn) {
		t.Errorf("the query of another login: %v, want %v", err, ErrNoSignIn)
	}
	if got := w.as.Stats().Codes; got != 1 {
		t.Errorf("code spent %d times", got)
	}
}

func TestBusyPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	addr := busy.Addr().String()
	_, err = w.post(w.transport(func(c *Config) { c.Callback.Addrs = []string{addr} }), "x")
	e, ok := errors.AsType[*PortBusyError](err)
	if !ok || e.Addr != addr {
		t.Fatalf("got %v, want PortBusyError", err)
	}
	if runtime.GOOS == "linux" && (e.PID != os.Getpid() || e.Command == "") {
		t.Errorf("holder is %d %q, want us", e.PID, e.Command)
	}
}

func TestLoopbackURL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ addr, port, want string }{
		{"127.0.0.1:53682", "53682", "http://127.0.0.1:53682/callback"},
		{"localhost:0", "4711", "http://localhost:4711/callback"},
		{"[::1]:0", "4711", "http://[::1]:4711/callback"},
		{"0.0.0.0:1", "1", "http://127.0.0.1:1/callback"},
		{"[::]:1", "1", "http://[::1]:1/callback"},
		{":1", "1", "http://127.0.0.1:1/callback"},
	} {
		if got := loopbackURL(tt.addr, tt.port, callbackPath); got != tt.want {
			t.Errorf("loopbackURL(%q, %q) is %q, want %q", tt.addr, tt.port, got, tt.want)
		}
	}
}

func TestIPv6Callback(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("no IPv6 loopback here: ", err)
	} else if err != nil {
		t.Skip("no IPv6 loopback here: ", err)
	}
	ln.Close()
	w := newWorld(t)
	w.mustPost(w.transport(func(c *Config) { c.Callback.Addrs = []string{"[::1]:0"} }))
	if got := w.as.Authorized().Get("redirect_uri"); !strings.HasPrefix(got, "http://[::1]:") || strings.Contains(got, ":0/") {
		t.Errorf("redirect_uri is %q", got)
	}
}

// visitCallback opens a callback as a browser does, and returns the status of our page.
func (w *world) visitCallback(p Prompt, query string) int {
	w.t.Helper()
	req, _ := http.NewRequestWithContext(w.t.Context(), http.MethodGet, p.RedirectURI+"?"+query, nil)
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	if !resp.Close {
		w.t.Error("the connection stays open")
	}
	return resp.StatusCode
}

// The person learns the true cause at once, whatever the server forgets.
func TestOddCallbacksEndTheLogin(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		query, code string
		refused     bool
	}{
		"error without a state":          {"error=access_denied&error_description=no", "access_denied", false},
		"error with an empty state":      {"error=server_error&state=", "server_error", false},
		"error, no state, the right iss": {"error=invalid_scope&iss=ISS", "invalid_scope", false},
		"neither code nor error":         {"state=STATE&iss=ISS", asclient.CodeBadReply, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, p, done := w.beginSignIn(nil)
			link, _ := url.Parse(p.AuthorizeURL)
			query := strings.NewReplacer("STATE", link.Query().Get("state"), "ISS", w.as.Issuer).Replace(tt.query)
			if got := w.visitCallback(p, query); got != http.StatusBadRequest {
				t.Errorf("our page has the status %d", got)
			}
			err := await(t, done)
			if e, ok := errors.AsType[*asclient.SignInError](err); !ok || e.Code != tt.code || e.Refused != tt.refused {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Whoever keeps connections open does not keep the person's callback out.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, p, done := w.beginSignIn(nil)
	back, _ := url.Parse(p.RedirectURI)
	for range 4 * loopback.MaxConns {
		c, err := net.Dial("tcp", back.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	w.open(t.Context(), p)
	if err := await(t, done); err != nil {
		t.Error(err)
	}
}

// flakyListener fails as a process does that has too few descriptors.
type flakyListener struct {
	net.Listener
	failures atomic.Int32
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

func TestListenerGoesOnAfterErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPost(w.transport(func(c *Config) {
		c.Callback.Listen = func(ctx context.Context, addr string) (net.Listener, error) {
			ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
			flaky := &flakyListener{Listener: ln}
			flaky.failures.Store(5)
			return flaky, err
		}
	}))
}

// exclusiveListener is a listener on a port that only one may hold.
type exclusiveListener struct {
	net.Listener
	held *atomic.Bool
}

func (l exclusiveListener) Close() error {
	err := l.Listener.Close()
	l.held.Store(false)
	return err
}

// The port is free as soon as a login has ended, however slow the browser is: the request may need
// another login at once.
func TestPortIsFreeAfterALogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.NeedScope = "write" }) // which takes a second login
	var held atomic.Bool
	tr := w.transport(func(c *Config) {
		c.Callback.Listen = func(ctx context.Context, addr string) (net.Listener, error) {
			if !held.CompareAndSwap(false, true) {
				return nil, syscall.EADDRINUSE
			}
			ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
			return exclusiveListener{ln, &held}, err
		}
	})
	w.mustPost(tr)
	if got := w.as.Stats().Authorizations; got != 2 {
		t.Errorf("%d logins, want 2", got)
	}
}

// A port that nobody listens on may still be taken, by an outgoing connection from it.
func TestPortOfAnOutgoingConnection(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who holds a port")
	}
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	conn, err := net.Dial("tcp", far.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = net.Listen("tcp", conn.LocalAddr().String())
	if err == nil {
		t.Fatal("the port is free")
	}
	e, ok := errors.AsType[*PortBusyError](listenError(conn.LocalAddr().String(), err))
	if !ok || !e.Outgoing || !strings.Contains(e.Error(), "is in use by an outgoing connection") {
		t.Errorf("got %v", e)
	}
	_, err = net.Listen("tcp", far.Addr().String())
	e, ok = errors.AsType[*PortBusyError](listenError(far.Addr().String(), err))
	if !ok || e.PID != os.Getpid() || e.Outgoing {
		t.Errorf("got %v, want this process", e)
	}
}
