package main

import (
	"errors"
	"strings"
	"testing"

	"sallyport/oauth/asclient"
)

func TestSignInHints(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  asclient.SignInError
		want string
	}{
		{"PKCE not advertised", asclient.SignInError{Stage: asclient.StageDiscovery, Code: asclient.CodePKCE}, "--pkce assume"},
		{"identity provider", asclient.SignInError{Stage: asclient.StageExchange, Code: "invalid_grant"}, "--id-token-file"},
		{"assertion", asclient.SignInError{Stage: asclient.StageToken, Code: "invalid_grant"}, "--assertion-file"},
		{"no client", asclient.SignInError{Stage: asclient.StageRegister, Code: asclient.CodeNoClient}, "--client-id"},
	} {
		tt.err.Refused = true
		if e := explain(&tt.err); e.status != statusSignIn || e.final == nil || !strings.Contains(strings.Join(e.hints, "\n"), tt.want) {
			t.Errorf("%s: status %d, hints %q, want one with %s", tt.name, e.status, e.hints, tt.want)
		}
	}
	unreadable := &asclient.SignInError{Stage: asclient.StageToken, Code: asclient.CodeNoAssertion, Refused: true, Err: &usageError{text: "assertion file: gone"}}
	if e := explain(unreadable); e.status != statusUsage || e.final == nil || !errors.Is(e.final, unreadable) {
		t.Errorf("an assertion that cannot be read: %+v", e)
	}
}
