package relay

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	. "sallyport/relay/relaytest"
)

const (
	progressLine = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"k","progress":1}}`
	changedLine  = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
)

// A server that replays and then falls silent is asked again until it has the answer.
func TestSilentResumedStreamIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{},
			Exchange{Call: "tools/call", Handle: Events("id: a\nretry: 10\ndata:")},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "a"}, Handle: Stream("id: b\ndata: " + progressLine)},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "b"}, Status: http.StatusConflict},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "b"}, Handle: Stream()},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "b"}, Handle: Events("id: c\ndata: " + callAnswer)}, Goodbye())
		begin := time.Now()
		h.send(callLine)
		h.want(progressLine)
		h.want(callAnswer)
		if took := time.Since(begin); took > 4*resumeSilence {
			t.Errorf("answered after %v", took)
		}
		h.close()
	})
}

// A stream that was never resumed may be silent for ever.
func TestSilentStreamIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
			Events("id: a\ndata:")(w, r)
			time.Sleep(5 * retryMax)
			fmt.Fprintf(w, "id: b\ndata: %s\n\n", callAnswer)
		}}, Goodbye())
		h.send(callLine)
		h.want(callAnswer)
		h.close()
	})
}

// What two streams replay reaches the host once; what only looks alike reaches it each time.
func TestReplayOnTwoStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)
		script[2] = Exchange{Method: "GET", Handle: Events("id: 1\nretry: 10\ndata: " + changedLine)}
		sent := make(chan struct{})
		h := start(t, Config{Send: New(t, append(script,
			Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
				Events("id: 1\ndata: "+changedLine, "id: 2\nretry: 1000\ndata: "+progressLine, "id: 3\ndata: "+progressLine)(w, r)
				close(sent)
			}},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "1"}, Handle: func(w http.ResponseWriter, r *http.Request) {
				<-sent
				Stream("id: 2\ndata: "+progressLine, "id: 3\ndata: "+progressLine, "id: 1\ndata: "+changedLine, "id: 4\ndata: "+changedLine, "data: "+changedLine)(w, r)
			}},
			Exchange{Method: "GET", Header: map[string]string{"Last-Event-Id": "3"}, Handle: Events("id: 4\ndata: "+changedLine, "id: 5\ndata: "+callAnswer)},
			Goodbye())...).Transport()})
		h.open()
		h.send(callLine)
		var got []string
		for line := range h.lines {
			got = append(got, line)
			if line == callAnswer {
				break
			}
		}
		want := map[string]int{changedLine: 4, progressLine: 2, callAnswer: 1}
		count := map[string]int{}
		for _, line := range got {
			count[line]++
		}
		for line, n := range want {
			if count[line] != n {
				t.Errorf("%d times, want %d: %s", count[line], n, line)
			}
		}
		h.cancel()
		<-h.result
	})
}

func TestDeliveredIsBounded(t *testing.T) {
	var d delivered
	for i := range 3 * maxReplay {
		if d.add("x", []byte{byte(i), byte(i >> 8), byte(i >> 16)}) {
			t.Fatalf("message %d is known", i)
		}
	}
	if len(d.known) != maxReplay || len(d.ring) != maxReplay {
		t.Errorf("%d and %d are kept, want %d", len(d.known), len(d.ring), maxReplay)
	}
	if last := 3*maxReplay - 1; !d.add("x", []byte{byte(last), byte(last >> 8), byte(last >> 16)}) {
		t.Error("the last message is forgotten")
	}
}
