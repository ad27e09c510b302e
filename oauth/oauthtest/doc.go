// Package oauthtest is an authorization server, a bearer check, a browser and a network in memory,
// for tests and for the demonstration. The server is strict where clients go wrong: PKCE, redirect
// URI, resource, and the reuse of codes and refresh tokens.
//
// # Knobs, rules and quirks
//
// There are two ways to make a [Server] differ from that. [Knobs] are settings that a correct
// server may have, and a few mistakes that need the server's own books. A [Rule] is data: it fits
// some requests and changes their answers, whatever they are. Rules are followed from
// [Server.Play] until the next Play. Play without rules heals the server.
//
// A [Quirk] is a row of the table [Quirks]: a kind of server that people have met, its rules and
// knobs, and the right outcome. A test goes through all rows and needs no code for a new one. To
// add a row, copy the one that comes closest, in the file of the place where the server is odd:
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
//	Rule{At: ResourceMetadata, Body: "\ufeff$answer"}                       // with a mark
//
// # Network
//
// A [Network] is a small internet for a bubble of testing/synctest. There, a delay of ten minutes
// and the expiry of a token pass in no time.
package oauthtest
