package relay

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

// initialize, initialized, the GET stream and the first call reach the server in this order however
// slow it is; the answer to a server's request does not wait for initialized.
func TestOrder(t *testing.T) {
	const roots = `{"jsonrpc":"2.0","id":1,"method":"roots/list"}`
	const rootsAnswer = `{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}`
	synctest.Test(t, func(t *testing.T) {
		answered := make(chan struct{})
		script := Opening(version)
		script[1].Handle = func(w http.ResponseWriter, r *http.Request) {
			Events("data: "+roots)(w, r)
			<-answered
		}
		script[2].Handle = func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Second); w.WriteHeader(405) }
		srv := New(t, append(script, Exchange{Call: ResponseCall, Body: rootsAnswer, Handle: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(202)
			close(answered)
		}}, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
		h := start(t, Config{Send: srv.Transport()})
		h.send(initLine)
		h.send(initializedLine)
		h.send(callLine)
		h.recv()
		h.want(roots)
		h.send(rootsAnswer)
		h.want(callAnswer)
		h.close()
		got := slices.DeleteFunc(srv.Seen(), func(s string) bool { return s == "POST "+ResponseCall })
		want := []string{"POST initialize", "POST notifications/initialized", "GET", "POST tools/call", "DELETE"}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestSlowCallHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: Hold}, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
		h.send(callLine)
		h.send(pingLine)
		h.want(pingAnswer)
		begin := time.Now()
		h.in.Close()
		if a := decode(t, h.recv()); a.Error.Data.Kind != "closed" {
			t.Errorf("got %+v", a)
		}
		if err := h.close(); err != nil || time.Since(begin) > 2*time.Second {
			t.Errorf("Run after %v: %v", time.Since(begin), err)
		}
	})
}

// While a new session is made, nothing overtakes its initialized and its GET stream: neither a call
// that comes from the host nor one that meets the 404 late. The answer to a question of the server
// does not wait, for initialized may wait for it.
func TestOrderAfterSessionLost(t *testing.T) {
	const roots = `{"jsonrpc":"2.0","id":1,"method":"roots/list"}`
	const rootsAnswer = `{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}`
	synctest.Test(t, func(t *testing.T) {
		late, answered, proceed := make(chan struct{}), make(chan struct{}), make(chan struct{})
		again := Opening(version)
		again[0].Set = map[string]string{"Mcp-Session-Id": "s2"}
		second := map[string]string{"Mcp-Session-Id": "s2", "Mcp-Protocol-Version": version}
		again[1].Header, again[2].Header = second, second
		again[1].Handle = func(w http.ResponseWriter, r *http.Request) {
			Events("data: "+roots)(w, r)
			<-answered
		}
		again[2].Handle = func(w http.ResponseWriter, r *http.Request) { <-proceed; w.WriteHeader(405) }
		h, srv := open(t, Config{}, append(again,
			Exchange{Call: "late", Header: map[string]string{"Mcp-Session-Id": "s1"}, Handle: func(w http.ResponseWriter, r *http.Request) {
				<-late
				w.WriteHeader(404)
			}},
			Exchange{Call: "tools/call", Header: map[string]string{"Mcp-Session-Id": "s1"}, Status: 404},
			Exchange{Call: ResponseCall, Header: second, Body: rootsAnswer, Handle: func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(202)
				close(answered)
			}},
			Exchange{Call: "late", Header: second, Reply: `{"jsonrpc":"2.0","id":1,"result":{}}`},
			Exchange{Call: "tools/call", Header: second, Reply: callAnswer},
			Exchange{Call: "ping", Header: second, Reply: pingAnswer},
			Exchange{Call: "notifications/x", Header: second},
			Exchange{Method: "DELETE", Header: second})...)
		h.send(`{"jsonrpc":"2.0","id":1,"method":"late"}`)
		synctest.Wait()
		h.send(callLine)
		h.want(roots) // initialized is on its way now
		h.send(pingLine)
		h.send(`{"jsonrpc":"2.0","method":"notifications/x"}`)
		close(late)
		synctest.Wait()
		h.send(rootsAnswer)
		synctest.Wait()
		close(proceed)
		for range 3 {
			if line := h.recv(); !strings.Contains(line, `"result"`) {
				t.Errorf("got %s", line)
			}
		}
		synctest.Wait()
		seen := srv.Seen()
		i := slices.Index(seen[3:], "POST initialize") + 3
		got := slices.DeleteFunc(seen[i:], func(s string) bool { return s == "POST "+ResponseCall })
		if want := []string{"POST initialize", "POST notifications/initialized", "GET"}; len(got) != 7 || !slices.Equal(got[:3], want) {
			t.Errorf("got %v, want %v first", got, want)
		}
		h.close()
	})
}

// A notification that the server does not accept holds up later messages for a while only; one that
// an obstacle keeps here keeps its place.
func TestStuckNotification(t *testing.T) {
	for _, name := range []string{"notifications/initialized", "notifications/x"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				script := Opening(version)
				if name == "notifications/initialized" {
					script[1].Handle = Hold
				} else {
					script = append(script, Exchange{Call: name, Handle: Hold})
				}
				srv := New(t, append(script, Exchange{Call: "notifications/y"}, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
				h := start(t, Config{Send: srv.Transport()})
				h.open()
				synctest.Wait()
				begin := time.Now()
				if name != "notifications/initialized" {
					h.send(`{"jsonrpc":"2.0","method":"` + name + `"}`)
				}
				h.send(`{"jsonrpc":"2.0","method":"notifications/y"}`)
				if name == "notifications/initialized" {
					h.send(callLine)
					h.want(callAnswer)
				} else {
					time.Sleep(acceptWait - time.Nanosecond)
					synctest.Wait()
					if slices.Contains(srv.Seen(), "POST notifications/y") {
						t.Error("notifications/y went too early")
					}
					time.Sleep(time.Nanosecond)
					h.send(callLine)
					h.want(callAnswer)
				}
				synctest.Wait()
				if d := time.Since(begin); d != acceptWait || !slices.Contains(srv.Seen(), "POST notifications/y") {
					t.Errorf("after %v: seen %v", d, srv.Seen())
				}
				h.close()
			})
		})
	}
	t.Run("obstacle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newObstacle(nil)
			srv := New(t, append(Opening(version), Exchange{Call: "notifications/x", Handle: func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(time.Second)
				w.WriteHeader(202)
			}}, Exchange{Call: "notifications/y"}, Goodbye())...)
			h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get})
			h.open()
			synctest.Wait()
			b.set(down)
			h.send(`{"jsonrpc":"2.0","method":"notifications/x"}`)
			h.send(`{"jsonrpc":"2.0","method":"notifications/y"}`)
			time.Sleep(10 * acceptWait)
			b.set(nil)
			synctest.Wait()
			if got := srv.Seen(); got[len(got)-1] != "POST notifications/x" {
				t.Errorf("seen %v", got)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if got := srv.Seen(); got[len(got)-1] != "POST notifications/y" {
				t.Errorf("seen %v", got)
			}
			h.close()
		})
	})
}

// The predecessor let notifications/initialized race the first request.
func TestInitializedComesBeforeTheFirstCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)
		script[1].Handle = func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second) // the slower it is, the surer the race
			w.WriteHeader(http.StatusAccepted)
		}
		srv := New(t, append(script, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...)
		h := start(t, Config{Send: srv.Transport()})
		h.open()
		h.send(callLine)
		time.Sleep(time.Second / 2)
		synctest.Wait()
		for _, seen := range srv.Seen() {
			if seen == "POST tools/call" {
				t.Error("the call went before initialized was accepted")
			}
		}
		h.want(callAnswer)
		h.close()
	})
}
