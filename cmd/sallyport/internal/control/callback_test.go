package control

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serveCallback starts a process that takes callbacks, and returns the path of its socket.
func serveCallback(t *testing.T, deliver DeliverFunc) (*Server, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	p := &proxy{changed: make(chan struct{})}
	server, err := Serve([]string{dir}, Handlers{Status: p.current, Deliver: deliver})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	sockets, _ := Sockets([]string{dir})
	if len(sockets) != 1 {
		t.Fatalf("sockets %q, want one", sockets)
	}
	return server, sockets[0]
}

// mustParse parses a URL of a test.
func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestDeliverTellsTheOutcome(t *testing.T) {
	failed := Outcome{Outcome: Failed, Problem: &Problem{Kind: "sign_in", Text: "the code is used up", Hints: []string{"again"}}}
	for _, want := range []Outcome{{Outcome: SignedIn}, {Outcome: NotMine}, {Outcome: Pending}, failed} {
		var delivered string
		_, path := serveCallback(t, func(_ context.Context, callback *url.URL) Outcome {
			delivered = callback.String()
			return want
		})
		const callback = "http://127.0.0.1:53682/callback/x?code=a%26b&state=s"
		got, err := Deliver(t.Context(), path, mustParse(t, callback))
		if err != nil || got.Outcome != want.Outcome || (got.Problem == nil) != (want.Problem == nil) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if want.Problem != nil && (got.Text != want.Text || got.Kind != want.Kind || len(got.Hints) != 1) {
			t.Errorf("got %+v, want %+v", got.Problem, want.Problem)
		}
		if delivered != callback {
			t.Errorf("delivered %s, want %s", delivered, callback)
		}
	}
}

// TestCallbackOnTheWire shows what doc.go promises to writers that are not this package.
func TestCallbackOnTheWire(t *testing.T) {
	delivered := 0
	_, path := serveCallback(t, func(context.Context, *url.URL) Outcome { delivered++; return Outcome{Outcome: SignedIn} })
	for body, want := range map[string]string{
		`{"callback":"?code=1&state=2"}`:           "",
		`{"callback":"http://127.0.0.1/callback"}`: codeBadRequest,
		`{"callback":"::"}`:                        codeBadRequest,
		`{}`:                                       codeBadRequest,
		`code=1&state=2`:                           codeBadRequest,
		`{"callback":"?code=` + strings.Repeat("x", maxCallback) + `"}`: codeBadRequest,
	} {
		answer, err := ask(t.Context(), path, Version, "callback", []byte(body))
		if err == nil {
			answer.Close()
		}
		if got := err != nil && strings.Contains(err.Error(), codeBadRequest); got != (want != "") {
			t.Errorf("%.60s: %v, want %q", body, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "code=") {
			t.Errorf("the error repeats the callback: %v", err)
		}
	}
	if delivered != 1 {
		t.Errorf("%d callbacks delivered, want 1", delivered)
	}
	if _, err := ask(t.Context(), path, Version, "callback", nil); !errors.Is(err, ErrUnknownRequest) {
		t.Errorf("GET: %v, want %v", err, ErrUnknownRequest)
	}
}

// A proxy of an older version, and one that takes no callbacks, do not know the request.
func TestDeliverToAProxyWithoutIt(t *testing.T) {
	_, path := serveCallback(t, nil)
	if _, err := Deliver(t.Context(), path, mustParse(t, "?code=1&state=2")); !errors.Is(err, ErrUnknownRequest) {
		t.Errorf("got %v, want %v", err, ErrUnknownRequest)
	}
}

func TestTooManyCallbacks(t *testing.T) {
	arrived := make(chan struct{})
	_, path := serveCallback(t, func(ctx context.Context, _ *url.URL) Outcome {
		arrived <- struct{}{}
		<-ctx.Done()
		return Outcome{Outcome: Pending}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range maxDeliveries {
		go Deliver(ctx, path, mustParse(t, "?code=1&state=2")) // ends with ctx
		<-arrived
	}
	if _, err := Deliver(t.Context(), path, mustParse(t, "?code=1&state=2")); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v, want %v", err, ErrBusy)
	}
}

// A login ends right after it has its callback. Whoever brought that still learns the outcome.
func TestOutcomeOfALoginThatEnds(t *testing.T) {
	var server *Server
	started := make(chan struct{})
	closed := make(chan error, 1)
	server, path := serveCallback(t, func(ctx context.Context, _ *url.URL) Outcome {
		close(started)
		<-ctx.Done() // Close has begun
		time.Sleep(20 * time.Millisecond)
		return Outcome{Outcome: SignedIn}
	})
	go func() {
		<-started
		closed <- server.Close()
	}()
	got, err := Deliver(t.Context(), path, mustParse(t, "?code=1&state=2"))
	if err != nil || got.Outcome != SignedIn {
		t.Errorf("got %+v, %v, want %s", got, err, SignedIn)
	}
	<-closed
}
