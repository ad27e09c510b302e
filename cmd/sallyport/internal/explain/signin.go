package explain

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
	"sallyport/oauth/asclient"
)

// signInRows explain the errors of oauth. The errors of a step that could not reach its server are
// left to networkRows.
var signInRows = []row{
	on(func(e *oauth.PortBusyError) Explanation {
		return Explanation{Kind: KindPort, Text: e.Error(), Hints: portHints(e.Addr), Status: StatusFailed}
	}),
	as[*oauth.LoginRequiredError](Explanation{Kind: KindSignIn, Status: StatusSignIn, Hints: []string{
		"sallyport login URL, in a terminal, with the same settings but OAUTH2_INTERACTIVE=true",
	}}),
	on(func(e *oauth.TokenRefusedError) Explanation {
		return Explanation{Kind: KindRefused, Final: e, Status: StatusSignIn, Hints: []string{
			"the server gave a token that the upstream refuses: check --scope, --resource and --audience with its operator",
			"sallyport logout URL forgets the token; then sign in again, with another account if you have one",
		}}
	}),
	on(func(e *session.PrivateAddressError) Explanation {
		return Explanation{Kind: KindMetadata, Status: StatusSignIn, Hints: []string{
			fmt.Sprintf("if %s is a login server that you trust, name it: OAUTH2_AUTHORIZATION_URL, OAUTH2_TOKEN_URL and --client-id", e.Addr),
		}}
	}),
	unlessNetwork(as[*asclient.DiscoveryError](Explanation{Kind: KindMetadata, Status: StatusSignIn, Hints: []string{
		"is this the URL of the MCP endpoint, with its path?",
		"a server without metadata needs OAUTH2_AUTHORIZATION_URL, OAUTH2_TOKEN_URL and --client-id",
	}})),
	unlessNetwork(explainSignIn),
}

// explainSignIn explains a sign-in that failed. It is final if the server refused, because the
// server would refuse again.
func explainSignIn(err error) (Explanation, bool) {
	e, ok := errors.AsType[*asclient.SignInError](err)
	if !ok {
		return Explanation{}, false
	}
	out := Explanation{Kind: KindSignIn, Status: StatusSignIn, Hints: signInHints(e)}
	if e.Refused {
		out.Kind, out.Final = KindRefused, err
	}
	return out, true
}

// unlessNetwork leaves to later rows a sign-in that failed because a server could not be reached:
// what the network says explains more.
func unlessNetwork(explains row) row {
	return func(err error) (Explanation, bool) {
		_, dns := errors.AsType[*net.DNSError](err)
		_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
		if dns || certificate || isNetworkError(err) {
			return Explanation{}, false
		}
		return explains(err)
	}
}

// isSignInError reports whether a sign-in ended with err. The upstream has then answered 401 or 403
// to the request.
func isSignInError(err error) bool {
	_, signIn := errors.AsType[*asclient.SignInError](err)
	_, discovery := errors.AsType[*asclient.DiscoveryError](err)
	_, port := errors.AsType[*oauth.PortBusyError](err)
	_, required := errors.AsType[*oauth.LoginRequiredError](err)
	_, refused := errors.AsType[*oauth.TokenRefusedError](err)
	return signIn || discovery || port || required || refused
}

// signInHints says what to do about a failed sign-in. The codes in quotes are those of RFC 6749
// sections 4.1.2.1 and 5.2, and the others are our own.
func signInHints(e *asclient.SignInError) []string {
	switch {
	case errors.Is(e, oauth.ErrNotCompleted):
		return []string{
			"open the link that was shown; --callback-timeout gives more time",
			"is the browser on another machine? there, run: sallyport callback HOST",
		}
	case errors.Is(e, oauth.ErrHeldBack):
		return []string{"sallyport login URL, in a terminal, opens a login page at once; so does the tool sallyport_sign_in of the MCP host"}
	case e.Code == asclient.CodePKCE:
		return []string{"if the server is known to support PKCE with S256 and only omits it from its metadata: --pkce assume"}
	case e.Stage == asclient.StageExchange:
		return []string{"is the ID token of --id-token-file fresh, and --idp-client-id the client that it was issued to?"}
	case e.Code == "invalid_grant":
		return []string{
			"sallyport login URL, in a terminal, tries again",
			"with --assertion-file: is its JWT fresh, and its audience the authorization server's issuer?",
		}
	case e.Code == asclient.CodeNoClient:
		return []string{"the server registers no clients by itself: ask its operator for a client and give --client-id"}
	case e.Code == "access_denied":
		return []string{"the login was refused by you or by the server; sallyport login URL tries again"}
	case e.Code == "invalid_client" || e.Code == "unauthorized_client":
		return []string{"check --client-id, the client's secret and --auth-style; its registration must allow this grant"}
	case e.Code == "invalid_scope":
		return []string{"check --scope with the server's operator"}
	case e.Code == asclient.CodeResourceMismatch:
		return []string{"the server's metadata names another URL; use that one, and --via HOST if it is behind a bastion"}
	case e.Code == asclient.CodeInsecureURL:
		return []string{"the server's metadata names a cleartext URL; --allow-insecure-http accepts it"}
	}
	return []string{"sallyport login URL, in a terminal, tries again"}
}

// portHints says what to do if the callback's port is in use. The redirect URI contains the port,
// and a server may insist on the registered one.
func portHints(addr string) []string {
	_, port, _ := net.SplitHostPort(addr)
	return []string{
		fmt.Sprintf("end the process that holds port %s, or choose ports that the client has registered: --callback-port N[,N] (callback: --port)", port),
	}
}
