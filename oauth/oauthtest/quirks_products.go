package oauthtest

import "slices"

// productQuirks are whole products: several quirks at a time, as they meet a person.
var productQuirks = func() []Quirk {
	return []Quirk{
		{Name: "Entra, one tenant", Seen: "Entra v2", Home: Home{Path: "/8d2f/v2.0"},
			Knobs: func(k *Knobs) {
				k.OpenIDOnly, k.NoPKCE, k.NoRegistration, k.NoIss, k.NoRevocation = true, true, true, true, true
				k.Scopes, k.ResourceScopes = []string{"openid", "offline_access"}, []string{"api://mcp/access"}
			},
			Rules: slices.Concat(back(entra, "resource"), []Rule{{At: Token, When: []string{"!authorized.scope~offline_access"}, Drop: []string{"refresh_token"}},
				{At: Token, Set: map[string]string{"ext_expires_in": "3599", "expires_in": `"3599"`}}}),
			Want: Want{Refused: "*", With: "--client-id known --pkce assume --resource none"}},
		{Name: "Entra, all organizations", Seen: "Entra v2", Home: Home{Path: "/organizations/v2.0"},
			Knobs: func(k *Knobs) {
				k.OpenIDOnly, k.NoPKCE, k.NoRegistration, k.NoIss = true, true, true, true
			},
			Rules: []Rule{{At: ServerMetadata, Set: map[string]string{"issuer": `"$home/{tenantid}/v2.0"`}},
				{At: Authorize, When: []string{"resource"}, Redirect: "${request.redirect_uri}?" + entra + "&state=${request.state}"}},
			Want: Want{Refused: "*", With: "--issuer $issuer --client-id known --pkce assume --resource none"}},
		{Name: "Google Workspace", Seen: "Google",
			Knobs: func(k *Knobs) { k.NoRegistration, k.NoIss, k.KeepRefresh = true, true, true },
			Rules: []Rule{{At: ResourceMetadata, Set: map[string]string{"authorization_servers": `["$issuer/"]`}},
				{At: ServerMetadata, Set: map[string]string{"token_endpoint": `"https://tokens.test/token"`}},
				{At: Token, When: []string{"!authorized.access_type=offline"}, Drop: []string{"refresh_token"}}},
			Want: Want{Refused: "no_client", With: "--client-id known --authorize-param access_type=offline"}},
		{Name: "Slack", Seen: "Slack",
			Knobs: func(k *Knobs) { k.NoResourceMetadata, k.NoIss = true, true },
			Rules: []Rule{atOrigin("$metadata"), {At: Token, Set: map[string]string{"ok": "true", "scope": `"a,b"`}, Drop: []string{"token_type"}},
				{At: Refresh, Times: 1, Status: 200, Body: `{"ok":false,"error":"internal_error"}`}},
			Want: Want{Failures: 1, Pages: 2}},
		{Name: "GitHub", Seen: "GitHub",
			Knobs: func(k *Knobs) { k.NoRegistration, k.NoIss, k.NoRefresh, k.NoRevocation = true, true, true, true },
			Rules: []Rule{{At: Token, Type: "application/x-www-form-urlencoded; charset=utf-8", Body: "access_token=${answer.access_token}&scope=repo%2Cgist&token_type=bearer"}},
			Want:  Want{Refused: "no_client", With: "--client-id known", Pages: 3}},
		{Name: "Okta", Seen: "Okta", Home: Home{Path: "/oauth2/default"},
			Knobs: func(k *Knobs) {
				k.Scopes, k.ResourceScopes = []string{"openid", "offline_access", "tools"}, []string{"tools"}
			},
			Rules: []Rule{{At: Register, Status: 401, Body: `{"errorCode":"E0000005","errorSummary":"Invalid session","errorCauses":[]}`}},
			Want:  Want{Refused: "*", With: "--client-id known"}},
		{Name: "Auth0", Seen: "Auth0", Home: Home{Path: "/"},
			Rules: []Rule{{At: ResourceMetadata, Set: map[string]string{"authorization_servers": `["https://as.test"]`}},
				{At: Register, Set: map[string]string{"client_secret_expires_at": "0", "client_secret": "null"}}}},
		{Name: "Keycloak", Seen: "Keycloak", Home: Home{Path: "/realms/demo"},
			Knobs: func(k *Knobs) {
				k.Scopes, k.ResourceScopes = []string{"openid", "offline_access", "tools"}, []string{"tools"}
				k.ProofAlgs = []string{"RS256", "ES256"}
			},
			Rules: []Rule{{At: Register, When: []string{"scope"}, Status: 403, Body: `{"error":"insufficient_scope","error_description":"Policy 'Allowed Client Scopes' rejected request"}`}}},
		{Name: "Cognito", Seen: "Cognito", Home: Home{Path: "/eu-west-1_x"},
			Knobs: func(k *Knobs) {
				k.OpenIDOnly, k.NoPKCE, k.NoRegistration, k.NoIss, k.KeepRefresh = true, true, true, true, true
			},
			Rules: []Rule{{At: ServerMetadata, Set: map[string]string{"token_endpoint": `"https://tokens.test/eu-west-1_x/token"`}},
				{At: Refresh, Drop: []string{"refresh_token"}}},
			Want: Want{Refused: "pkce_unsupported", With: "--client-id known --pkce assume"}},
		{Name: "Salesforce", Seen: "Salesforce",
			Knobs: func(k *Knobs) { k.NoIss, k.NoRegistration, k.KeepRefresh = true, true, true },
			Rules: []Rule{{At: ResourceMetadata, Set: map[string]string{"authorization_servers": originIsIss}}, atOrigin("$metadata"),
				{At: Token, Drop: []string{"expires_in"}, Set: map[string]string{"instance_url": `"https://mcp.test"`, "issued_at": `"1764000000000"`}}},
			Want: Want{Refused: "issuer_mismatch", With: "--issuer $issuer --client-id known"}},
		{Name: "Supabase", Seen: "Supabase", Home: Home{Upstream: true, Path: "/auth/v1"},
			Rules: []Rule{{At: Refresh, Status: 400, Times: 1, Body: `{"code":400,"error_code":"refresh_token_not_found","msg":"Invalid Refresh Token: Refresh Token Not Found"}`}},
			Want:  Want{Pages: 2}},
		{Name: "FastMCP proxy", Seen: "FastMCP", Home: theirs,
			Knobs: func(k *Knobs) {
				k.ResourceName = "https://mcp.test/mcp"
				k.AuthMethods = []string{"client_secret_post"}
			},
			Rules: []Rule{{At: Register, Set: map[string]string{"client_secret_expires_at": "null"}}, {At: Refresh, Status: 401, Times: 1, Body: `{"error":"invalid_client","error_description":"Client not found"}`}},
			Want:  Want{Pages: 2}},
		{Name: "workers-oauth-provider", Seen: "Cloudflare Workers", Home: theirs,
			Knobs: func(k *Knobs) { k.ResourceName = "https://mcp.test" },
			Rules: []Rule{{At: Upstream, When: []string{"bearer=live"}, Times: 1, Status: 401}}},
		{Name: "MCP Python SDK", Seen: "MCP Python SDK", Home: Home{Upstream: true, Path: "/"},
			Knobs: func(k *Knobs) {
				k.ResourceScopes = []string{"user"}
				k.AuthMethods = []string{"client_secret_post", "client_secret_basic"}
			},
			Rules: slices.Concat(back("error=invalid_scope", "!registered.scope~user"), []Rule{{At: ResourceMetadata, Set: map[string]string{"authorization_servers": originIsIss}}})},
		{Name: "Spring Authorization Server", Seen: "Spring",
			Knobs: func(k *Knobs) { k.NoIss, k.ResourceScopes = true, []string{"tools"} },
			Rules: []Rule{{At: Upstream, When: []string{"bearer=dead"}, Status: 403, Header: map[string]string{"WWW-Authenticate": invalidToken}},
				{At: Register, When: []string{"application_type"}, Status: 400, Body: `{"error":"invalid_client_metadata"}`}}},
		{Name: "Zoho", Seen: "Zoho",
			Knobs: func(k *Knobs) { k.KeepRefresh = true },
			Rules: []Rule{{At: Token, Set: map[string]string{"api_domain": `"https://www.zohoapis.com"`, "expires_in_sec": "3600", "expires_in": "3600000"}},
				{At: Refresh, Drop: []string{"refresh_token"}}}},
		{Name: "oauth2-proxy in front of everything", Seen: "oauth2-proxy", Home: theirs,
			Rules: []Rule{{At: Upstream, When: unsigned, Redirect: "/oauth2/start?rd=%2Fmcp"}}},
		{Name: "API gateway that hides the login server", Seen: "Azure API Management", Home: Home{Upstream: true, Path: "/oauth"},
			Rules: []Rule{{At: Upstream, When: unsigned, Status: 401, Body: `{ "statusCode": 401, "message": "Access denied due to missing subscription key." }`},
				{At: ServerMetadata, When: []string{atRFC8414}, Status: 404, Body: `{ "statusCode": 404, "message": "Resource not found" }`}}},
	}
}
