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
// The resource metadata (RFC 9728) of https://h/mcp may be at three places. They are asked in this
// order:
//
//	the URL that the challenge names
//	https://h/.well-known/oauth-protected-resource/mcp
//	https://h/.well-known/oauth-protected-resource
//
// Its resource must cover the upstream: it has the same origin, and the same path or a parent of
// it. Then the first four authorization servers that it names are looked up in order, each at
// these places (the last one only for an issuer with a path):
//
//	https://as/.well-known/oauth-authorization-server/PATH
//	https://as/.well-known/openid-configuration/PATH
//	https://as/PATH/.well-known/openid-configuration
//
// The metadata's issuer must be identical to the one that it was looked up by, and every endpoint
// in it must be a URL that we would request. The first server that has such metadata is the one.
//
// An upstream without resource metadata is one of MCP's revision of 2025-03-26. Its origin is the
// issuer. If that has no metadata either, its endpoints are /authorize, /token and /register.
//
// A status other than 200, or a document that is no JSON, leads to the next place. An error of the
// network ends discovery, because another place would only hide it. Each URL that was asked for is
// an [Attempt] in [Finding.Tried].
//
// # Who we are
//
// A client shows its [Credentials] to the server in the first of these ways that fits:
//
//  1. By a JWT that its key signs (private_key_jwt, RFC 7523), if it has a key, and has no secret
//     or the server's metadata lists that method. The JWT is good for one minute. Its audience is
//     the issuer.
//  2. By its ID alone, if it has no secret.
//  3. As [Client.SecretMethod] says.
//  4. As it was registered.
//  5. By client_secret_post, if the endpoints were given by configuration.
//  6. By the first of client_secret_basic, client_secret_post and none that the metadata lists.
//  7. By client_secret_basic.
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
