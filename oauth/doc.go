// Package oauth signs in to an OAuth2-protected MCP server and adds the token to
// each request. It knows neither SSH nor JSON-RPC: the ways out ([Config.Base],
// [Config.AuthBase]), the way in ([Config.Listen]) and the person
// ([Config.Offer]) are functions that the caller gives.
//
// # The sequence
//
// [Transport.RoundTrip] sends the first request without a token. The 401 that
// answers it starts one sign-in, which every request that needs it joins:
//
//  1. Resource metadata (RFC 9728): the challenge's resource_metadata, else the
//     well-known path of the upstream, else the well-known root. Its resource must
//     cover the upstream, and is sent byte for byte (RFC 8707).
//  2. Authorization server metadata (RFC 8414, then OpenID Connect), whose issuer
//     must be identical to the one it was looked up by. An upstream without any
//     resource metadata is a 2025-03-26 one: metadata at its origin, else the
//     default endpoints /authorize, /token, /register.
//  3. The callback's listener, bound before anything is shown and held to the end.
//  4. A client: the configured one, else a client ID metadata document, else
//     dynamic registration (RFC 7591), remembered per issuer.
//  5. The authorize URL with state and PKCE S256, offered to the person: as it is, and as
//     a page of the listener that leads there once, for the arguments of a browser.
//     A server that requires pushed authorization requests (RFC 9126) is handed the
//     parameters first, and the URL refers to them. The page leads to a newly pushed one
//     where that was used or has expired.
//  6. The callback: state, then iss (RFC 9207), then the code exchange, then the
//     store, and only then the success page and the waiting requests.
//
// Later tokens come by refresh, ahead of expiry, one at a time in this process (the
// flight) and among processes (the store's file lock, under which the store is read
// again). A rotated refresh token is on disk before its access token is used.
// Sign-in and refresh run under the Transport's lifetime; a request's context bounds
// only its own waiting. What a crash can cost is the refresh token that the server had
// just spent and whose successor was still on its way: then a sign-in follows.
//
// # One sign-in for all processes
//
// Processes with the same key and the same store sign in once. The first to take a lock
// of the kernel's leads, from discovery to the store. The others look four times a
// second: they show the leader's prompt (Prompt.Elsewhere), which it leaves sealed in
// the store, take its token when that is there, fail as it fails, and one of them leads
// when it dies, which frees the lock. A notice under a free lock is of the past. The
// leader too goes on with a good token that appears in the store, whoever put it there,
// and makes way for one whose person typed a command (AtTerminal): that one's callback
// may be the only one that can arrive. A leader that is stopped, not dead, is waited for.
//
// A new login page comes 30 seconds after the last at the earliest, whichever process
// that was of, unless the last led to a token, its process died while others waited, or
// a person typed the command. After three pages in a row none of which led to a token
// that the upstream took, requests open none for an hour and fail at once, with
// [ErrHeldBack] beneath; [Transport.SignIn] still does.
//
// # Other grants
//
// device_code (RFC 8628) takes the place of 3, 5 and 6: the [Prompt] holds a code, and
// the token endpoint is polled at the server's pace. A code that expired is followed by
// another while somebody waits. Unasked it is used only where there is no authorization
// endpoint. client_credentials, jwt_bearer (RFC 7523, [Config.Assertion] read anew each
// time) and enterprise_managed (the ID token exchanged at the identity provider, RFC 8693,
// for an assertion whose audience is the issuer) need no person; their tokens are not kept.
//
// The client authenticates as the server's metadata offers: private_key_jwt with a
// [Config.ClientKey] (audience: the issuer), client_secret_basic, client_secret_post, none.
//
// # DPoP
//
// Where the resource asks for bound tokens (RFC 9449), by the scheme of its challenge or in
// its metadata, a key goes with the record, and each token request and request to the
// upstream has a proof of its own. An authorization server's offer alone is not enough:
// several make it in front of resources that know Bearer only. Each answer's nonce
// is used for the next proof; an answer that only asks for another nonce is followed by
// the same request with it, and counts neither as a refusal nor as a replay.
//
// # A 401, a 403
//
// A 401 for another token than the current one is replayed with the current one. A
// 401 for the current one is answered by a refresh; if the refreshed token is refused
// too, by a sign-in; if the token of a sign-in of ours is refused before it ever
// worked, by [TokenRefusedError], for another sign-in would end the same way. A
// challenge of insufficient_scope is answered by a sign-in with the union of scopes,
// unless just these were asked for before. No request is sent more than [maxReplays]
// times again, each time from a fresh body (GetBody); one that cannot be replayed gets
// the 401 or 403 itself. So does one whose step-up the person declined, as the token
// still is good for everything else, and, of [Transport.Background], one that only a login
// could help.
//
// # Errors that end it
//
// [LoginRequiredError], [TokenRefusedError], and a [SignInError] whose Refused is set
// cannot be mended by waiting. [DiscoveryError] and [PortBusyError] name what was
// tried. Every other error is of the network or of a moment; what the RoundTrippers
// returned is found beneath by errors.As.
//
// # Where requests go
//
// Tokens go to the upstream's origin (scheme, host, port), checked for each
// RoundTrip, so that no redirect carries one away. Requests to that origin leave by
// Base, every other one by AuthBase. URLs that metadata names must be https, or at
// the upstream's own origin, or on loopback if the upstream is on loopback. What
// addresses they may lead to is for AuthBase to say, which sees the one that is dialed.
//
// # What is kept
//
// One record per (upstream, Realm, client, resource, audience): issuer, endpoints,
// dynamic registration, tokens and the key they are bound to, scopes, expiry. See package tokenstore. Another issuer than the
// recorded one invalidates it.
//
// There is one key, in the system's keyring or in a file (see tokenstore.Keyring): a keyring that
// answers and has none is given the file's, which is then removed. Where starts with and
// without a keyring alternate there come to be two; then the file's seals, as both kinds
// of start can read it, and what the other sealed is read where that is there.
// The keyring is asked once, in the background; only a value that needs it waits.
//
// # Joints
//
// A further grant is a case in login if the person has a part in it, else in
// unattendedLogin; a host that shows links by elicitation reads [Transport.State] or is
// [Config.Offer].
package oauth
