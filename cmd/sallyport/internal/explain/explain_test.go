package explain

import (
	"errors"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/cli"
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
		if e := Error(&tt.err); e.Status != StatusSignIn || e.Final == nil || !strings.Contains(strings.Join(e.Hints, "\n"), tt.want) {
			t.Errorf("%s: status %d, hints %q, want one with %s", tt.name, e.Status, e.Hints, tt.want)
		}
	}
	unreadable := &asclient.SignInError{Stage: asclient.StageToken, Code: asclient.CodeNoAssertion, Refused: true, Err: &cli.UsageError{Text: "assertion file: gone"}}
	if e := Error(unreadable); e.Status != StatusUsage || e.Final == nil || !errors.Is(e.Final, unreadable) {
		t.Errorf("an assertion that cannot be read: %+v", e)
	}
}
