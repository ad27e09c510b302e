package explain

import (
	"errors"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/cli"
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
		if e := Error(&tt.err); e.Status != StatusSignIn || e.Final == nil || !strings.Contains(strings.Join(e.Hints, "\n"), tt.want) {
			t.Errorf("%s: status %d, hints %q, want one with %s", tt.name, e.Status, e.Hints, tt.want)
		}
	}
	unreadable := &oauth.SignInError{Stage: oauth.StageToken, Code: oauth.CodeNoAssertion, Refused: true, Err: &cli.UsageError{Text: "assertion file: gone"}}
	if e := Error(unreadable); e.Status != StatusUsage || e.Final == nil || !errors.Is(e.Final, unreadable) {
		t.Errorf("an assertion that cannot be read: %+v", e)
	}
}
