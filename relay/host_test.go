package relay

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/relay/rawjson"
	"sallyport/relay/relaytest"
)

const version = "2025-11-25"

// Values of Config.maxMessage and Config.maxCalls that a test reaches soon.
const (
	smallLimit = 1 << 20
	fewCalls   = 8
)

const (
	initLine        = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"h","version":"1"}}}`
	toolsChanged    = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	initializedLine = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
)

// host plays the MCP host on the two pipes of a Run.
type host struct {
	t      *testing.T
	in     *io.PipeWriter
	out    *io.PipeReader
	lines  chan string
	result chan error
	cancel context.CancelFunc
}

// rememberLegacy is a Config.Load for servers that are not asked what they speak.
func rememberLegacy(name string) ([]byte, error) {
	if name == memoryEra {
		return rawjson.Quote(string(legacyEra)), nil
	}
	return nil, nil
}

// start runs a session with cfg, whose pipes it fills in.
func start(t *testing.T, cfg Config) *host {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	h := &host{t: t, in: inW, out: outR, lines: make(chan string, 4096), result: make(chan error, 1)}
	cfg.In, cfg.Out = inR, outW
	if cfg.URL == nil {
		cfg.URL = mustURL(relaytest.URL)
	}
	if cfg.Load == nil {
		cfg.Load = rememberLegacy
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	h.cancel = cancel
	go func() {
		err := Run(ctx, cfg)
		outW.Close()
		h.result <- err
	}()
	go func() {
		defer close(h.lines)
		r := bufio.NewReader(outR)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				if line != "" {
					t.Errorf("half a line: %q", line)
				}
				return
			}
			h.lines <- strings.TrimSuffix(line, "\n")
		}
	}()
	t.Cleanup(func() { cancel(); inW.Close(); outR.Close() })
	return h
}

// open starts a session with the server's script behind the usual opening, and opens it.
func open(t *testing.T, cfg Config, script ...relaytest.Exchange) (*host, *relaytest.Server) {
	t.Helper()
	srv := relaytest.New(t, append(relaytest.Opening(version), script...)...)
	if cfg.Send == nil {
		cfg.Send = srv.Transport()
	}
	h := start(t, cfg)
	h.open()
	return h, srv
}

func (h *host) open() {
	h.t.Helper()
	h.send(initLine)
	if got := h.recv(); !strings.Contains(got, `"protocolVersion"`) {
		h.t.Fatalf("initialize: %s", got)
	}
	h.send(initializedLine)
}

func (h *host) send(line string) {
	h.t.Helper()
	if _, err := io.WriteString(h.in, line+"\n"); err != nil {
		h.t.Fatalf("writing to the relay: %v", err)
	}
}

func (h *host) recv() string {
	h.t.Helper()
	select {
	case line, ok := <-h.lines:
		if !ok {
			h.t.Fatal("the relay ended its output")
		}
		return line
	case <-time.After(24 * time.Hour): // of a bubble's time: something else ticks on
		h.t.Fatal("no line comes")
	}
	return ""
}

// want receives a line and compares.
func (h *host) want(want string) {
	h.t.Helper()
	if got := h.recv(); got != want {
		h.t.Errorf("line\n got %.600s\nwant %.600s", got, want)
	}
}

// wantAll receives as many lines and compares them in any order.
func (h *host) wantAll(want ...string) {
	h.t.Helper()
	var got []string
	for range want {
		got = append(got, h.recv())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		h.t.Errorf("lines\n got %q\nwant %q", got, want)
	}
}

// close ends In, waits for Run and reports every line that was not received.
func (h *host) close() error {
	h.t.Helper()
	h.in.Close()
	err := <-h.result
	for line := range h.lines {
		h.t.Errorf("one line too many: %.600s", line)
	}
	return err
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}
