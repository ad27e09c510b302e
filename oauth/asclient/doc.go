// Package asclient sends requests to OAuth 2 authorization servers on behalf of one MCP upstream:
// discovery, registration, token requests of all grants, client authentication, DPoP, pushed
// authorization requests, device authorization and revocation. It keeps no account, opens no
// listener and talks to no person. Package oauth decides when to ask for what.
//
// A sign-in with an authorization code uses a [Client] in this order:
//
//  1. [Client.AskUpstream], or [ReadChallenge] of a 401 that came anyway.
//  2. [Client.FindResource], [Client.FindServer], [Server.CheckPKCE].
//  3. [Client.Register], unless there is a client ID.
//  4. [ChooseProofKey], [Client.AuthorizeURL] and, where the server requires it, [Client.Push].
//  5. [CheckRedirect], when the browser has come back.
//  6. [Client.RedeemCode], and later [Client.Refresh] and [Client.Revoke].
//
// # Where requests go
//
// Requests to the upstream's origin leave by [Client.Base], all others by [Client.Other]. A URL
// that a peer names is requested only if it is https, or at the upstream's own origin, or on
// loopback while the upstream is on loopback too; and only without a user in it. Metadata requests
// follow up to five redirects, each under the same rule. Requests that carry a secret follow none.
// An answer may have 1 MiB and take 30 seconds.
//
// # Discovery
//
// Resource metadata (RFC 9728) is looked for at the URL that the challenge names, then at the
// well-known path of the upstream, then at the well-known root. Its resource must cover the
// upstream: the same origin, and the same path or a parent of it. An upstream without any is one of
// MCP's revision of 2025-03-26.
//
// Then the resource's first four authorization servers are looked up, in order. For an issuer with
// a path there are three places: RFC 8414 with the path after the well-known part, OpenID Connect
// with the path after it, OpenID Connect with the path before it. An issuer without a path has two.
// The metadata's issuer must be identical to the one that it was looked up by, and all its
// endpoints must be URLs that we would ask. An upstream without resource metadata is its own
// issuer; if that has no metadata either, its endpoints are /authorize, /token and /register.
//
// A 404 leads to the next place. An error of the network ends discovery, because another place
// would only hide it. Each attempt is an [Attempt] in [Finding.Tried].
//
// # Who we are
//
// [Credentials] are shown to the server in the first way that fits: a JWT signed by our key
// (private_key_jwt, RFC 7523) if we have a key and no secret, or the server lists it; nothing, if
// we have no secret; as [Client.SecretMethod] says; as the client was registered; in the form, for
// endpoints that were configured; the first of client_secret_basic, client_secret_post and none
// that the server lists; client_secret_basic. The JWT is good for one minute, and its audience is
// the issuer.
//
// A registration (RFC 7591) is that of a native application. It asks for no secret, unless the
// server knows no client without one.
//
// # Tokens
//
// A token's lifetime counts from before the request, so that it expires early rather than late. An
// expires_in that is absent, 0, negative or no number means that the server does not say. A
// token_type other than Bearer is refused, except for DPoP if the request had a proof. What the
// answer to a refresh leaves out stays as it was.
//
// # DPoP
//
// Credentials with a [Credentials.ProofKey] add a proof (RFC 9449) to token requests and pushed
// requests. A Client remembers the last nonce of each origin, puts it into the next proof, and
// sends a request again, twice at most, if the server only asks for another nonce. Whoever sends
// requests to the upstream makes their proofs with [Client.Proof], and hands each answer to
// [Client.KeepNonce].
//
// # Errors
//
// A [*SignInError] says which stage of a sign-in ended, and whether waiting can help. A server's
// error code is not Refused if it means "later" (temporarily_unavailable, server_error, slow_down),
// if the status is 429 or 500 and above, or if the answer is no JSON with an error code
// (CodeBadReply). A [*DiscoveryError] names what is missing and what was tried. The words of a peer
// are cut to 200 bytes, and secrets that the request held are masked in them.
package asclient
