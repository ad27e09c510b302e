//go:build linux

// The story of a session that goes on for hours while the network and the server come and go. Real:
// sshd, the Go SDK's server. The command runs in this process (command.Run), whose goroutines and
// memory are counted.
package soak_test

import (
	"context"
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

	"sallyport/cmd/sallyport/internal/command"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

const (
	inFlight = 64
	upstream = "127.0.0.1:3003"      // in a namespace that nobody else uses
	pause    = 50 * time.Millisecond // at most, of a worker while nothing works
)

// pace says how long the soak lasts, and what happens how often meanwhile.
type pace struct{ length, restartEvery, cutEvery time.Duration }

// choosePace is some seconds, at a faster pace, unless SALLYPORT_SOAK says how long.
func choosePace(t *testing.T) pace {
	t.Helper()
	text := os.Getenv("SALLYPORT_SOAK")
	if text == "" {
		return pace{4 * time.Second, 1300 * time.Millisecond, 1900 * time.Millisecond}
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return pace{length, 20 * time.Second, 30 * time.Second}
}

// soak is a session under load.
type soak struct {
	*host
	ns     *machines.Namespace
	server *machines.Process // the MCP server
	hop    *machines.SSHD

	next, answered atomic.Int64 // the last id; calls that the server answered

	mu    sync.Mutex
	kinds map[string]int // of errors
}

// 64 calls are in flight through a real hop, while the server is restarted every 20 s and the
// connection cut every 30 s. Every request is answered exactly once, by its own answer or by an
// error, the session goes on, and neither goroutines nor memory are left over.
func TestSessionGoesOn(t *testing.T) {
	pace := choosePace(t)
	s := &soak{ns: machines.NewNamespace(t), kinds: map[string]int{}}
	server, url := machines.StartMCPAt(t, s.ns, upstream)
	s.server, s.hop = server, machines.StartSSHD(t, machines.SSHDOptions{NS: s.ns})
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "hop1", SSHD: s.hop, Config: []string{"IdentityAgent none"}})
	before := runtime.NumGoroutine()
	in, status := s.start(t, "-F", config, "--via", "hop1", url)

	ctx, cancel := context.WithCancel(t.Context())         // ends the work
	late, stop := context.WithCancel(context.Background()) // ends the wait for an answer
	defer cancel()
	defer stop()
	if a, err := s.call(late, `"first"`, strings.TrimSuffix(machines.InitializeLine, "\n")); err != nil || a.Result == nil {
		t.Fatalf("initialize: %+v, %v", a, err)
	}
	io.WriteString(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")

	var workers sync.WaitGroup
	for range inFlight {
		workers.Go(func() { s.work(t, ctx, late) })
	}
	halfway := s.disturb(t, pace)
	cancel()
	giveUp := time.AfterFunc(machines.Patience, stop)
	workers.Wait()
	giveUp.Stop()
	s.checkGoesOn(t, late)
	atEnd := heap()
	in.Close()
	if got := <-status; got != machines.StatusDone {
		t.Errorf("status %d", got)
	}
	s.checkAnswers(t)
	t.Logf("heap %.1f MiB halfway, %.1f at the end", halfway, atEnd)
	if atEnd > 2*halfway+8 {
		t.Errorf("the heap grew from %.1f to %.1f MiB", halfway, atEnd)
	}
	// The reader of the last cut's sshd may still be ending.
	machines.Poll(t, func() bool { return runtime.NumGoroutine() <= before+2 },
		fmt.Sprintf("%d goroutines, as there were before", before))
}

// start runs the command and the host's reader.
func (s *soak) start(t *testing.T, args ...string) (in io.WriteCloser, status <-chan int) {
	t.Helper()
	hostIn, in := io.Pipe()
	out, hostOut := io.Pipe()
	args = append([]string{"--grant", "none", "--token-store", "memory", "--log-level", "fatal"}, args...)
	env := environment.Fixed(map[string]string{"XDG_RUNTIME_DIR": t.TempDir()}, t.TempDir())
	ended := make(chan int, 1)
	go func() { // ends with the session
		ended <- command.Run(t.Context(), args, command.Stdio{In: hostIn, Out: hostOut, Err: io.Discard}, env)
		hostOut.Close()
	}()
	s.host = &host{in: in, waiting: map[string]chan answer{}}
	go s.read(out) // ends with the session
	return in, ended
}

// work calls until ctx ends.
func (s *soak) work(t *testing.T, ctx, late context.Context) {
	for ctx.Err() == nil {
		good := s.answered.Load()
		if err := s.echo(late); err != nil {
			t.Error(err)
			return
		}
		if s.answered.Load() == good { // nothing works now
			select {
			case <-ctx.Done():
			case <-time.After(rand.N(pause)):
			}
		}
	}
}

// echo makes one call and wants its own answer, or an error.
func (s *soak) echo(late context.Context) error {
	id := s.next.Add(1)
	text := fmt.Sprintf("message %d", id)
	line := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"echo","arguments":{"message":%q}}}`, id, text)
	a, err := s.call(late, fmt.Sprint(id), line)
	switch {
	case err != nil:
		return err
	case a.Error != nil:
		s.mu.Lock()
		s.kinds[a.Error.Data.Kind]++
		s.mu.Unlock()
		return nil
	case a.Result == nil || len(a.Result.Content) != 1 || a.Result.Content[0].Text != "Echo: "+text:
		return fmt.Errorf("request %d: answer %+v", id, a)
	}
	s.answered.Add(1)
	return nil
}

// disturb restarts the server and cuts the connection until the time is over. It returns the heap
// at half time, in MiB.
func (s *soak) disturb(t *testing.T, pace pace) (halfway float64) {
	t.Helper()
	restart, cut := time.NewTicker(pace.restartEvery), time.NewTicker(pace.cutEvery)
	defer restart.Stop()
	defer cut.Stop()
	half, end := time.After(pace.length/2), time.After(pace.length)
	restarts, cuts := 0, 0
	for {
		select {
		case <-restart.C:
			restarts++
			s.server.Stop()
			s.server, _ = machines.StartMCPAt(t, s.ns, upstream)
		case <-cut.C:
			cuts++
			s.hop.Drop()
		case <-half:
			halfway = heap()
		case <-end:
			t.Logf("%d restarts, %d cuts", restarts, cuts)
			return halfway
		}
	}
}

// heap is what is in use, in MiB.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// checkGoesOn wants a call to work after all that.
func (s *soak) checkGoesOn(t *testing.T, late context.Context) {
	t.Helper()
	good := s.answered.Load()
	for tries := 0; s.answered.Load() == good && tries < 100; tries++ {
		if err := s.echo(late); err != nil {
			t.Fatal(err)
		}
	}
	if s.answered.Load() == good {
		t.Error("no call works after the last restart")
	}
}

// checkAnswers wants one answer to each request.
func (s *soak) checkAnswers(t *testing.T) {
	t.Helper()
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if len(s.strange) > 0 {
		t.Errorf("%d lines that answer nothing, as %.300s", len(s.strange), s.strange[0])
	}
	if len(s.waiting) > 0 {
		t.Errorf("%d requests without an answer", len(s.waiting))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Logf("%d requests: %d answered by the server, errors %v", s.next.Load(), s.answered.Load(), maps.Clone(s.kinds))
}
