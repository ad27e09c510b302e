package explain

import (
	"errors"

	"sallyport/oauth"
	"sallyport/oauth/asclient"
)

// explainProvider explains what failed at the identity provider of enterprise_managed. The hints
// name the settings of the provider, never those of the upstream's login server.
func explainProvider(g given, e *oauth.ProviderError) Explanation {
	out := Explanation{Kind: KindSignIn, Status: StatusSignIn}
	signIn, ok := errors.AsType[*asclient.SignInError](e)
	switch {
	case !ok:
		out.Kind = KindMetadata
		out.Hints = []string{"--idp-issuer must be the identity provider's issuer; its metadata lies below that, at /.well-known/openid-configuration"}
	case errors.Is(signIn, oauth.ErrNotCompleted), errors.Is(signIn, oauth.ErrHeldBack):
		g.ClientID = "" // its redirect URI plays no part at the provider
		out.Hints = hints(append(signInHints(g, signIn), "did the page show an error instead? "+providerClient(g))...)
	case signIn.Stage == asclient.StageExchange:
		out.Hints = exchangeHints(g, signIn)
	default:
		out.Hints = providerHints(g, signIn)
	}
	if ok && signIn.Refused {
		out.Kind = KindRefused
	}
	return out
}

// providerHints says what to do about a sign-in at the identity provider that failed.
func providerHints(g given, e *asclient.SignInError) []string {
	switch e.Code {
	case asclient.CodeIssuerMismatch:
		return []string{"--idp-issuer must be written as the identity provider writes it itself"}
	case asclient.CodePKCE:
		return []string{"the identity provider must support PKCE with S256: ask its administrator"}
	case "invalid_client", "unauthorized_client", "unsupported_grant_type":
		return []string{"check --idp-client-id and its secret (" + providerSecret(g) + "); " + providerClient(g)}
	case "access_denied":
		return []string{"the sign-in was refused by you or by the identity provider; sallyport login URL tries again, if need be with another account"}
	}
	if !e.Refused {
		return []string{"the identity provider is out of order or busy; " + tryAgain}
	}
	return []string{"the identity provider refuses for a reason of its own: ask its administrator, with the line above", tryAgain}
}

// exchangeHints says what to do if the identity provider gives no assertion for an ID token.
func exchangeHints(g given, e *asclient.SignInError) []string {
	switch e.Code {
	case "invalid_client":
		return []string{"check --idp-client-id and its secret (" + providerSecret(g) + ")"}
	case "unauthorized_client", "unsupported_grant_type", asclient.CodeBadReply:
		return []string{"the identity provider must exchange ID tokens for assertions (ID-JAG) to the client of --idp-client-id: ask its administrator for enterprise-managed authorization"}
	case "invalid_target", "invalid_scope", "access_denied":
		return []string{
			"the identity provider does not let you use this server: ask its administrator",
			"another account may do: sallyport login URL",
		}
	}
	switch {
	case g.IDTokenFile != "":
		return []string{"is the ID token of --id-token-file fresh, and --idp-client-id the client that it was issued to?"}
	case e.Status >= 500 || !e.Refused:
		return []string{"the identity provider is out of order or busy; " + tryAgain}
	}
	return []string{tryAgain, "if it ends the same way, ask the administrator of the identity provider, with the line above"}
}

// providerSecret names the setting of the secret of our client at the identity provider.
func providerSecret(g given) string {
	if g.IDPClientSecret == "" && g.IDPClientSecretFile == "" {
		return "none is given; --idp-client-secret-file gives one"
	}
	return "--idp-client-secret-file or SALLYPORT_IDP_CLIENT_SECRET"
}

// providerClient says what our client at the identity provider must be registered with.
func providerClient(g given) string {
	return "the client of --idp-client-id must have the redirect URI " + g.redirect()
}
