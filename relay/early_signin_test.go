package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

// A code that the person types in is shown with the link (RFC 8628).
func TestSignInWithACode(t *testing.T) {
	upstream := &url.URL{Scheme: "http", Host: "mcp.test", Path: "/mcp"}
	o := *signInNeeded
	if text := string(signInPending(upstream, &o)); strings.Contains(text, "code") {
		t.Errorf("without a code: %s", text)
	}
	o.Code = "WDJB-MJHT"
	if text := string(signInPending(upstream, &o)); !strings.Contains(text, "http://mcp.test/mcp with the code WDJB-MJHT,") || !strings.Contains(text, o.URL) {
		t.Errorf("with a code: %s", text)
	}
}

// A sign-in that nobody completed is begun again only when the host asks for something; one made
// elsewhere is noticed.
func TestSignInIsNotBegunAgainByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var elsewhere atomic.Bool
		var asked atomic.Int32
		srv := New(t, append(Opening(version), Goodbye())...)
		next := srv.Transport()
		loud := roundTrip(func(r *http.Request) (*http.Response, error) {
			if elsewhere.Load() {
				return next.RoundTrip(r)
			}
			asked.Add(1)
			return nil, errors.New("nobody completed the login in time")
		})
		quiet := roundTrip(func(r *http.Request) (*http.Response, error) {
			if elsewhere.Load() {
				return next.RoundTrip(r)
			}
			return &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody}, nil
		})
		h := start(t, Config{Send: loud, Background: quiet, Explain: func(err error) Explanation { return Explanation{Kind: KindSignIn, Text: err.Error()} }})
		h.open()
		time.Sleep(time.Hour)
		if n := asked.Load(); n != 1 {
			t.Errorf("the person was asked %d times, want once", n)
		}
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Data.Kind != KindSignIn {
			t.Errorf("got %+v", a)
		}
		if n := asked.Load(); n != 2 {
			t.Errorf("after a call the person was asked %d times, want 2", n)
		}
		elsewhere.Store(true)
		h.want(toolsChanged)
		h.close()
	})
}

// A new link is another elicitation; the old one is withdrawn. A late answer to that goes nowhere.
func TestEachLinkIsElicitedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(nil)
		srv := New(t, append(Opening(version), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
		h.send(strings.Replace(initLine, `"capabilities":{}`, `"capabilities":{"elicitation":{"url":{},"form":{}}}`, 1))
		h.recv()
		h.send(initializedLine)
		synctest.Wait()
		b.set(signInNeeded)
		first := string(decode(t, h.recv()).ID)
		b.set(signInNeeded) // the same link: nothing new
		time.Sleep(time.Minute)
		other := *signInNeeded
		other.URL = "https://as.test/other"
		b.set(&other)
		h.want(string(cancelNotification([]byte(first), "the sign-in is over").Raw))
		h.want(`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":` + first + `}}`)
		line := h.recv()
		second := string(decode(t, line).ID)
		if first == second || !strings.Contains(line, other.URL) {
			t.Errorf("the second elicitation is %s", line)
		}
		h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"cancel"}}`, first))
		h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":"decline"}}`, second))
		synctest.Wait()
		b.set(nil)
		h.want(`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":` + second + `}}`)
		h.close()
	})
}

// The host may do without the sign-in tool's answer, and use the name again when the server is
// there.
func TestSignInTool(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sallyport_sign_in"}}`
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(down)
		srv := New(t, append(Opening(version), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
		h.open()
		h.send(call)
		h.send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
		begin := time.Now()
		h.send(strings.Replace(call, "7", "8", 1))
		if a := decode(t, h.after(begin, 25*time.Second)); a.Error.Message != down.Text || string(a.ID) != "8" {
			t.Errorf("got %+v", a)
		}
		b.set(nil)
		h.want(toolsChanged)
		b.set(signInNeeded) // again, in mid-session
		h.send(call)
		time.Sleep(time.Second)
		b.set(nil)
		if line := h.recv(); !strings.Contains(line, "is connected") {
			t.Errorf("got %s", line)
		}
		h.close()
	})
}

// A person whose browser is on another machine copies the callback, and the host hands it in. A
// wrong one is answered with the reason and the link, and the sign-in goes on.
func TestSignInToolTakesACallback(t *testing.T) {
	call := func(id int, arguments string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"sallyport_sign_in","arguments":%s}}`, id, arguments)
	}
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		b := newObstacle(signInNeeded)
		var delivered []string
		srv := New(t, append(Opening(version), Goodbye())...)
		h := start(t, Config{
			Send: gated{b, srv.Transport(), false}, Obstacle: b.get,
			Deliver: func(_ context.Context, callback string) error {
				delivered = append(delivered, callback)
				if strings.Contains(callback, "old") {
					return errors.New("it is of an older login")
				}
				b.set(nil)
				return nil
			},
			Explain: func(err error) Explanation { return Explanation{Text: err.Error(), Hints: []string{"copy it anew"}} },
			Log:     slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 10})),
		})
		h.open()
		h.send(call(8, `{"callback_url":" http://127.0.0.1/callback?code=hush&state=old\n"}`))
		line := h.recv()
		for _, want := range []string{`"isError":true`, "it is of an older login", "copy it anew", signInNeeded.URL} {
			if !strings.Contains(line, want) {
				t.Errorf("got %s, want %s in it", line, want)
			}
		}
		h.send(call(9, `{"callback_url":"http://127.0.0.1/callback?code=hush&state=now"}`))
		h.wantAll(toolsChanged, `{"jsonrpc":"2.0","id":9,"result":{"content":[{"text":"http://mcp.test/mcp is connected. If its tools are not shown, list them again.","type":"text"}]}}`)
		for _, other := range []string{`{}`, `{"callback_url":""}`, `{"callback_url":7}`} {
			h.send(call(10, other))
			if line := h.recv(); !strings.Contains(line, "is connected") {
				t.Errorf("arguments %s: %s", other, line)
			}
		}
		want := []string{"http://127.0.0.1/callback?code=hush&state=old", "http://127.0.0.1/callback?code=hush&state=now"}
		if !slices.Equal(delivered, want) {
			t.Errorf("delivered %q, want %q", delivered, want)
		}
		h.close()
		if strings.Contains(log.String(), "hush") {
			t.Errorf("the log holds the code: %s", &log)
		}
	})
}

// A proxy that takes no callbacks says so.
func TestSignInToolWithoutDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(nil)
		srv := New(t, append(Opening(version), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
		h.open()
		h.send(`{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"sallyport_sign_in","arguments":{"callback_url":"?code=1&state=2"}}}`)
		if line := h.recv(); !strings.Contains(line, errNoDelivery.Error()) || !strings.Contains(line, `"isError":true`) {
			t.Errorf("got %s", line)
		}
		h.close()
	})
}

// What requests ask the person for may be held back; the tool's call is the person's own wish.
func TestSignInToolAsks(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"sallyport_sign_in"}}`
	synctest.Test(t, func(t *testing.T) {
		held := &Obstacle{Kind: KindSignIn, Text: "held back"}
		b := newObstacle(held)
		srv := New(t, append(Opening(version), Goodbye())...)
		wishes := make(chan error)
		h := start(t, Config{Send: gated{b, srv.Transport(), true}, SignIn: func(context.Context) error { return <-wishes },
			Explain: func(err error) Explanation { return Explanation{Kind: KindSignIn, Text: err.Error()} }})
		h.open()
		h.send(call)
		h.send(callLine) // its attempt is held back, which is no answer to the wish
		if a := decode(t, h.recv()); a.Error.Message != held.Text || string(a.ID) != "7" {
			t.Errorf("another call: %+v", a)
		}
		wishes <- errors.New("the person says no")
		if a := decode(t, h.recv()); a.Error.Message != "the person says no" || string(a.ID) != "8" {
			t.Errorf("the tool: %+v", a)
		}
		h.send(call)
		b.set(nil)
		wishes <- nil
		h.wantAll(toolsChanged, `{"jsonrpc":"2.0","id":8,"result":{"content":[{"text":"http://mcp.test/mcp is connected. If its tools are not shown, list them again.","type":"text"}]}}`)
		h.close()
	})
}

// A sign-in that fails before the host has the answer to its initialize answers the calls that have
// waited for it, with the cause, and asks nobody twice. A call that comes after it begins another.
func TestARefusedSignInIsTheCauseOfEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		var told []string
		refused := roundTrip(func(*http.Request) (*http.Response, error) {
			asked.Add(1)
			time.Sleep(100 * time.Millisecond)
			return nil, errors.New("access_denied")
		})
		quiet := roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody}, nil
		})
		h := start(t, Config{Send: refused, Background: quiet,
			Explain: func(err error) Explanation {
				if _, ok := errors.AsType[*StatusError](err); ok {
					return Explanation{Text: "no token"}
				}
				return Explanation{Kind: KindRefused, Text: err.Error(), Hints: []string{"log in"}}
			},
			Answered: func(e *Explanation) { told = append(told, e.Text) }})
		begin := time.Now()
		h.send(initLine)
		h.send(callLine)
		if a := decode(t, h.after(begin, 100*time.Millisecond)); a.Error.Data.Kind != KindRefused || string(a.ID) != "7" {
			t.Errorf("got %+v", a)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		h.send(strings.Replace(callLine, `"id":7`, `"id":8`, 1))
		h.after(begin, 3*time.Second) // initialize
		if a := decode(t, h.after(begin, 3100*time.Millisecond)); a.Error.Data.Kind != KindRefused || string(a.ID) != "8" {
			t.Errorf("got %+v", a)
		}
		if n := asked.Load(); n != 2 {
			t.Errorf("after another call asked %d times, want 2", n)
		}
		if slices.ContainsFunc(told, func(s string) bool { return s != "access_denied" }) {
			t.Errorf("told %q", told)
		}
		h.close()
	})
}
