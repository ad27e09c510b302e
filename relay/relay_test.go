package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

func TestLeaving(t *testing.T) {
	t.Run("context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: Hold}, Exchange{Method: "DELETE", Handle: Hold})
			h.send(callLine)
			synctest.Wait()
			begin := time.Now()
			h.cancel()
			if a := decode(t, h.recv()); a.Error.Data.Kind != "closed" {
				t.Errorf("got %+v", a)
			}
			if err := <-h.result; err != nil || time.Since(begin) > 2*time.Second {
				t.Errorf("after %v: %v", time.Since(begin), err)
			}
		})
	})
	t.Run("no connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{MayLeave: func() bool { return false }}) // no DELETE is expected
			h.in.Close()
			if err := <-h.result; err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("host stopped reading", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Reply: callAnswer}, Goodbye())
			h.out.CloseWithError(syscall.EPIPE)
			h.send(callLine)
			if err := <-h.result; !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Run: %v", err)
			}
		})
	})
	t.Run("a call finishes within the grace", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := open(t, Config{}, Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(exitGrace / 2)
				io.WriteString(w, callAnswer)
			}}, Goodbye())
			h.send(callLine)
			h.in.Close()
			h.want(callAnswer)
			h.close()
		})
	})
	t.Run("a write that nobody reads", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := New(t, Opening(version)[0], Goodbye())
			inR, inW := io.Pipe()
			outR, outW := io.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error)
			u := mustURL(URL)
			go func() {
				result <- Run(ctx, Config{In: inR, Out: outW, URL: u, Send: srv.Transport(), Load: rememberLegacy})
			}()
			io.WriteString(inW, initLine+"\n")
			synctest.Wait()
			begin := time.Now()
			cancel()
			if err := <-result; err != nil || time.Since(begin) > 2*time.Second {
				t.Errorf("after %v: %v", time.Since(begin), err)
			}
			outR.Close()
			inW.Close()
		})
	})
}

// A host that stops reading stops the upstream: what the server could send is bounded by what lies
// in buffers.
func TestHostThatDoesNotReadStopsTheUpstream(t *testing.T) {
	const chunk = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		srv := New(t, append(Opening(version), Exchange{Call: "tools/call", Handle: func(w http.ResponseWriter, r *http.Request) {
			Events()(w, r)
			for r.Context().Err() == nil {
				if _, err := fmt.Fprintf(w, "data: {\"method\":\"notifications/message\",\"params\":\"%s\"}\n\n", strings.Repeat("x", chunk)); err != nil {
					return
				}
				sent.Add(chunk)
			}
		}}, Goodbye())...)
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		result := make(chan error, 1)
		go func() {
			result <- Run(t.Context(), Config{In: inR, Out: outW, URL: mustURL(URL), Send: srv.Transport(), Load: rememberLegacy})
		}()
		io.WriteString(inW, initLine+"\n")
		io.ReadFull(outR, make([]byte, len(Opening(version)[0].Reply)+1))
		io.WriteString(inW, initializedLine+"\n"+callLine+"\n")
		synctest.Wait() // until everybody waits for the host
		if got := sent.Load(); got > 2*chunk {
			t.Errorf("the server could send %d bytes", got)
		}
		inW.Close()
		outR.Close()
		if err := <-result; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
}

// Idle is for giving memory back: once after the beginning, and some time after the last large
// message either way, or after many.
func TestIdle(t *testing.T) {
	large := strings.Repeat("x", idleLoad)
	medium := `{"jsonrpc":"2.0","id":7,"result":"` + strings.Repeat("x", idleLoad/8) + `"}`
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		h, _ := open(t, Config{Idle: func() { calls.Add(1) }}, Exchange{Call: "ping", Reply: pingAnswer},
			Exchange{Call: "tools/call", Reply: `{"jsonrpc":"2.0","id":7,"result":"` + large + `"}`}, Exchange{Call: "tools/call", Reply: callAnswer},
			Exchange{Call: "tools/call", Reply: medium}, Exchange{Call: "tools/call", Reply: medium}, Exchange{Call: "tools/call", Reply: medium}, Exchange{Call: "tools/call", Reply: medium}, Goodbye())
		want := func(n int64) {
			t.Helper()
			time.Sleep(2 * idleAfter)
			synctest.Wait()
			if got := calls.Load(); got != n {
				t.Errorf("called %d times, want %d", got, n)
			}
		}
		want(1)
		h.send(pingLine)
		h.want(pingAnswer)
		want(1)
		h.send(callLine)
		h.recv()
		want(2)
		h.send(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":"` + large + `"}`)
		h.want(callAnswer)
		want(3)
		for range 4 { // each is counted when it has come and when it has gone
			h.send(callLine)
			h.recv()
		}
		want(4)
		h.close()
	})
}

// A name that the host makes up is cut in the log.
func TestLogCutsMethods(t *testing.T) {
	var log bytes.Buffer
	s := newSession(t.Context(), Config{Log: slog.New(slog.NewTextHandler(&log, nil)), URL: mustURL(URL)})
	s.calls.close()
	s.reader.notification(rawjson.Message{Kind: rawjson.Notification, Method: strings.Repeat("x", 1000)})
	if got := strings.Count(log.String(), "x"); got != 64 {
		t.Errorf("%d characters of the method in %.200s", got, log.String())
	}
}
