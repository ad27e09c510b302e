package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

func TestRedirectSameOriginKeepsMethodAndBody(t *testing.T) {
	for _, status := range []int{307, 308} {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{},
				Exchange{Call: "tools/call", Path: "/mcp", Status: status, Set: map[string]string{"Location": "/mcp/?a=b"}},
				Exchange{Call: "tools/call", Path: "/mcp/", Body: callLine, Header: map[string]string{"Mcp-Session-Id": "s1"}, Reply: callAnswer}, Goodbye())
			h.send(callLine)
			h.want(callAnswer)
			h.close()
		})
	}
}

func TestRedirectLoopEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, srv := open(t, Config{}, Exchange{Call: "tools/call", Repeat: true, Status: 307, Set: map[string]string{"Location": "/mcp"}}, Goodbye())
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Data.Kind != "redirect" {
			t.Errorf("got %+v", a)
		}
		h.close()
		if got, want := strings.Count(strings.Join(srv.Seen(), "\n"), "tools/call"), maxRedirects+1; got != want {
			t.Errorf("%d requests, want %d", got, want)
		}
	})
}

// A 308 is followed once for a session; a new session starts at the configured URL again. A 307
// holds for one request only.
func TestPermanentRedirectIsRemembered(t *testing.T) {
	at := func(path string, list ...Exchange) []Exchange {
		for i := range list {
			list[i].Path = path
		}
		return list
	}
	to := func(status int, path, call string) Exchange {
		return Exchange{Call: call, Path: path, Status: status, Set: map[string]string{"Location": "/new"}}
	}
	synctest.Test(t, func(t *testing.T) {
		again := Opening(version)
		again[0].Set = map[string]string{"Mcp-Session-Id": "s2"}
		again[1].Header, again[2].Header = nil, nil
		script := append([]Exchange{to(308, "/mcp", "initialize")}, at("/new", Opening(version)...)...)
		script = append(script, Exchange{Call: "tools/call", Path: "/new", Status: 404})
		// Now it leads nowhere, except for one call.
		script = append(script, at("/mcp", again...)...)
		script = append(script, to(307, "/mcp", "tools/call"), Exchange{Call: "tools/call", Path: "/new", Reply: callAnswer},
			Exchange{Call: "ping", Path: "/mcp", Reply: pingAnswer}, Exchange{Method: "DELETE", Path: "/mcp"})
		h := start(t, Config{Send: New(t, script...).Transport()})
		h.open()
		h.send(callLine)
		h.want(callAnswer)
		h.send(pingLine)
		h.want(pingAnswer)
		h.close()
	})
}

const mayHaveRunHint = "may have run"

// withoutHooks hands a request on to next without the hooks of httptrace, as a RoundTripper does
// that is no http.Transport.
func withoutHooks(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		ctx, cancel := context.WithCancel(context.Background()) // without the hooks, which are values of r's context
		defer context.AfterFunc(r.Context(), cancel)()
		return next.RoundTrip(r.WithContext(ctx))
	})
}

// answerCut makes a RoundTripper in whose first call of a tool the server writes raw and the
// connection breaks.
func answerCut(raw string) func(func() error, http.RoundTripper) http.RoundTripper {
	return func(fail func() error, next http.RoundTripper) http.RoundTripper {
		return onToolCall(next, func(r *http.Request) (*http.Response, error) {
			r.Header.Set("Cut", url.QueryEscape(raw))
			if _, err := next.RoundTrip(r); err != nil {
				return nil, fail()
			}
			return nil, errors.New("answered")
		})
	}
}

// Config.Send tells by hooks whether a request that failed may have run. A request that may
// have run is not sent again, and its error says so; one that has not run waits for the obstacle
// and is sent again. A RoundTripper that calls no hook is not trusted as soon as it has read from
// the body.
func TestWhetherAFailedRequestMayHaveRun(t *testing.T) {
	lost := errors.New("connection lost")
	for _, tt := range []struct {
		name string
		// send makes the RoundTripper. The first call of a tool fails in it, while an obstacle
		// comes.
		send       func(fail func() error, next http.RoundTripper) http.RoundTripper
		mayHaveRun bool
	}{
		{"hooks, before it was written", func(fail func() error, next http.RoundTripper) http.RoundTripper {
			return onToolCall(next, func(r *http.Request) (*http.Response, error) {
				return (&http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, fail() }}).RoundTrip(r)
			})
		}, false},
		{"hooks, after it was written", func(fail func() error, next http.RoundTripper) http.RoundTripper {
			return onToolCall(next, func(r *http.Request) (*http.Response, error) {
				if _, err := next.RoundTrip(r); err == nil {
					return nil, fail()
				}
				return nil, errors.New("not written")
			})
		}, true},
		{"hooks, the connection breaks in the response's header", answerCut("HTTP/1.1 200 OK\r\nContent-Ty"), true},
		{"hooks, the connection breaks after an interim response", answerCut("HTTP/1.1 103 Early Hints\r\n\r\n"), true},
		{"no hooks, the body was not read", func(fail func() error, next http.RoundTripper) http.RoundTripper {
			return onToolCall(withoutHooks(next), func(r *http.Request) (*http.Response, error) { return nil, fail() })
		}, false},
		{"no hooks, the body was read", func(fail func() error, next http.RoundTripper) http.RoundTripper {
			return onToolCall(withoutHooks(next), func(r *http.Request) (*http.Response, error) {
				io.Copy(io.Discard, r.Body)
				return nil, fail()
			})
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newObstacle(nil)
				script := Opening(version)
				if !tt.mayHaveRun {
					script = append(script, Exchange{Call: "tools/call", Reply: callAnswer})
				} else if strings.HasPrefix(tt.name, "hooks") {
					script = append(script, Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
						if raw, _ := url.QueryUnescape(r.Header.Get("Cut")); raw != "" {
							Cut(raw)(w, r)
						}
					}})
				}
				srv := New(t, append(script, Goodbye())...)
				fail := func() error { b.set(down); return lost }
				h := start(t, Config{Send: tt.send(fail, srv.Transport()), Obstacle: b.get})
				h.open()
				synctest.Wait()
				h.send(callLine)
				synctest.Wait()
				time.Sleep(time.Second)
				b.set(nil)
				line := h.recv()
				if !tt.mayHaveRun {
					if line != callAnswer {
						t.Errorf("got %s", line)
					}
				} else if a := decode(t, line); a.Error.Message != lost.Error() || !strings.Contains(a.Error.Data.Hint, mayHaveRunHint) {
					t.Errorf("got %s", line)
				}
				h.close()
			})
		})
	}
}

// onToolCall lets first carry the first request of a tool, and next all others.
func onToolCall(next http.RoundTripper, first func(*http.Request) (*http.Response, error)) http.RoundTripper {
	met := false
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost && r.ContentLength == int64(len(callLine)) && !met {
			met = true
			return first(r)
		}
		return next.RoundTrip(r)
	})
}

// A request that was written does not end with Config.Patience: its answer may still come. That
// holds without hooks, too.
func TestAWrittenRequestOutlastsThePatience(t *testing.T) {
	for name, wrap := range map[string]func(http.RoundTripper) http.RoundTripper{
		"hooks":    func(next http.RoundTripper) http.RoundTripper { return next },
		"no hooks": withoutHooks,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newObstacle(nil)
				srv := New(t, append(Opening(version), Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
					b.set(down)
					time.Sleep(time.Minute)
					io.WriteString(w, callAnswer)
				}})...)
				h := start(t, Config{Send: wrap(srv.Transport()), Obstacle: b.get})
				h.open()
				synctest.Wait()
				h.send(callLine)
				h.want(callAnswer)
				h.close()
			})
		})
	}
}

// An interim response (RFC 9110, section 15.2) is no refusal. The request goes on: Config.Patience
// does not end it, and the server is told when the host cancels it.
func TestAnInterimResponseIsNoRefusal(t *testing.T) {
	interim := func(b *movedObstacle, then http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusProcessing)
			b.set(down)
			time.Sleep(time.Minute)
			b.set(nil)
			then(w, r)
		}
	}
	t.Run("answered later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			h, _ := open(t, Config{Obstacle: b.get}, Exchange{Call: "tools/call",
				Handle: interim(b, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, callAnswer) })}, Goodbye())
			synctest.Wait()
			h.send(callLine)
			h.want(callAnswer)
			h.close()
		})
	})
	t.Run("cancelled", func(t *testing.T) {
		const notice = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			h, _ := open(t, Config{Obstacle: b.get}, Exchange{Call: "tools/call", Handle: interim(b, Hold)},
				Exchange{Call: "notifications/cancelled", Body: notice}, Goodbye())
			synctest.Wait()
			h.send(callLine)
			time.Sleep(2 * time.Minute)
			h.send(notice)
			synctest.Wait() // the script fails the test if it has not come
			h.close()
		})
	})
}
