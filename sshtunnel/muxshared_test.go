//go:build !windows

package sshtunnel

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshconfig"
)

// overShared makes all tunnels of the tests go through a shared connection: the tests of a tunnel
// hold for both. `make test` runs them both ways.
var overShared = os.Getenv("SALLYPORT_TEST_SHARED") == "1"

// share is a server in this process.
type share struct {
	*Server
	// path is that of its socket.
	path string
	// done is closed when Serve has returned.
	done chan struct{}
}

// startShare starts a server. It is stopped at the end of the test.
func startShare(t *testing.T, cfg ServerConfig) *share {
	t.Helper()
	if cfg.Tunnel.Log == nil {
		cfg.Tunnel.Log = testLog(t).With("side", "share")
	}
	cfg.Log = cfg.Tunnel.Log
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "share") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	sh := &share{Server: s, path: filepath.Join(dir, "s"), done: make(chan struct{})}
	ln, err := net.Listen("unix", sh.path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends by Stop
		defer close(sh.done)
		s.Serve(ln)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-sh.done
		os.RemoveAll(dir)
	})
	return sh
}

// dialer returns a mux.Dialer that leads to the server.
func (s *share) dialer() mux.Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.path)
	}
}

// wayTo leads to the server that now returns, by one key.
func wayTo(key string, now func() *share) func(context.Context, []*sshconfig.Host) (mux.Way, error) {
	return func(context.Context, []*sshconfig.Host) (mux.Way, error) {
		return mux.Way{Key: key, Find: func(context.Context) (mux.Dialer, error) { return now().dialer(), nil }}, nil
	}
}

// shares has the server of each sharedTunnel.
var shares sync.Map

// sharedTunnel makes the tunnel of cfg that goes through a server of its own.
func sharedTunnel(t *testing.T, cfg Config) *Tunnel {
	t.Helper()
	server := cfg
	server.Log = nil
	cfg.Trace, cfg.Refusals = nil, nil
	sh := startShare(t, ServerConfig{Tunnel: server})
	cfg.Shared = wayTo("test", func() *share { return sh })
	tun, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	shares.Store(tun, sh)
	context.AfterFunc(tun.ctx, sh.Stop)
	t.Cleanup(func() { tun.Close() })
	return tun
}
