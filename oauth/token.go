package oauth

import (
	"context"
	"encoding/json"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// token is what a token endpoint granted. It is stored as it is here; String hides it.
type token struct {
	Access   string    `json:"access,omitempty"`
	Type     string    `json:"type,omitempty"` // DPoP; "" Bearer
	Refresh  string    `json:"refresh,omitempty"`
	Scope    string    `json:"scope,omitempty"`   // granted; "" as asked (RFC 6749 section 5.1)
	Account  string    `json:"account,omitempty"` // of the ID token; "" none
	Obtained time.Time `json:"obtained,omitzero"`
	Expiry   time.Time `json:"expiry,omitzero"` // zero: the server did not say
}

func (token) String() string { return hidden }

// expired judges by the wall clock. One that was set back calls a dead token good: then
// the server decides.
func (k token) expired(now time.Time) bool {
	return !k.Expiry.IsZero() && !now.Before(k.Expiry)
}

// due reports that it is time to refresh: skew before expiry, but not in the first
// half of a short life.
func (k token) due(now time.Time, skew time.Duration) bool {
	if k.Expiry.IsZero() || now.Before(k.Obtained) {
		return false
	}
	return !now.Before(k.Expiry.Add(-min(skew, k.Expiry.Sub(k.Obtained)/2)))
}

// tokenReply is the answer of RFC 6749 section 5.1.
type tokenReply struct {
	Access    string          `json:"access_token"`
	Type      string          `json:"token_type"`
	Refresh   string          `json:"refresh_token"`
	Scope     string          `json:"scope"`
	IDToken   string          `json:"id_token"`
	ExpiresIn json.RawMessage `json:"expires_in"` // a number; some send a string, some 0 for "unknown"
}

// lifetime returns 0 for an expires_in that is absent, 0, negative or no number.
func lifetime(expiresIn json.RawMessage) time.Duration {
	s, err := strconv.Unquote(string(expiresIn))
	if err != nil {
		s = string(expiresIn)
	}
	secs, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || !(secs > 0) {
		return 0
	}
	return time.Duration(math.Min(secs, 100*365*24*3600) * float64(time.Second))
}

// grant sends form to the token endpoint of s as client c.
func (t *Transport) grant(ctx context.Context, stage string, s server, c client, form url.Values) (token, error) {
	if s.TokenEndpoint == "" {
		return token{}, &DiscoveryError{What: "token endpoint in the metadata of " + s.name()}
	}
	t.addExtra(form)
	sent := t.cfg.now() // before the server's own clock reading: expires early rather than late
	a, err := t.postProven(ctx, s.TokenEndpoint, s, c, form)
	if err != nil {
		return token{}, &SignInError{Stage: stage, Server: s.name(), Status: a.status, Err: err}
	}
	var r tokenReply
	if a.status/100 != 2 || json.Unmarshal(a.body, &r) != nil || r.Access == "" {
		return token{}, replyError(stage, s.TokenEndpoint, a.status, a.body, secretsOf(form, c))
	}
	k := token{Access: r.Access, Refresh: r.Refresh, Scope: r.Scope, Account: accountOf(r.IDToken), Obtained: sent}
	switch {
	case r.Type == "" || strings.EqualFold(r.Type, "Bearer"):
	case strings.EqualFold(r.Type, typeDPoP) && c.proofKey != nil:
		k.Type = typeDPoP
	default:
		return token{}, &SignInError{Stage: stage, Server: s.name(), Code: CodeBadReply, Refused: true, Description: "token_type " + r.Type}
	}
	if strings.ContainsFunc(r.Access, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return token{}, &SignInError{Stage: stage, Server: s.name(), Code: CodeBadReply, Refused: true, Description: "access_token with characters that no header may hold"}
	}
	if l := lifetime(r.ExpiresIn); l > 0 {
		k.Expiry = sent.Add(l)
	}
	return k, nil
}

// addExtra adds the configured parameters, none of which replaces one of ours.
func (t *Transport) addExtra(form url.Values) {
	for k, v := range t.cfg.ExtraParams {
		if !form.Has(k) && !reserved(k) {
			form.Set(k, v)
		}
	}
}

// reserved names the parameters that ExtraParams cannot set, in any request.
func reserved(name string) bool {
	switch name {
	case "response_type", "client_id", "client_secret", "redirect_uri", "request_uri", "state", "code", "code_challenge", "code_challenge_method",
		"code_verifier", "grant_type", "refresh_token", "client_assertion", "client_assertion_type", "assertion", "device_code", "dpop_jkt":
		return true
	}
	return false
}

// secretsOf lists what a request of ours holds that its answer may echo.
func secretsOf(form url.Values, c client) []string {
	list := []string{c.Secret, url.QueryEscape(c.Secret)}
	for _, k := range []string{"state", "code", "code_verifier", "refresh_token", "token", "client_secret", "client_assertion", "assertion", "subject_token", "device_code"} {
		list = append(list, form.Get(k))
	}
	return list
}
