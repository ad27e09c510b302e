// Package oauth signs in to an MCP server that is protected by OAuth 2, and adds the token to each
// request. It follows the authorization part of the MCP specification.
//
// The package knows neither SSH nor JSON-RPC. The caller gives it functions for what lies outside:
// [Config.Base] and [Config.AuthBase] send requests, [CallbackConfig.Listen] opens a listener, and
// [Config.Offer] shows a prompt to a person.
//
// # Words
//
// The upstream is the MCP server that the requests go to. A sign-in is everything from the
// upstream's challenge to a stored token. A login is that part of a sign-in in which a person takes
// part. A prompt is what the person needs for a login: a URL, and in the device grant also a code.
// The callback is the browser's answer to the redirect URI. A record is what the token store keeps
// about one account.
//
// # Parts
//
//	        requests                      SignIn, SignOut, Deliver, State
//	            |                                        |
//	            v                                        v
//	+-------------------------- Transport ----------------------------+
//	| adds the token, reads a 401 or 403, sends a request again       |
//	+-----------------------------------------------------------------+
//	            | "I need such a token"                  ^ State
//	            v                                        |
//	+------- flights -------+                    +---- status ----+
//	| one action at a time; |                    | what waits for |
//	| others join it        |                    | the person     |
//	+-----------------------+                    +----------------+
//	            |                                        ^ prompt
//	            v                                        |
//	+------- signIn --------+  needs a person    +---- peers -----+
//	| refresh, one-shot     |------------------->| which process  |
//	| inputs, unattended    |                    | leads; when a  |
//	| grants                |                    | page may come  |
//	+-----------------------+                    +----------------+
//	     |             |                             | leads
//	     |             |                             v
//	     |             |     +---- login ----+     +-- callback --+
//	     |             |     | of one person |---->| listener and |
//	     |             |     +---------------+     | pages        |
//	     |             |             |             +--------------+
//	     v             v             v
//	accountRecord    asclient.Client
//	one record, in   requests to authorization servers:
//	memory and in    discovery, registration, token, PAR, DPoP
//	tokenstore
//
// Each part is a type, and each arrow a call. A part does not know the parts above it. Transport,
// flights, status, peers and accountRecord live from [New] to [Transport.Close]. A flight and its
// signIn live for one action. A login and its callback live for one login.
//
// Package asclient (oauth/asclient) sends requests and keeps nothing but DPoP nonces. Package
// tokenstore (oauth/tokenstore) keeps encrypted values on the disk. Neither knows this package.
//
// # A request
//
// [Transport.RoundTrip] looks at the request's origin (scheme, host and port). A request to another
// origin than the upstream's leaves by AuthBase without a token. This check is made for each
// request, so a redirect cannot carry the token away.
//
// A request to the upstream gets the current token. If there is none, the first request goes out
// without one, and the upstream's 401 starts a sign-in. If a token is about to expire, it is
// refreshed first: RefreshSkew before its expiry, but not in the first half of its life. If that
// refresh fails, the old token is used as long as it is valid.
//
// The answer decides what happens next:
//
//   - A 401 for a token that meanwhile was replaced: the request is sent again with the current
//     one.
//   - A 401 for the current token: the token is refreshed. If the refreshed token is refused too, a
//     sign-in follows. If the token of our own sign-in is refused before it was ever accepted, the
//     request fails with [TokenRefusedError], because another sign-in would end the same way.
//   - A 403 or 401 with the error insufficient_scope: a sign-in asks for more scope (a step-up). It
//     asks for the scopes of the current token and those of the challenge together. There is none
//     if just these scopes were asked for before.
//   - Every other answer is handed to the caller.
//
// A request is sent again at most three times, each time with a fresh body from GetBody. A request
// that cannot be sent again gets the 401 or 403. So does a request whose step-up the person
// declined, because the token is still good for everything else.
//
// A request of [Transport.Background] has nobody waiting for it. It may use and refresh a token,
// but it never starts a login and never waits for one. If only a login could help, it gets the 401
// or 403.
//
// # One flight at a time
//
// A flight is one action that changes the account: a sign-in, a refresh or a sign-out. A caller
// says what it needs (the type need). If a flight is under way, the caller waits for it and then
// looks again; otherwise the caller's need starts a flight. So fifty requests that meet a 401
// together cause one sign-in.
//
// A flight runs in the lifetime of the Transport and not in the context of the request that started
// it. A request's context bounds only its own waiting.
//
// A flight first tries what needs no person. It takes the store's lock of the record and reads the
// record again, because another process may have stored a token meanwhile. Then it uses the refresh
// token, and after that the one-shot inputs ([Given]). Only then it turns to the person.
//
// A new refresh token is on the disk before its access token is used. If the process crashes
// between the server's answer and the write, that refresh token is lost, and a login follows.
//
// # A login
//
//  1. Resource metadata (RFC 9728). It is looked for at the challenge's resource_metadata, then at
//     the well-known path of the upstream, then at the well-known root. Its resource must be the
//     upstream or a parent path of it. It is sent as the resource parameter (RFC 8707), byte for
//     byte.
//  2. Authorization server metadata (RFC 8414, then OpenID Connect Discovery). Its issuer must be
//     identical to the one that it was looked up by. An upstream without resource metadata follows
//     the MCP revision of 2025-03-26: its server is at its own origin, and if there is no metadata
//     either, its endpoints are /authorize, /token and /register. [Discover] shows steps 1 and 2.
//  3. The listener for the callback. It is bound before anything is shown, and held to the end.
//  4. The client: the configured one, or else a client ID metadata document, or else dynamic
//     registration (RFC 7591). A registration is kept in the record.
//  5. The authorization request with state and PKCE S256 (RFC 7636). The prompt shows its URL, and
//     two pages of our own listener that lead to it. One of them works only once and is for the
//     arguments of a browser command, which others can read. If the server requires pushed
//     authorization requests (RFC 9126), the parameters are pushed first and the URL refers to
//     them. The pages push again when that reference was used or has expired.
//  6. The callback. Its state is checked, then its iss (RFC 9207). The code is exchanged for a
//     token, the token is stored, and only then the browser shows success and the waiting requests
//     go on.
//
// A server that has forgotten a registered client says so at the token endpoint, or shows an error
// in the browser and never redirects. In both cases the registration is forgotten, and the next
// login registers again.
//
// # One login for all processes
//
// Processes with the same [Config.Key] and the same store log in once. They agree by locks and
// small values in the store, under the names of the record's key followed by a slash and a word:
//
//   - lead is a lock. The process that holds it leads: it runs the login. The kernel frees the lock
//     when that process ends, however it ends.
//   - claim is a lock. A process whose person typed a command (AtTerminal) takes it. The leader
//     looks whether it is taken, ends its own login if so, and the claiming process leads next.
//   - notice is a value that the leader writes: the ID of its login, the scopes of its step-up, its
//     prompt, and at the end how the login failed.
//   - pages is a value: how many login pages were shown in a row, and when the last one was.
//
// The other processes follow the leader. Four times a second, each of them tries the lead lock,
// reads the notice and reads the record:
//
//   - If the record has a token that does, the follower takes it and is done.
//   - If the lock is taken, the follower shows the leader's prompt, marked as Elsewhere.
//   - If the lock is free and the notice tells of a failure, the follower fails in the same way,
//     provided that it followed this login and needed the same scopes.
//   - If the lock is free and the notice tells of no failure, the leader died or ended its login
//     for a claim. The follower that got the lock leads.
//
// While the leader waits for the person, it looks at the record as often. A token that appears
// there ends its login with success, whoever stored it. A leader that is stopped, but not dead, is
// waited for.
//
// Pages are limited, so that no program opens one browser tab after the other. A page comes at the
// earliest 30 seconds after the one before, of whichever process. There is no such pause if the
// page before led to a token, if the leader died while others followed it, or if a person typed the
// command. After three pages in a row without a token that the upstream accepted, requests show no
// more pages for an hour and fail with [ErrHeldBack]. [Transport.SignIn] still shows one.
//
// # Other grants
//
// In the device grant (RFC 8628) there is no listener and no callback. The prompt holds a code, and
// the token endpoint is asked at the server's pace. A code that expires is followed by a new one as
// long as somebody waits. GrantAuto uses this grant only at a server without an authorization
// endpoint.
//
// Three grants need no person, and their tokens are not stored: client_credentials (RFC 6749
// section 4.4), jwt_bearer (RFC 7523) and enterprise_managed. For jwt_bearer, [Config.Assertion]
// returns the assertion, anew each time. For enterprise_managed, it returns an ID token, which the
// identity provider exchanges (RFC 8693) for an assertion whose audience is the authorization
// server.
//
// # Client authentication and DPoP
//
// The client authenticates as the server's metadata offers: private_key_jwt if the Config has a key
// (with the issuer as its audience), client_secret_basic, client_secret_post, or none.
//
// If the resource asks for tokens that are bound to a key (DPoP, RFC 9449), by its challenge or in
// its metadata, a key is made and kept in the record. Then each token request and each request to
// the upstream carries a proof. An authorization server that offers DPoP does not cause this alone:
// several do so in front of resources that know Bearer tokens only. The nonce of each answer is
// used for the next proof. If an answer only asks for another nonce, the same request is sent again
// with it; that counts neither as a refusal nor as one of the three times.
//
// # Where requests go
//
// Requests to the upstream's origin leave by Base, and all others by AuthBase. A URL that metadata
// names must be https, or be at the upstream's own origin, or be on loopback if the upstream is on
// loopback too. The package does not judge addresses: AuthBase sees which one is dialed, and may
// refuse it. No secret is sent along a redirect.
//
// # What is kept
//
// There is one record for each upstream, Realm, client, resource and audience (see [Config.Key]).
// It holds the issuer and its endpoints, the dynamic registration, the tokens, their scopes and
// expiry, and the DPoP key. If discovery finds another issuer than the recorded one, tokens and
// registration of the old issuer are dropped. How the values are encrypted and where the key lies
// is the matter of package tokenstore.
//
// # Errors
//
// Waiting does not help against [LoginRequiredError], [TokenRefusedError], and an
// [asclient.SignInError] whose Refused is set. An [asclient.DiscoveryError] names every URL that
// was tried, and [PortBusyError] the process on the callback's port. Every other error is one of
// the network or of the moment, and a later request tries again. errors.As finds what the
// RoundTrippers returned. No error holds a token, a code, a state or a body.
//
// # How to extend it
//
// A new grant with a person is a case in login.run, and one without a person a case in
// signIn.unattended. A host program that shows prompts in its own way reads [Transport.State] or
// sets [Config.Offer].
package oauth
