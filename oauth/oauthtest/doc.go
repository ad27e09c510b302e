// Package oauthtest is an authorization server, an upstream that checks tokens, a browser and a
// network in memory, for tests and for the demonstration.
//
// # The correct server
//
// A [Server] is strict where clients go wrong. It refuses a request without PKCE, a redirect URI
// that was not registered, a wrong resource, and a code or a refresh token that is used again. A
// refresh token that is used again ends all tokens of its login.
//
// There are two ways to make a Server differ from that. [Knobs] are settings that a correct server
// may have, and a few mistakes that need the server's own memory of codes and tokens. A [Rule] is
// data: it fits some requests and changes their answers, whatever they are. Rules hold from
// [Server.Play] until the next Play. Play without rules heals the server.
//
// # Quirks: what is tolerated, and what never is
//
// A [Quirk] is a row of the table [Quirks]: a kind of server that people have met, its rules and
// knobs, and the right outcome (its Want). So the table is the exact list of what the packages
// oauth and asclient tolerate and refuse. Want has one of these forms:
//
//	Want{}                                   tolerated: the person is served
//	Want{Failures: 1}, Want{Pages: 3}        tolerated, at the cost of a failed call or login pages
//	Want{Refused: code, With: "--issuer X"}  refused, until the person makes a setting
//	Want{Refused: code}                      never tolerated
//
// A test goes through all rows and needs no code for a new one. To add a row, copy the one that
// comes closest, in the file of the place where the server is odd:
//
//	{Name: "dead: status of its own", Seen: "HubSpot",
//		Rules: says(Refresh, 400, `{"status":"BAD_REFRESH_TOKEN"}`), Want: pageEachTime},
//
// Here the refresh token is refused in words of the server's own, so each expiry takes a login
// page. Most rows need one of the short forms in quirks.go. The others write their rules out:
//
//	Rule{At: Token, Set: map[string]string{"scope": `["tools"]`}}           // one member is odd
//	Rule{At: Token, Status: 502, Body: nginx, Times: 1}                     // away for one request
//	Rule{At: Refresh, When: []string{"resource"}, Status: 400}              // refuses a parameter
//	Rule{At: Refresh, Acts: true, Reset: true}                              // the answer is lost
//	Rule{At: Upstream, When: []string{"bearer=young"}, Status: 401}         // a replica lags
//	Rule{At: Register, When: []string{"!slash"}, Status: 307,
//		Redirect: "$issuer/register?slash=1"}                           // moved
//	Rule{At: ResourceMetadata, Body: "\ufeff$answer"}                       // with a byte order mark
//
// # Network
//
// A [Network] is a small internet for a bubble of testing/synctest. In it, a delay of ten minutes
// and the expiry of a token pass in no time.
package oauthtest
