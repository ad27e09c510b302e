package command

import (
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/control"
)

func TestStatusScreen(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	report := statusReport{Version: 1, Accounts: []storedAccount{}, Shared: []sharedConnection{}, Proxies: []control.Status{{
		PID: 7, Upstream: "https://mcp.example/mcp", Profile: "default", Started: now, SignIn: "pending",
		Link: "http://127.0.0.1:53682/start/x", LinkExpires: now.Add(90 * time.Second),
		Via: "bastion", Tunnel: &control.Tunnel{Phase: "down", Error: "\x1b]0;evil\x07"},
	}}}
	var out strings.Builder
	s := statusScreen{out: &out, live: true, colored: true}
	for range 2 {
		if err := s.show(report, now); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"\x1b[1mproxy 7 to https://mcp.example/mcp, profile default, since 2026-01-02 03:04:05\x1b[0m\x1b[K\n",
		"\x1b[31m  tunnel   via bastion: down:  ]0;evil \x1b[0m",
		"\x1b[33m  link     http://127.0.0.1:53682/start/x (1m30s left)\x1b[0m",
	} {
		if strings.Count(out.String(), want) != 2 {
			t.Errorf("%q is not shown twice in %q", want, &out)
		}
	}

	// Elsewhere a status is printed once, without escape sequences, although its times pass.
	for _, asJSON := range []bool{false, true} {
		out.Reset()
		s = statusScreen{out: &out, asJSON: asJSON}
		s.show(report, now)
		s.show(report, now.Add(time.Minute))
		if strings.Contains(out.String(), "\x1b") || strings.Count(out.String(), "https://mcp.example/mcp") != 1 {
			t.Errorf("JSON %t: got %q", asJSON, &out)
		}
		if asJSON && strings.Count(out.String(), "\n") != 1 {
			t.Errorf("more than a line: %q", &out)
		}
	}
}
