//go:build linux

package causes_test

import (
	"net/http"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/oauth/oauthtest"
)

// discoveryWays fail before the login server is asked for anything.
var discoveryWays = []way{
	{name: "no metadata anywhere", server: func(w *world) {
		w.Set(func(k *oauthtest.Knobs) { k.NoMetadata = true })
	}, cause: `no authorization server metadata`, hint: `--issuer URL`, never: `tries again`, kind: "oauth_metadata", login: 5},
	{name: "metadata is a page", server: func(w *world) {
		w.answer("/.well-known/oauth-authorization-server", 200, mediaHTML, htmlPage)
		w.answer("/.well-known/openid-configuration", 200, mediaHTML, htmlPage)
	}, cause: `no authorization server metadata`, hint: `--issuer URL`, kind: "oauth_metadata", login: 5},
	{name: "login server refuses connections", server: func(w *world) { w.elsewhere("http://127.0.0.1:" + machines.ClosedPort(w.t)) },
		cause: `connection refused`, hint: `nothing listens`, kind: "unreachable", login: 6},
	{name: "login server's name is unknown", server: func(w *world) { w.elsewhere("https://login.invalid") },
		cause: `lookup login\.invalid`, hint: `check the spelling of "login.invalid"`, kind: "unreachable", login: 6},
	{name: "another issuer", server: func(w *world) {
		w.Set(func(k *oauthtest.Knobs) { k.WrongIssuer = "https://other.example" })
	}, cause: `other\.example`, hint: `--issuer`, never: `tries again`, kind: "sign_in_refused", login: 5},
	{name: "another resource", server: func(w *world) {
		w.Set(func(k *oauthtest.Knobs) { k.ResourceName = "https://another.example/mcp" })
	}, cause: `another\.example`, hint: `--resource none`, never: `tries again`, kind: "sign_in_refused", login: 5},
	{name: "cleartext login server", server: func(w *world) { w.elsewhere("http://login.example") },
		cause: `insecure_url|http://login\.example`, hint: `--allow-insecure-http`, never: `tries again`, kind: "sign_in_refused", login: 5},
	{name: "no PKCE", server: func(w *world) {
		w.Set(func(k *oauthtest.Knobs) { k.NoPKCE = true })
	}, cause: `code_challenge_methods_supported`, hint: `--pkce assume`, never: `tries again`, kind: "sign_in_refused", login: 5},
	{name: "no authorization endpoint", server: func(w *world) {
		w.changeMetadata(func(m map[string]any) {
			delete(m, "authorization_endpoint")
			delete(m, "device_authorization_endpoint")
		})
	}, cause: `no authorization endpoint`, hint: `--issuer URL|OAUTH2_AUTHORIZATION_URL`, kind: "oauth_metadata", login: 5},
	{name: "metadata out of order", server: func(w *world) {
		w.answer("/.well-known/oauth-authorization-server", 503, mediaHTML, htmlPage)
		w.answer("/.well-known/openid-configuration", 503, mediaHTML, htmlPage)
	}, cause: `503`, hint: `--issuer URL`, login: 5},
}

// registrationWays fail at the registration of a client.
var registrationWays = []way{
	{name: "no registration", server: func(w *world) {
		w.Set(func(k *oauthtest.Knobs) { k.NoRegistration = true })
	}, cause: `no_client`, hint: `--client-id`, never: `tries again`, kind: "sign_in_refused", login: 5},
	{name: "closed registration", server: func(w *world) {
		w.answer("/register", 403, mediaJSON, oauthError("access_denied", "registration is closed"))
	}, cause: `register.*registration is closed`, hint: `--client-id`, never: `tries again`, kind: "sign_in_refused", login: 5},
	{name: "localhost only", server: func(w *world) {
		w.answer("/register", 400, mediaJSON, oauthError("invalid_redirect_uri", "only http://localhost"))
	}, cause: `invalid_redirect_uri`, hint: `--callback-host localhost`, never: `tries again`, kind: "sign_in_refused", login: 5},
	{name: "localhost does not help", args: []string{"--callback-host", "localhost"}, server: func(w *world) {
		w.answer("/register", 400, mediaJSON, oauthError("invalid_redirect_uri", "no loopback"))
	}, cause: `invalid_redirect_uri`, hint: `--client-id`, never: `--callback-host localhost`, login: 5},
	{name: "strict schema", server: func(w *world) {
		w.answer("/register", 422, mediaJSON, `{"detail":[{"loc":["body","x"],"msg":"extra fields not permitted"}]}`)
	}, cause: `register.*422`, hint: `--client-id`, never: `tries again`, login: 5},
	{name: "registration out of order", server: func(w *world) {
		w.answer("/register", 500, mediaHTML, htmlPage)
	}, cause: `register.*500`, hint: `tries again`, kind: "sign_in", login: 5},
}

// authorizeWays fail while the person is at the login page.
var authorizeWays = []way{
	{name: "denied", server: func(w *world) {
		w.Set(func(k *oauthtest.Knobs) { k.Deny = "access_denied" })
	}, cause: `access_denied`, hint: `refused by you or by the server`, kind: "sign_in_refused", login: 5},
	{name: "error without state", server: func(w *world) { w.redirectWith("error=access_denied&error_description=nobody", false) },
		cause: `access_denied`, hint: `refused by you or by the server`, login: 5},
	{name: "login required", server: func(w *world) { w.redirectWith("error=login_required", true) },
		cause: `login_required`, hint: `log in at the login server in the same browser`, login: 5},
	{name: "consent required", server: func(w *world) { w.redirectWith("error=consent_required", true) },
		cause: `consent_required`, hint: `--authorize-param prompt=consent`, login: 5},
	{name: "scope refused", server: func(w *world) { w.redirectWith("error=invalid_scope", true) },
		cause: `invalid_scope`, hint: `--scope 'A B'`, never: `tries again`, login: 5},
	{name: "given scope refused", args: []string{"--scope", "gold silver"}, server: func(w *world) { w.redirectWith("error=invalid_scope", true) },
		cause: `invalid_scope`, hint: `--scope "gold silver"`, never: `'A B'|tries again`, login: 5},
	{name: "resource refused by Entra", server: func(w *world) {
		w.redirectWith("error=invalid_request&error_description=AADSTS9010010:+The+resource+parameter+does+not+match", true)
	}, cause: `AADSTS9010010`, hint: `--resource none`, never: `tries again`, login: 5},
	{name: "consent of an administrator in Entra", server: func(w *world) {
		w.redirectWith("error=access_denied&error_description=AADSTS90094:+Administrator+consent+is+required", true)
	}, cause: `AADSTS90094`, hint: `an administrator of the tenant must consent`, never: `tries again`, login: 5},
	{name: "target refused", server: func(w *world) { w.redirectWith("error=invalid_target", true) },
		cause: `invalid_target`, hint: `--resource none`, login: 5},
	{name: "request refused", server: func(w *world) { w.redirectWith("error=unsupported_response_type", true) },
		cause: `unsupported_response_type`, hint: `ask its operator`, never: `tries again`, login: 5},
	{name: "out of order at the page", server: func(w *world) { w.redirectWith("error=server_error&error_description=disk", true) },
		cause: `server_error.*disk`, hint: `tries again`, kind: "sign_in", login: 5},
	{name: "no code", server: func(w *world) { w.redirectWith("x=y", true) },
		cause: `bad_reply|without a code`, hint: `ask its operator`, login: 5},
	{name: "nobody comes back", args: []string{"--callback-timeout", "1s", "--no-browser"},
		cause: `nobody completed the login in time`, hint: `--callback-timeout`, kind: "sign_in", login: 5},
	{name: "no browser", args: []string{"--callback-timeout", "1s", "--browser", "/nonexistent %s"},
		cause: `nobody completed the login in time`, hint: `sallyport callback HOST`, login: 5},
	{name: "the page shows an error", args: []string{"--callback-timeout", "1s", "--client-id", "unknown"},
		cause: `nobody completed the login in time`, hint: `redirect URI http://127\.0\.0\.1:PORT/callback`, login: 5},
	{name: "callback port busy", args: []string{"--callback-port", "BUSY"},
		cause: `callback address 127\.0\.0\.1:\d+ is in use`, hint: `--callback-port 0`, kind: "callback_port", login: 1},
	{name: "callback port of a registered client busy", args: []string{"--callback-port", "BUSY", "--client-id", "known"},
		cause: `is in use`, hint: `ports that the client has registered`, never: `takes any free port`, login: 1},
	{name: "nobody may be asked", env: []string{"OAUTH2_INTERACTIVE=false"},
		cause: `login needed for`, hint: `OAUTH2_INTERACTIVE=true`, kind: "sign_in", login: 5},
	{name: "redirect of another server", server: func(w *world) { w.Set(func(k *oauthtest.Knobs) { k.WrongIss = "https://attacker.example" }) },
		cause: `does not come from the authorization server`, hint: `do not go on`, never: `tries again|--issuer`, login: 5},
}

// tokenWays fail at the token endpoint.
var tokenWays = []way{
	{name: "code refused", stays: true, server: func(w *world) { w.Set(func(k *oauthtest.Knobs) { k.TokenError = "invalid_grant" }) },
		cause: `token.*invalid_grant`, hint: `tries again`, never: `--assertion-file`, login: 5},
	{name: "client's secret wrong", args: []string{"--client-id", "known", "--client-secret-file", "FILES/secret"},
		server: func(w *world) {
			w.write("secret", "wrong")
			w.AddClient(oauthtest.Client{ID: "known", Secret: "right"})
			w.takeAnyRedirect()
		}, cause: `invalid_client`, hint: `check --client-id and --client-secret-file`, never: `tries again`, login: 5},
	{name: "client unknown", args: []string{"--grant", "client_credentials", "--client-id", "unknown"}, env: []string{"OAUTH2_CLIENT_SECRET=s3cret-value"},
		cause: `invalid_client`, hint: `OAUTH2_CLIENT_SECRET`, never: `--client-secret-file|tries again`, login: 5},
	{name: "token endpoint out of order", stays: true, server: func(w *world) { w.Set(func(k *oauthtest.Knobs) { k.TokenStatus = 503 }) },
		cause: `token.*503`, hint: `tries again`, kind: "sign_in", login: 5},
	{name: "token endpoint is a page", stays: true, server: func(w *world) { w.answer("/token", 200, mediaHTML, htmlPage) },
		cause: `token.*bad_reply`, hint: `ask its operator`, login: 5},
	{name: "token answer without a token", stays: true, server: func(w *world) { w.answer("/token", 200, mediaJSON, `{"ok":true}`) },
		cause: `token.*bad_reply`, hint: `ask its operator`, never: `not used`, login: 5},
	{name: "token type unknown", stays: true, server: func(w *world) {
		w.answer("/token", 200, mediaJSON, `{"access_token":"at-1","token_type":"mac"}`)
	}, cause: `token_type|token type|mac`, hint: `ask its operator`, login: 5},
	{name: "scope refused at the token endpoint", stays: true, server: func(w *world) { w.Set(func(k *oauthtest.Knobs) { k.TokenError = "invalid_scope" }) },
		cause: `invalid_scope`, hint: `--scope 'A B'`, never: `tries again`, login: 5},
	{name: "client may not", args: []string{"--client-id", "known"}, server: func(w *world) {
		w.AddClient(oauthtest.Client{ID: "known"})
		w.takeAnyRedirect()
		w.Set(func(k *oauthtest.Knobs) { k.TokenError = "unauthorized_client" })
	}, cause: `unauthorized_client`, hint: `--client-id must allow this grant`, never: `tries again`, login: 5},
	{name: "token of no use", server: func(w *world) { w.Set(func(k *oauthtest.Knobs) { k.RefuseTokens = true }) },
		cause: `token is refused by`, hint: `--scope, --resource or --audience`, kind: "sign_in_refused", login: 5},
	{name: "token of no use with settings", args: []string{"--resource", "UPSTREAM", "--audience", "a"},
		server: func(w *world) { w.Set(func(k *oauthtest.Knobs) { k.RefuseTokens = true }) },
		cause:  `token is refused by`, hint: `value of --resource or --audience`, login: 5},
}

// renewalWays fail after a sign-in that was good.
var renewalWays = []way{
	{name: "refresh token dead and nobody may be asked", before: signInAndExpire, server: func(w *world) { w.RevokeAll() },
		then:  []string{"OAUTH2_INTERACTIVE=false"},
		cause: `login needed for.*refresh: invalid_grant`, hint: `OAUTH2_INTERACTIVE=true`, kind: "sign_in", login: 5},
	{name: "refresh token dead and the person says no", before: signInAndExpire, server: func(w *world) {
		w.RevokeAll()
		w.Set(func(k *oauthtest.Knobs) { k.Deny = "access_denied" })
	}, cause: `access_denied`, hint: `refused by you or by the server`, kind: "sign_in_refused", login: 5},
	{name: "refresh out of order", before: signInAndExpire, server: func(w *world) { w.Set(func(k *oauthtest.Knobs) { k.TokenStatus = 503 }) },
		cause: `refresh.*503`, hint: `out of order`, kind: "sign_in", login: 5, loginCause: `token.*503`},
	{name: "more scope not granted", oneCall: true, before: signIn, server: func(w *world) {
		w.Set(func(k *oauthtest.Knobs) { k.Deny = "access_denied" })
		w.on("tools/call", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="admin"`)
			rw.WriteHeader(http.StatusForbidden)
		})
	}, cause: `status 403.*insufficient_scope.*admin`, hint: `more was not granted`, kind: "status", login: noLogin},
	{name: "secret of another issuer", before: func(t *testing.T, w *world, row way) {
		w.write("secret", "right")
		w.AddClient(oauthtest.Client{ID: "known", Secret: "right", RedirectURIs: []string{"http://127.0.0.1:" + w.free + "/callback"}})
		signIn(t, w, row)
	}, args: []string{"--client-id", "known", "--client-secret-file", "FILES/secret", "--callback-port", "FREE"}, server: func(w *world) {
		w.RevokeAll()
		w.elsewhere(newWorld(w.t).server.URL)
	}, cause: `issuer_changed`, hint: `--issuer http://127\.0\.0\.1`, never: `tries again`, kind: "sign_in_refused", login: 5},
	{name: "pages held back", stays: true, before: threePagesInVain,
		cause: `nobody completed|led to no sign-in`, hint: `may be opened at \d\d:\d\d`, kind: "sign_in", login: noLogin},
}

// upstreamWays are answers of the upstream to a call.
var upstreamWays = []way{
	{name: "403 with a token", oneCall: true, server: func(w *world) { w.failCall(403, mediaJSON, `{"detail":"no"}`) },
		cause: `status 403`, hint: `account that is signed in may not`, kind: "status", login: noLogin},
	{name: "401 for one tool", oneCall: true, server: func(w *world) { w.failCall(401, mediaJSON, `{"error":"no such account"}`) },
		cause: `status 401`, hint: `takes the sign-in for other requests`, never: `sallyport login`, kind: "status", login: machines.StatusDone},
	{name: "401 for one tool, no refresh token", oneCall: true, server: func(w *world) {
		w.Set(func(k *oauthtest.Knobs) { k.NoRefresh = true })
		w.failCall(401, mediaJSON, `{"error":"no such account"}`)
	}, cause: `status 401`, hint: `takes the sign-in for other requests`, never: `sallyport login`, kind: "status", login: noLogin},
	{name: "403 of a firewall", oneCall: true, server: func(w *world) { w.failCall(403, mediaHTML, htmlPage) },
		cause: `status 403`, hint: `gateway or firewall`, never: `account`, login: noLogin},
	{name: "403 without a token", args: []string{"--grant", "none"}, server: func(w *world) { w.answer("/mcp", 403, mediaJSON, `{"detail":"no"}`) },
		cause: `status 403`, hint: `had no token, because of --grant none`, never: `account|configure`, login: 1},
	{name: "403 without OAuth", server: func(w *world) {
		w.Set(func(k *oauthtest.Knobs) { k.NoMetadata, k.NoResourceMetadata = true, true })
		w.answer("/mcp", 403, mediaHTML, htmlPage)
	}, cause: `status 403`, hint: `had no token`, never: `account that is signed in|configure`, login: 1},
	{name: "403 with a header of the person's", args: []string{"--header", "Authorization: Bearer mine"},
		server: func(w *world) { w.answer("/mcp", 403, mediaJSON, `{}`) },
		cause:  `status 403`, hint: `--header Authorization may not`, login: noLogin},
	{name: "401 with a header of the person's", args: []string{"--header", "Authorization: Bearer mine"},
		server: func(w *world) { w.answer("/mcp", 401, mediaJSON, `{}`) },
		cause:  `status 401`, hint: `check --header Authorization`, login: 5},
	{name: "401 and no sign-in wanted", args: []string{"--grant", "none"},
		server: func(w *world) { w.answer("/mcp", 401, mediaJSON, `{}`) },
		cause:  `status 401`, hint: `leave out --grant none`, login: 5},
	{name: "404", args: []string{"--grant", "none"}, server: func(w *world) { w.answer("/mcp", 404, mediaHTML, htmlPage) },
		cause: `status 404`, hint: `MCP endpoint itself`, login: 1},
	{name: "500 at a call", oneCall: true, server: func(w *world) { w.failCall(500, mediaHTML, htmlPage) },
		cause: `status 500`, hint: `tell its operator`, kind: "status", login: noLogin},
	{name: "502 page at a call", oneCall: true, server: func(w *world) { w.failCall(502, mediaHTML, htmlPage) },
		cause: `status 502`, hint: `gateway does not reach the upstream`, login: noLogin},
	{name: "busy for long", oneCall: true, server: func(w *world) {
		w.on("tools/call", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "3600")
			rw.WriteHeader(http.StatusTooManyRequests)
		})
	}, cause: `status 429`, hint: `ask again in 3600 s`, kind: "status", login: noLogin},
	{name: "closed connection at a call", server: func(w *world) { w.on("tools/call", hangUp) },
		cause: `connection closed by the other side`, hint: `may have run`, kind: "unreachable", login: noLogin},
	{name: "an answer that is a page", oneCall: true, server: func(w *world) { w.failCall(200, mediaHTML, htmlPage) },
		cause: `the answer \("text/html"\)`, hint: `may have run`, kind: "bad_answer", login: noLogin},
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
