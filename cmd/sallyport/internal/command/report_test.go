package command

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/control"
	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/share"
	"sallyport/oauth"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/mux"
)

func TestReport(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	stored := func(change func(*oauth.Account)) storedAccount {
		account := oauth.Account{Upstream: "https://mcp.example/mcp?key=s3cret", Realm: "work via bastion:22", SignedIn: true, Refreshable: true}
		change(&account)
		return newStoredAccount(account)
	}
	for _, tt := range []struct {
		name   string
		report statusReport
		want   []string // lines
	}{
		{"nothing", statusReport{dir: "/var/ada"}, []string{"nothing is stored in /var/ada", "no proxy runs here"}},
		{"an account", statusReport{Accounts: []storedAccount{stored(func(a *oauth.Account) {
			a.Issuer, a.Name, a.Scopes, a.Expiry = "https://as.example", "ada\x1b[2J", []string{"a", "b"}, now.Add(90*time.Second)
		})}}, []string{
			"https://mcp.example/mcp", "  profile  work", "  route    via bastion:22", "  issuer   https://as.example", "  account  ada [2J",
			"  scopes   a b", "  token    until 2026-01-02 03:05:35 (1m30s), then renewed by itself",
		}},
		{"an identity provider", statusReport{Accounts: []storedAccount{newStoredAccount(oauth.Account{
			Upstream: "https://idp.example", Realm: "work", IdentityProvider: true, Issuer: "https://idp.example", Name: "ada",
			UsedBy: []string{"https://a.example/mcp", "https://b.example/mcp"}, SignedIn: true, Refreshable: true, Expiry: now.Add(time.Minute),
		})}}, []string{
			"https://idp.example (identity provider)", "  profile  work", "  account  ada",
			"  used by  https://a.example/mcp https://b.example/mcp", "  ID token until 2026-01-02 03:05:05 (1m0s), then renewed by itself",
		}},
		{"expired", statusReport{Accounts: []storedAccount{stored(func(a *oauth.Account) { a.Expiry = now.Add(-time.Second) })}},
			[]string{"  token    expired 2026-01-02 03:04:04, renewed by itself"}},
		{"no refresh token", statusReport{Accounts: []storedAccount{stored(func(a *oauth.Account) { a.Refreshable = false })}},
			[]string{"  token    valid for an unknown time, then sallyport login is needed"}},
		{"only a refresh token", statusReport{Accounts: []storedAccount{stored(func(a *oauth.Account) { a.SignedIn = false })}},
			[]string{"  token    none, renewed at the next use"}},
		{"a registration", statusReport{Accounts: []storedAccount{stored(func(a *oauth.Account) { a.SignedIn, a.Refreshable = false, false })}},
			[]string{"  token    none, not signed in"}},
		{"a dead refresh token", statusReport{Accounts: []storedAccount{stored(func(a *oauth.Account) {
			a.SignedIn, a.Refreshable, a.Problem = false, false, "sign-in at https://as.example/token: refresh: invalid_grant"
		})}}, []string{"  token    none, not signed in", "  problem  sign-in at https://as.example/token: refresh: invalid_grant",
			"  hint     sallyport login URL, in a terminal, signs in again; a proxy does so at its next call"}},
		{"a login with a code", statusReport{Proxies: []control.Status{{Link: "https://as.example/device", UserCode: "ABCD", LinkExpires: now.Add(time.Minute)}}},
			[]string{"  link     https://as.example/device, with the code ABCD (1m0s left)"}},
		{"a login with a code beside its link", statusReport{Proxies: []control.Status{{Link: "http://127.0.0.1:1/start/A", UserCode: "ABCD",
			CodeURL: "https://as.example/device", LinkExpires: now.Add(time.Minute)}}},
			[]string{"  link     http://127.0.0.1:1/start/A, or the code ABCD at https://as.example/device on any device (1m0s left)"}},
		{"a login whose link would hold a secret", statusReport{Proxies: []control.Status{{UserCode: "ABCD",
			CodeURL: "https://as.example/device", LinkExpires: now.Add(time.Minute)}}},
			[]string{"  link     the code ABCD at https://as.example/device on any device (1m0s left)"}},
		{"a proxy", statusReport{Proxies: []control.Status{{
			PID: 7, Started: now, Upstream: "https://mcp.example/mcp", Profile: "work", Via: "bastion", SignIn: "pending",
			Tunnel: &control.Tunnel{Phase: "down", Error: "no route"}, Callback: &control.Tunnel{Phase: "idle"},
		}}}, []string{
			"proxy 7 to https://mcp.example/mcp, profile work, since 2026-01-02 03:04:05",
			"  tunnel   via bastion: down: no route", "  callback idle", "  sign-in  pending",
		}},
		{"a proxy that shares", statusReport{Proxies: []control.Status{{PID: 7, Started: now, Via: "bastion", Tunnel: &control.Tunnel{Phase: "up", SharedBy: 4711}}}},
			[]string{"  tunnel   via bastion: up, through the shared connection 4711"}},
		{"a shared connection", statusReport{Shared: []sharedConnection{newSharedConnection(explain.Explainer{}, share.Shown{Status: mux.Status{
			PID: 4711, Version: "v1.0.0", Started: now, Hops: []string{"bastion", "inner"}, Addresses: []string{"ada@192.0.2.1:22", "ada@inner:2222"},
			Phase: "up", Since: now.Add(-90 * time.Second), RoundTrip: 10250 * time.Microsecond, Attached: 3,
			Traffic: mux.Traffic{Streams: 2, Opened: 17, BytesIn: 3 << 30, BytesOut: 1500, Connections: 2},
			Users: []mux.User{
				{PID: 7, Purpose: "https://mcp.example/mcp\x1b[2J", Hops: []string{"bastion", "inner"}, Since: now},
				{PID: 8, Purpose: "sallyport callback", Waiting: true},
			},
			Term: mux.Term{EndsAt: now.Add(8 * time.Hour), IdleEndsAt: now.Add(10 * time.Minute)},
		}})}}, []string{
			"shared connection 4711 through ada@192.0.2.1:22, ada@inner:2222, since 2026-01-02 03:04:05",
			"  state    up for 1m30s, 2 connections, round trip 10.2 ms", "  streams  2 open, 17 in all, 3.0 GiB in, 1.5 KiB out",
			"  used by  7 via bastion, inner: https://mcp.example/mcp [2J", "  used by  8: sallyport callback (waits)", "  used by  1 more",
			"  ends     in 8h0m0s, unused in 10m0s",
		}},
		{"a shared connection that is in trouble", statusReport{Shared: []sharedConnection{newSharedConnection(explain.Explainer{}, share.Shown{Status: mux.Status{
			PID: 4711, Hops: []string{"bastion"}, Addresses: []string{"ada@192.0.2.1:22"}, Phase: "dialing", State: &mux.State{
				Hop: new(int), Notice: &mux.Notice{Text: "Confirm the push.\nhttps://push.example"},
				Error: sshtunnel.EncodeError(&sshtunnel.HopError{Hop: "bastion", Stage: sshtunnel.StageConnect, Err: syscall.ECONNREFUSED}, []string{"bastion"}),
			}, Term: mux.Term{Draining: true},
		}})}}, []string{
			"  state    dialing bastion", "  says     Confirm the push.; https://push.example",
			"  problem  hop bastion: connect: connection refused", "  hint     nothing listens there; check HostName and Port: sallyport ssh-config bastion",
			"  ends     with its last stream; it takes no new one",
		}},
		{"a silent shared connection", statusReport{Shared: []sharedConnection{newSharedConnection(explain.Explainer{}, share.Shown{
			Path: "/run/x.sock", Err: &share.SilentError{Path: "/run/x.sock", Err: context.DeadlineExceeded},
		})}}, []string{"shared connection at /run/x.sock", "  problem  the shared connection at /run/x.sock is silent",
			"  hint     nobody waits for it: the next need of a connection starts another one"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			if err := tt.report.write(&out, now); err != nil {
				t.Fatal(err)
			}
			for _, line := range tt.want {
				if !strings.Contains("\n"+out.String(), "\n"+line+"\n") {
					t.Errorf("no line %q in:\n%s", line, &out)
				}
			}
			if strings.Contains(out.String(), "s3cret") {
				t.Errorf("the report shows a secret:\n%s", &out)
			}
		})
	}
}
