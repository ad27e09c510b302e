package relay

import (
	"errors"
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

func TestDiscoverBeforeInitializeIsRefusedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := New(t, append(Opening(version), Goodbye())...)
		h := start(t, Config{Send: srv.Transport()})
		h.send(`{"jsonrpc":"2.0","id":1,"method":"server/discover"}`)
		if a := decode(t, h.recv()); a.Error.Code != -32601 {
			t.Errorf("got %+v", a)
		}
		h.open()
		h.close()
	})
}

// The server's answer to server/discover decides, for a host of either kind, and what was learnt is
// saved.
func TestEra(t *testing.T) {
	const accepts = `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{}}}`
	const refuses = `{"jsonrpc":"2.0","id":"sallyport-1","error":{"code":%d,"message":"m","data":{"supported":["%s"]}}}`
	for _, tt := range []struct {
		name   string
		script []Exchange // answers to the probe
		want   era
	}{
		{"discovered", []Exchange{{Reply: accepts}}, modernEra},
		{"only older versions", []Exchange{{Reply: strings.Replace(accepts, `"2026-07-28",`, "", 1)}}, legacyEra},
		{"discovered at the second attempt", []Exchange{{Status: 400, Reply: fmt.Sprintf(refuses, codeVersion, "2026-07-28")},
			{Reply: strings.Replace(accepts, "-1", "-2", 1)}}, modernEra},
		{"another version", []Exchange{{Status: 400, Reply: fmt.Sprintf(refuses, codeVersion, "2025-11-25")}}, legacyEra},
		{"error in a 200", []Exchange{{Reply: fmt.Sprintf(refuses, codeNoMethod, "")}}, legacyEra},
		{"other error", []Exchange{{Status: 400, Reply: `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: no session"}}`}}, legacyEra},
		{"page", []Exchange{{Status: 404, Type: "text/html", Reply: "<html>"}}, legacyEra},
		{"nothing", []Exchange{{Status: 405}}, legacyEra},
		{"accepted like a notification", []Exchange{{Status: 202}}, legacyEra},
	} {
		for i := range tt.script {
			tt.script[i].Call = "server/discover"
		}
		t.Run(tt.name+"/legacy host", func(t *testing.T) {
			mem := remembering(unknownEra)
			script := slices.Clone(tt.script)
			if tt.want == legacyEra {
				script = append(append(script, Opening(version)...), Goodbye())
			}
			play2026(t, mem, script, func(t *testing.T, h *host, srv *Server) { h.open(); synctest.Wait() })
			if got := mem.era(); got != string(tt.want) {
				t.Errorf("saved %q, want %q", got, tt.want)
			}
		})
		t.Run(tt.name+"/modern host", func(t *testing.T) {
			mem := remembering(unknownEra)
			script := slices.Clone(tt.script)
			if tt.want == modernEra {
				script = append(script, Exchange{Call: "server/discover", Body: discoverLine, Reply: `{"jsonrpc":"2.0","id":"d","result":{}}`})
			}
			play2026(t, mem, script, func(t *testing.T, h *host, srv *Server) {
				h.send(discoverLine)
				got := h.recv()
				if modern := strings.Contains(got, `"result"`); modern != (tt.want == modernEra) {
					t.Errorf("got %s", got)
				} else if !modern && decode(t, got).Error.Code != codeNoMethod {
					t.Errorf("the error is taken for a modern one: %s", got)
				}
			})
		})
	}
}

// A server that does not answer is given up on after a while, and the host's initialize goes on.
func TestEraOfASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := remembering(unknownEra)
		srv := New(t, append(append([]Exchange{{Call: "server/discover", Handle: Hold}}, Opening(version)...), Goodbye())...)
		h := start(t, Config{Send: srv.Transport(), Load: mem.load, Save: mem.save})
		h.open() // the host is answered early
		time.Sleep(acceptWait)
		h.in.Close()
		if err := <-h.result; err != nil || mem.era() != string(legacyEra) {
			t.Errorf("Run: %v, saved %q", err, mem.era())
		}
	})
}

// What says nothing of the protocol is not taken for an answer: a legacy host's initialize goes on,
// and nothing is saved.
func TestEraUnknown(t *testing.T) {
	for _, status := range []int{401, 403, 500} {
		mem := remembering(unknownEra)
		play2026(t, mem, []Exchange{{Call: "server/discover", Status: status}, {Call: "initialize", Status: status}},
			func(t *testing.T, h *host, srv *Server) {
				h.send(initLine)
				if a := decode(t, h.recv()); a.Error.Data.Status != status {
					t.Errorf("got %+v", a)
				}
			})
		play2026(t, mem, []Exchange{{Call: "server/discover", Status: status}}, func(t *testing.T, h *host, srv *Server) {
			h.send(discoverLine)
			if a := decode(t, h.recv()); a.Error.Data.Status != status {
				t.Errorf("modern host: got %+v", a)
			}
		})
		if mem.era() != "" {
			t.Errorf("%d: saved %q", status, mem.era())
		}
	}
}

func TestRememberedEra(t *testing.T) {
	discovered := Exchange{Call: "server/discover", Reply: `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}`}
	refused := Exchange{Call: "server/discover", Status: 400}
	modernRefusal := fmt.Sprintf(`{"jsonrpc":"2.0","id":0,"error":{"code":%d,"message":"no version"}}`, codeHeaderMismatch)
	call := request2026("tools/call", `"name":"x"`)
	for _, tt := range []struct {
		name, line, want string // what the host sends and a part of the answer
		before, after    era
		script           []Exchange
	}{
		{"modern, and so it is", call, callAnswer, modernEra, modernEra, []Exchange{{Call: "tools/call", Reply: callAnswer}}},
		{"modern, but no longer", call, "-32601", modernEra, modernEra, []Exchange{{Call: "tools/call", Status: 400}, refused}},
		{"modern, and this was another refusal", call, `"status":400`, modernEra, modernEra, []Exchange{{Call: "tools/call", Status: 400}, discovered, {Call: "tools/call", Status: 400}}},
		{"modern, but no longer, for a legacy host", initLine, `"serverInfo"`, modernEra, legacyEra,
			append([]Exchange{refused}, append(Opening(version)[:1], Goodbye())...)},
		{"legacy, but no longer", initLine, `"protocolVersion":"2025-11-25"`, legacyEra, modernEra,
			[]Exchange{{Call: "initialize", Status: 400, Reply: modernRefusal}, discovered}},
		{"legacy, and this was another refusal", initLine, `"no version"`, legacyEra, legacyEra,
			[]Exchange{{Call: "initialize", Status: 400, Reply: modernRefusal}, refused}},
		{"legacy, and the host asks", discoverLine, "-32601", legacyEra, legacyEra, nil},
		{"legacy, and the host knows nothing else", call, callAnswer, legacyEra, modernEra, []Exchange{discovered, {Call: "tools/call", Reply: callAnswer}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mem := remembering(tt.before)
			play2026(t, mem, tt.script, func(t *testing.T, h *host, srv *Server) {
				h.send(tt.line)
				if got := h.recv(); !strings.Contains(got, tt.want) {
					t.Errorf("got %s\nwant %s", got, tt.want)
				}
				synctest.Wait()
			})
			if got := mem.era(); got != string(tt.after) {
				t.Errorf("saved %q, want %q", got, tt.after)
			}
		})
	}
}

// Only an origin never seen is asked, and requests that come together share one question.
func TestProbeOnce(t *testing.T) {
	mem := remembering(unknownEra)
	discovered := Exchange{Call: "server/discover", Handle: func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Second)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28"]}}`)
	}}
	answer := Exchange{Call: "tools/call", Repeat: true, Handle: func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{}}`, rawjson.Member(b, "id"))
	}}
	for _, script := range [][]Exchange{{discovered, answer}, {answer}} {
		play2026(t, mem, script, func(t *testing.T, h *host, srv *Server) {
			for i := range 10 {
				h.send(strings.Replace(request2026("tools/call", `"name":"x"`), `"id":7`, fmt.Sprint(`"id":`, i), 1))
			}
			for range 10 {
				if got := h.recv(); !strings.Contains(got, `"result"`) {
					t.Errorf("got %s", got)
				}
			}
		})
	}
}

// Whatever a gateway makes of server/discover, initialize is tried, and what opens the session is
// remembered. The next session does not ask.
func TestEraBehindAGateway(t *testing.T) {
	page := func(status int) Exchange {
		return Exchange{Status: status, Type: "text/html", Reply: "<html>not here</html>"}
	}
	to := func(status int, where string) Exchange {
		return Exchange{Status: status, Set: map[string]string{"Location": where}}
	}
	cut := func(raw string) Exchange { return Exchange{Handle: Cut(raw)} }
	for name, answer := range map[string]Exchange{
		"400 page": page(400), "401": {Status: 401}, "401 page": page(401), "403 page": page(403), "404 page": page(404), "405": {Status: 405},
		"406": {Status: 406}, "407": {Status: 407}, "408": {Status: 408}, "411": {Status: 411}, "415 page": page(415), "421": {Status: 421}, "422": {Status: 422},
		"426": {Status: 426}, "429": {Status: 429}, "451": {Status: 451}, "499": {Status: 499}, "500 page": page(500), "501 page": page(501), "502 page": page(502),
		"503 page": page(503), "504 page": page(504), "520": page(520),
		"301": to(301, "/login"), "302 to another origin": to(302, "https://login.test/"), "303": to(303, "/login"), "307 to another origin": to(307, "https://login.test/"),
		"307 in a circle": {Status: 307, Set: map[string]string{"Location": "/mcp"}, Repeat: true}, "300 without a place": {Status: 300}, "304": {Status: 304},
		"closed": cut(""), "closed in the header": cut("HTTP/1.1 200 OK\r\nContent-Ty"), "no HTTP": cut("SSH-2.0-x\r\n"),
		"closed in the body":        cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: application/json\r\n\r\n{"),
		"closed in the stream":      {Handle: Events(": hello")},
		"200 page":                  page(200),
		"200 and half a JSON":       {Reply: "{"},
		"200 with a null":           {Reply: "null"},
		"200 with another's answer": {Reply: `{"jsonrpc":"2.0","id":"x","result":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			mem := remembering(unknownEra)
			answer.Call = "server/discover"
			play2026(t, mem, append(append([]Exchange{answer}, Opening(version)...), Goodbye()), func(t *testing.T, h *host, srv *Server) {
				h.open()
				synctest.Wait()
			})
			if got := mem.era(); got != string(legacyEra) {
				t.Errorf("saved %q", got)
			}
			play2026(t, mem, append(Opening(version), Goodbye()), func(t *testing.T, h *host, srv *Server) { h.open(); synctest.Wait() })
		})
	}
}

// Initialize judges a token. The server/discover of a legacy host goes by InSession, which asks
// nobody to sign in if a token is refused. A modern host has only Send.
func TestWhoJudgesTheTokenAtDiscovery(t *testing.T) {
	const refused = `{"jsonrpc":"2.0","id":"sallyport-1","error":{"code":-32601,"message":"m"}}`
	play := func(line string, script ...Exchange) {
		synctest.Test(t, func(t *testing.T) {
			next := New(t, script...).Transport()
			h := start(t, Config{Send: markedBy("send", next), InSession: markedBy("in session", next), Load: remembering(unknownEra).load})
			h.send(line)
			h.recv()
			h.close()
		})
	}
	opening := Opening(version)[0]
	play(initLine, by("in session", "", Exchange{Call: "server/discover", Status: 401}), by("send", "", opening), Exchange{Method: "DELETE"})
	play(discoverLine, by("send", "", Exchange{Call: "server/discover", Reply: refused}))
}

// If server/discover was not sent, or failed with an error of the sign-in, initialize gets that
// error. It is not tried itself, because it would meet the same.
func TestDiscoveryNotSent(t *testing.T) {
	for name, tt := range map[string]struct {
		send   roundTrip
		notRun bool
	}{
		"not sent": {func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") }, false},
		"refused": {func(r *http.Request) (*http.Response, error) {
			io.Copy(io.Discard, r.Body)
			return nil, errors.New("nobody signed in")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				h := start(t, Config{Load: remembering(unknownEra).load, InitPatience: time.Hour,
					Explain: func(error) Explanation { return Explanation{NotRun: tt.notRun} },
					Send: roundTrip(func(r *http.Request) (*http.Response, error) {
						calls++
						return tt.send(r)
					})})
				h.send(initLine)
				synctest.Wait()
				if calls != 1 {
					t.Errorf("%d requests", calls)
				}
			})
		})
	}
}
