package oauth

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
)

func busy(tr *Transport) bool {
	s, _ := tr.State()
	return s.Busy
}

func TestBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	offered := make(chan Prompt, 1)
	listening := false
	tr := w.transport(func(c *Config) { c.Offer = func(_ context.Context, p Prompt) { offered <- p } })
	tr.cfg.Callback.Listen = func(ctx context.Context, addr string) (net.Listener, error) {
		listening = busy(tr)
		return new(net.ListenConfig).Listen(ctx, "tcp", addr)
	}
	_, changed := tr.State()
	if busy(tr) {
		t.Error("busy before any request")
	}
	done := make(chan error, 1)
	go func() { done <- tr.SignIn(t.Context()) }() // ends with the login
	<-changed
	_, changed = tr.State()
	if !busy(tr) {
		t.Error("not busy once State has changed")
	}
	p := <-offered
	if !listening || !busy(tr) {
		t.Error("not busy while the callback is bound and the person is waited for")
	}
	w.open(t.Context(), p)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	<-changed
	if busy(tr) {
		t.Error("busy after the login")
	}
	w.mustPost(tr)
	w.as.RevokeAccess()
	_, changed = tr.State()
	w.mustPost(tr)
	<-changed // a refresh ends too
	if busy(tr) {
		t.Error("a refresh counts as a sign-in")
	}
}

func TestDeclinedStepUpIsNotFinal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	w.as.Set(func(k *oauthtest.Knobs) { k.NeedScope, k.Deny = "write", "access_denied" })
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, w.upstream.String(), strings.NewReader("x"))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("got error %v, want the 403 itself", err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusForbidden || err != nil || len(b) == 0 {
		t.Errorf("got status %d, body %q, error %v", resp.StatusCode, b, err)
	}
	if s, _ := tr.State(); s.Err != nil {
		t.Errorf("State keeps %v", err)
	}
	w.as.Set(func(k *oauthtest.Knobs) { k.NeedScope = "" })
	w.mustPost(tr) // with the token of before
	if got := w.as.Stats(); got.Authorizations != 2 || got.Codes != 1 {
		t.Errorf("server was asked %+v", got)
	}
}

// A request that needs any token is not ended by another's declined step-up, nor is the
// refresh token lost to the registration that this made.
func TestDeclinedStepUpIsNotAnothersError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	w.mustPost(tr)
	offered, answer := make(chan Prompt), make(chan struct{})
	tr.cfg.Offer = func(_ context.Context, p Prompt) { offered <- p; <-answer; w.open(t.Context(), p) }
	w.as.Set(func(k *oauthtest.Knobs) { k.NeedScope, k.Deny = "write", "access_denied" })
	done := make(chan int, 1)
	go func() { // ends with the declined step-up
		status, err := w.post(tr, "x")
		if err != nil {
			t.Error(err)
		}
		done <- status
	}()
	<-offered
	w.as.RevokeAccess()
	w.as.Set(func(k *oauthtest.Knobs) { k.NeedScope = "" })
	other := make(chan error, 1)
	go func() { // waits for the step-up first
		tr.account.mu.Lock()
		stale := tr.account.rec.Token.Access
		tr.account.mu.Unlock()
		other <- tr.renew(t.Context(), need{instead: stale})
	}()
	close(answer)
	if got := <-done; got != http.StatusForbidden {
		t.Errorf("got status %d", got)
	}
	if err := <-other; err != nil {
		t.Errorf("the other request: %v", err)
	}
	if got := w.as.Stats(); got.Refreshes != 1 || got.Authorizations != 2 {
		t.Errorf("server was asked %+v", got)
	}
}

func TestStepUpRightAfterALogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	tr.cfg.pageInterval = time.Hour
	w.mustPost(tr)
	w.as.Set(func(k *oauthtest.Knobs) { k.NeedScope = "write" })
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("the step-up waits for the brake"))
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, w.upstream.String(), strings.NewReader("x"))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got status %d", resp.StatusCode)
	}
}

func TestNoSkewRefreshesAtExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(func(c *Config) { c.RefreshSkew = -1 })
	w.mustPost(tr)
	w.advance(time.Hour - time.Second)
	w.mustPost(tr)
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
	w.advance(time.Second)
	w.mustPost(tr)
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1})
}
