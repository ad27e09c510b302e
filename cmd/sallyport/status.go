package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sallyport/oauth"
)

// statusReport is what `sallyport status --json` prints.
type statusReport struct {
	Accounts []storedAccount `json:"accounts"`
	Proxies  []proxyStatus   `json:"proxies"`
}

// storedAccount is an oauth.Account whose Realm is taken apart again.
type storedAccount struct {
	oauth.Account
	Realm   string `json:"-"`
	Profile string `json:"profile,omitempty"`
	Route   string `json:"route,omitempty"` // "direct" or "via HOST:PORT"
}

// Run prints what is stored and which proxies run.
func (c *statusCommand) Run(ctx context.Context, a *app) error {
	report := statusReport{Accounts: []storedAccount{}, Proxies: []proxyStatus{}}
	dir := cmp.Or(c.StateDir, stateDir(a.env))
	if isDir(dir) && c.TokenStore != "memory" { // else nothing is stored, and nothing should be made
		store, err := a.openStore(&upstreamFlags{storeFlags: c.storeFlags})
		if err != nil {
			return err
		}
		list, err := oauth.Accounts(store)
		if err != nil {
			a.log.Warn("not all of the store can be read", "err", err)
		}
		for _, account := range list {
			report.Accounts = append(report.Accounts, stored(account))
		}
	}
	report.Proxies = append(report.Proxies, proxies(ctx, controlDirs(a.env, dir))...)
	slices.SortFunc(report.Accounts, func(a, b storedAccount) int {
		return cmp.Or(cmp.Compare(a.Upstream, b.Upstream), cmp.Compare(a.Profile+a.Route, b.Profile+b.Route))
	})
	slices.SortFunc(report.Proxies, func(a, b proxyStatus) int { return a.Started.Compare(b.Started) })
	if c.JSON {
		encoder := json.NewEncoder(a.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	return report.write(a.out, time.Now())
}

// stored takes account's Realm, as build makes it, apart.
func stored(account oauth.Account) storedAccount {
	s := storedAccount{Account: account}
	s.Upstream = beforeQuery(s.Upstream) // which may hold a secret
	if profile, ok := strings.CutSuffix(account.Realm, " direct"); ok {
		s.Profile, s.Route = profile, "direct"
	} else if i := strings.LastIndex(account.Realm, " via "); i >= 0 {
		s.Profile, s.Route = account.Realm[:i], account.Realm[i+1:]
	}
	return s
}

func (r statusReport) write(out io.Writer, now time.Time) error {
	var b strings.Builder
	if len(r.Accounts) == 0 {
		b.WriteString("nothing is stored\n")
	}
	for _, s := range r.Accounts {
		fmt.Fprintf(&b, "%s\n", s.Upstream)
		for _, row := range [][2]string{
			{"profile", s.Profile}, {"route", s.Route}, {"issuer", s.Issuer}, {"account", s.Name},
			{"scopes", strings.Join(s.Scopes, " ")}, {"token", s.token(now)},
		} {
			if row[1] != "" {
				fmt.Fprintf(&b, "  %-8s %s\n", row[0], oneLine(row[1]))
			}
		}
	}
	if len(r.Proxies) == 0 {
		b.WriteString("no proxy runs here\n")
	}
	for _, p := range r.Proxies {
		fmt.Fprintf(&b, "proxy %d to %s, profile %s, since %s\n", p.PID, p.Upstream, p.Profile, p.Started.Local().Format(time.DateTime))
		if p.Tunnel != nil {
			fmt.Fprintf(&b, "  %-8s via %s: %s\n", "tunnel", p.Via, p.Tunnel)
		}
		if p.Callback != nil {
			fmt.Fprintf(&b, "  %-8s %s\n", "callback", p.Callback)
		}
		if p.SignIn != "" {
			fmt.Fprintf(&b, "  %-8s %s\n", "sign-in", p.SignIn)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (t *tunnelStatus) String() string {
	s := t.Phase
	if t.Error != "" {
		s += ": " + t.Error
	}
	return s
}

// token says how long the token is good for and what comes after.
func (s storedAccount) token(now time.Time) string {
	next := "then sallyport login is needed"
	if s.Refreshable {
		next = "then renewed by itself"
	}
	switch {
	case !s.SignedIn && s.Refreshable:
		return "none, renewed at the next use"
	case !s.SignedIn:
		return "none, not signed in"
	case s.Expiry.IsZero():
		return "of unknown life, " + next
	case !now.Before(s.Expiry):
		return fmt.Sprintf("expired %s, %s", s.Expiry.Local().Format(time.DateTime), strings.TrimPrefix(next, "then "))
	}
	return fmt.Sprintf("until %s (%s), %s", s.Expiry.Local().Format(time.DateTime), s.Expiry.Sub(now).Round(time.Second), next)
}
