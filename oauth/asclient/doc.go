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
// that a peer names is requested only in these cases:
//
//   - It is https, or [Client.AllowHTTP] is set.
//   - It is at the origin of the upstream or of [Client.Issuer].
//   - It is on loopback, and so is the upstream.
//
// [NamedBy] tells the RoundTrippers who named the URL of a request. They know where each server
// is, and refuse addresses that this server has no reason to name.
//
// A URL with a user in it is never requested. A URL that the person's browser is to open is under
// the same rules and that of [Client.MayOpen], except a configured authorization endpoint.
//
// Metadata requests follow up to five redirects, each under the same rule. A request to an endpoint
// may hold a secret. It follows at most two redirects, and only those that keep the method (307,
// 308) and the origin. A registration holds no secret, and follows 301 and 302 as well. An answer
// may have 1 MiB, and may take 30 seconds. Metadata may take 5 seconds if its origin was silent
// before, and 10 if there is another server to ask.
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
// it. The authorization servers that it names are looked up in their order, at most four of them,
// each at these places (the last five only for an issuer with a path, and two of these only for one
// with a slash at its end):
//
//	https://as/.well-known/oauth-authorization-server/PATH
//	https://as/.well-known/openid-configuration/PATH
//	https://as/PATH/.well-known/openid-configuration
//	https://as/PATH/.well-known/oauth-authorization-server
//	https://as/.well-known/oauth-authorization-server/PATH/
//	https://as/.well-known/openid-configuration/PATH/
//	https://as/.well-known/oauth-authorization-server
//
// The specifications do not have the last four. Gateways that forward nothing but a path have the
// metadata below that path, some frameworks keep the slash, and some servers with a path have the
// metadata at the root. At the root, metadata of another issuer is passed over.
//
// If a place takes longer than three seconds, the next one is asked beside it, and the first good
// answer counts. A registration endpoint, and the methods of PKCE, may be missing from the first
// document and stand in the OpenID document of the same issuer. They are taken from there if that
// document has the same token endpoint, and the registration endpoint is at the server's origin.
//
// The metadata's issuer must be the one that it was looked up by. The first server that has such
// metadata, with a token endpoint, is used. Two kinds of upstreams are looked up otherwise:
//
//   - An upstream that names no server follows MCP's revision of 2025-03-26. The metadata at its
//     origin is used, and may name any issuer. If there is none, the issuer is that origin, and the
//     endpoints are /authorize, /token and /register there.
//   - If the person vouches for a server, [Client.Issuer] takes the place of the servers that the
//     resource names. Resource metadata may then be missing, or be of another resource. The
//     metadata of that server may name another issuer, or a template, as that of Entra ID for all
//     organizations does: https://login.microsoftonline.com/{tenantid}/v2.0.
//
// In both cases nothing but the metadata vouches for an issuer of another name. So [Server.FoundAt]
// keeps the issuer that the metadata was looked up by, and credentials, registrations and the
// audience of assertions belong to that one ([Server.ID]).
//
// If a place has no such document or does not answer, the next place is asked, and after the last
// place the next server. An error of the network is returned only if nothing is found. Each URL
// that was asked for is an [Attempt] in [Finding.Tried].
//
// # What is tolerated
//
// Not all servers keep to the specifications. The shape of what they send matters little:
//
//   - A document is a JSON object whose members are read one by one. A member that cannot be read
//     counts as absent, and the log names it. A list may come as one string, and a string as a list
//     of one. Numbers may come as strings, and strings as numbers. Names of members may differ in
//     case, underscores and hyphens. A byte order mark, UTF-16, a wrong content type, text after
//     the object and an object within a JSON string do no harm.
//   - An answer to a POST may be form-encoded, a list of one object, or wrapped in a member such as
//     data, and may have any status of success.
//   - A challenge may lack its scheme, and its values may be quoted in any way.
//   - A document without what makes it one (a resource, an issuer, a token endpoint) is passed
//     over, and the next place is asked. Two gaps are filled: a resource of metadata at the
//     upstream's own origin, by the upstream's URL, and an issuer that no resource metadata named,
//     by the one that was looked up.
//   - An endpoint in the metadata may be cleartext or no URL, as long as it is not needed. A
//     relative one is taken as one of the issuer.
//   - The authorization servers in resource metadata may be one string, objects, names without a
//     scheme, or the URLs of their metadata. Those that cannot be requested are passed over.
//   - An issuer in metadata may have a slash more or less at its end. So may the iss of a redirect.
//     If the metadata promises an iss (RFC 9207), it must be one of the two forms that were read.
//   - A redirect to an http URL of the same host is taken for https.
//   - A registration that is refused, or that makes the server crash, is tried again without what
//     the server objects to, and then with as little as possible: three times in all.
//   - A client that is refused is shown to the server in other ways ("Who we are"). One that was
//     registered within 30 seconds is shown again after a moment: replicas may not know it yet.
//   - A request that is refused because of its resource parameter is sent again without it, unless
//     the person named the resource, and later requests to that server leave it out. Package oauth
//     does the same for refreshes.
//   - A server that is busy, and says until when, is waited for ("Busy servers").
//   - An access token may have the word Bearer before it. A token_type may be absent or odd, such
//     as "BearerToken" or "jwt". An expires_in that is no positive number counts as absent.
//   - An error is read from an object of any shape, an array, a form or text, also if the status is
//     that of success. [SignInError.EndsRefreshToken], [SignInError.ObjectsTo] and
//     [SignInError.TooEarly] judge it.
//
// # Busy servers
//
// A server may answer with 425, 429 or any status of the 5xx class, with 403 and Retry-After, or
// with an error code or words such as slow_down, and say when to come back. It does so by
// Retry-After in seconds or as a date, by the same in milliseconds, by the member retry_after, or
// with 429 by the fields of rate limiters such as RateLimit-Reset. Then the same request is sent
// again after that time, at most five times. The pauses are at least 1, 2, 4, 8 and 16 seconds. All
// pauses of one request, or of one discovery, take 45 seconds at most. A time that is longer, or
// ends after the deadline of the context, is not waited for. It is told as
// [SignInError.RetryAfter]. The poll of the device grant has its own pace.
//
// A code without a token costs the person a login page. So a code is sent once more after a second
// if the answer does not refuse it, or if the connection is lost. If the code is spent by then, the
// first answer is returned.
//
// # What never is
//
// Where a secret goes matters always. These are refused, whatever the server is:
//
//   - Metadata of another issuer, if the upstream named one: another host, port or path, cleartext,
//     or a template. Only [Client.Issuer] is the person's word for it.
//   - Metadata of a resource that does not cover the upstream, even if only http stands in place of
//     https: a token for it might be good elsewhere. Only [Client.ResourceGiven] is the person's
//     word for it.
//   - A cleartext endpoint that is needed, and a user in a URL.
//   - A redirect of a request to an endpoint, if it leads to another origin or changes the method.
//   - A callback whose iss is not the issuer, comes twice, or is missing although the metadata
//     promises it. Nothing else in such a callback is looked at.
//   - If nothing but the metadata at the upstream's origin vouches for its issuer: a template, and
//     a token endpoint that is neither at that issuer's origin nor at that of the authorization
//     endpoint. If it is not at the issuer's origin, the issuer in the metadata means nothing.
//   - If the issuer is at the upstream's origin: an endpoint for revocation, devices or pushed
//     requests at another origin than the token endpoint.
//   - A token bound to a key (DPoP) if we did not ask for that, a token of a type such as mac, and
//     a token with characters that no header may hold.
//   - Configured parameters in place of those of the protocol ([Reserved]).
//
// # Who we are
//
// A client shows its [Credentials] to the server in the first of these ways that fits:
//
//  1. By a JWT that its key signs (private_key_jwt, RFC 7523), if it has a key, and has no secret
//     or the server's metadata lists that method. The JWT is good for one minute. Its audience is
//     the issuer, or the endpoint itself if nothing but the metadata vouches for the issuer.
//  2. By its ID alone, if it has no secret.
//  3. As [Client.SecretMethod] says.
//  4. By its certificate (RFC 8705), if it has one and the metadata lists no way for a secret. The
//     request then holds the ID alone.
//  5. As it was registered.
//  6. By client_secret_post, if the endpoints were given by configuration.
//  7. By the first of client_secret_basic, client_secret_post and none that the metadata lists.
//  8. By client_secret_basic.
//
// If the server refuses the client, the same request is sent again in another way. For a secret,
// that is the other one of client_secret_basic and client_secret_post, and then basic without
// form-encoding, if that makes a difference. Where [Client.SecretMethod] is set, there is no other
// way. For a JWT it is the endpoint as the audience, if that is at the issuer's origin. A way that
// the server takes is remembered, also with the token ([Token.Way]).
//
// With [Client.Certificate], the endpoints in mtls_endpoint_aliases replace the others.
//
// A registration (RFC 7591) is that of a native application. It asks for a secret only if the
// metadata lists methods of authentication, and "none" is not one of them.
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
// A [*SignInError] says which stage of a sign-in failed, and whether waiting can help. An answer is
// Refused if its status is of the 4xx class, or if it has a status of success and holds an error.
// It is not Refused in these cases:
//
//   - The code or the words mean "later": temporarily_unavailable, server_error, too many requests
//     and the like.
//   - The status is 408, 425, 429, or 500 and above. For a refresh it may also be 404 without an
//     OAuth error: then the endpoint is looked up again.
//   - The body is an HTML page, which a firewall sends.
//
// An answer without an error code has CodeBadReply. A [*DiscoveryError] names what is missing and
// what was tried. The words of a peer are cut to 200 bytes. Secrets that the request held are
// masked in them, also in every encoding that a peer is likely to echo.
package asclient
