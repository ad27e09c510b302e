package oauth

import (
	"context"
	"errors"
	"testing"
	"time"

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
		if e, ok := errors.AsType[*SignInError](err); !ok || !e.Refused || e.Code != "access_denied" {
			t.Errorf("got %v", err)
		}
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1})
}

// Whoever stores a good token ends the login that waits.
func TestTokenFromElsewhereEndsTheLogin(t *testing.T) {
	w := newWorld(t)
	elsewhere := w.transport(func(c *Config) { c.Store = nil })
	w.mustPost(elsewhere)
	b, err := elsewhere.cfg.Store.Load(elsewhere.creds.key)
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
	if err := w.store.Save(tr.creds.key, b); err != nil {
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
	w := newWorld(t)
	count := func(tr *Transport) (p pageCount) {
		tr.Close() // which waits for the count
		tr.creds.loadNote(pagesName, &p)
		return p
	}
	tr := w.transport(nil)
	if err := tr.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := count(tr); got.Count != 1 || !got.Completed {
		t.Errorf("after the login: %+v", got)
	}
	w.as.RevokeAll()
	tr = w.transport(nil)
	w.mustPost(tr)
	if got := count(tr); got != (pageCount{}) {
		t.Errorf("after a request with the token: %+v", got)
	}
}
