package command

import (
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/control"
	"sallyport/oauth"
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
		{"nothing", statusReport{}, []string{"nothing is stored", "no proxy runs here"}},
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
		{"a proxy", statusReport{Proxies: []control.Status{{
			PID: 7, Started: now, Upstream: "https://mcp.example/mcp", Profile: "work", Via: "bastion", SignIn: "pending",
			Tunnel: &control.Tunnel{Phase: "down", Error: "no route"}, Callback: &control.Tunnel{Phase: "idle"},
		}}}, []string{
			"proxy 7 to https://mcp.example/mcp, profile work, since 2026-01-02 03:04:05",
			"  tunnel   via bastion: down: no route", "  callback idle", "  sign-in  pending",
		}},
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
