package relay

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

// movedObstacle is a Config.Obstacle that a test moves.
type movedObstacle struct {
	mu      sync.Mutex
	o       *Obstacle
	changed chan struct{}
}

func newObstacle(o *Obstacle) *movedObstacle {
	return &movedObstacle{o: o, changed: make(chan struct{})}
}

func (b *movedObstacle) get() (*Obstacle, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.o, b.changed
}

func (b *movedObstacle) set(o *Obstacle) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.o = o
	close(b.changed)
	b.changed = make(chan struct{})
}

// gated is a RoundTripper that works only while nothing is in the way: it waits, as a tunnel's dial
// does, or fails.
type gated struct {
	b     *movedObstacle
	next  http.RoundTripper
	fails bool
}

func (g gated) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		o, changed := g.b.get()
		if o == nil {
			return g.next.RoundTrip(r)
		}
		if g.fails {
			return nil, errors.New(o.Text)
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

var down = &Obstacle{Kind: "unreachable", Text: "hop bastion: connection refused", Hints: []string{"one", "two"}}

func TestPatience(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("fails=%v", fails), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newObstacle(down)
				srv := New(t, append(Opening(version), Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
				h := start(t, Config{Send: gated{b, srv.Transport(), fails}, Obstacle: b.get})
				h.open()
				begin := time.Now()
				h.send(callLine)
				if a := decode(t, h.recv()); time.Since(begin) != 25*time.Second || a.Error.Code != -32000 || a.Error.Message != down.Text ||
					a.Error.Data.Kind != "unreachable" || a.Error.Data.Hint != "one\ntwo" {
					t.Errorf("after %v: %+v", time.Since(begin), a)
				}
				// Now the way clears while a request waits.
				h.send(callLine)
				time.Sleep(24 * time.Second)
				b.set(nil)
				h.wantAll(toolsChanged, callAnswer)
				h.close()
			})
		})
	}
}

func TestErrorWithoutObstacleIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, Config{
			Send: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("tls: wrong name") }),
			Explain: func(err error) Explanation {
				return Explanation{Kind: "tls", Text: "said: " + err.Error(), Hints: []string{"h"}}
			}})
		h.open()
		begin := time.Now()
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Message != "said: tls: wrong name" || a.Error.Data.Kind != "tls" || time.Since(begin) != 0 {
			t.Errorf("after %v: %+v", time.Since(begin), a)
		}
		h.close()
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFinalObstacle(t *testing.T) {
	final := errors.New("host key mismatch")
	refused := &Obstacle{Kind: "host_key", Text: "hop b: host key mismatch", Final: final}
	t.Run("with a call in flight", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(down)
			h := start(t, Config{Send: gated{b, nil, false}, Obstacle: b.get})
			h.send(initLine)
			synctest.Wait()
			b.set(refused)
			if a := decode(t, h.recv()); a.Error.Data.Kind != "host_key" || string(a.ID) != "0" {
				t.Errorf("got %+v", a)
			}
			if err := <-h.result; err != final {
				t.Errorf("Run: %v", err)
			}
		})
	})
	t.Run("met by the next request", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(refused)
			h := start(t, Config{Send: gated{b, nil, false}, Obstacle: b.get})
			synctest.Wait()
			h.send(initLine)
			if a := decode(t, h.recv()); a.Error.Data.Kind != "host_key" {
				t.Errorf("got %+v", a)
			}
			if err := <-h.result; err != final {
				t.Errorf("Run: %v", err)
			}
		})
	})
	t.Run("without any request", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			b := newObstacle(refused)
			h := start(t, Config{Send: gated{b, nil, false}, Obstacle: b.get})
			if err := <-h.result; err != final || time.Since(begin) != finalGrace {
				t.Errorf("Run after %v: %v", time.Since(begin), err)
			}
		})
	})
	t.Run("said by Explain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := start(t, Config{Send: roundTrip(func(*http.Request) (*http.Response, error) { return nil, final }),
				Explain: func(error) Explanation {
					return Explanation{Kind: refused.Kind, Text: refused.Text, Final: refused.Final}
				}})
			h.send(initLine)
			if a := decode(t, h.recv()); a.Error.Data.Kind != "host_key" {
				t.Errorf("got %+v", a)
			}
			if err := <-h.result; err != final {
				t.Errorf("Run: %v", err)
			}
		})
	})
}

// A request that waits for a person until its timeout tells the link again, not to allow more time;
// upstream nobody is told of its end, for it did not run.
func TestTimeoutWhileASignInWaits(t *testing.T) {
	signIn := &Obstacle{Kind: KindSignIn, Text: "a person is to sign in", URL: "https://as.test/", Hints: []string{"open https://as.test/"}}
	const cancel = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`
	wantLink := func(t *testing.T, h *host) {
		a := decode(t, h.recv())
		if d := a.Error.Data; a.Error.Message != signIn.Text || d.Kind != KindSignIn || d.URL != signIn.URL || d.Hint != "open https://as.test/\nwhen that is done, repeat the request" {
			t.Errorf("got %+v", a)
		}
	}
	t.Run("never written", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			srv := New(t, Opening(version)...)
			h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
			h.open()
			synctest.Wait()
			b.set(signIn)
			h.send(callLine)
			wantLink(t, h)
			h.close()
		})
	})
	// A RoundTripper that meets a 401 and waits for the person.
	meets401 := func(b *movedObstacle, next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil && resp.StatusCode == 401 {
				resp.Body.Close()
				b.set(signIn)
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return resp, err
		})
	}
	t.Run("refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			srv := New(t, append(Opening(version), Exchange{Call: "tools/call", Status: 401})...)
			h := start(t, Config{Send: meets401(b, srv.Transport()), Obstacle: b.get})
			h.open()
			h.send(callLine)
			wantLink(t, h)
			synctest.Wait()
			h.close()
		})
	})
	t.Run("refused, then cancelled by the host", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			srv := New(t, append(Opening(version), Exchange{Call: "tools/call", Status: 401})...)
			h := start(t, Config{Send: meets401(b, srv.Transport()), Obstacle: b.get})
			h.open()
			h.send(callLine)
			synctest.Wait()
			h.send(cancel)
			synctest.Wait()
			h.close()
		})
	})
}
