package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

// await receives from c; a minute without turns a hang into a failure.
func await[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatal("still waiting")
	}
	return v
}

// A login that fails fails for all who wait for it, and asks the person once.
func TestOneRefusalForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.Deny = "access_denied" })
	offered := make(chan Prompt)
	leader := w.transport(func(c *Config) { c.Offer = func(_ context.Context, p Prompt) { offered <- p } })
	errs := make(chan error, 4)
	sign := func(tr *Transport) { go func() { errs <- tr.SignIn(t.Context()) }() } // ends with the login
	sign(leader)
	p := await(t, offered)
	shown := make(chan Prompt, 3)
	for range 3 {
		s, err := tokenstore.Open(w.dir+"/state", w.dir+"/config", tokenstore.Keyring{}, w.logger())
		if err != nil {
			t.Fatal(err)
		}
		sign(w.transport(func(c *Config) {
			c.Store, c.Offer = s, func(_ context.Context, p Prompt) { shown <- p }
		}))
	}
	for range 3 {
		if got := await(t, shown); !got.Elsewhere || got.AuthorizeURL != p.AuthorizeURL {
			t.Errorf("shown is %v, offered was %v", got, p)
		}
	}
	w.open(t.Context(), p)
	for range 4 {
		err := await(t, errs)
		if e, ok := errors.AsType[*asclient.SignInError](err); !ok || !e.Refused || e.Code != "access_denied" {
			t.Errorf("got %v", err)
		}
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1})
}

// Whoever stores a good token ends the login that waits.
func TestTokenFromElsewhereEndsTheLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	elsewhere := w.transport(func(c *Config) { c.Store = nil })
	w.mustPost(elsewhere)
	b, err := elsewhere.cfg.Store.Load(elsewhere.account.key)
	if err != nil {
		t.Fatal(err)
	}
	offered, withdrawn := make(chan struct{}), make(chan struct{})
	tr := w.transport(func(c *Config) {
		c.Offer = func(ctx context.Context, _ Prompt) { close(offered); <-ctx.Done(); close(withdrawn) }
	})
	done := make(chan error, 1)
	go func() { _, err := w.post(tr, "x"); done <- err }() // ends with the request
	await(t, offered)
	if err := w.store.Save(tr.account.key, b); err != nil {
		t.Fatal(err)
	}
	if err := await(t, done); err != nil {
		t.Error(err)
	}
	await(t, withdrawn)
	if s, _ := tr.State(); s.Prompt != (Prompt{}) || s.Err != nil {
		t.Errorf("State shows %+v", s)
	}
}

// A token that the upstream refuses is no reason for each process to ask the person anew.
func TestRefusedTokenIsOnePageForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.RefuseTokens = true })
	offered := make(chan Prompt)
	leader := w.transport(func(c *Config) { c.Offer = func(_ context.Context, p Prompt) { offered <- p } })
	errs := make(chan error, 4)
	send := func(tr *Transport) { go func() { _, err := w.post(tr, "x"); errs <- err }() } // ends with the login
	send(leader)
	p := await(t, offered)
	shown := make(chan Prompt, 3)
	for range 3 {
		send(w.transport(func(c *Config) { c.Offer = func(_ context.Context, p Prompt) { shown <- p } }))
	}
	for range 3 {
		await(t, shown)
	}
	w.open(t.Context(), p)
	for range 4 {
		if err := await(t, errs); err == nil {
			t.Error("a request passed")
		} else if _, ok := errors.AsType[*TokenRefusedError](err); !ok {
			t.Errorf("got %v, want TokenRefusedError", err)
		}
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
}

func TestAcceptedTokenEndsTheCountOfPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	count := func(tr *Transport) (p pageCount) {
		tr.Close() // which waits for the count
		tr.account.notes.load(pagesName, &p)
		return p
	}
	tr := w.transport(nil)
	if err := tr.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := count(tr); got.Count != 1 || got.InVain != 1 || !got.Completed {
		t.Errorf("after the login: %+v", got)
	}
	w.as.RevokeAll()
	tr = w.transport(nil)
	w.mustPost(tr)
	if got := count(tr); got.InVain != 0 {
		t.Errorf("after a request with the token: %+v", got)
	}
}

// newPeers makes what a process knows of the others that use the store in dir.
func newPeers(t *testing.T, dir string) *peers {
	t.Helper()
	store, err := tokenstore.Open(dir+"/state", dir+"/config", tokenstore.Keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &Config{Log: slog.New(slog.DiscardHandler), Store: store, now: wallClock, pageInterval: defaultPageInterval}
	return &peers{cfg: cfg, account: &accountRecord{cfg: cfg, notes: notes{cfg: cfg}}, status: newStatus(cfg, nil)}
}

// The pause between login pages holds among processes: here two that show pages in turn.
func TestPagesAreLimitedAmongProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		processes := [2]*peers{newPeers(t, dir), newPeers(t, dir)}
		start := time.Now()
		n := 0
		page := func(want time.Duration, asked bool) {
			t.Helper()
			l := &leadership{peers: processes[n%2], need: need{byPerson: asked}}
			n++
			if err := l.awaitPage(t.Context(), ""); err != nil {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
			if got := time.Since(start); got != want {
				t.Errorf("a page after %v, want %v", got, want)
			}
			l.announce(Prompt{})
		}
		held := func() {
			t.Helper()
			for _, p := range processes {
				if err := (&leadership{peers: p}).awaitPage(t.Context(), ""); !errors.Is(err, ErrHeldBack) {
					t.Errorf("after %v: %v, want ErrHeldBack", time.Since(start), err)
				}
			}
		}
		page(0, false)
		time.Sleep(10 * time.Second)
		next := processes[1]
		_, changed := next.status.get()
		go func() { // ends when the next page is held back
			<-changed
			if s, _ := next.status.get(); !s.NextPage.Equal(start.Add(defaultPageInterval)) {
				t.Errorf("the next page opens at %v, want %v", s.NextPage, start.Add(defaultPageInterval))
			}
		}()
		page(defaultPageInterval, false)
		if s, _ := next.status.get(); !s.NextPage.IsZero() {
			t.Errorf("a page is shown, and the next said to open at %v", s.NextPage)
		}
		processes[1].countPages(func(c *pageCount) { c.Completed = true })
		page(defaultPageInterval, false) // the person is there
		held()
		page(2*defaultPageInterval, true)
		time.Sleep(time.Hour - time.Second)
		held()
		time.Sleep(time.Second)
		page(time.Hour+2*defaultPageInterval, false)
		held()
		processes[n%2].cfg.AtTerminal = true
		page(time.Hour+2*defaultPageInterval, false)
		processes[0].countPages(func(c *pageCount) { *c = pageCount{} })
		page(time.Hour+2*defaultPageInterval, false)
		processes[0].cfg.AtTerminal, processes[1].cfg.AtTerminal = false, false
		page(time.Hour+3*defaultPageInterval, false)
	})
}

// A process that starts after the leader was killed never followed it. It sees by the prompt that
// was left behind that the last login page is dead, and waits for no other.
func TestNoPauseAfterADeadLeader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		dead, late := newPeers(t, dir), newPeers(t, dir)
		l := &leadership{peers: dead, notice: notice{ID: "killed"}}
		l.announce(Prompt{AuthorizeURL: "https://as.example/authorize"})
		start := time.Now()
		err := late.logIn(t.Context(), need{}, func(ctx context.Context, l *leadership) error {
			return l.awaitPage(ctx, "")
		})
		if waited := time.Since(start); err != nil || waited != 0 {
			t.Errorf("the next page after %v (%v), want at once", waited, err)
		}
	})
}

// pageOf shows a login page that leads to a token which the upstream accepts, and returns the error
// of awaitPage.
func pageOf(t *testing.T, p *peers) error {
	t.Helper()
	l := &leadership{peers: p}
	if err := l.awaitPage(t.Context(), ""); err != nil {
		return err
	}
	l.announce(Prompt{})
	p.countPages(func(c *pageCount) { c.Completed = true })
	p.noteAccepted()
	return nil
}

// Login pages are counted by time, whatever they led to.
func TestPagesWithGoodTokensAreLimited(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		every time.Duration // a page is wanted
		pages int           // within ten minutes
	}{
		{"at once", 0, 6},
		{"each second", time.Second, 6},
		{"each minute", time.Minute, 6},
		{"each five minutes", 5 * time.Minute, 3},
		{"each two minutes", 2 * time.Minute, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				p := newPeers(t, dir)
				start, pages, quick := time.Now(), 0, 0
				for time.Since(start) <= 10*time.Minute {
					err := pageOf(t, p)
					if errors.Is(err, ErrHeldBack) {
						break
					} else if err != nil {
						t.Fatal(err)
					}
					pages++
					if time.Since(start) <= 2*time.Second {
						quick++
					}
					time.Sleep(tt.every)
				}
				if pages != tt.pages || quick > quickPages {
					t.Errorf("got %d pages, %d of them in two seconds; want %d", pages, quick, tt.pages)
				}
			})
		})
	}
}

// A storm ends for an hour, although each of its pages led to a token that was accepted.
func TestStormIsHeldBackForAnHour(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, start, pages := newPeers(t, dir), time.Now(), 0
		for time.Since(start) < 3*time.Hour {
			if err := pageOf(t, p); err == nil {
				pages++
			} else if !errors.Is(err, ErrHeldBack) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if want := 3 * anyPages; pages != want {
			t.Errorf("got %d pages in three hours, want %d", pages, want)
		}
	})
}

// A server with short tokens and without refresh tokens has a page for each token, for ever.
func TestShortTokensAreNoStorm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, start := newPeers(t, dir), time.Now()
		for range 100 {
			if err := pageOf(t, p); err != nil {
				t.Fatalf("after %v: %v", time.Since(start), err)
			}
			time.Sleep(5 * time.Minute)
		}
		if got, want := time.Since(start), 500*time.Minute; got != want {
			t.Errorf("took %v, want %v", got, want)
		}
	})
}

// Every second call meets a 401, and the browser consents by itself.
func TestPageStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.NoRefresh = true })
	tr := w.transport(nil)
	tr.cfg.pageInterval = defaultPageInterval
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for call := 0; ctx.Err() == nil && call < 26; call++ {
		if call%2 == 1 {
			w.as.RevokeAccess()
		}
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, w.upstream.String(), strings.NewReader("x"))
		if resp, err := tr.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
		if s, _ := tr.State(); !s.NextPage.IsZero() {
			if s.LastFailure != nil {
				t.Errorf("the last page led to a token, and State tells of %v", s.LastFailure)
			}
			cancel()
		}
	}
	if got := w.as.Stats().Authorizations; got != quickPages {
		t.Errorf("got %d pages, want %d", got, quickPages)
	}
}

// While a page is held back, State says how the login before it ended, in another process too.
func TestStateTellsTheLastFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.TokenError = "unsupported_thing" })
	tr := w.transport(nil)
	if _, err := w.post(tr, "x"); err == nil {
		t.Fatal("a request passed")
	}
	tr.Close()
	other := w.transport(nil)
	other.cfg.pageInterval = defaultPageInterval
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, w.upstream.String(), strings.NewReader("x"))
		other.RoundTrip(req)
	}()
	for {
		s, changed := other.State()
		if !s.NextPage.IsZero() {
			if e, ok := errors.AsType[*asclient.SignInError](s.LastFailure); !ok || e.Code != "unsupported_thing" {
				t.Errorf("State tells of %v", s.LastFailure)
			}
			break
		}
		await(t, changed)
	}
	cancel()
	<-done
}
