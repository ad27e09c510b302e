package relay

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	. "sallyport/relay/relaytest"
)

// Bytes pass as they are, both ways; only line breaks between tokens and a byte order mark go.
func TestBytes(t *testing.T) {
	const odd = `"a":18446744073709551616,"a":1e400,  "z":"\ud800 é </script> \u0041",	"n":-0.0`
	call := `{"id":9007199254740993,"params":{` + odd + `},"method":"tools/call","jsonrpc":"2.0"}`
	answer := `{"jsonrpc":"2.0","id":9007199254740993,"result":{` + odd + `}}`
	for _, tt := range []struct {
		name string
		e    Exchange
	}{
		{"JSON", Exchange{Reply: answer}},
		{"pretty JSON after a BOM", Exchange{Reply: "\ufeff" + strings.NewReplacer(`"result"`, "\r\n\n\"result\"").Replace(answer)}},
		{"event", Exchange{Handle: Events("data: " + answer)}},
		{"event of many lines", Exchange{Handle: Events(strings.Replace("data:"+answer, `"result"`, "\ndata: \"result\"", 1))}},
		{"event with CR", Exchange{Handle: Events("data:" + answer + "\r")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.e.Call, tt.e.Body = "tools/call", call
				h, _ := open(t, Config{}, tt.e, Goodbye())
				h.send(call + "\r")
				h.want(answer)
				h.close()
			})
		})
	}
}

// bytewise is a Handle that sends text one byte at a time.
func bytewise(mediaType, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		for i := range len(text) {
			io.WriteString(w, text[i:i+1])
			http.NewResponseController(w).Flush()
		}
	}
}

// A character may be cut anywhere on its way, both ways.
func TestCharactersSplitAcrossReads(t *testing.T) {
	const answer = `{"jsonrpc":"2.0","id":7,"result":"é€😀"}`
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"é€😀"}}`
	for _, handle := range []http.HandlerFunc{bytewise("application/json", answer), bytewise("text/event-stream", "data: "+answer+"\n\n")} {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Body: call, Header: map[string]string{"Mcp-Protocol-Version": version},
				Handle: handle}, Goodbye())
			for _, b := range []byte(call + "\n") {
				h.in.Write([]byte{b})
			}
			h.want(answer)
			h.close()
		})
	}
}

// An answer above the limit is refused however it comes, and one at the limit passes.
func TestLargeAnswers(t *testing.T) {
	head, tail := `{"jsonrpc":"2.0","id":7,"result":"`, `"}`
	exact := head + strings.Repeat("x", smallLimit-len(head)-len(tail)) + tail
	for _, tt := range []struct {
		name, mediaType, before, body, after string
		refused                              bool
	}{
		{"JSON above it, of unknown length", "application/json", "", exact, " ", true},
		{"event at the limit", "text/event-stream", "data:", exact, "\n\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _ := open(t, Config{maxMessage: smallLimit}, Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", tt.mediaType)
					for _, part := range []string{tt.before, tt.body, tt.after} {
						io.WriteString(w, part)
					}
				}}, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
				h.send(callLine)
				line := h.recv()
				if tt.refused {
					if a := decode(t, line); a.Error.Data.Kind != "too_large" {
						t.Errorf("got %.300s", line)
					}
				} else if line != exact {
					t.Errorf("got %d bytes, want %d", len(line), len(exact))
				}
				h.send(pingLine)
				h.want(pingAnswer)
				h.close()
			})
		})
	}
}

// What only a socket can do: a certificate that nobody trusts, and a connection that is reset.
func TestFaultsOnSockets(t *testing.T) {
	reset := Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}}
	for _, tt := range []struct {
		name   string
		start  func(http.Handler) *httptest.Server
		script []Exchange
		text   string
		mayRun bool
	}{
		{"TLS", httptest.NewTLSServer, nil, "certificate", false},
		{"reset", httptest.NewServer, []Exchange{reset}, "reset by peer", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			web := tt.start(New(t, append(append(Opening(version), tt.script...), Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())...))
			defer web.Close()
			distrustful := &http.Transport{TLSClientConfig: &tls.Config{}}
			defer distrustful.CloseIdleConnections()
			h := start(t, Config{URL: mustURL(web.URL), Send: roundTrip(func(r *http.Request) (*http.Response, error) {
				if tt.name == "TLS" && r.GetBody != nil {
					body, _ := r.GetBody()
					if text, _ := io.ReadAll(body); string(text) == callLine {
						return distrustful.RoundTrip(r)
					}
				}
				return web.Client().Transport.RoundTrip(r)
			})})
			h.open()
			h.send(callLine)
			line := h.recv()
			a := decode(t, line)
			if a.Error.Code != -32000 || !strings.Contains(a.Error.Message, tt.text) || strings.Contains(a.Error.Data.Hint, "may have run") != tt.mayRun {
				t.Errorf("got %s", line)
			}
			h.send(pingLine)
			h.want(pingAnswer)
			h.close()
		})
	}
}

// Whatever the upstream does to one call, the call is answered once and the session goes on.
func TestFaults(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write([]byte(callAnswer))
	z.Close()
	tests := []struct {
		name   string
		answer Exchange
		code   int    // 0: callAnswer comes as it is
		kind   string // of the error
		status int
		text   string // a part of the error's line
	}{
		{"nothing but 200", Exchange{Status: 200}, -32000, "bad_answer", 200, "without an answer"},
		{"202", Exchange{}, -32000, "bad_answer", 202, "without an answer"},
		{"204", Exchange{Status: 204}, -32000, "bad_answer", 204, "without an answer"},
		{"HTML", Exchange{Type: "text/html", Reply: "<p>Hello secret-1</p>"}, -32000, "bad_answer", 200, "<p>Hello ***</p>"},
		{"answer of the wrong type", Exchange{Type: "text/plain", Reply: callAnswer}, 0, "", 0, ""},
		{"wrong id", Exchange{Reply: `{"jsonrpc":"2.0","id":8,"result":{}}`}, -32000, "bad_answer", 200, "no answer to this request"},
		{"null id", Exchange{Reply: `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}`}, -32000, "bad_answer", 200, ""},
		{"id as a string", Exchange{Reply: `{"jsonrpc":"2.0","id":"7","result":{}}`}, -32000, "bad_answer", 200, ""},
		{"neither result nor error", Exchange{Reply: `{"jsonrpc":"2.0","id":7}`}, -32000, "bad_answer", 200, ""},
		{"array of one", Exchange{Reply: "[" + callAnswer + "]"}, 0, "", 0, ""},
		{"duplicate answer", Exchange{Handle: Events("data: "+callAnswer, "data: "+callAnswer)}, 0, "", 0, ""},
		{"stream with another answer first", Exchange{Handle: Events(`data: {"jsonrpc":"2.0","id":9,"result":1}`, "data: "+callAnswer)}, 0, "", 0, ""},
		{"stream ends early", Exchange{Handle: Events(": hello")}, -32000, "bad_answer", 0, "ended without the answer"},
		{"stream cut inside the answer", Exchange{Handle: Cut("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"jso")}, -32000, "bad_answer", 0, ""},
		{"half a JSON", Exchange{Reply: callAnswer[:20]}, -32000, "bad_answer", 200, "not JSON at byte 20"},
		{"body shorter than said", Exchange{Handle: Cut("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"jso")}, -32000, "unreachable", 0, "broke off"},
		{"control character in a string", Exchange{Reply: "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"a\x01\"}"}, -32000, "bad_answer", 200, "control character"},
		{"bad JSON in an event", Exchange{Handle: Events("data: {]")}, -32000, "bad_answer", 0, "an event of the answer is not JSON"},
		{"too large", Exchange{Handle: Cut(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", maxMessage+1))}, -32000, "too_large", 0, "64 MiB"},
		{"gzip", Exchange{Set: map[string]string{"Content-Encoding": "gzip"}, Reply: zipped.String()}, 0, "", 0, ""},
		{"no HTTP at all", Exchange{Handle: Cut("SSH-2.0-x\r\n")}, -32000, "unreachable", 0, "may have run"},
		{"connection closed", Exchange{Handle: Cut("")}, -32000, "unreachable", 0, "may have run"},
		{"redirect to another origin", Exchange{Status: 307, Set: map[string]string{"Location": "http://evil.test/mcp?x=secret-1"}}, -32001, "redirect", 307, `\"http://evil.test/mcp\"`},
		{"redirect that changes the method", Exchange{Status: 302, Set: map[string]string{"Location": "/other"}}, -32001, "redirect", 302, "/other"},
		{"413", Exchange{Status: 413, Type: "text/plain", Reply: "large"}, -32001, "status", 413, "large"},
		{"429", Exchange{Status: 429, Set: map[string]string{"Retry-After": "700"}}, -32001, "status", 429, "ask again in 700 s"},
		{"500", Exchange{Status: 500, Type: "text/plain", Reply: strings.Repeat("é", 600)}, -32001, "status", 500, strings.Repeat("é", 500) + `"`},
		{"503 that is the answer", Exchange{Status: 503, Reply: callAnswer}, 0, "", 0, ""},
		{"400 with another's answer", Exchange{Status: 400, Reply: `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"m"}}`}, -32001, "status", 400, `\"message\":\"m\"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.answer.Call = "tools/call"
				mask := func(s string) string { return strings.ReplaceAll(s, "secret-1", "***") }
				h, _ := open(t, Config{Mask: mask}, tt.answer, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
				h.send(callLine)
				line := h.recv()
				if tt.code == 0 {
					if line != callAnswer {
						t.Errorf("got %s", line)
					}
				} else {
					a := decode(t, line)
					if string(a.ID) != "7" || a.Error.Code != tt.code || a.Error.Data.Kind != tt.kind || a.Error.Data.Status != tt.status ||
						!strings.Contains(line, tt.text) || a.Error.Message == "" {
						t.Errorf("got %s\nwant code %d kind %q status %d text %q", line, tt.code, tt.kind, tt.status, tt.text)
					}
					if strings.Contains(line, "secret-1") {
						t.Errorf("secret in %s", line)
					}
				}
				h.send(pingLine)
				h.want(pingAnswer)
				if err := h.close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
