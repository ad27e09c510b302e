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
// that a peer names is requested only if it is https, or at the upstream's own origin, or at that
// of [Client.Issuer], or on loopback while the upstream is on loopback too; and only without a user
// in it. Metadata requests follow up to five redirects, each under the same rule. A registration
// holds no secret and follows redirects within its origin that keep the method (307, 308). Requests
// that carry a secret follow none. An answer may have 1 MiB and take 30 seconds.
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
// these places (the last two only for an issuer with a path):
//
//	https://as/.well-known/oauth-authorization-server/PATH
//	https://as/.well-known/openid-configuration/PATH
//	https://as/PATH/.well-known/openid-configuration
//	https://as/PATH/.well-known/oauth-authorization-server
//
// The metadata's issuer must be the one that it was looked up by. The first server that has such
// metadata is the one.
//
// An upstream that names no server is one of MCP's revision of 2025-03-26. The metadata at its
// origin counts, and may name any issuer. If there is none, the origin is the issuer, and its
// endpoints are /authorize, /token and /register.
//
// [Client.Issuer] is a server that the person vouches for. It takes the place of the servers that
// the resource names, and resource metadata that is missing, or is that of another resource, does
// not matter. Its metadata may name another issuer. That may be a template, as Entra ID has for all
// organizations, such as https://login.microsoftonline.com/{tenantid}/v2.0.
//
// Where metadata names an issuer of its own, [Server.FoundAt] is the one that it was looked up by.
// Then credentials, registrations and the audience of assertions hang on that one.
//
// A place without a document, or whose host does not answer, leads to the next place, and a server
// without any to the next server. An error of the network is returned only if nothing is found.
// Each URL that was asked for is an [Attempt] in [Finding.Tried].
//
// # What is tolerated
//
// Servers are not all as the specifications say. The shape of what they send matters little:
//
//   - A document is a JSON object. Its members are read one by one. One that cannot be read is
//     logged and left out. A list may be one string, and a string a list of one. Numbers may be
//     strings, and strings numbers. A byte order mark, a wrong content type and text behind the
//     object are passed over. Answers to POST may be form-encoded, or wrapped in a member such as
//     data, and may have any status of success.
//   - A document without the members that make it one (a resource, an issuer, a token endpoint) is
//     none, and the next place is asked.
//   - An endpoint of the metadata that is not needed may be cleartext or no URL.
//   - An issuer, in metadata and in a redirect, may have a slash more or less at its end.
//   - A redirect to an http URL of the same host is taken for https.
//   - A registration that is refused is tried again without what the server objects to, and then
//     with as little as possible: three times in all.
//   - A token_type may be absent or odd, as "BearerToken" or "jwt". An expires_in that is no
//     positive number means that the server does not say.
//   - An error is read from an object in any shape, an array, a form or text, also if the status is
//     that of success. [SignInError.EndsRefreshToken], [SignInError.ObjectsTo] and
//     [SignInError.TooEarly] judge it.
//
// # What never is
//
//   - Metadata of another issuer, where the upstream named one. Neither another host, port or path,
//     nor cleartext, nor a template passes for it.
//   - Metadata of a resource that does not cover the upstream, also if only http stands in place of
//     https: a token for it might be good elsewhere. [Client.ResourceGiven] is the person's word.
//   - A cleartext endpoint that is to be requested, a user in a URL, a request with a secret that
//     is redirected.
//   - A redirect whose iss is not the issuer, or comes twice, or is missing although it was
//     promised. Nothing else in such a redirect is looked at.
//   - Where nothing but the metadata vouches for an issuer: a token endpoint that is neither at
//     that issuer's origin nor at that of the authorization endpoint, and a template. If it is not
//     at the issuer's origin, the issuer in the metadata means nothing.
//   - Where the issuer is at the upstream's origin: an endpoint for revocation, devices or pushed
//     requests at another origin than the token endpoint.
//   - A token bound to a key (DPoP) that we did not ask for, or of a type such as mac, and one that
//     no header may hold.
//   - Configured parameters in place of those of the protocol.
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
//  4. By its certificate (RFC 8705), if it has one and the metadata lists no way for a secret. The
//     request then holds the ID alone.
//  5. As it was registered.
//  6. By client_secret_post, if the endpoints were given by configuration.
//  7. By the first of client_secret_basic, client_secret_post and none that the metadata lists.
//  8. By client_secret_basic.
//
// With [Client.Certificate] the endpoints in mtls_endpoint_aliases are used where there are any.
// The JWT's audience is the endpoint itself where nothing but the metadata vouches for the issuer.
//
// A registration (RFC 7591) is that of a native application. It asks for no secret, unless the
// server knows no client without one.
//
// # Tokens
//
// A token's lifetime counts from before the request, so that it expires early rather than late.
// What the answer to a refresh leaves out stays as it was.
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
// A [*SignInError] says which stage of a sign-in ended, and whether waiting can help. An answer is
// Refused if its status is of the 4xx class, or if it holds an error with a status of success. It
// is not Refused if the code means "later" (temporarily_unavailable, server_error, slow_down and
// the like), if the status is 408, 425, 429 or not below 500, or if it is an HTML page, which a
// firewall sends. An answer without an error code has CodeBadReply. A [*DiscoveryError] names what
// is missing and what was tried. The words of a peer are cut to 200 bytes. Secrets that the request
// held are masked in them, also where they are encoded.
package asclient
