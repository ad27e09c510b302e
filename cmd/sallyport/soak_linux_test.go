package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	soakInFlight = 64
	soakUpstream = "127.0.0.1:3003" // in a namespace that nobody else uses
	soakPause    = 50 * time.Millisecond
)

// soakHost is an MCP host that counts the answers to each of its requests.
type soakHost struct {
	in io.Writer

	mu      sync.Mutex
	waiting map[string]chan soakAnswer // by id
	strange []string                   // lines that answer nothing that waits
}

type soakAnswer struct {
	ID     json.RawMessage
	Result *struct{ Content []struct{ Text string } }
	Error  *struct {
		Code    int
		Message string
		Data    struct{ Kind string }
	}
}

// call sends a request and waits for its answer.
func (h *soakHost) call(ctx context.Context, id, line string) (soakAnswer, error) {
	answered := make(chan soakAnswer, 1)
	h.mu.Lock()
	h.waiting[id] = answered
	_, err := io.WriteString(h.in, line+"\n")
	h.mu.Unlock()
	if err != nil {
		return soakAnswer{}, err
	}
	select {
	case a := <-answered:
		return a, nil
	case <-ctx.Done():
		return soakAnswer{}, fmt.Errorf("request %s has no answer: %w", id, ctx.Err())
	}
}

// read takes the answers until out ends.
func (h *soakHost) read(out io.Reader) {
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		var a soakAnswer
		if err := json.Unmarshal([]byte(line), &a); err == nil && a.ID == nil {
			continue // a notification
		}
		h.mu.Lock()
		if answered := h.waiting[string(a.ID)]; answered != nil {
			delete(h.waiting, string(a.ID))
			answered <- a
		} else {
			h.strange = append(h.strange, line)
		}
		h.mu.Unlock()
	}
}

// TestSessionSoak keeps 64 calls in flight through a real hop, while the upstream is restarted every 20 s and the tunnel cut every
// 30 s. Every request is answered exactly once, by its own answer or by an error, the session goes on, and neither goroutines
// nor memory are left over. SALLYPORT_SOAK says how long; some seconds where it is unset, at a faster pace.
func TestSessionSoak(t *testing.T) {
	length, restartEvery, cutEvery := 4*time.Second, 1300*time.Millisecond, 1900*time.Millisecond
	if text := os.Getenv("SALLYPORT_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		restartEvery, cutEvery = 20*time.Second, 30*time.Second
	}
	ns := newNetns(t)
	upstream, url := startRole(t, ns, "mcp", soakUpstream)
	server := startSSHD(t, sshdOptions{NS: ns})
	config := writeSSHConfig(t, hop{Alias: "hop1", SSHD: server, Config: []string{"IdentityAgent none"}})
	hostIn, in := io.Pipe()
	out, hostOut := io.Pipe()
	args := []string{"--grant", "none", "--token-store", "memory", "--log-level", "fatal", "-F", config, "--via", "hop1", url}
	status := make(chan int, 1)
	before := runtime.NumGoroutine()
	go func() { // ends with the session
		status <- run(t.Context(), args, stdio{hostIn, hostOut, io.Discard}, testEnvironment(t, map[string]string{"XDG_RUNTIME_DIR": t.TempDir()}))
		hostOut.Close()
	}()
	h := &soakHost{in: in, waiting: map[string]chan soakAnswer{}}
	go h.read(out)                                         // ends with the session
	ctx, cancel := context.WithCancel(t.Context())         // ends the work
	late, stop := context.WithCancel(context.Background()) // ends the wait for an answer
	defer cancel()
	defer stop()
	if a, err := h.call(late, `"first"`, strings.TrimSuffix(initializeLine, "\n")); err != nil || a.Result == nil {
		t.Fatalf("initialize: %+v, %v", a, err)
	}
	io.WriteString(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")

	var answered atomic.Int64
	var mu sync.Mutex
	kinds := map[string]int{} // of errors
	echo := func(id int64) error {
		text := fmt.Sprintf("message %d", id)
		a, err := h.call(late, fmt.Sprint(id), fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"echo","arguments":{"message":%q}}}`, id, text))
		switch {
		case err != nil:
			return err
		case a.Error != nil:
			mu.Lock()
			kinds[a.Error.Data.Kind]++
			mu.Unlock()
			return nil
		case a.Result == nil || len(a.Result.Content) != 1 || a.Result.Content[0].Text != "Echo: "+text:
			return fmt.Errorf("request %d: answer %+v", id, a)
		}
		answered.Add(1)
		return nil
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range soakInFlight {
		workers.Go(func() {
			for ctx.Err() == nil {
				good := answered.Load()
				if err := echo(next.Add(1)); err != nil {
					t.Error(err)
					return
				}
				if answered.Load() == good { // nothing works now
					select {
					case <-ctx.Done():
					case <-time.After(rand.N(soakPause)):
					}
				}
			}
		})
	}
	// memory is what is in use after half the time, which the end is compared with: the soak must not grow.
	memory := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	var halfway float64
	restart, cut, half, end := time.NewTicker(restartEvery), time.NewTicker(cutEvery), time.After(length/2), time.After(length)
	restarts, cuts := 0, 0
	for ctx.Err() == nil {
		select {
		case <-restart.C:
			restarts++
			upstream.stop()
			upstream, _ = startRole(t, ns, "mcp", soakUpstream)
		case <-cut.C:
			cuts++
			server.Drop()
		case <-half:
			halfway = memory()
		case <-end:
			cancel()
		}
	}
	giveUp := time.AfterFunc(patience, stop)
	workers.Wait()
	giveUp.Stop()
	good := answered.Load()
	// The session still works.
	for tries := 0; answered.Load() == good && tries < 100; tries++ {
		if err := echo(next.Add(1)); err != nil {
			t.Fatal(err)
		}
	}
	atEnd := memory()
	in.Close()
	if got := <-status; got != statusDone {
		t.Errorf("status %d", got)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if answered.Load() == good {
		t.Error("no call works after the last restart")
	}
	if len(h.strange) > 0 {
		t.Errorf("%d lines that answer nothing, as %.300s", len(h.strange), h.strange[0])
	}
	if len(h.waiting) > 0 {
		t.Errorf("%d requests without an answer", len(h.waiting))
	}
	mu.Lock()
	t.Logf("%d requests: %d answered by the server, errors %v; %d restarts, %d cuts; heap %.1f MiB halfway, %.1f at the end", next.Load(), answered.Load(), maps.Clone(kinds), restarts, cuts, halfway, atEnd)
	mu.Unlock()
	if atEnd > 2*halfway+8 {
		t.Errorf("the heap grew from %.1f to %.1f MiB", halfway, atEnd)
	}
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before+2 && time.Now().Before(deadline) { // the reader of the last cut's sshd may still be ending
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before+2 {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}
