package relay

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

// markedBy adds a header to each request that it hands on, so that a script sees which RoundTripper
// was used.
func markedBy(name string, next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		r.Header.Set("By", name)
		return next.RoundTrip(r)
	})
}

// by is e for a request that comes by the named RoundTripper in the session.
func by(name, session string, e Exchange) Exchange {
	e.Header = map[string]string{"By": name, "Mcp-Session-Id": session}
	return e
}

// secondSession is the opening of the session s2 by the named RoundTripper.
func secondSession(name string) []Exchange {
	again := Opening(version)
	again[0] = by(name, "", again[0])
	again[0].Set = map[string]string{"Mcp-Session-Id": "s2"}
	again[1] = by(name, "s2", again[1])
	again[2] = by("background", "s2", again[2])
	return again
}

// byRoundTripper starts a session whose three RoundTrippers mark their requests.
func byRoundTripper(t *testing.T, cfg Config, script ...Exchange) *host {
	t.Helper()
	next := New(t, append(Opening(version), script...)...).Transport()
	cfg.Send, cfg.InSession, cfg.Background = markedBy("send", next), markedBy("in session", next), markedBy("background", next)
	h := start(t, cfg)
	h.open()
	synctest.Wait()
	return h
}

// Some refusals of a request in a session lead to a new session, once for a call. A second refusal
// is the answer.
func TestRefusedInASession(t *testing.T) {
	const (
		tsMissing  = `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}`
		tsUnknown  = `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}`
		tsFresh    = `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}`
		ownID      = `{"jsonrpc":"2.0","id":7,"error":{"code":-32001,"message":"Session not found: s1"}}`
		invalidReq = `{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}`
		appError   = `{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"browser session not found"}}`
		appResult  = `{"jsonrpc":"2.0","id":7,"result":{"isError":true,"content":[{"type":"text","text":"Session not found"}]}}`
	)
	bearer := map[string]string{"WWW-Authenticate": `Negotiate, Bearer error="insufficient_scope", scope="a"`}
	const noRefusal, sessionLost = false, true
	for _, tt := range []struct {
		name    string
		refusal Exchange
		lost    bool
	}{
		{"404", Exchange{Status: 404}, sessionLost},
		{"410", Exchange{Status: 410}, sessionLost},
		{"401", Exchange{Status: 401}, sessionLost},
		{"401 with a challenge", Exchange{Status: 401, Set: map[string]string{"WWW-Authenticate": "Bearer"}}, sessionLost},
		{"401 in words", Exchange{Status: 401, Type: "text/plain", Reply: "Unauthorized: Session not found"}, sessionLost},
		{"400 of an example", Exchange{Status: 400, Reply: tsMissing}, sessionLost},
		{"400 of a server that has started anew", Exchange{Status: 400, Reply: tsFresh}, sessionLost},
		{"400 that asks for the header", Exchange{Status: 400, Type: "text/plain", Reply: "Session ID required in mcp-session-id header"}, sessionLost},
		{"422", Exchange{Status: 422, Reply: `{"error":"Unknown or expired session"}`}, sessionLost},
		{"503 in words", Exchange{Status: 503, Set: map[string]string{"Retry-After": "1"}, Type: "text/plain", Reply: "Unknown session"}, sessionLost},
		{"422 in plain words", Exchange{Status: 422, Type: "text/plain", Reply: "Unknown or expired session"}, sessionLost},
		{"500 in words", Exchange{Status: 500, Type: "text/plain", Reply: "Session not found: s1"}, sessionLost},
		{"200 with the error", Exchange{Reply: ownID}, sessionLost},
		{"200 with the error and no id", Exchange{Reply: tsUnknown}, sessionLost},
		{"stream with the error", Exchange{Handle: Stream("data: " + ownID)}, sessionLost},
		{"404 with the error", Exchange{Status: 404, Reply: invalidReq}, sessionLost},
		{"403 with a challenge", Exchange{Status: 403, Set: bearer}, noRefusal},
		{"403", Exchange{Status: 403}, noRefusal},
		{"500", Exchange{Status: 500, Type: "text/plain", Reply: "the session crashed"}, noRefusal},
		{"429 that speaks of the session", Exchange{Status: 403, Type: "text/plain", Reply: "too many requests in this session, none left"}, noRefusal},
		{"error of a tool", Exchange{Reply: appError}, noRefusal},
		{"result of a tool", Exchange{Reply: appResult}, noRefusal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.refusal.Call = "tools/call"
				script := []Exchange{by("in session", "s1", tt.refusal)}
				session := "s1"
				if tt.lost {
					session = "s2"
					script = append(append(script, secondSession("send")...), by("send", "s2", tt.refusal))
				}
				script = append(script, by("in session", session, Exchange{Call: "ping", Reply: pingAnswer}), by("background", session, Exchange{Method: "DELETE"}))
				h := byRoundTripper(t, Config{}, script...)
				h.send(callLine)
				h.recv()
				h.send(pingLine)
				h.want(pingAnswer)
				h.close()
			})
		})
	}
}

// A call whose session is lost by a 401 waits for the person as long as for any obstacle, and the
// making of the new session goes on for as long as the person takes.
func TestSessionLostBy401WaitsForThePerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signIn := &Obstacle{Kind: KindSignIn, Text: "a person is to sign in", URL: "https://as.test/"}
		b := newObstacle(nil)
		next := New(t, append(append(Opening(version), by("in session", "s1", Exchange{Call: "tools/call", Status: 401})),
			append(secondSession("send"), by("in session", "s2", Exchange{Call: "tools/call", Reply: callAnswer}), by("background", "s2", Exchange{Method: "DELETE"}))...)...).Transport()
		var initializes atomic.Int32
		send := roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.ContentLength == int64(len(initLine)) && initializes.Add(1) == 2 {
				b.set(signIn)
				_, changed := b.get()
				<-changed
			}
			return markedBy("send", next).RoundTrip(r)
		})
		h := start(t, Config{Send: send, InSession: markedBy("in session", next), Background: markedBy("background", next), Obstacle: b.get})
		h.open()
		synctest.Wait()
		begin := time.Now()
		h.send(callLine)
		if a := decode(t, h.recv()); a.Error.Data.Kind != KindSignIn || a.Error.Data.URL != signIn.URL || time.Since(begin) != 25*time.Second {
			t.Errorf("after %v: %+v", time.Since(begin), a)
		}
		time.Sleep(time.Hour)
		b.set(nil)
		h.send(callLine)
		h.want(callAnswer)
		h.close()
	})
}

// A notification that is refused in its session is sent again in the new one, by Send.
func TestNotificationRefusedInASession(t *testing.T) {
	const line = `{"jsonrpc":"2.0","method":"notifications/x"}`
	synctest.Test(t, func(t *testing.T) {
		script := append([]Exchange{by("in session", "s1", Exchange{Call: "notifications/x", Status: 401})}, secondSession("send")...)
		h := byRoundTripper(t, Config{}, append(script, by("send", "s2", Exchange{Call: "notifications/x", Body: line}), by("background", "s2", Exchange{Method: "DELETE"}))...)
		h.send(line)
		synctest.Wait()
		h.close()
	})
}

// Where the new session is refused as well, the refusal is the answer, and the session goes on.
func TestNewSessionRefused(t *testing.T) {
	for name, refused := range map[string]struct {
		send http.RoundTripper
		want string
	}{
		"by status": {nil, "upstream answered with status 401 Unauthorized"},
		"by Send":   {roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("nobody signs in") }), "nobody signs in"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				script := append(Opening(version), by("in session", "s1", Exchange{Call: "tools/call", Status: 401}))
				if refused.send == nil {
					script = append(script, Exchange{Call: "initialize", Status: 401})
				}
				script = append(append(script, by("in session", "s1", Exchange{Call: "tools/call", Status: 401})), secondSession("send")...)
				script = append(script, by("send", "s2", Exchange{Call: "tools/call", Reply: callAnswer}), by("background", "s2", Exchange{Method: "DELETE"}))
				next := New(t, script...).Transport()
				initializes := 0
				send := roundTrip(func(r *http.Request) (*http.Response, error) {
					if r.ContentLength == int64(len(initLine)) {
						if initializes++; initializes == 2 && refused.send != nil {
							return refused.send.RoundTrip(r)
						}
					}
					return markedBy("send", next).RoundTrip(r)
				})
				h := start(t, Config{Send: send, InSession: markedBy("in session", next), Background: markedBy("background", next),
					Explain: func(error) Explanation { return Explanation{NotRun: true} }})
				h.open()
				synctest.Wait()
				h.send(callLine)
				if a := decode(t, h.recv()); a.Error.Message != refused.want {
					t.Errorf("got %+v", a)
				}
				h.send(callLine)
				h.want(callAnswer)
				h.close()
			})
		})
	}
}

// What servers say of a session that they do not know, and what is about something else.
func TestSaysUnknownSession(t *testing.T) {
	for words, want := range map[string]bool{
		"Session not found":                           true,
		"session not found":                           true,
		"Session not found: 0af1":                     true,
		"Unauthorized: Session not found":             true,
		"Invalid or expired session ID":               true,
		"Error: invalid session.":                     true,
		"No active session for the given session id":  true,
		"Session has expired":                         true,
		"Session terminated":                          true,
		"The session does not exist":                  true,
		"MCP session is closed":                       true,
		"Mcp-Session-Id header is required":           true,
		"Bad Request: Mcp-Session-Id header required": true,
		"unknown mcp-session-id":                      true,
		"browser session not found":                   false,
		"Your database session has expired":           false,
		"tool not found":                              false,
		"session opened":                              false,
		"the session is busy":                         false,
		"":                                            false,
	} {
		if got := saysUnknownSession(words); got != want {
			t.Errorf("%q: got %v, want %v", words, got, want)
		}
	}
	for words, want := range map[string]bool{
		"Bad Request: Server not initialized":                    true,
		"Received request before initialization was complete":    true,
		"the server has not been initialized":                    true,
		"the table has not been initialized":                     false,
		strings.Repeat("x", 100) + " Session is not initialized": true,
	} {
		if got := saysNotInitialized(words); got != want {
			t.Errorf("%q: got %v, want %v", words, got, want)
		}
	}
}

// A server may answer 401 to one kind of request whatever the session. One new session shows that,
// and later requests of that kind cost a ping. When the session is really lost, a new one is made.
func TestRefusedKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := Exchange{Call: "tools/call", Status: 401}
		ping := Exchange{Call: "ping", Reply: pingAnswer}
		script := append([]Exchange{by("in session", "s1", bad)}, secondSession("send")...)
		script = append(script, by("send", "s2", bad), // one new session has not helped
			by("in session", "s2", bad), by("in session", "s2", ping),
			by("in session", "s2", bad), by("in session", "s2", Exchange{Call: "ping", Status: 401}))
		third := secondSession("send")
		third[0].Set = map[string]string{"Mcp-Session-Id": "s3"}
		for i := range third[1:] {
			third[i+1].Header["Mcp-Session-Id"] = "s3"
		}
		script = append(append(script, third...), by("send", "s3", Exchange{Call: "tools/call", Reply: callAnswer}),
			by("background", "s3", Exchange{Method: "DELETE"}))
		h := byRoundTripper(t, Config{}, script...)
		for range 2 {
			h.send(callLine)
			if a := decode(t, h.recv()); a.Error.Data.Status != 401 {
				t.Errorf("got %+v", a)
			}
		}
		h.send(callLine)
		h.want(callAnswer)
		h.close()
	})
}

// A session may be bound to the token that it was opened with. A bare 403 for another token leads
// to a new session, unless the server takes a ping in the old one.
func TestForbiddenWithAnotherToken(t *testing.T) {
	for name, bound := range map[string]bool{"the session is bound": true, "the call is forbidden": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				forbidden := Exchange{Call: "tools/call", Status: 403}
				script := []Exchange{by("in session", "s1", forbidden), by("in session", "s1", forbidden)}
				session := "s1"
				if ping := by("in session", "s1", Exchange{Call: "ping", Reply: pingAnswer}); bound {
					ping.Status, ping.Reply, session = 403, "", "s2"
					script = append(append(append(script, ping), secondSession("send")...), by("send", "s2", Exchange{Call: "tools/call", Reply: callAnswer}))
				} else {
					script = append(script, ping)
				}
				token := "old"
				next := New(t, append(append(Opening(version), script...), by("background", session, Exchange{Method: "DELETE"}))...).Transport()
				with := func(by string) http.RoundTripper {
					return roundTrip(func(r *http.Request) (*http.Response, error) {
						r = r.Clone(r.Context())
						r.Header.Set("Authorization", token)
						resp, err := markedBy(by, next).RoundTrip(r)
						if err == nil {
							resp.Request = r
						}
						return resp, err
					})
				}
				h := start(t, Config{Send: with("send"), InSession: with("in session"), Background: with("background")})
				h.open()
				synctest.Wait()
				h.send(callLine)
				if a := decode(t, h.recv()); a.Error.Data.Status != 403 {
					t.Errorf("the token of the session: got %+v", a)
				}
				token = "new"
				h.send(callLine)
				if bound {
					h.want(callAnswer)
				} else if a := decode(t, h.recv()); a.Error.Data.Status != 403 {
					t.Errorf("another token: got %+v", a)
				}
				h.close()
			})
		})
	}
}
