package oauthtest

import "time"

const invalidToken = `Bearer error="invalid_token", error_description="The access token expired"`

// upstreamQuirks are odd at the protected resource.
var upstreamQuirks = func() []Quirk {
	return []Quirk{
		{Name: "no challenge", Seen: "hand-made server", Knobs: func(k *Knobs) { k.NoChallenge = true }},
		{Name: "challenge without parameters", Seen: "FastMCP for JavaScript", Rules: challenges(401, "Bearer")},
		{Name: "challenge in lower case", Seen: "hand-made server", Rules: challenges(401, `bearer realm="x"`)},
		{Name: "Basic challenge", Seen: "proxy with its own login", Rules: challenges(401, `Basic realm="x"`)},
		{Name: "Basic before Bearer", Seen: "Azure, Artifactory", Rules: challenges(401, `Basic realm="x", `+hintOf)},
		{Name: "Negotiate before Bearer", Seen: "IIS", Rules: challenges(401, `Negotiate, NTLM, `+hintOf)},
		{Name: "challenge without quotes", Seen: "hand-made server", Rules: challenges(401, `Bearer resource_metadata=$origin/.well-known/oauth-protected-resource/mcp`)},
		{Name: "challenge with single quotes", Seen: "hand-made server", Rules: challenges(401, `Bearer resource_metadata='$origin/.well-known/oauth-protected-resource/mcp'`)},
		{Name: "challenge without commas", Seen: "hand-made server", Rules: challenges(401, `Bearer realm="x" error="invalid_token" resource_metadata="$origin/.well-known/oauth-protected-resource/mcp"`)},
		{Name: "challenge with scopes between commas", Seen: "GitHub's way to write scopes", Rules: append(challenges(401, hintOf+`, scope="tools,files"`),
			back("error=invalid_scope", "scope~,")...)},
		{Name: "challenge with a colon", Seen: "hand-made server", Rules: challenges(401, `Bearer: resource_metadata="$origin/.well-known/oauth-protected-resource/mcp"`)},
		{Name: "challenge without a scheme", Seen: "hand-made server", Rules: challenges(401, `resource_metadata="$origin/meta/prm"`)},
		{Name: "challenge with semicolons", Seen: "hand-made server", Rules: append(challenges(401, `Bearer realm="x"; resource_metadata="$origin/meta/prm"`),
			Rule{At: Elsewhere, When: []string{"path=/meta/prm"}, Body: rightPRM}, Rule{At: ResourceMetadata, Status: 404})},
		{Name: "challenge in single quotes, in another place", Seen: "hand-made server", Rules: append(challenges(401, `Bearer resource_metadata='$origin/meta/prm'`),
			Rule{At: Elsewhere, When: []string{"path=/meta/prm"}, Body: rightPRM}, Rule{At: ResourceMetadata, Status: 404})},
		{Name: "challenge in an older draft's words", Seen: "servers of early 2025", Rules: challenges(401, `Bearer resource_metadata_uri="$origin/.well-known/oauth-protected-resource/mcp"`)},
		{Name: "challenge is JSON", Seen: "hand-made server", Rules: challenges(401, `{"error":"unauthorized"}`)},
		{Name: "challenge with a scope", Seen: "GitHub", Rules: challenges(401, hintOf+`, scope="tools files"`)},
		{Name: "403 with a challenge", Seen: "Spring Security", Rules: challenges(403, hintOf)},
		{Name: "403 with a bare challenge", Seen: "Spring Security", Rules: challenges(403, "Bearer")},
		{Name: "403 without a challenge", Seen: "FastAPI's HTTPBearer", Rules: []Rule{{At: Upstream, When: unsigned, Status: 403, Body: `{"detail":"Not authenticated"}`}}},
		{Name: "403 without a word", Seen: "API gateway", Rules: []Rule{{At: Upstream, When: unsigned, Status: 403}}},
		{Name: "400 with a challenge", Seen: "Azure API Management", Rules: challenges(400, `Bearer error="invalid_request"`)},
		{Name: "400 without a challenge", Seen: "hand-made server", Rules: []Rule{{At: Upstream, When: unsigned, Status: 400, Body: `{"error":"Missing Authorization header"}`}}},
		{Name: "401 in JSON-RPC", Seen: "MCP servers", Rules: []Rule{{At: Upstream, When: unsigned, Status: 401, Body: `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Unauthorized"},"id":null}`}}},
		{Name: "redirect to a login page", Seen: "Cloudflare Access, oauth2-proxy", Rules: []Rule{{At: Upstream, When: unsigned, Redirect: "https://sso.test/login"}}},
		{Name: "303 to a login page", Seen: "Django, Rails", Rules: []Rule{{At: Upstream, When: unsigned, Status: 303, Redirect: "/login?next=/mcp"}}},

		{Name: "expired: 403 invalid_token", Seen: "Spring Security", Rules: []Rule{{At: Upstream, When: []string{"bearer=dead"}, Status: 403, Header: map[string]string{"WWW-Authenticate": invalidToken}}}},
		{Name: "expired: 403 without a challenge", Seen: "API gateway", Rules: []Rule{{At: Upstream, When: []string{"bearer=dead"}, Status: 403, Body: `{"message":"The incoming token has expired"}`}}},
		{Name: "expired: 403 insufficient_scope", Seen: "server that checks scopes first", Rules: []Rule{{At: Upstream, When: []string{"bearer=dead"}, Status: 403, Header: map[string]string{"WWW-Authenticate": `Bearer error="insufficient_scope", scope="tools"`}}}},
		{Name: "expired: 400 with a challenge", Seen: "hand-made server", Rules: []Rule{{At: Upstream, When: []string{"bearer=dead"}, Status: 400, Header: map[string]string{"WWW-Authenticate": invalidToken}}}},
		{Name: "expired: redirect", Seen: "oauth2-proxy", Rules: []Rule{{At: Upstream, When: []string{"bearer=dead"}, Redirect: "https://sso.test/login"}}},
		{Name: "expired: 401 without a challenge", Seen: "hand-made server", Rules: []Rule{{At: Upstream, When: []string{"bearer=dead"}, Status: 401, Body: "expired"}}},
		{Name: "expired: 401 that closes the connection", Seen: "hand-made server", Rules: []Rule{{At: Upstream, When: []string{"bearer=dead"}, Status: 401, Header: map[string]string{"Connection": "close"}}}},
		{Name: "expired: 401 invalid_request", Seen: "hand-made server", Rules: challenges(401, `Bearer error="invalid_request", error_description="token is expired"`)},

		{Name: "fresh token is refused", Seen: "replicas that lag", Rules: []Rule{{At: Upstream, When: []string{"bearer=young"}, Status: 401, Header: map[string]string{"WWW-Authenticate": invalidToken}}}},
		{Name: "fresh token is refused once", Seen: "cache of keys", Rules: []Rule{{At: Upstream, When: []string{"bearer=young"}, Status: 401, Times: 1}}},
		{Name: "fresh token is forbidden", Seen: "replicas that lag", Rules: []Rule{{At: Upstream, When: []string{"bearer=young"}, Status: 403, Header: map[string]string{"WWW-Authenticate": invalidToken}}}},
		{Name: "good token is refused now and then", Seen: "one replica with an old key", Rules: []Rule{{At: Upstream, When: []string{"bearer=live"}, Status: 401, Skip: 1, Times: 1}}},
		{Name: "token revoked early", Seen: "Cloudflare", Rules: []Rule{{At: Upstream, When: []string{"bearer=live"}, Status: 401, Times: 1, Header: map[string]string{"WWW-Authenticate": invalidToken}}}},
		{Name: "every token is refused", Seen: "audience that does not fit", Rules: []Rule{{At: Upstream, Status: 401, Header: map[string]string{"WWW-Authenticate": hintOf}}}, Want: refusedAfterPage("token_refused")},
		{Name: "every token is forbidden", Seen: "account without a licence", Rules: []Rule{{At: Upstream, When: []string{"!bearer=none"}, Status: 403, Body: `{"message":"no licence"}`}}, Want: refusedAfterPage("status 403")},
		{Name: "more scope is wanted", Seen: "GitHub", Knobs: func(k *Knobs) { k.NeedScope = "admin" }, Want: Want{Pages: 2}},
		{Name: "more scope than there is", Seen: "step-up that is never granted", Rules: []Rule{{At: Upstream, When: []string{"!bearer=none"}, Status: 403, Header: map[string]string{"WWW-Authenticate": `Bearer error="insufficient_scope", scope="never"`}}},
			Want: Want{Refused: "status 403", Pages: 2}},
		{Name: "DPoP", Seen: "Keycloak, Bluesky", Knobs: func(k *Knobs) { k.DPoP = true }},
		{Name: "DPoP with nonces", Seen: "Bluesky, Okta", Knobs: func(k *Knobs) { k.DPoP, k.Nonces = true, true }},
		{Name: "away once", Seen: "deployment", Rules: []Rule{{At: Upstream, Status: 503, Body: nginx, Times: 1}}, Want: once},
		{Name: "connection closed once", Seen: "deployment", Rules: []Rule{{At: Upstream, Reset: true, Times: 1}}, Want: once},
		{Name: "slow", Seen: "cold start", Rules: []Rule{{At: Upstream, Delay: 50 * time.Second, Times: 1}}},
	}
}

// gatewayQuirks are machines before the login server that answer for it.
var gatewayQuirks = func() []Quirk {
	return []Quirk{
		{Name: "captive portal for a while", Seen: "guest network", Rules: []Rule{{At: Anywhere, Status: 302, Redirect: "http://portal.test/", Times: 1}, {At: ServerMetadata, Status: 302, Redirect: "http://portal.test/", Times: 2}}, Want: Want{Failures: 2}},
		{Name: "captive portal in place", Seen: "guest network", Rules: []Rule{{At: ServerMetadata, Status: 200, Body: portal, Times: 2}}, Want: once},
		{Name: "firewall before the metadata", Seen: "Cloudflare", Rules: says(ServerMetadata, 403, cloudflare), Want: refused("discovery")},
		{Name: "firewall before the registration", Seen: "Cloudflare", Rules: says(Register, 403, cloudflare), Want: closedWant},
		{Name: "firewall before everything, at first", Seen: "Cloudflare", Rules: []Rule{{At: Register, Status: 403, Body: cloudflare, Times: 1}, {At: Token, Status: 403, Body: cloudflare, Times: 1}}, Want: Want{Failures: 2, Pages: 2}},
		{Name: "legacy login server away once", Seen: "deployment", Home: theirs, Knobs: noResourceMetadata, Rules: []Rule{{At: ServerMetadata, Status: 502, Body: nginx, Times: 2}}, Want: once},
		{Name: "old server behind a path issuer", Seen: "Keycloak", Home: Home{Path: "/realms/demo"}},
		{Name: "issuer with a slash of its own", Seen: "Auth0", Home: Home{Path: "/"}},
		{Name: "path issuer with a slash of its own", Seen: "Authentik", Home: Home{Path: "/application/o/demo/"}},
		{Name: "server at the upstream with a path", Seen: "Supabase", Home: Home{Upstream: true, Path: "/auth/v1"}},
		{Name: "server at the upstream", Seen: "workers-oauth-provider, FastMCP", Home: theirs},
		{Name: "short tokens", Seen: "tokens of 30 seconds", Knobs: func(k *Knobs) { k.Lifetime = 30 * time.Second }},
		{Name: "headers that confuse", Seen: "gateways", Rules: []Rule{{At: Anywhere, Acts: true, Header: map[string]string{"WWW-Authenticate": `Bearer realm="gateway"`}, When: []string{"!path=/mcp"}}}},
		{Name: "cache says no change", Seen: "CDN", Rules: []Rule{{At: ServerMetadata, Acts: true, Header: map[string]string{"ETag": `"1"`, "Cache-Control": "public, max-age=600"}}}},
	}
}
