package relay

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

// A batch has a bound, which is larger in the revision that has batches.
func TestBatchOfTheServerIsBounded(t *testing.T) {
	const note = `{"jsonrpc":"2.0","method":"notifications/x"}`
	for _, tt := range []struct {
		version string
		size    int
		taken   bool
	}{
		{version, maxStrayBatch, true}, {version, maxStrayBatch + 1, false},
		{batchVersion, maxBatch, true}, {batchVersion, maxBatch + 1, false},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %d stream %v", tt.version, tt.size, stream), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					batch := "[" + strings.Repeat(note+",", tt.size-1) + callAnswer + "]"
					answer := Exchange{Call: "tools/call", Reply: batch}
					if stream {
						answer = Exchange{Call: "tools/call", Handle: Events("data: " + batch)}
					}
					srv := New(t, append(Opening(tt.version), answer, Goodbye())...)
					h := start(t, Config{Send: srv.Transport()})
					h.open()
					h.send(callLine)
					if tt.taken {
						for range tt.size - 1 {
							h.want(note)
						}
						h.want(callAnswer)
					} else if got := h.recv(); !strings.Contains(got, "a batch of more than") || !strings.Contains(got, `"id":7`) {
						t.Errorf("got %s", got)
					}
					h.close()
				})
			})
		}
	}
}

func TestBatchOfTheHostIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Goodbye())
		h.send("[" + strings.Repeat("0,", maxBatch) + "0]")
		if a := decode(t, h.recv()); a.Error.Code != -32600 || !strings.Contains(a.Error.Message, "more than 1024") {
			t.Errorf("got %+v", a)
		}
		h.close()
	})
}

// A server that wants a stream to be asked for again at once is asked at a bearable pace, which
// slows down as long as no message comes.
func TestLeastPauseBeforeAStream(t *testing.T) {
	for _, tt := range []struct {
		stream string
		want   int // requests within a minute
	}{
		{"id: 1\nretry: 0\n\n", 11}, // after 0.5 s, 1, 2, 4, 8, 8, ...
		{"id: 1\nretry: 0\ndata: " + toolsChanged + "\n\n", 120},
		{"id: 1\nretry: 600\n\n", 100}, // what a server asks for with thought it gets
	} {
		t.Run(tt.stream, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				srv := New(t, append(Opening(version)[:2], Goodbye())...)
				next := srv.Transport()
				h := start(t, Config{Send: next, Background: roundTrip(func(r *http.Request) (*http.Response, error) {
					if r.Method != http.MethodGet {
						return next.RoundTrip(r)
					}
					asked++
					return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}},
						Body: readCloser{strings.NewReader(tt.stream)}}, nil
				})})
				go func() {
					for range h.lines {
					}
				}()
				h.send(initLine)
				h.send(initializedLine)
				time.Sleep(time.Minute)
				h.in.Close()
				<-h.result
				if asked < tt.want-2 || asked > tt.want+2 {
					t.Errorf("asked %d times, want %d", asked, tt.want)
				}
			})
		})
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// A server that sends nothing but rubbish does not fill the log.
func TestDroppedMessagesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		srv := New(t, append(Opening(version)[:2], Exchange{Method: "GET", Handle: func(w http.ResponseWriter, r *http.Request) {
			for range 2 {
				Events(strings.Repeat("data: <\n\n", 1000)+"data: <")(w, r)
				time.Sleep(2 * dropsEvery)
			}
			<-r.Context().Done()
		}}, Goodbye())...)
		h := start(t, Config{Send: srv.Transport(), Log: slog.New(slog.NewTextHandler(&log, nil))})
		h.open()
		time.Sleep(time.Minute)
		h.close()
		if got := strings.Count(log.String(), "message of the server dropped"); got != 2 || !strings.Contains(log.String(), "count=1001") {
			t.Errorf("%d lines:\n%s", got, &log)
		}
	})
}

// A list of tools without an end is not remembered, and neither is a part of it.
func TestEndlessPagesAreNotRemembered(t *testing.T) {
	m := &sessionMemory{}
	page := []byte(`[{"name":"` + strings.Repeat("x", 1<<20) + `"}]`)
	for i := range 100 {
		cursor := ""
		if i > 0 {
			cursor = fmt.Sprint(i)
		}
		if list := m.join(page, cursor, fmt.Sprint(i+1)); list != nil {
			t.Fatalf("page %d ends the list", i)
		}
		if len(m.tools) > maxMemory {
			t.Fatalf("%d bytes are kept", len(m.tools))
		}
	}
	if list := m.join([]byte("[]"), "100", ""); list != nil {
		t.Errorf("a part of the list is remembered")
	}
}

// The marks of a server's tools take bounded memory and time.
func TestMarksAreBounded(t *testing.T) {
	var tools toolHeaders
	for i := range 100 {
		tool := fmt.Sprintf(`{"name":"%d%s","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"b"}}}}`, i, strings.Repeat("x", 1<<20))
		if err := tools.learn([]byte(tool)); err != nil {
			t.Fatal(err)
		}
	}
	if len(tools.byName) > maxToolMemory>>20 || tools.size > maxToolMemory {
		t.Errorf("%d tools of %d bytes are kept", len(tools.byName), tools.size)
	}
	for name, tt := range map[string]struct {
		schema string
		want   string
	}{
		"deep":  {strings.Repeat(`{"not":`, 9000) + `{"x-mcp-header":"a"}` + strings.Repeat("}", 9000), ""},
		"lists": {`{"anyOf":` + strings.Repeat(`[`, 9000) + `{"x-mcp-header":"a"}` + strings.Repeat("]", 9000) + "}", ""},
		"many": {`{"properties":{` + func() string {
			var marks []string
			for i := range maxMarks + 1 {
				marks = append(marks, fmt.Sprintf(`"p%d":{"type":"string","x-mcp-header":"h%d"}`, i, i))
			}
			return strings.Join(marks, ",")
		}() + `}}`, "more than 100"},
	} {
		_, err := mirroredParams([]byte(tt.schema))
		if got := fmt.Sprint(err); tt.want == "" && err != nil || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// The words of a server may be long. Their beginning is enough, and a secret is not shown in part.
func TestLongWords(t *testing.T) {
	mask := func(s string) string { return strings.ReplaceAll(s, "secret", "***") }
	if got, want := clean(strings.Repeat("x ", 1<<20), mask, 5), "x x x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got := clean(strings.Repeat(" ", maxCleaned-3)+strings.Repeat("secret", 100), mask, 100)
	if strings.Contains(got, "sec") {
		t.Errorf("got %q", got)
	}
}
