package main

import (
	"errors"
	"strings"
	"testing"

	"sallyport/oauth"
)

func TestSignInHints(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  oauth.SignInError
		want string
	}{
		{"PKCE not advertised", oauth.SignInError{Stage: oauth.StageDiscovery, Code: oauth.CodePKCE}, "--pkce assume"},
		{"identity provider", oauth.SignInError{Stage: oauth.StageExchange, Code: "invalid_grant"}, "--id-token-file"},
		{"assertion", oauth.SignInError{Stage: oauth.StageToken, Code: "invalid_grant"}, "--assertion-file"},
		{"no client", oauth.SignInError{Stage: oauth.StageRegister, Code: oauth.CodeNoClient}, "--client-id"},
	} {
		tt.err.Refused = true
		if e := explain(&tt.err); e.status != statusSignIn || e.final == nil || !strings.Contains(strings.Join(e.hints, "\n"), tt.want) {
			t.Errorf("%s: status %d, hints %q, want one with %s", tt.name, e.status, e.hints, tt.want)
		}
	}
	unreadable := &oauth.SignInError{Stage: oauth.StageToken, Code: oauth.CodeNoAssertion, Refused: true, Err: &usageError{text: "assertion file: gone"}}
	if e := explain(unreadable); e.status != statusUsage || e.final == nil || !errors.Is(e.final, unreadable) {
		t.Errorf("an assertion that cannot be read: %+v", e)
	}
}
