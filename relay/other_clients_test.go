package relay

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

// The tests in this file are for faults that other clients and bridges were reported to have.

// checked looks at each request before it goes on.
func checked(next http.RoundTripper, check func(r *http.Request)) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		check(r)
		return next.RoundTrip(r)
	})
}

// Every request has the headers of the user, the query of the URL, and the headers of the protocol:
// also the second attempt, a call of a tool, a notification, the GET stream and the DELETE. Clients
// were seen to leave out Authorization on calls of tools, and Accept on everything, which strict
// servers refuse with 406.
func TestEveryRequestIsComplete(t *testing.T) {
	check := func(t *testing.T) func(r *http.Request) {
		return func(r *http.Request) {
			accept := map[string]string{"POST": "application/json, text/event-stream", "GET": "text/event-stream"}[r.Method]
			if got := r.Header.Get("Authorization"); got != "Bearer own" {
				t.Errorf("%s %s: Authorization %q", r.Method, r.URL, got)
			}
			if got := r.Header.Get("Accept"); accept != "" && got != accept {
				t.Errorf("%s %s: Accept %q", r.Method, r.URL, got)
			}
			if got := r.Header.Get("Content-Type"); r.Method == "POST" && got != "application/json" {
				t.Errorf("%s %s: Content-Type %q", r.Method, r.URL, got)
			}
			if got := r.URL.RawQuery; got != "key=a%2Fb&x=%20" && !strings.HasPrefix(r.URL.Path, "/messages") {
				t.Errorf("%s %s: query %q", r.Method, r.URL, got)
			}
		}
	}
	config := func(t *testing.T, next http.RoundTripper) Config {
		return Config{Send: checked(next, check(t)), URL: mustURL(URL + "?key=a%2Fb&x=%20"), Header: http.Header{"Authorization": {"Bearer own"}}}
	}
	const note = `{"jsonrpc":"2.0","method":"notifications/x"}`
	t.Run("legacy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			again := secondSession("")
			for i := range again {
				again[i].Header = nil
			}
			script := append(Opening(version), busy("tools/call", 429, "1"), Exchange{Call: "tools/call", Status: 404})
			script = append(append(script, again...), Exchange{Call: "tools/call", Handle: Events("id: 1\ndata:")},
				Exchange{Method: "GET", Handle: Events("data: " + callAnswer)}, Exchange{Call: "notifications/x"},
				Exchange{Call: ResponseCall}, Exchange{Method: "DELETE"})
			h := start(t, config(t, New(t, script...).Transport()))
			h.open()
			synctest.Wait()
			h.send(callLine)
			h.want(callAnswer)
			h.send(note)
			h.send(`{"jsonrpc":"2.0","id":"q","result":{}}`)
			synctest.Wait()
			h.close()
		})
	})
	t.Run("modern", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := New(t, Exchange{Call: "server/discover", Reply: `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28"]}}`},
				busy("tools/call", 503, "1"), Exchange{Call: "tools/call", Reply: callAnswer}, Exchange{Call: "notifications/x"})
			cfg := config(t, srv.Transport())
			cfg.Load = remembering(unknownEra).load
			h := start(t, cfg)
			h.send(toolLine)
			h.want(callAnswer)
			h.send(note)
			synctest.Wait()
			h.close()
		})
	})
}

// The refusal of the GET stream is no fault of the session, whatever it looks like. A client was
// seen to give the whole server up for a 405.
func TestServerStreamRefusedInAnyWay(t *testing.T) {
	for name, refusal := range map[string]Exchange{
		"400": {Status: 400}, "404": {Status: 404}, "405": {Status: 405}, "405 page": {Status: 405, Type: "text/html", Reply: "<html>"}, "406": {Status: 406},
		"403": {Status: 403}, "409": {Status: 409}, "501": {Status: 501}, "200 without a body": {Status: 200}, "204": {Status: 204}, "200 page": {Type: "text/html", Reply: "<html>"},
		"200 JSON":      {Reply: `{"status":"ok"}`},
		"400 of an SDK": {Status: 400, Reply: `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Session ID required"},"id":null}`},
		"302":           {Status: 302, Set: map[string]string{"Location": "https://a.test/login"}}, "closed": {Handle: Cut("")},
		"401": {Status: 401}, "429": {Status: 429}, "500": {Status: 500}, "503": {Status: 503}, "empty stream": {Handle: Events()}, "silent": {Handle: Hold},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refusal.Method, refusal.Repeat = "GET", true
				script := append(Opening(version)[:2], refusal, Exchange{Call: "tools/call", Reply: callAnswer}, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())
				srv := New(t, script...)
				h := start(t, Config{Send: srv.Transport()})
				h.open()
				begin := time.Now()
				h.send(callLine)
				h.want(callAnswer)
				if d := time.Since(begin); d > streamOpenWait {
					t.Errorf("after %v", d)
				}
				time.Sleep(10 * time.Minute)
				h.send(callLine)
				h.want(callAnswer)
				if n := count(srv, "GET"); n > 60 {
					t.Errorf("asked for %d times in ten minutes", n)
				}
				h.close()
			})
		})
	}
}

// An answer to a call that the host has cancelled never reaches the host, however it comes. A host
// was seen to break off the session for such an answer.
func TestLateAnswerToACancelledCall(t *testing.T) {
	const cancel = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`
	t.Run("on its own stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(time.Second)
				Events("data: "+callAnswer)(w, r)
			}}, Exchange{Call: "notifications/cancelled"}, Goodbye())
			synctest.Wait()
			h.send(callLine)
			synctest.Wait()
			h.send(cancel)
			time.Sleep(5 * time.Second)
			h.close()
		})
	})
	t.Run("on the GET stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			late := make(chan struct{})
			script := append(Opening(version)[:2], Exchange{Method: "GET", Handle: func(w http.ResponseWriter, r *http.Request) {
				Events()(w, r)
				<-late
				Events("data: "+callAnswer)(discardHeader{w}, r)
				<-r.Context().Done()
			}}, Exchange{Call: "tools/call", Handle: Hold}, Exchange{Call: "notifications/cancelled"}, Goodbye())
			h := start(t, Config{Send: New(t, script...).Transport()})
			h.open()
			synctest.Wait()
			h.send(callLine)
			synctest.Wait()
			h.send(cancel)
			synctest.Wait()
			close(late)
			time.Sleep(5 * time.Second)
			h.close()
		})
	})
	t.Run("HTTP+SSE", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := openPush(t, Exchange{Call: "tools/call"}, Exchange{Call: "notifications/cancelled", Reply: callAnswer})
			h.send(callLine)
			synctest.Wait()
			h.send(cancel)
			time.Sleep(5 * time.Second)
			h.close()
		})
	})
}

// Any success is taken for the acceptance of a notification.
func TestNotificationAcceptedInAnyWay(t *testing.T) {
	for name, e := range map[string]Exchange{
		"202": {}, "200": {Status: 200}, "204": {Status: 204}, "201": {Status: 201}, "202 JSON": {Status: 202, Reply: "{}"}, "200 null": {Reply: "null"},
		"200 text": {Type: "text/plain", Reply: "Accepted"}, "200 page": {Type: "text/html", Reply: "<html>"}, "200 answer": {Reply: `{"jsonrpc":"2.0","id":null,"result":{}}`},
		"empty stream": {Handle: Events()}, "stream with a comment": {Handle: Events(": ok")}, "stream that stays open": {Handle: Stream()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				script := Opening(version)
				e.Call = "notifications/initialized"
				script[1] = e
				h := start(t, Config{Send: New(t, append(script, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())...).Transport()})
				h.open()
				begin := time.Now()
				h.send(callLine)
				h.want(callAnswer)
				if d := time.Since(begin); d != 0 {
					t.Errorf("after %v", d)
				}
				h.close()
			})
		})
	}
}

// Answers in unusual forms are taken, even if they are slightly wrong.
func TestAnswersInUnusualForms(t *testing.T) {
	raw := func(mediaType, body string) Exchange {
		return Exchange{Handle: func(w http.ResponseWriter, r *http.Request) {
			if mediaType != "" {
				w.Header().Set("Content-Type", mediaType)
			} else {
				w.Header()["Content-Type"] = nil
			}
			io.WriteString(w, body)
		}}
	}
	const stream, note = "text/event-stream", `{"jsonrpc":"2.0","method":"notifications/x"}`
	for name, tt := range map[string]struct {
		e     Exchange
		notes int
	}{
		"charset":                   {raw("application/json; charset=utf-8", callAnswer), 0},
		"charset in capitals":       {raw("Application/JSON;Charset=UTF-8", callAnswer), 0},
		"JSON-RPC's own type":       {raw("application/json-rpc", callAnswer), 0},
		"no type":                   {raw("", callAnswer), 0},
		"byte order mark":           {raw("application/json", "\ufeff"+callAnswer), 0},
		"white space around":        {raw("application/json", "\r\n\t "+callAnswer+"\r\n\r\n"), 0},
		"stream with charset":       {raw("text/event-stream;charset=UTF-8", "data: "+callAnswer+"\n\n"), 0},
		"stream in capitals":        {raw("Text/Event-Stream", "data: "+callAnswer+"\n\n"), 0},
		"stream with a mark":        {raw(stream, "\ufeffdata: "+callAnswer+"\n\n"), 0},
		"CRLF":                      {raw(stream, "event: message\r\ndata: "+callAnswer+"\r\n\r\n"), 0},
		"CR":                        {raw(stream, "event: message\rdata: "+callAnswer+"\r\r"), 0},
		"no space":                  {raw(stream, "event:message\ndata:"+callAnswer+"\n\n"), 0},
		"comments between":          {raw(stream, ": ping\n\n:\n\n: keep-alive\n\ndata: "+note+"\n\n: x\ndata: "+callAnswer+"\n\n"), 1},
		"events to keep it alive":   {raw(stream, "event: ping\ndata: {}\n\nevent: heartbeat\ndata: 1\n\ndata:\n\ndata: "+callAnswer+"\n\n"), 0},
		"unknown fields":            {raw(stream, "foo: bar\nfoo\nretry: x\ndata: "+callAnswer+"\n\n"), 0},
		"id and retry only":         {raw(stream, "id: 1\nretry: 3000\n\nid: 2\ndata: "+callAnswer+"\n\n"), 0},
		"data in many lines":        {raw(stream, "data: {\"jsonrpc\":\"2.0\",\ndata: \"id\":7,\ndata: \"result\":{\"content\":[]}}\n\n"), 0},
		"answer before a note":      {raw(stream, "data: "+callAnswer+"\n\ndata: "+note+"\n\n"), 1},
		"the id spelled otherwise":  {raw("application/json", strings.Replace(callAnswer, `"id":7`, `"id":7.0`, 1)), 0},
		"batch of one":              {raw("application/json", "["+callAnswer+"]"), 0},
		"batch in an event":         {raw(stream, "data: ["+note+","+callAnswer+"]\n\n"), 1},
		"status 201":                {Exchange{Status: 201, Reply: callAnswer}, 0},
		"an answer with status 400": {Exchange{Status: 400, Reply: callAnswer}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.e.Call = "tools/call"
				h, _ := open(t, Config{}, tt.e, Goodbye())
				synctest.Wait()
				h.send(callLine)
				var got []string
				for range tt.notes + 1 {
					got = append(got, strings.Replace(h.recv(), "7.0", "7", 1))
				}
				want := append(slices.Repeat([]string{note}, tt.notes), callAnswer)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
				h.close()
			})
		})
	}
}

// A ping of the server reaches the host, and the host's answer the server, on the GET stream, on a
// call's stream and on that of HTTP+SSE.
func TestPingOfTheServer(t *testing.T) {
	const ping, answer = `{"jsonrpc":"2.0","id":0,"method":"ping"}`, `{"jsonrpc":"2.0","id":0,"result":{}}`
	play := func(t *testing.T, h *host) {
		h.want(ping)
		h.send(answer)
		synctest.Wait()
	}
	t.Run("GET stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			script := append(Opening(version)[:2], Exchange{Method: "GET", Handle: Stream("data: " + ping)}, Exchange{Call: ResponseCall, Body: answer}, Goodbye())
			h := start(t, Config{Send: New(t, script...).Transport()})
			h.open()
			play(t, h)
			h.close()
		})
	})
	t.Run("call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: Events("data: "+ping, "data: "+callAnswer)}, Exchange{Call: ResponseCall, Body: answer}, Goodbye())
			h.send(callLine)
			h.want(ping)
			h.want(callAnswer)
			h.send(answer)
			synctest.Wait()
			h.close()
		})
	})
	t.Run("HTTP+SSE", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := openPush(t, Exchange{Call: "notifications/x", Reply: ping}, Exchange{Call: ResponseCall, Body: answer})
			h.send(`{"jsonrpc":"2.0","method":"notifications/x"}`)
			play(t, h)
			h.close()
		})
	})
}
