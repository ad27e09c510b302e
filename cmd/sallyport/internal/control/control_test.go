package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/localsock"
)

// proxy is a proxy as far as its control socket goes.
type proxy struct {
	mu      sync.Mutex
	status  Status
	changed chan struct{}
}

func (p *proxy) current() (Status, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status, p.changed
}

func (p *proxy) set(change func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status)
	close(p.changed)
	p.changed = make(chan struct{})
}

// serve starts a proxy in a directory of its own, and returns the path of its socket.
func serve(t *testing.T) (*proxy, *Server, string) {
	t.Helper()
	p := &proxy{changed: make(chan struct{}), status: Status{
		PID: 7, Started: time.Unix(1e9, 0).UTC(), Upstream: "https://mcp.example/mcp", Profile: "default", Via: "bastion",
		Tunnel: &Tunnel{Phase: "down", Hop: "bastion", Error: "no route"},
	}}
	dir := filepath.Join(t.TempDir(), "made by the server")
	server, err := Serve([]string{dir}, Handlers{Status: p.current})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	sockets, _ := Sockets([]string{dir})
	if len(sockets) != 1 {
		t.Fatalf("sockets %q, want one", sockets)
	}
	return p, server, sockets[0]
}

func TestAskReturnsTheStatus(t *testing.T) {
	p, server, path := serve(t)
	got, err := Ask(t.Context(), path)
	if want, _ := p.current(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != want && runtime.GOOS != "windows" {
			t.Errorf("%s: %v, %v, want mode %o", name, fi.Mode(), err, want)
		}
	}
	server.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
}

// next returns the next status of a stream.
func next(t *testing.T, pull func() (Status, error, bool)) Status {
	t.Helper()
	s, err, ok := pull()
	if !ok || err != nil {
		t.Fatalf("the stream ended: %v", err)
	}
	return s
}

func TestWatchDeliversEachChange(t *testing.T) {
	p, server, path := serve(t)
	pull, stop := iter.Pull2(Watch(t.Context(), path))
	defer stop()
	if got, want := next(t, pull).Tunnel.Phase, "down"; got != want {
		t.Errorf("first status: %q, want %q", got, want)
	}
	p.set(func(*Status) {}) // no difference, no line
	p.set(func(s *Status) { s.Tunnel = &Tunnel{Phase: "up"} })
	if got, want := next(t, pull).Tunnel.String(), "up"; got != want {
		t.Errorf("after a change: %q, want %q", got, want)
	}
	p.set(func(s *Status) { s.SignIn = "pending" })
	if got, want := next(t, pull).SignIn, "pending"; got != want {
		t.Errorf("after another: %q, want %q", got, want)
	}
	server.Close()
	if s, err, ok := pull(); ok {
		t.Errorf("after the proxy's end: %+v, %v, want the end of the stream", s, err)
	}
}

// A reader that has ended leaves its place to another.
func TestWatchEndsWithItsReader(t *testing.T) {
	_, server, path := serve(t)
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		pull, stop := iter.Pull2(Watch(ctx, path))
		next(t, pull)
		if got := len(server.streams); got != 1 {
			t.Errorf("%d streams, want 1", got)
		}
		cancel()
		if s, err, ok := pull(); ok {
			t.Errorf("after the cancellation: %+v, %v", s, err)
		}
		stop()
		for range maxStreams { // blocks until the proxy has ended the stream
			server.streams <- struct{}{}
		}
		for range maxStreams {
			<-server.streams
		}
	}
}

func TestTooManyWatchers(t *testing.T) {
	_, _, path := serve(t)
	for range maxStreams {
		pull, stop := iter.Pull2(Watch(t.Context(), path))
		defer stop()
		next(t, pull)
	}
	for _, err := range Watch(t.Context(), path) {
		if !errors.Is(err, ErrBusy) {
			t.Errorf("one more: %v, want %v", err, ErrBusy)
		}
	}
	if _, err := Ask(t.Context(), path); err != nil {
		t.Errorf("a question meanwhile: %v", err)
	}
}

func TestUnknownVersionAndRequest(t *testing.T) {
	_, _, path := serve(t)
	_, err := ask(t.Context(), path, 2, "status", nil)
	if e, ok := errors.AsType[*VersionError](err); !ok || e.Asked != 2 || !slices.Equal(e.Versions, []int{Version}) {
		t.Errorf("version 2: %v, want a *VersionError", err)
	}
	_, err = ask(t.Context(), path, Version, "paste", nil)
	if !errors.Is(err, ErrUnknownRequest) {
		t.Errorf("an unknown request: %v, want %v", err, ErrUnknownRequest)
	}
}

// After an upgrade, proxies of the version before run on, and a shell may still find the old
// program. They know GET /status only.
func TestProxiesFromBeforeVersions(t *testing.T) {
	want := Status{PID: 8, Upstream: "https://mcp.example/mcp", Profile: "default", Tunnel: &Tunnel{Phase: "up"}}
	path := filepath.Join(t.TempDir(), "run", "1-OLD.sock")
	l, err := localsock.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(want) })
	old := &http.Server{Handler: mux}
	go old.Serve(l) // ends with Close
	defer old.Close()
	if got, err := Ask(t.Context(), path); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("an old proxy: %+v, %v, want %+v", got, err, want)
	}

	p, _, path := serve(t)
	want, _ = p.current()
	body, err := ask(t.Context(), path, 0, "status", nil)
	if err != nil {
		t.Fatal("an old program asks:", err)
	}
	defer body.Close()
	var got Status
	if err := json.NewDecoder(body).Decode(&got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("an old program got %+v, %v, want %+v", got, err, want)
	}
}

// Another program answers 404 in net/http's words.
func TestProxyOfUnknownVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "1-OTHER.sock")
	l, err := localsock.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	go server.Serve(l) // ends with Close
	defer server.Close()
	_, err = Ask(t.Context(), path)
	if e, ok := errors.AsType[*VersionError](err); !ok || len(e.Versions) != 0 {
		t.Errorf("got %v, want a *VersionError", err)
	}
}

func TestSocketOfADeadProxyIsRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "1-DEAD.sock")
	l, err := localsock.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Leave()
	if _, err := Ask(t.Context(), path); err == nil {
		t.Error("a dead proxy answers")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// TestWireFormat shows what doc.go promises to readers that are not this package.
func TestWireFormat(t *testing.T) {
	_, _, path := serve(t)
	body, err := ask(t.Context(), path, Version, "status", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"pid":7,"started":"2001-09-09T01:46:40Z","upstream":"https://mcp.example/mcp","profile":"default","via":"bastion",` +
		`"tunnel":{"phase":"down","hop":"bastion","error":"no route"}}` + "\n"
	if string(text) != want || !json.Valid(text) {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestDirs(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the paths are those of Unix")
	}
	dirs := Dirs("/run/here", "/state")
	if want := []string{"/run/here/sallyport", "/state/run"}; !slices.Equal(dirs, want) {
		t.Errorf("got %q, want %q", dirs, want)
	}
	if dirs := Dirs("relative", ""); slices.Contains(dirs, "relative/sallyport") {
		t.Errorf("a relative directory is used: %q", dirs)
	}
}

// A proxy takes the next directory, and says why it has none.
func TestServeInTheNextDirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing on Windows")
	}
	open, own := filepath.Join(t.TempDir(), "sallyport"), filepath.Join(t.TempDir(), "run")
	os.Mkdir(open, 0o700)
	os.Chmod(open, 0o777)
	server, err := Serve([]string{open, own}, Handlers{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	paths, refused := Sockets([]string{open, own})
	if len(paths) != 1 || filepath.Dir(paths[0]) != own || len(refused) != 1 {
		t.Errorf("sockets %q, refused %v, want one in %s", paths, refused, own)
	}
	_, err = Serve([]string{open}, Handlers{})
	for _, err := range append(refused, err) {
		if e, ok := errors.AsType[*localsock.DirError](err); !ok || e.Dir != open {
			t.Errorf("got %v, want a *DirError of %s", err, open)
		}
	}
}

// Sockets that answer only when all are asked show that none waits for another.
func TestAskAllAsksAtTheSameTime(t *testing.T) {
	const count = 40
	dir := filepath.Join(t.TempDir(), "run")
	var all sync.WaitGroup
	all.Add(count)
	var paths []string
	for i := range count {
		path := filepath.Join(dir, fmt.Sprintf("%d.sock", i))
		l, err := localsock.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			all.Done()
			all.Wait()
			w.Write([]byte(`{"pid":7}`))
		})}
		go server.Serve(l) // ends with Close
		defer server.Close()
		paths = append(paths, path)
	}
	for i, a := range AskAll(t.Context(), paths) {
		if a.Err != nil || a.Status.PID != 7 || a.Path != paths[i] {
			t.Errorf("%s: %+v, %v", a.Path, a.Status, a.Err)
		}
	}
}
