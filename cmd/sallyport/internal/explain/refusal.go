package explain

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport/oauth"
	"sallyport/oauth/asclient"
)

// tryAgain is said only where another attempt may end otherwise.
const tryAgain = "sallyport login URL, in a terminal, tries again"

// signInHints says what to do about a failed sign-in.
func signInHints(g given, e *asclient.SignInError) []string {
	if held, ok := errors.AsType[*oauth.HeldBackError](e); ok {
		list := hints("sallyport login URL, in a terminal, opens a login page at once; so does the tool sallyport_sign_in of the MCP host",
			"otherwise the next one may be opened at "+held.Until.Local().Format(time.TimeOnly))
		if last, ok := errors.AsType[*asclient.SignInError](held.Last); ok {
			list = append(signInHints(g, last), list...)
		}
		return list
	}
	if errors.Is(e, oauth.ErrNotCompleted) {
		return lateHints(g)
	}
	if list := entraHints(g, e); list != nil {
		return list
	}
	if style := styleOf(e.OtherMethod); style != "" {
		return []string{"the server takes the client's secret in another place, and the code is used up: --auth-style " + style + "; then " + tryAgain}
	}
	if e.Stage == asclient.StageRegister && e.Code != asclient.CodeNoClient && e.Code != asclient.CodeInsecureURL {
		return registerHints(g, e)
	}
	if e.Code == asclient.CodeBadReply && e.Names("resource") {
		return resourceHints(g)
	}
	if list := ownCodeHints(g, e); list != nil {
		return list
	}
	if e.Stage == asclient.StageExchange {
		return []string{"is the ID token of --id-token-file fresh, and --idp-client-id the client that it was issued to?"}
	}
	switch {
	case e.Names("resource"):
		return resourceHints(g)
	case e.Names("audience"):
		return audienceHints(g)
	}
	if list := serverCodeHints(g, e); list != nil {
		return list
	}
	if !e.Refused && e.RetryAfter > 0 {
		return waitHints(e)
	}
	if !e.Refused {
		return []string{"the login server is out of order or busy; " + tryAgain}
	}
	return []string{"the login server refuses for a reason of its own: ask its operator, with the line above"}
}

// styleOf returns the value of --auth-style for a method of client authentication. It is empty for
// any other method.
func styleOf(method string) string {
	switch method {
	case asclient.AuthBasic:
		return oauth.AuthStyleHeader
	case asclient.AuthPost:
		return oauth.AuthStyleBody
	}
	return ""
}

// waitHints says when another attempt may help.
func waitHints(e *asclient.SignInError) []string {
	return []string{"the login server asks to wait for " + e.RetryAfter.Round(time.Second).String() + "; then " + tryAgain}
}

// lateHints says what to do if nobody came back from the login page.
func lateHints(g given) []string {
	registered := "did the login page show an error instead? the client of --client-id must have the redirect URI " + g.redirect()
	return hints(
		"open the link that was shown; --callback-timeout gives more time",
		unless(g.CallbackVia != "", "is the browser on another machine? there, run: sallyport callback HOST"),
		unless(g.ClientID == "", registered),
	)
}

// ownCodeHints says what to do about the Code constants of asclient. It returns nil for a code that
// is the server's.
func ownCodeHints(g given, e *asclient.SignInError) []string {
	switch e.Code {
	case asclient.CodePKCE:
		return []string{"if the server is known to support PKCE with S256 and only omits it from its metadata: --pkce assume"}
	case asclient.CodeNoClient:
		return noClientHints(g)
	case asclient.CodeResourceMismatch:
		return hints("the server's metadata names another URL; use that one, and --via HOST if it is behind a bastion",
			unless(g.Resource != "", "if this URL is the right one: --resource URI says what the token is for, and --resource none leaves it out"))
	case asclient.CodeIssuerMismatch:
		return issuerHints(g, e)
	case asclient.CodeIssuerChanged:
		return []string{
			"if " + e.Server + " is the login server that you trust with your client's secret or key: --issuer " + e.Server,
			"if it is not, nothing was sent to it; tell the operator of the upstream",
		}
	case asclient.CodeInsecureURL:
		return hints(unless(g.AllowInsecureHTTP || !e.Cleartext, "the server's metadata names a cleartext URL; --allow-insecure-http accepts it"),
			unless(e.Cleartext, "the server's metadata names a URL that cannot be used: tell its operator"),
			unless(g.Issuer != "", "if you know the login server's https URL: --issuer URL"))
	case asclient.CodeNoAssertion:
		return []string{"the file of --assertion-file or --id-token-file must be there and readable; it is read again for each sign-in"}
	case asclient.CodeNoProof:
		return []string{"ask the operator of the server for one of the algorithms ES256, EdDSA, PS256 or RS256"}
	case asclient.CodeRedirectURI:
		return registerHints(g, e)
	case asclient.CodeBadReply:
		return badReplyHints(g, e)
	}
	return nil
}

func noClientHints(g given) []string {
	if g.ClientID != "" {
		return []string{"the client of --client-id is not used there: ask the operator of the login server which one is"}
	}
	return hints("the server registers no clients by itself: ask its operator for a client with the redirect URI "+g.redirect()+", and give --client-id",
		unless(g.ClientMetadataURL != "", "a server that takes client ID metadata documents: --client-metadata-url URL"))
}

func issuerHints(g given, e *asclient.SignInError) []string {
	if e.Stage == asclient.StageAuthorize {
		return []string{"the browser came back from another login server than the one that was asked; tell its operator, and do not go on"}
	}
	if g.Issuer != "" {
		return []string{"--issuer must be written as the login server writes it itself"}
	}
	return []string{"if you know that login server and trust it: --issuer URL, as its own metadata has it"}
}

// badReplyHints says what to do about an answer that OAuth does not know.
func badReplyHints(g given, e *asclient.SignInError) []string {
	if !e.Refused && e.RetryAfter > 0 {
		return waitHints(e)
	}
	if e.Status >= http.StatusInternalServerError || e.Status == http.StatusTooManyRequests || !e.Refused && e.Status == 0 {
		return []string{"the login server, or a gateway before it, is out of order; " + tryAgain}
	}
	return hints(
		unless(g.TokenURL == "", "is OAUTH2_TOKEN_URL the token endpoint?"),
		"the login server's answer is not one that OAuth knows: ask its operator, with the line above",
		unless(e.Refused, tryAgain))
}

// registerHints says what to do if a server refuses to register us.
func registerHints(g given, e *asclient.SignInError) []string {
	client := unless(g.ClientID != "", "a client that the operator of the login server registers is used by --client-id")
	switch {
	case !e.Refused || e.Status >= http.StatusInternalServerError:
		if e.RetryAfter > 0 {
			return append(waitHints(e), hints(client)...)
		}
		return hints("the login server is out of order or busy; "+tryAgain, client)
	case e.Code == "invalid_redirect_uri" || strings.Contains(strings.ToLower(e.Description), "redirect"):
		return hints(
			unless(g.CallbackHost == "localhost", "if the server takes http://localhost only: --callback-host localhost"),
			unless(g.RedirectURI != "", "if it takes certain ports only: --callback-port N"), client)
	}
	return hints("ask its operator for a client with the redirect URI "+g.redirect(), client)
}

// serverCodeHints says what to do about a server's error code: those of RFC 6749 sections 4.1.2.1
// and 5.2, RFC 8707 section 2, and OpenID Connect Core section 3.1.2.6. It returns nil for others.
func serverCodeHints(g given, e *asclient.SignInError) []string {
	switch e.Code {
	case "invalid_grant":
		return grantHints(g)
	case "access_denied":
		return []string{"the login was refused by you or by the server; sallyport login URL tries again, if need be with another account"}
	case "invalid_client":
		return clientHints(g)
	case "unauthorized_client", "unsupported_grant_type":
		return clientMayHints(g)
	case "unsupported_response_type", "invalid_request":
		return []string{"the login server takes such a request from no client: ask its operator, with the line above"}
	case "invalid_scope":
		return scopeHints(g)
	case "invalid_target":
		return resourceHints(g)
	case "login_required", "interaction_required", "account_selection_required", "consent_required":
		return pageHints(g, e.Code)
	}
	return nil
}

func grantHints(g given) []string {
	switch {
	case g.AssertionFile != "":
		return []string{"is the JWT of --assertion-file fresh, and its audience the authorization server's issuer?"}
	case g.RefreshToken != "" || g.AuthorizationCode != "":
		return []string{"the code or refresh token of the settings is used up or of another client; without it, sallyport login URL signs in"}
	case g.Grant == oauth.GrantEnterpriseManaged:
		return []string{"the login server does not take the identity provider's assertion: its operator must trust the provider of --idp-issuer, and know the account"}
	case g.Grant == oauth.GrantClientCredentials:
		return []string{"the client of --client-id must be allowed this grant: ask the operator of the login server"}
	}
	return []string{tryAgain}
}

// clientHints says which setting of the client is wrong.
func clientHints(g given) []string {
	secret := g.secretSettings()
	switch {
	case g.ClientID == "":
		return []string{"the login server did not know the client that it registered itself; sallyport login URL registers another one"}
	case secret == "":
		return []string{"check --client-id; if its client has a secret: --client-secret-file FILE"}
	case g.ClientKey != "":
		return []string{"check --client-id and --client-key: the server must have the public half, under this ID"}
	}
	return hints("check --client-id and "+secret+": the server refuses the two together",
		unless(g.AuthStyle != "", "if both are right, it may want the secret in another place: --auth-style body, or header"),
		unless(g.AuthStyle == "", "it may want the secret in another place than --auth-style "+g.AuthStyle+" says"))
}

func clientMayHints(g given) []string {
	if g.ClientID == "" {
		return []string{"ask the operator of the login server for a client that may do this, and give --client-id"}
	}
	return []string{"the registration of the client in --client-id must allow this grant: ask the operator of the login server"}
}

func scopeHints(g given) []string {
	if g.Scope != "" {
		return []string{fmt.Sprintf("the server does not grant all of --scope %q: check it with its operator", g.Scope)}
	}
	return []string{"say which scopes to ask for: --scope 'A B'; the operator of the upstream knows them"}
}

func resourceHints(g given) []string {
	switch g.Resource {
	case "":
		return []string{"if the server takes no resource parameter: --resource none; if it knows the upstream by another name: --resource URI"}
	case oauth.ResourceNone:
		return []string{"the server wants to know what the token is for: --resource URI, as its operator names the upstream"}
	}
	return []string{fmt.Sprintf("check --resource %q with the server's operator; --resource none leaves it out", g.Resource)}
}

func audienceHints(g given) []string {
	if g.Audience == "" {
		return []string{"say what the token is for: --audience NAME, as the operator of the login server names the upstream"}
	}
	return []string{fmt.Sprintf("check --audience %q with the operator of the login server", g.Audience)}
}

// pageHints says what to do if the server wants a page that it was told not to show, or a consent
// that the person cannot give.
func pageHints(g given, code string) []string {
	switch {
	case g.promptNone():
		return []string{"prompt=none in your settings forbids the login page; leave it out"}
	case code == "consent_required":
		return []string{"an administrator of the login server must consent to this client", "or you, on a page of its own: --authorize-param prompt=consent"}
	}
	return []string{"log in at the login server in the same browser; then sallyport login URL tries again", "or have its page ask you: --authorize-param prompt=login"}
}

// Codes of Microsoft Entra, which stand in the description as AADSTS and a number.
const (
	entraResource     = 9010010 // the resource parameter does not go with the scopes
	entraNoSuchClient = 700016  // the client is not known to this tenant
	entraBadSecret    = 7000215
	entraNeedSecret   = 7000218
	entraConsent      = 65001
	entraAdminConsent = 90094
	entraNotAssigned  = 50105
	entraScope        = 70011
	entraRedirect     = 50011
)

// entraHints says what to do about an error of Microsoft Entra. It returns nil if e is no such
// error, or if its OAuth code explains as much.
func entraHints(g given, e *asclient.SignInError) []string {
	switch entraCode(e.Description) {
	case entraResource:
		return resourceHints(g)
	case entraNoSuchClient:
		return hints("the client is not known to this tenant: check --client-id",
			unless(g.Issuer != "", "for another tenant: --issuer https://login.microsoftonline.com/TENANT/v2.0"))
	case entraBadSecret:
		return clientHints(g)
	case entraNeedSecret:
		return hints("the client is registered as a web application, which has a secret: " +
			unless(g.secretSettings() != "", "--client-secret-file FILE, or ") + "register the redirect URI for mobile and desktop applications")
	case entraConsent, entraAdminConsent:
		return []string{"an administrator of the tenant must consent to the client and its scopes"}
	case entraNotAssigned:
		return []string{"the account is not assigned to the application: ask the tenant's administrator, or sign in with another account"}
	case entraScope:
		return scopeHints(g)
	case entraRedirect:
		return []string{"the application must have the redirect URI " + g.redirect() + ", for mobile and desktop applications"}
	}
	return nil
}

// entraCode returns the number behind AADSTS in a description, or 0.
func entraCode(description string) int {
	_, rest, _ := strings.Cut(description, "AADSTS")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	n, _ := strconv.Atoi(rest[:end])
	return n
}
