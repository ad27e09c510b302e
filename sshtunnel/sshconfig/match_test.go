package sshconfig

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"
)

func TestMatchExecRunsTheShell(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs /bin/sh")
		}
		t.Skip("needs /bin/sh")
	}
	r := configResolver(t, "Match exec \"test %h = web && exit 0; exit 3\"\n User alice\n")
	r.system.run = nil
	for host, want := range map[string]string{"web": "alice", "db": "me"} {
		if h, err := r.Resolve(t.Context(), host); err != nil || h.User != want {
			t.Errorf("%s: user = %v, %v; want %s", host, h, err, want)
		}
	}
	r = configResolver(t, "Match exec \"sleep 1000\"\n User alice\n")
	r.system.run = nil
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	go cancel(gone)
	if _, err := r.Resolve(ctx, "web"); !errors.Is(err, gone) {
		t.Errorf("error = %v, want the cause of the context's end", err)
	}
}

func TestMatchRunsNothingAfterAFailedCriterion(t *testing.T) {
	r := configResolver(t, "Match host db exec no\nHost db\n Include inner\n")
	if err := os.MkdirAll(r.Home+"/.ssh", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Home+"/.ssh/inner", []byte("Match exec no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.system.run = func(_ context.Context, command string) (bool, error) {
		t.Errorf("%q was run", command)
		return true, nil
	}
	if _, err := r.Resolve(t.Context(), "web"); err != nil {
		t.Error(err)
	}
}

func TestMatchLocalNetwork(t *testing.T) {
	r := configResolver(t, "Match localnetwork 192.0.2.0/24,2001:db8::/32\n User alice\n")
	for addr, want := range map[string]string{"192.0.2.7": "alice", "2001:db8::7": "alice", "198.51.100.1": "me"} {
		r.system.addrs = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr(addr)}, nil }
		if h, err := r.Resolve(t.Context(), "web"); err != nil || h.User != want {
			t.Errorf("%s: %v, %v; want user %s", addr, h, err, want)
		}
	}
}
