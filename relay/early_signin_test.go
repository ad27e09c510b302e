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
	text := string(signInPending(upstream, &o))
	if !strings.HasPrefix(text, `{"content":[{"text":"`+o.URL+`\n`) || !strings.Contains(text, "and enter the code WDJB-MJHT, to sign in to http://mcp.test/mcp.") {
		t.Errorf("with a code: %s", text)
	}
	o.Elsewhere = "run it there"
	if text := string(signInPending(upstream, &o)); !strings.Contains(text, `until the person has signed in.\nrun it there.`) {
		t.Errorf("with a browser elsewhere: %s", text)
	}
	o.CodeURL = "https://as.test/device"
	text = string(signInPending(upstream, &o))
	if !strings.HasPrefix(text, `{"content":[{"text":"`+o.URL+`\n`) ||
		!strings.Contains(text, "open this link in a browser, or enter the code WDJB-MJHT at https://as.test/device on any device, to sign in to http://mcp.test/mcp.") ||
		!strings.Contains(text, "Show the link and the code to the person now") || !strings.Contains(text, "callback_url") {
		t.Errorf("with a code beside the link: %s", text)
	}
	o.CodeURL = ""
	o.Kind, o.Text = "ssh_needs_person", "logging in to bastion, which says: check in"
	if text := string(signInPending(upstream, &o)); !strings.Contains(text, "because logging in to bastion, which says: check in.") {
		t.Errorf("of a bastion: %s", text)
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
		srv := New(t, append(Opening(version), toolsExchange(`[]`), Goodbye())...)
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
		begin = time.Now()
		h.send(call)
		if line := h.after(begin, 0); !strings.Contains(line, signInURL) {
			t.Errorf("got %s", line)
		}
		h.send(call) // the link is known, so this one waits
		time.Sleep(time.Second)
		b.set(nil)
		if line := h.after(begin, relistBegin); !strings.Contains(line, "is connected") {
			t.Errorf("got %s", line)
		}
		h.close()
	})
}

// A code may come to a link that the person was shown already. The next call of the tool tells it,
// once, and a code that goes is no news.
func TestACodeThatComesToTheLinkLater(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sallyport_sign_in"}}`
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(signInNeeded)
		srv := New(t, append(Opening(version), toolsExchange(`[]`), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
		h.open()
		begin := time.Now()
		h.send(call)
		if line := h.after(begin, 0); !strings.Contains(line, signInURL) || strings.Contains(line, "enter the code") {
			t.Errorf("got %s", line)
		}
		h.send(call)
		time.Sleep(time.Second)
		with := *signInNeeded
		with.Code, with.CodeURL = "WDJB-MJHT", "https://as.test/device"
		b.set(&with)
		if line := h.after(begin, time.Second); !strings.Contains(line, signInURL+`\n`) || !strings.Contains(line, ", or enter the code WDJB-MJHT at https://as.test/device on any device,") {
			t.Errorf("got %s", line)
		}
		h.send(strings.Replace(call, `"sallyport_sign_in"`, `"sallyport_sign_in","_meta":{"progressToken":"p"}`, 1))
		if line := h.after(begin, time.Second); !strings.Contains(line, "notifications/progress") || !strings.Contains(line, "enter the code WDJB-MJHT at https://as.test/device on any device") {
			t.Errorf("got %s", line)
		}
		for _, o := range []*Obstacle{signInNeeded, &with} {
			b.set(o)
			time.Sleep(time.Second)
		}
		b.set(nil)
		h.want(toolsChanged)
		if line := h.recv(); !strings.Contains(line, "is connected") {
			t.Errorf("got %s", line)
		}
		h.close()
	})
}

// A host that shows links itself shows the code with it.
func TestElicitationOfALinkWithACode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		with := *signInNeeded
		with.Code, with.CodeURL = "WDJB-MJHT", "https://as.test/device"
		b := newObstacle(nil)
		srv := New(t, append(Opening(version), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
		h.send(strings.Replace(initLine, `"capabilities":{}`, `"capabilities":{"elicitation":{"url":{}}}`, 1))
		h.recv()
		h.send(initializedLine)
		synctest.Wait()
		b.set(&with)
		line := h.recv()
		if !strings.Contains(line, `"elicitation/create"`) || !strings.Contains(line, ", or enter the code WDJB-MJHT at https://as.test/device on any device") {
			t.Errorf("got %s", line)
		}
		b.set(signInNeeded) // the code has ended, and the link is the same
		time.Sleep(time.Minute)
		b.set(nil)
		id := decode(t, line).ID
		h.want(string(cancelNotification(id, "the sign-in is over").Raw))
		h.want(`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":` + string(id) + `}}`)
		h.close()
	})
}

// What has no link and stays until a person has acted is told at once, and waited for from then on.
func TestSignInToolOfALockedKey(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sallyport_sign_in"}}`
	synctest.Test(t, func(t *testing.T) {
		locked := &Obstacle{Kind: "ssh_needs_person", Text: "the key is locked", Person: true, Hints: []string{"ssh-add"}}
		b := newObstacle(locked)
		h := start(t, Config{Send: gated{b: b}, Obstacle: b.get})
		h.open()
		for _, after := range []time.Duration{0, 25 * time.Second} {
			begin := time.Now()
			h.send(call)
			if a := decode(t, h.after(begin, after)); a.Error.Message != locked.Text || a.Error.Data.Hint != "ssh-add" {
				t.Errorf("got %+v", a)
			}
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
		list := toolsExchange(`[]`)
		srv := New(t, append(Opening(version), list, list, list, list, Goodbye())...)
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
		h.want(toolsChanged)
		if line := h.recv(); !strings.Contains(line, `"id":9,"result"`) || !strings.Contains(line, "is connected") {
			t.Errorf("got %s", line)
		}
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

// A callback takes a while to lead to a sign-in. Meanwhile its call is not answered by the link,
// which the person has opened.
func TestSignInToolWaitsForItsCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(signInNeeded)
		srv := New(t, append(Opening(version), toolsExchange(`[]`), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get, Deliver: func(context.Context, string) error {
			time.Sleep(4 * time.Second)
			b.set(nil)
			return nil
		}})
		h.open()
		h.send(`{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"sallyport_sign_in","arguments":{"callback_url":"http://127.0.0.1/callback?code=1&state=2"}}}`)
		h.want(toolsChanged)
		if line := h.recv(); !strings.Contains(line, "is connected") {
			t.Errorf("got %s", line)
		}
		h.close()
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

// A host that shows links itself is asked at once when the tool is called. The call has the link
// only if the host does not show it.
func TestSignInToolOfAHostThatShowsLinks(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sallyport_sign_in"}}`
	for _, tt := range []struct {
		action string
		after  time.Duration
	}{{"accept", 25 * time.Second}, {"decline", time.Second}, {"cancel", time.Second}, {"", 25 * time.Second}} {
		t.Run(tt.action, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newObstacle(signInNeeded)
				h := start(t, Config{Send: gated{b: b}, Obstacle: b.get})
				h.send(strings.Replace(initLine, `"capabilities":{}`, `"capabilities":{"elicitation":{"url":{}}}`, 1))
				h.recv()
				h.send(initializedLine)
				begin := time.Now()
				h.send(call)
				id := string(decode(t, h.after(begin, 0)).ID)
				time.Sleep(time.Second)
				if tt.action != "" {
					h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":%q}}`, id, tt.action))
				}
				if line := h.after(begin, tt.after); !strings.HasPrefix(line, `{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"`+signInURL+`\n`) {
					t.Errorf("got %s", line)
				}
				h.close()
			})
		})
	}
}

// What requests ask the person for may be held back; the tool's call is the person's own wish.
func TestSignInToolAsks(t *testing.T) {
	const call = `{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"sallyport_sign_in"}}`
	synctest.Test(t, func(t *testing.T) {
		held := &Obstacle{Kind: KindSignIn, Text: "held back"}
		b := newObstacle(held)
		srv := New(t, append(Opening(version), toolsExchange(`[]`), Goodbye())...)
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
		h.want(toolsChanged)
		if line := h.recv(); !strings.Contains(line, "is connected, but its tools may not be in your list of tools. The server has no tools.") {
			t.Errorf("got %s", line)
		}
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
		lines := []string{h.after(begin, 100*time.Millisecond), h.after(begin, 100*time.Millisecond)}
		slices.Sort(lines)
		if a := decode(t, lines[1]); a.Error.Data.Kind != KindRefused || string(a.ID) != "7" || !strings.HasPrefix(lines[0], minimalHead) {
			t.Errorf("got %q", lines)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		h.send(strings.Replace(callLine, `"id":7`, `"id":8`, 1))
		if a := decode(t, h.after(begin, 200*time.Millisecond)); a.Error.Data.Kind != KindRefused || string(a.ID) != "8" {
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

// A sign-in that has failed is the outcome of the request that has waited for it, although its
// obstacle still stands for a moment. Sending the request again would begin another sign-in.
func TestAFailedSignInIsNotBegunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(nil)
		srv := New(t, append(Opening(version), Goodbye())...)
		next := srv.Transport()
		var begun atomic.Int32
		send := roundTrip(func(r *http.Request) (*http.Response, error) {
			if o, _ := b.get(); o == nil {
				return next.RoundTrip(r)
			}
			begun.Add(1)
			return nil, errors.New("access_denied")
		})
		h := start(t, Config{Send: send, Obstacle: b.get, Explain: func(err error) Explanation { return Explanation{Kind: KindRefused, Text: err.Error()} }})
		h.open()
		synctest.Wait()
		b.set(signInNeeded)
		begin := time.Now()
		h.send(callLine)
		if a := decode(t, h.after(begin, 0)); a.Error.Data.Kind != KindRefused || a.Error.Message != "access_denied" {
			t.Errorf("got %+v", a)
		}
		b.set(&Obstacle{Kind: KindSignIn, Text: "later"})
		synctest.Wait()
		if n := begun.Load(); n != 1 {
			t.Errorf("%d sign-ins were begun, want 1", n)
		}
		b.set(nil)
		h.close()
	})
}
