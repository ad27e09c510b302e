package explain

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"sallyport/cmd/sallyport/internal/session"
	"sallyport/oauth"
	"sallyport/oauth/asclient"
	"sallyport/sshtunnel"
)

// signInRows explain the errors of oauth. The errors of a step that could not reach its server are
// left to networkRows. None of them is final: a login server may be healed, a person may change
// their mind, and another process may sign in. A running proxy tells each call what is wrong.
var signInRows = []row{
	onGiven(func(g given, e *oauth.PortBusyError) Explanation {
		return Explanation{Kind: KindPort, Text: e.Error(), Hints: portHints(g, e.Addr), Status: StatusFailed}
	}),
	as[*oauth.LoginRequiredError](Explanation{Kind: KindSignIn, Status: StatusSignIn, Hints: []string{
		"sallyport login URL, in a terminal, with the same settings but OAUTH2_INTERACTIVE=true",
	}}),
	onGiven(func(g given, e *oauth.TokenRefusedError) Explanation {
		return Explanation{Kind: KindRefused, Status: StatusSignIn, Hints: tokenRefusedHints(g)}
	}),
	onGiven(func(g given, e *session.PrivateAddressError) Explanation {
		return Explanation{Kind: KindMetadata, Status: StatusSignIn, Hints: privateAddressHints(g, e)}
	}),
	unlessNetwork(onGiven(explainProvider)),
	unlessNetwork(onGiven(func(g given, _ *asclient.DiscoveryError) Explanation {
		return Explanation{Kind: KindMetadata, Status: StatusSignIn, Hints: discoveryHints(g)}
	})),
	unlessNetwork(onGiven(func(g given, e *asclient.SignInError) Explanation {
		out := Explanation{Kind: KindSignIn, Status: StatusSignIn, Hints: signInHints(g, e)}
		if e.Refused {
			out.Kind = KindRefused
		}
		return out
	})),
}

// privateAddressHints says how a person vouches for an address that metadata may not name.
func privateAddressHints(g given, e *session.PrivateAddressError) []string {
	return hints(
		unless(g.Issuer != "", fmt.Sprintf("if %s is a login server that you trust, name it: --issuer URL", e.Addr)),
		fmt.Sprintf("if %s is only an endpoint of one: OAUTH2_AUTHORIZATION_URL, OAUTH2_TOKEN_URL and --client-id", e.Addr),
		unless(g.Via == "" || g.OAuthRoute != "direct", "behind a bastion it is reached by --oauth-route auto"),
	)
}

// explainBothSides explains a server that the tunnel does not reach, and that must not be dialed
// from this machine. It explains an error of the tunnel itself as any other.
func explainBothSides(g given, err error) (Explanation, bool) {
	private, ok1 := errors.AsType[*session.PrivateAddressError](err)
	open, ok2 := errors.AsType[*sshtunnel.OpenError](err)
	if !ok1 || !ok2 {
		return Explanation{}, false
	}
	return Explanation{Kind: KindUnreachable, Status: StatusUnreachable, Text: open.Error() + "; from this machine, " + private.Error(),
		Hints: privateAddressHints(g, private)}, true
}

// unlessNetwork leaves to later rows a sign-in that failed because a server could not be reached:
// what the network says explains more.
func unlessNetwork(explains row) row {
	return func(g given, err error) (Explanation, bool) {
		if isUnreachable(err) {
			return Explanation{}, false
		}
		return explains(g, err)
	}
}

// isUnreachable reports whether no answer of the server led to err.
func isUnreachable(err error) bool {
	_, dns := errors.AsType[*net.DNSError](err)
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	return dns || certificate || isNetworkError(err)
}

// explainRevocation explains a sign-out whose tokens were not revoked. The kind and the status are
// those of the cause.
func explainRevocation(g given, r *oauth.RevocationError) Explanation {
	cause := lookUp(g, r.Err)
	e := Explanation{Kind: cause.Kind, Status: cause.Status}
	if _, ok := errors.AsType[*sshtunnel.HopError](r.Err); ok {
		e.Hints = cause.Hints // the way to the server can be mended, and the server cannot
	}
	why := withoutQuery(r.Err)
	if r.Kept {
		e.Text = "not signed out: the login server did not revoke the tokens, so they are kept: " + why
		e.Hints = append(e.Hints, "try again when the server can be reached", "sallyport logout --force URL forgets them here all the same")
		return e
	}
	e.Text = "the tokens are forgotten here, but the login server did not revoke them: " + why
	e.Hints = append(e.Hints, "nothing remains to be done on this machine; to end the access at once, "+
		"end the session on the login server's own page")
	return e
}

// revocation returns the failed revocation that err is, if it joins nothing else.
func revocation(err error) *oauth.RevocationError {
	switch err := err.(type) {
	case *oauth.RevocationError:
		return err
	case interface{ Unwrap() error }:
		return revocation(err.Unwrap())
	case interface{ Unwrap() []error }:
		var first *oauth.RevocationError
		for _, err := range err.Unwrap() {
			r := revocation(err)
			if r == nil {
				return nil
			}
			first = cmp.Or(first, r)
		}
		return first
	}
	return nil
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

// discoveryHints says what to do if there is no metadata.
func discoveryHints(g given) []string {
	return hints(
		"is this the URL of the MCP endpoint, with its path?",
		unless(g.Issuer != "", "if you know the login server: --issuer URL"),
		unless(g.TokenURL != "", "a login server without metadata needs OAUTH2_AUTHORIZATION_URL and OAUTH2_TOKEN_URL"+
			unless(g.ClientID != "", ", and --client-id")),
	)
}

// tokenRefusedHints says what to do if the upstream refuses a token that is new.
func tokenRefusedHints(g given) []string {
	var made, other []string
	for _, s := range []struct{ flag, value string }{
		{"--scope", g.Scope}, {"--resource", g.Resource}, {"--audience", g.Audience},
	} {
		if s.value != "" {
			made = append(made, s.flag)
		} else {
			other = append(other, s.flag)
		}
	}
	ask := "the login server gave a token that the upstream refuses: ask its operator what the token must be for"
	if len(other) > 0 {
		ask += ", and give it with " + orList(other)
	}
	return hints(ask,
		unless(len(made) == 0, "is the value of "+orList(made)+" the right one?"),
		"another account may do: sallyport logout URL, then sallyport login URL")
}

// orList joins words as in "a, b or c".
func orList(words []string) string {
	n := len(words) - 1
	if n < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:n], ", ") + " or " + words[n]
}

// portHints says what to do if the callback's port is in use. The redirect URI contains the port,
// and a server may insist on the registered one.
func portHints(g given, addr string) []string {
	_, port, _ := net.SplitHostPort(addr)
	if len(g.CallbackPort) > 1 {
		return []string{fmt.Sprintf("all ports of --callback-port are in use: end the process that holds port %s", port)}
	}
	other := "--callback-port 0 takes any free port"
	if g.ClientID != "" || g.RedirectURI != "" {
		other = "choose ports that the client has registered: --callback-port N[,N]"
	}
	return []string{fmt.Sprintf("end the process that holds port %s, or choose another: %s", port, other)}
}
