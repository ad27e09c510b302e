package oauth

import (
	"context"
	"net"
	"testing"
)

func TestBusy(t *testing.T) {
	w := newWorld(t)
	offered := make(chan Prompt, 1)
	listening := false
	tr := w.transport(func(c *Config) { c.Offer = func(_ context.Context, p Prompt) { offered <- p } })
	tr.cfg.Listen = func(ctx context.Context, addr string) (net.Listener, error) {
		listening = tr.Busy()
		return new(net.ListenConfig).Listen(ctx, "tcp", addr)
	}
	_, _, changed := tr.State()
	if tr.Busy() {
		t.Error("busy before any request")
	}
	done := make(chan error, 1)
	go func() { done <- tr.SignIn(t.Context()) }() // ends with the login
	<-changed
	_, _, changed = tr.State()
	if !tr.Busy() {
		t.Error("not busy once State has changed")
	}
	p := <-offered
	if !listening || !tr.Busy() {
		t.Error("not busy while the callback is bound and the person is waited for")
	}
	w.open(t.Context(), p)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	<-changed
	if tr.Busy() {
		t.Error("busy after the login")
	}
	w.mustPost(tr)
	w.as.RevokeAccess()
	_, _, changed = tr.State()
	w.mustPost(tr)
	<-changed // a refresh ends too
	if tr.Busy() {
		t.Error("a refresh counts as a sign-in")
	}
}
