package relay

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

// pong answers a ping with its own id, and fails the test if that may be the host's.
func pong(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		id := rawjson.Member(b, "id")
		if !strings.HasPrefix(string(id), `"sallyport-`) {
			t.Errorf("the id is %s", id)
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
	}
}

// An idle session is kept alive by pings that the host does not see, and that ask no person. A
// session that is in use is not.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ping := by("background", "s1", Exchange{Call: "ping", Handle: pong(t)})
		refused := ping
		refused.Handle, refused.Status = nil, 401 // nobody is asked for that
		unknown := ping
		unknown.Handle = func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"m"}}`, rawjson.Member(b, "id"))
		}
		slow := Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(4 * time.Minute)
			io.WriteString(w, callAnswer)
		}}
		h := byRoundTripper(t, Config{KeepAlive: time.Minute}, ping, ping, by("in session", "s1", slow), ping, refused, unknown, by("background", "s1", Exchange{Method: "DELETE"}))
		time.Sleep(59 * time.Second)
		begin := time.Now()
		time.Sleep(63 * time.Second) // two pings
		h.send(callLine)
		h.want(callAnswer) // during which there is none
		if d := time.Since(begin); d != 63*time.Second+4*time.Minute {
			t.Errorf("after %v", d)
		}
		time.Sleep(3*time.Minute + time.Second) // three more
		h.close()
	})
}

// No ping is sent by default, on the modern wire, or while there is an obstacle.
func TestNoKeepAlive(t *testing.T) {
	t.Run("by default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Goodbye())
			synctest.Wait()
			time.Sleep(24 * time.Hour)
			h.close()
		})
	})
	t.Run("obstacle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			h, _ := open(t, Config{KeepAlive: time.Minute, Obstacle: b.get}, Exchange{Call: "ping", Handle: pong(t)}, Goodbye())
			synctest.Wait()
			b.set(down)
			time.Sleep(time.Hour - time.Second)
			b.set(nil)
			time.Sleep(time.Minute)
			h.close()
		})
	})
	t.Run("bridge", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			discovered := Exchange{Call: "server/discover", Reply: `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}`}
			h := start(t, Config{Send: New(t, discovered).Transport(), Load: remembering(modernEra).load, KeepAlive: time.Minute})
			h.open()
			time.Sleep(time.Hour)
			h.close()
		})
	})
}

// A ping that shows the loss of the session leads to a new one, without a person.
func TestPingShowsTheLossOfTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := append([]Exchange{by("background", "s1", Exchange{Call: "ping", Status: 404})}, secondSession("background")...)
		h := byRoundTripper(t, Config{KeepAlive: time.Minute}, append(script,
			by("in session", "s2", Exchange{Call: "tools/call", Reply: callAnswer}), by("background", "s2", Exchange{Method: "DELETE"}))...)
		time.Sleep(61 * time.Second)
		h.send(callLine)
		h.want(callAnswer)
		h.close()
	})
}

// A new session that only a person could open waits until the host asks for something. That also
// holds if the host has joined the renewal.
func TestPersonIsAskedForAHostOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := by("background", "", Exchange{Call: "initialize", Handle: func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Second)
			w.WriteHeader(401)
		}})
		script := append([]Exchange{by("background", "s1", Exchange{Call: "ping", Status: 404}), refused,
			by("in session", "s1", Exchange{Call: "tools/call", Status: 404})}, secondSession("send")...)
		h := byRoundTripper(t, Config{KeepAlive: time.Minute}, append(script,
			by("send", "s2", Exchange{Call: "tools/call", Reply: callAnswer}), by("background", "s2", Exchange{Method: "DELETE"}))...)
		time.Sleep(62 * time.Second)
		h.send(callLine)
		h.want(callAnswer)
		h.close()
	})
}

// A ping without an answer shows that the connection of the GET stream may be dead. The stream is
// asked for again where it broke.
func TestUnansweredPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)[:2]
		script = append(script,
			Exchange{Method: "GET", Handle: Stream("id: 5\ndata:")},
			Exchange{Call: "ping", Handle: Hold},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "5"}, Handle: Stream("data: " + toolsChanged)},
			Exchange{Call: "ping", Handle: pong(t), Repeat: true}, Exchange{Method: "GET", Repeat: true, Handle: Stream()}, Goodbye())
		h := start(t, Config{Send: New(t, script...).Transport(), KeepAlive: time.Minute})
		h.open()
		begin := time.Now()
		h.want(toolsChanged)
		if d := time.Since(begin); d < time.Minute+pingWait || d > time.Minute+pingWait+retryDefault {
			t.Errorf("after %v", d)
		}
		h.close()
	})
}

// With HTTP+SSE the answer comes on the stream. Without an answer the stream is dead, and a new
// session is opened.
func TestKeepAliveOnHTTPSSE(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := make(chan chan string, 2)
		stream := Exchange{Method: "GET", Handle: func(w http.ResponseWriter, r *http.Request) {
			events := make(chan string, 16)
			streams <- events
			Events("event: endpoint\ndata: /messages")(w, r)
			for {
				select {
				case e := <-events:
					Events("data: "+e)(discardHeader{w}, r)
				case <-r.Context().Done():
					return
				}
			}
		}}
		var events chan string
		initialize := Exchange{Call: "initialize", Handle: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(202)
			events = <-streams
			events <- `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2024-11-05","capabilities":{}}}`
		}}
		ping := func(answered bool) Exchange {
			return Exchange{Call: "ping", Path: "/messages", Handle: func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				w.WriteHeader(202)
				if answered {
					events <- fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{}}`, rawjson.Member(b, "id"))
				}
			}}
		}
		opening := []Exchange{stream, initialize, {Call: "notifications/initialized"}}
		script := slices.Concat(opening, []Exchange{ping(true), ping(false)}, opening, []Exchange{{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(202)
			events <- callAnswer
		}}})
		srv := New(t, script...)
		h := start(t, Config{Send: srv.Transport(), Transport: TransportSSE, KeepAlive: time.Minute})
		h.open()
		time.Sleep(2*time.Minute + pingWait + 2*retryDefault)
		if n := count(srv, "POST initialize"); n != 2 {
			t.Errorf("%d sessions", n)
		}
		h.send(callLine)
		h.want(callAnswer)
		h.close()
	})
}

// discardHeader is a ResponseWriter whose header is written already.
type discardHeader struct{ http.ResponseWriter }

func (discardHeader) WriteHeader(int)               {}
func (w discardHeader) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// If the GET stream shows the loss of the session, no person is asked. A call that meets the loss
// meanwhile joins the renewal, and asks a person if that fails.
func TestCallJoinsARenewalWithoutAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breaks := make(chan struct{})
		script := append(Opening(version)[:2],
			by("background", "s1", Exchange{Method: "GET", Handle: func(w http.ResponseWriter, r *http.Request) {
				Events(": open")(w, r)
				<-breaks
			}}),
			by("background", "s1", Exchange{Method: "GET", Status: 404}),
			by("background", "", Exchange{Call: "initialize", Handle: func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(10 * time.Second)
				w.WriteHeader(401)
			}}),
			by("in session", "s1", Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(5 * time.Second)
				w.WriteHeader(404)
			}}))
		script = append(append(script, secondSession("send")...), by("send", "s2", Exchange{Call: "tools/call", Reply: callAnswer}), by("background", "s2", Exchange{Method: "DELETE"}))
		next := New(t, script...).Transport()
		h := start(t, Config{Send: markedBy("send", next), InSession: markedBy("in session", next), Background: markedBy("background", next)})
		h.open()
		synctest.Wait()
		h.send(callLine)
		close(breaks)
		h.want(callAnswer)
		h.close()
	})
}
