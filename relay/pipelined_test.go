package relay

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

// roundTripper is a Config.Send.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Hosts write several calls at once, and a server with a state, such as a browser, is helped by
// their order. Nothing promises it, but the last call must not be the first to leave.
func TestCallsWrittenAtOnceLeaveInOrder(t *testing.T) {
	t.Run("in an open session", func(t *testing.T) { callsWrittenAtOnce(t, false) })
	t.Run("before the gates open", func(t *testing.T) { callsWrittenAtOnce(t, true) })
}

func callsWrittenAtOnce(t *testing.T, early bool) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // as in a proxy after its start
	const calls = 32
	srv := New(t, append(Opening(version), Goodbye())...)
	var mu sync.Mutex
	var got []string
	written := make(chan struct{})
	h := start(t, Config{Send: roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			if m, err := rawjson.Parse(body); err == nil && m.Method == "tools/call" {
				mu.Lock()
				got = append(got, string(m.ID))
				mu.Unlock()
				answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
					Body: io.NopCloser(strings.NewReader(answer)), ContentLength: int64(len(answer)), Request: r}, nil
			}
			if early {
				<-written
			}
			r.Body = io.NopCloser(strings.NewReader(string(body)))
		}
		return srv.Transport().RoundTrip(r)
	})})
	if !early {
		h.send(initLine)
		h.recv()
		h.send(initializedLine)
		h.send(`{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{"name":"x"}}`) // waits for the gates
		h.recv()
		got = nil
	}
	var lines strings.Builder
	if early {
		lines.WriteString(initLine + "\n" + initializedLine + "\n")
	}
	var want []string
	for i := range calls {
		id := fmt.Sprint(100 + i)
		want = append(want, id)
		fmt.Fprintf(&lines, `{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"x"}}`+"\n", id)
	}
	if _, err := io.WriteString(h.in, lines.String()); err != nil {
		t.Fatal(err)
	}
	h.send("") // the reader takes it when it has handed on the rest
	close(written)
	for range calls {
		h.recv()
	}
	if early {
		h.recv() // the answer to initialize
	}
	h.close()
	misplaced := 0
	for i, id := range got {
		if id != want[i] {
			misplaced++
		}
	}
	// The scheduler may pass over a goroutine now and then.
	if misplaced > calls/8 {
		t.Errorf("%d of %d calls left out of their order: %v", misplaced, calls, got)
	}
}
