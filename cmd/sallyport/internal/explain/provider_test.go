package explain

import (
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/oauth"
	"sallyport/oauth/asclient"
)

// TestProviderHints shows that what fails at the identity provider leads to its settings.
func TestProviderHints(t *testing.T) {
	refusal := func(stage, code string) error {
		return &asclient.SignInError{Stage: stage, Code: code, Status: 400, Refused: true, Server: "https://idp.example"}
	}
	var none, secret, file cli.Remote
	secret.IDPClientSecret, file.IDTokenFile = "s", "f"
	for _, tt := range []struct {
		name  string
		err   error
		given cli.Remote
		kind  string
		want  string
	}{
		{"no metadata", &asclient.DiscoveryError{What: "metadata"}, none, KindMetadata, "--idp-issuer"},
		{"another issuer", refusal(asclient.StageDiscovery, asclient.CodeIssuerMismatch), none, KindRefused, "--idp-issuer"},
		{"nobody came back", &asclient.SignInError{Stage: asclient.StageAuthorize, Err: oauth.ErrNotCompleted}, none, KindSignIn, "--callback-timeout"},
		{"denied", refusal(asclient.StageAuthorize, "access_denied"), none, KindRefused, "another account"},
		{"client at the sign-in", refusal(asclient.StageToken, "invalid_client"), none, KindRefused, "--idp-client-secret-file gives one"},
		{"client with a secret", refusal(asclient.StageToken, "invalid_client"), secret, KindRefused, "SALLYPORT_IDP_CLIENT_SECRET"},
		{"out of order", &asclient.SignInError{Stage: asclient.StageRefresh, Status: 503}, none, KindSignIn, "out of order"},
		{"client at the exchange", refusal(asclient.StageExchange, "invalid_client"), none, KindRefused, "--idp-client-id"},
		{"no exchange", refusal(asclient.StageExchange, "unsupported_grant_type"), none, KindRefused, "ID-JAG"},
		{"not this server", refusal(asclient.StageExchange, "invalid_target"), none, KindRefused, "administrator"},
		{"ID token of a file", refusal(asclient.StageExchange, "invalid_grant"), file, KindRefused, "--id-token-file"},
		{"ID token of a sign-in", refusal(asclient.StageExchange, "invalid_grant"), none, KindRefused, "sallyport login URL"},
	} {
		e := Explainer{Settings: tt.given}.Error(&oauth.ProviderError{Err: tt.err})
		hints := strings.Join(e.Hints, "\n")
		if e.Kind != tt.kind || e.Status != StatusSignIn || !e.NotRun || !strings.Contains(hints, tt.want) ||
			!strings.HasPrefix(e.Text, "identity provider: ") {
			t.Errorf("%s: got %+v, want kind %s and a hint with %s", tt.name, e, tt.kind, tt.want)
		}
		for _, flag := range []string{"--client-id", "--issuer ", "OAUTH2_"} {
			if strings.Contains(hints, flag) {
				t.Errorf("%s: the hints %q name a setting of the other server", tt.name, hints)
			}
		}
	}
}
