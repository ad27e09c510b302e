package oauthtest

import "time"

// busy makes a rule of a server that is busy for some requests, and names the time to come back.
func busy(at Place, status, times int, name, value string) []Rule {
	return []Rule{{At: at, Status: status, Times: times, Header: map[string]string{name: value}}}
}

// saysTo is saysOnce for a server that looks for one parameter, and goes on looking.
func saysTo(at Place, parameter, body string) []Rule {
	return []Rule{{At: at, When: []string{parameter}, Status: 400, Body: body}}
}

// spends is saysTo for a server that has used up the code before it looks.
func spends(parameter, body string) []Rule {
	return []Rule{{At: Token, When: []string{parameter}, Acts: true, Status: 400, Body: body}}
}

func push(k *Knobs) { k.RequirePush = true }

// busyQuirks are servers that are busy or away for a moment, or not yet all of one mind. The
// person's login, code or token survives that.
var busyQuirks = func() []Quirk {
	return []Quirk{
		{Name: "429 with seconds, code", Seen: "MCP TypeScript SDK's own rate limiter", Rules: busy(Token, 429, 2, "Retry-After", "1")},
		{Name: "503 with seconds, code", Seen: "deployment", Rules: busy(Token, 503, 2, "Retry-After", "3")},
		{Name: "425 with seconds, code", Seen: "CDN with TLS early data", Rules: busy(Token, 425, 1, "Retry-After", "0")},
		{Name: "429 with a date, code", Seen: "gateway", Rules: busy(Token, 429, 1, "Retry-After", "Sat, 01 Jan 2000 00:00:09 GMT")},
		{Name: "429 with a negative number, code", Seen: "rate limiter whose window has passed", Rules: busy(Token, 429, 1, "Retry-After", "-3")},
		{Name: "429 with a fraction, code", Seen: "rate limiter in JavaScript", Rules: busy(Token, 429, 1, "Retry-After", "1.5")},
		{Name: "429 with milliseconds, code", Seen: "Azure", Rules: busy(Token, 429, 1, "X-Ms-Retry-After-Ms", "1500")},
		{Name: "429 with x-ratelimit-reset, code", Seen: "GitHub", Rules: busy(Token, 429, 1, "X-RateLimit-Reset", "3")},
		{Name: "429 with x-ratelimit-reset as a time, code", Seen: "GitHub", Rules: busy(Token, 429, 1, "X-RateLimit-Reset", "946684805")},
		{Name: "429 with retry_after in JSON, code", Seen: "Discord", Rules: saysOnce(Token, 429, `{"message":"You are being rate limited.","retry_after":2.5,"global":false}`)},
		{Name: "429 without a time, code", Seen: "rate limit", Rules: saysOnce(Token, 429, `{"error":"too_many_requests"}`)},
		{Name: "503 without a time, code", Seen: "deployment", Rules: saysOnce(Token, 503, nginx)},
		{Name: "400 slow_down, code", Seen: "hand-made server", Rules: saysOnce(Token, 400, `{"error":"slow_down"}`)},
		{Name: "400 temporarily_unavailable with seconds, code", Seen: "hand-made server",
			Rules: []Rule{{At: Token, Status: 400, Body: `{"error":"temporarily_unavailable"}`, Header: map[string]string{"Retry-After": "2"}, Times: 2}}},
		{Name: "200 rate_limited, code", Seen: "Slack", Rules: saysOnce(Token, 200, `{"ok":false,"error":"ratelimited"}`)},
		{Name: "502 with seconds, code", Seen: "gateway", Rules: busy(Token, 502, 2, "Retry-After", "2")},
		{Name: "connection closed before the exchange", Seen: "idle connection that is closed", Rules: []Rule{{At: Token, Reset: true, Times: 1}}},
		{Name: "firewall's page once, code", Seen: "Cloudflare", Rules: saysOnce(Token, 403, cloudflare)},
		{Name: "429 for an hour, code", Seen: "quota", Rules: busy(Token, 429, 0, "Retry-After", "3600"), Want: refusedAfterPage("bad_reply")},
		{Name: "429 for ever, code", Seen: "quota", Rules: busy(Token, 429, 0, "Retry-After", "1"), Want: refusedAfterPage("bad_reply")},
		{Name: "429 for 1e300 seconds, code", Seen: "an attack", Rules: busy(Token, 429, 0, "Retry-After", "1e300"), Want: refusedAfterPage("bad_reply")},

		{Name: "429 with seconds, refresh", Seen: "MCP TypeScript SDK's own rate limiter", Rules: busy(Refresh, 429, 3, "Retry-After", "1")},
		{Name: "503 with seconds, refresh", Seen: "deployment", Rules: busy(Refresh, 503, 2, "Retry-After", "10")},
		{Name: "504 with seconds, refresh", Seen: "gateway", Rules: busy(Refresh, 504, 1, "Retry-After", "5")},
		{Name: "500 with seconds, refresh", Seen: "hand-made server", Rules: busy(Refresh, 500, 1, "Retry-After", "5")},
		{Name: "429 with RateLimit-Reset, refresh", Seen: "express-rate-limit", Rules: busy(Refresh, 429, 1, "RateLimit-Reset", "20")},
		{Name: "429 without a time, refresh", Seen: "rate limit", Rules: saysOnce(Refresh, 429, `{"error":"too_many_requests"}`), Want: once},
		{Name: "200 rate_limited, refresh", Seen: "Slack", Rules: saysOnce(Refresh, 200, `{"error":"rate_limited"}`), Want: once},
		{Name: "429 with seconds, registration", Seen: "MCP TypeScript SDK's own rate limiter", Rules: busy(Register, 429, 2, "Retry-After", "2")},
		{Name: "503 with seconds, registration", Seen: "deployment", Rules: busy(Register, 503, 1, "Retry-After", "2")},
		{Name: "429 for an hour, registration", Seen: "MCP TypeScript SDK: 20 an hour", Rules: busy(Register, 429, 0, "Retry-After", "3600"), Want: closedWant},
		{Name: "429 with seconds, push", Seen: "rate limit", Knobs: push, Rules: busy(Push, 429, 2, "Retry-After", "2")},
		{Name: "503 with seconds, device", Seen: "deployment", Knobs: deviceOnly, Rules: busy(Device, 503, 2, "Retry-After", "2")},
		{Name: "429 with seconds, device poll", Seen: "rate limit", Knobs: deviceOnly, Rules: busy(Token, 429, 2, "Retry-After", "20")},
		{Name: "503 with seconds, metadata", Seen: "deployment", Rules: busy(ServerMetadata, 503, 2, "Retry-After", "2")},
		{Name: "429 with seconds, resource metadata", Seen: "rate limit at the edge", Rules: busy(ResourceMetadata, 429, 2, "Retry-After", "2")},

		{Name: "400 with words, refresh", Seen: "Zoho", Rules: saysOnce(Refresh, 400, `{"error":"Access Denied","error_description":"You have made too many requests continuously.","status":"failure"}`), Want: once},
		{Name: "403 with words, refresh", Seen: "GitHub", Rules: saysOnce(Refresh, 403, `{"message":"You have exceeded a secondary rate limit."}`), Want: once},
		{Name: "403 with seconds, refresh", Seen: "GitHub", Rules: busy(Refresh, 403, 1, "Retry-After", "20")},
		{Name: "400 with an exception, refresh", Seen: "Cognito", Rules: saysOnce(Refresh, 400, `{"__type":"TooManyRequestsException","message":"Rate exceeded"}`), Want: once},
		{Name: "400 invalid_grant because of a loop, refresh", Seen: "Entra", Rules: saysOnce(Refresh, 400, `{"error":"invalid_grant","error_description":"AADSTS50196: The server terminated an operation because it encountered a client request loop."}`), Want: once},
		{Name: "529 with seconds, code", Seen: "Anthropic", Rules: busy(Token, 529, 1, "Retry-After", "4")},
		{Name: "400 with words, code", Seen: "Zoho", Rules: saysOnce(Token, 400, `{"error":"Access Denied","error_description":"You have made too many requests continuously."}`)},
		{Name: "503 with a limit of clients, registration", Seen: "n8n", Rules: says(Register, 503, `{"error":"server_error","error_description":"client limit reached"}`), Want: closedWant},
		{Name: "404 page during a deployment", Seen: "nginx ingress, Traefik", Rules: saysOnce(Refresh, 404, "<html><h1>404 Not Found</h1></html>"), Want: once},
		{Name: "404 text during a deployment", Seen: "Traefik, Go", Rules: []Rule{{At: Refresh, Status: 404, Body: "404 page not found", Type: "text/plain", Times: 1}}, Want: once},
		{Name: "404 without a body during a deployment", Seen: "Envoy", Rules: []Rule{{At: Refresh, Status: 404, Times: 1}}, Want: once},
		{Name: "404 in JSON during a deployment", Seen: "Kong", Rules: saysOnce(Refresh, 404, `{"message":"no Route matched with those values"}`), Want: once},
		{Name: "token endpoint moved to another path", Seen: "new version of the API", Rules: []Rule{{At: ServerMetadata, Skip: 1, Set: map[string]string{"token_endpoint": `"$issuer/token?v=2"`}},
			{At: Refresh, When: []string{"!v"}, Status: 404, Body: "<h1>Not Found</h1>"}}},
		{Name: "token endpoint moved to another origin", Seen: "new host name", Rules: []Rule{{At: ServerMetadata, Skip: 1, Set: map[string]string{"token_endpoint": `"https://tokens.test/token"`}},
			{At: Refresh, When: []string{"host=as.test"}, Status: 404, Body: "<h1>Not Found</h1>"}}, Want: Want{Pages: 2, Failures: 2}},
		{Name: "404 page for good", Seen: "endpoint that moved", Rules: says(Refresh, 404, "<h1>Not Found</h1>"), Want: pageLater},
		{Name: "404 with an error of OAuth", Seen: "hand-made server", Rules: says(Refresh, 404, `{"error":"invalid_grant"}`), Want: pageEachTime},

		{Name: "resource is unknown, code", Seen: "strict schema", Rules: saysTo(Token, "resource", `{"error":"invalid_request","error_description":"Unknown parameter: resource"}`)},
		{Name: "resource is unknown, code, in JSON of its own", Seen: "FastAPI", Rules: []Rule{{At: Token, When: []string{"resource"}, Status: 422,
			Body: `{"detail":[{"type":"extra_forbidden","loc":["body","resource"],"msg":"Extra inputs are not permitted"}]}`}}},
		{Name: "resource is unknown, and the code is spent", Seen: "strict schema behind the grant", Rules: spends("resource", `{"error":"invalid_request","error_description":"Unknown parameter: resource"}`),
			Want: Want{Refused: "invalid_request", With: resourceNone, Pages: 1}},
		{Name: "resource is unknown, push", Seen: "strict schema", Knobs: push, Rules: saysTo(Push, "resource", `{"error":"invalid_request","error_description":"unsupported parameter resource"}`)},
		{Name: "resource is unknown, device", Seen: "strict schema", Knobs: deviceOnly, Rules: saysTo(Device, "resource", `{"error":"invalid_target"}`)},
		{Name: "resource is unknown, page", Seen: "strict schema", Rules: back("error=invalid_request&error_description=Unknown+parameter%3A+resource", "resource"),
			Want: Want{Refused: "invalid_request", With: resourceNone, Pages: 1}},

		{Name: "client is unknown for a moment, code", Seen: "replicas", Rules: saysOnce(Token, 401, `{"error":"invalid_client"}`)},
		{Name: "client is unknown for a moment, in words", Seen: "replicas", Rules: []Rule{{At: Token, Status: 400, Body: `{"error":"invalid_request","error_description":"Client not found"}`, Times: 2}}},
		{Name: "client is unknown for a moment, push", Seen: "replicas", Knobs: push, Rules: saysOnce(Push, 401, `{"error":"invalid_client"}`)},
		{Name: "client is unknown for a moment, device", Seen: "replicas", Knobs: deviceOnly, Rules: saysOnce(Device, 401, `{"error":"invalid_client"}`)},

		{Name: "registration is in the OpenID document only", Seen: "Keycloak behind a rewritten document", Rules: []Rule{{At: ServerMetadata, When: []string{atRFC8414}, Drop: []string{"registration_endpoint"}}}},
		{Name: "PKCE is in the OpenID document only", Seen: "hand-made RFC 8414 document", Rules: []Rule{{At: ServerMetadata, When: []string{atRFC8414}, Drop: []string{"code_challenge_methods_supported"}}}},
		{Name: "registration in the OpenID document of another origin", Seen: "an attack", Rules: []Rule{{At: ServerMetadata, When: []string{atRFC8414}, Drop: []string{"registration_endpoint"}},
			{At: ServerMetadata, Set: map[string]string{"registration_endpoint": `"https://tokens.test/register"`}}}, Want: servedWith("no_client", "--client-id known")},
		{Name: "RFC 8414 lacks members, and the OpenID path never answers", Seen: "firewall that drops", Knobs: func(k *Knobs) { k.NoRegistration = true },
			Rules: []Rule{{At: ServerMetadata, When: []string{"path~openid"}, Delay: 10 * time.Minute}}, Want: servedWith("no_client", "--client-id known")},
		{Name: "a script among the servers", Seen: "template that was not filled in", Rules: member(ResourceMetadata, "authorization_servers", `["javascript:x","http://other.test","$issuer"]`)},
		{Name: "prose and numbers among the servers", Seen: "hand-made server", Rules: member(ResourceMetadata, "authorization_servers", `["","not a url","none",null,7,"$issuer"]`)},
		{Name: "five unusable servers first", Seen: "test list", Rules: member(ResourceMetadata, "authorization_servers", `["ftp://a","urn:b","http://c.test","mailto:d@e","data:,f","$issuer"]`)},
		{Name: "first of two servers never answers", Seen: "firewall that drops", Rules: []Rule{{At: ResourceMetadata, Set: map[string]string{"authorization_servers": `["https://tokens.test/slow","$issuer"]`}},
			{At: Anywhere, When: []string{"host=tokens.test"}, Delay: 10 * time.Minute}}},
		{Name: "metadata at the slash only", Seen: "Django", Home: Home{Path: "/tenant/"}, Rules: []Rule{{At: ServerMetadata, When: []string{"path=/.well-known/oauth-authorization-server/tenant/"}, Body: "$metadata"}, {At: ServerMetadata, Status: 404}}},
		{Name: "OpenID metadata at the slash only", Seen: "Django", Home: Home{Path: "/tenant/"}, Rules: []Rule{{At: ServerMetadata, When: []string{"path=/.well-known/openid-configuration/tenant/"}, Body: "$metadata"}, {At: ServerMetadata, Status: 404}}},
		{Name: "registration moved with 301", Seen: "Django's APPEND_SLASH", Rules: []Rule{{At: Register, When: []string{"!slash"}, Status: 301, Redirect: "$issuer/register?slash=1"}}},
		{Name: "registration moved with 302", Seen: "proxy that rewrites", Rules: []Rule{{At: Register, When: []string{"!slash"}, Status: 302, Redirect: "/register?slash=1"}}},
		{Name: "registration moved with 303", Seen: "login wall", Rules: []Rule{{At: Register, Status: 303, Redirect: "$issuer/login"}}, Want: servedWith("no_client", "--client-id known")},
		{Name: "registration moved with 301 to another origin", Seen: "new host name", Rules: []Rule{{At: Register, When: []string{"host=as.test"}, Status: 301, Redirect: "https://tokens.test/register"}}, Want: servedWith("no_client", "--client-id known")},
	}
}
