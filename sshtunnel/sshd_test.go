//go:build !windows

package sshtunnel

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// fakeHost is the Host of an in-process server whose key is known.
func fakeHost(t *testing.T, alias string, s *sshtest.Server) *sshconfig.Host {
	t.Helper()
	h := openssh.NewHost(t, alias, s.Addr())
	writeFile(t, h.UserKnownHostsFiles[0], s.KnownHosts(""))
	return h
}

// startFake starts an in-process server that anybody may use, unless cfg says how to log in.
func startFake(t *testing.T, cfg sshtest.Config) *sshtest.Server {
	t.Helper()
	if cfg.AuthorizedKeys == nil && cfg.Password == "" && cfg.Challenges == nil && cfg.Stall != sshtest.StallAuth {
		cfg.NoAuth = true
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	cfg.Log = testLog(t)
	s, err := sshtest.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// newTunnel makes a tunnel over a fixed chain, closed at the end of the test.
func newTunnel(t *testing.T, ask func(context.Context, Question) (string, error), chain ...*sshconfig.Host) *Tunnel {
	t.Helper()
	return tunnelOf(t, Config{Ask: ask, Chain: func(context.Context) ([]*sshconfig.Host, error) { return chain, nil }})
}

func tunnelOf(t *testing.T, cfg Config) *Tunnel {
	t.Helper()
	cfg.Log = testLog(t)
	if overShared {
		return sharedTunnel(t, cfg)
	}
	tun, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tun.Close() })
	return tun
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// echo is a TCP server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, ln)
	return ln.Addr().String()
}

func serveEcho(t *testing.T, ln net.Listener) {
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with ln
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the peer
				defer c.Close()
				io.Copy(c, c)
				if half, ok := c.(interface{ CloseWrite() error }); ok {
					half.CloseWrite()
				}
			}()
		}
	}()
}

// checkEcho sends a line through conn and expects it back.
func checkEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	const want = "hello through the tunnel\n"
	if _, err := io.WriteString(conn, want); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Fatalf("echo: got %q", got)
	}
}

// leakTests numbers the calls of noLeak.
var leakTests atomic.Int64

// noLeak expects that f leaves no goroutine behind. It marks the goroutines with a label, which
// they inherit from each other, so that tests may run in parallel.
func noLeak(t *testing.T, f func()) {
	t.Helper()
	label := fmt.Sprintf("call %d", leakTests.Add(1))
	pprof.Do(t.Context(), pprof.Labels("noLeak", label), func(context.Context) { f() })
	openssh.Eventually(t, "all goroutines ended", func() bool {
		var all strings.Builder
		pprof.Lookup("goroutine").WriteTo(&all, 1)
		return !strings.Contains(all.String(), `"noLeak":"`+label+`"`)
	})
}

// waitPhase waits until the tunnel is in a phase.
func waitPhase(t *testing.T, tun *Tunnel, phase string) State {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		st, changed := tun.State()
		if st.Phase == phase {
			return st
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("phase %s (%v), want %s", st.Phase, st.Err, phase)
		}
	}
}
