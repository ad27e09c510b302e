package command

import (
	"fmt"
	"io"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/control"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
)

// statusVersion is the version of the JSON of status. Members may be added within a version.
const statusVersion = 1

// statusReport is what `sallyport status --json` prints.
type statusReport struct {
	// Version is statusVersion.
	Version int `json:"version"`
	// Accounts are those of the store, sorted by upstream. The list may be empty, but not nil.
	Accounts []storedAccount `json:"accounts"`
	// Proxies are those that run here as this user, the oldest first. It is never nil either.
	Proxies []control.Status `json:"proxies"`
	// Shared are the shared connections of this user, the oldest first. It is never nil either.
	Shared []sharedConnection `json:"shared"`
	// Trusted are the hosts that may open a login page here without asking. It is never nil either.
	Trusted []callback.Trusted `json:"trusted"`
	// dir is the state directory that was looked at.
	dir string
}

// storedAccount is an oauth.Account whose realm is split into its parts.
type storedAccount struct {
	oauth.Account
	// Realm is not used. The tag makes encoding/json skip this field, so the JSON has the realm of
	// oauth.Account beside its parts.
	Realm string `json:"-"`
	// Profile is the name of --profile. It is empty if the realm cannot be parsed.
	Profile string `json:"profile,omitempty"`
	// Route is "direct" or "via HOST:PORT".
	Route string `json:"route,omitempty"`
	// Via is the value of --via as it was typed. It is empty if requests leave directly.
	Via string `json:"via,omitempty"`
	// SignOut is the command that signs out of this account. It is empty for one at an identity
	// provider, which ends with the upstreams that use it.
	SignOut string `json:"sign_out,omitempty"`
	// flags name the account beside its URL.
	flags string
}

// newStoredAccount makes the entry of one account. It cuts the query of the upstream's URL, which
// may hold a secret.
func newStoredAccount(account oauth.Account) storedAccount {
	s := storedAccount{Account: account}
	s.Upstream = session.BeforeQuery(s.Upstream)
	if s.IdentityProvider { // whose realm is the profile alone
		s.Profile = account.Realm
		return s
	}
	if realm, ok := session.ParseRealm(account.Realm); ok {
		s.Profile, s.Route = realm.Profile, realm.Route()
	}
	remark := session.RemarkOf(account)
	s.Via, s.flags = remark.Via, remark.Flags()
	s.SignOut = signOutCommand(s.Upstream, session.Remark{Profile: s.Profile}.Flags())
	return s
}

// nameSignOuts adds to the commands what tells accounts of one upstream and profile apart, and the
// state directory if the settings name one.
func nameSignOuts(accounts []storedAccount, stateDir string) {
	count := map[string]int{}
	for _, s := range accounts {
		count[s.SignOut]++
	}
	for i, s := range accounts {
		if count[s.SignOut] > 1 && s.SignOut != "" {
			accounts[i].SignOut = signOutCommand(s.Upstream, s.flags)
		}
		if stateDir != "" {
			accounts[i].SignOut = strings.Replace(accounts[i].SignOut, " logout ", " logout --state-dir "+session.ShellWord(stateDir)+" ", 1)
		}
	}
}

// route says how requests leave, with the name of the bastion that the person knows.
func (s storedAccount) route() string {
	address, isVia := strings.CutPrefix(s.Route, "via ")
	if !isVia || s.Via == "" || s.Via == address {
		return s.Route
	}
	return fmt.Sprintf("via %s (%s)", s.Via, address)
}

// write prints the report for people. The time now tells which tokens have expired.
func (r statusReport) write(out io.Writer, now time.Time) error {
	var b strings.Builder
	if len(r.Accounts) == 0 {
		fmt.Fprintf(&b, "nothing is stored in %s\n", r.dir)
	}
	for _, s := range r.Accounts {
		s.write(&b, now)
	}
	if len(r.Proxies) == 0 {
		b.WriteString("no proxy runs here\n")
	}
	for _, p := range r.Proxies {
		fmt.Fprintf(&b, "%s to %s, profile %s, since %s\n", processOf(p), p.Upstream, p.Profile, p.Started.Local().Format(time.DateTime))
		if p.Tunnel != nil {
			writeRow(&b, "tunnel", fmt.Sprintf("via %s: %s", p.Via, p.Tunnel))
		}
		if p.Callback != nil {
			writeRow(&b, "callback", p.Callback.String())
		}
		if p.Problem == nil || p.Problem.Text != p.SignIn {
			writeRow(&b, "sign-in", p.SignIn)
		}
		writeRow(&b, "link", linkText(p, now))
		writeProblem(&b, p.Problem)
	}
	for _, s := range r.Shared {
		s.write(&b, now)
	}
	for _, t := range r.Trusted {
		writeTitle(&b, "logins on "+t.Host+" open this browser without asking")
		writeRow(&b, "page", t.Origin)
		writeRow(&b, "issuer", t.Issuer)
		writeRow(&b, "client ID", t.Client)
		writeRow(&b, "upstream", t.Upstream)
		writeRow(&b, "since", t.Since.Local().Format(time.DateTime))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// linkText returns the link to a login that waits, or the code for it, or both, and how long it
// does.
func linkText(p control.Status, now time.Time) string {
	var ways []string
	switch {
	case p.UserCode != "" && p.CodeURL == "":
		ways = []string{p.Link + ", with the code " + p.UserCode}
	case p.Link != "":
		ways = []string{p.Link}
	}
	if p.CodeURL != "" {
		ways = append(ways, fmt.Sprintf("the code %s at %s on any device", p.UserCode, p.CodeURL))
	}
	text := strings.Join(ways, ", or ")
	if text == "" {
		return ""
	}
	return fmt.Sprintf("%s (%s left)", text, lasting(p.LinkExpires.Sub(now)))
}

// write prints one account. That of an identity provider names the upstreams that use it.
func (s storedAccount) write(b *strings.Builder, now time.Time) {
	issuer, token := s.Issuer, "token"
	fmt.Fprint(b, person.OneLine(s.Upstream))
	if s.IdentityProvider {
		fmt.Fprint(b, " (identity provider)")
		issuer, token = "", "ID token"
	}
	fmt.Fprintln(b)
	writeRow(b, "profile", s.Profile)
	writeRow(b, "route", s.route())
	writeRow(b, "issuer", issuer)
	writeRow(b, "account", s.Name)
	writeRow(b, "scopes", strings.Join(s.Scopes, " "))
	writeRow(b, "used by", strings.Join(s.UsedBy, " "))
	writeRow(b, token, s.token(now))
	if !s.Refreshed.IsZero() {
		writeRow(b, "renewed", fmt.Sprintf("%s (%s ago)", s.Refreshed.Local().Format(time.DateTime), lasting(now.Sub(s.Refreshed))))
	}
	writeRow(b, "sign out", s.SignOut)
	if s.Problem != "" {
		writeRow(b, "problem", s.Problem)
		writeRow(b, "hint", "sallyport login URL, in a terminal, signs in again; a proxy does so at its next call")
	}
}

// writeTitle prints the first line of a section.
func writeTitle(b *strings.Builder, text string) { fmt.Fprintln(b, person.OneLine(text)) }

// writeProblem prints what is wrong and what to do, if anything is.
func writeProblem(b *strings.Builder, p *control.Problem) {
	if p == nil {
		return
	}
	writeRow(b, "problem", p.Text)
	for _, hint := range p.Hints {
		writeRow(b, "hint", hint)
	}
}

// writeRow prints one property. It leaves out an empty one.
func writeRow(b *strings.Builder, name, value string) {
	if value != "" {
		fmt.Fprintf(b, "  %-8s %s\n", name, person.OneLine(value))
	}
}

// token says how long the access token is valid, and what comes after it.
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
		return "valid for an unknown time, " + next
	case !now.Before(s.Expiry):
		return fmt.Sprintf("expired %s, %s", s.Expiry.Local().Format(time.DateTime), strings.TrimPrefix(next, "then "))
	}
	return fmt.Sprintf("until %s (%s), %s", s.Expiry.Local().Format(time.DateTime), s.Expiry.Sub(now).Round(time.Second), next)
}
