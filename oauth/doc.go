// Package oauth signs in to an MCP server that is protected by OAuth 2, and adds the token to each
// request. It follows the authorization part of the MCP specification.
//
// The package does not know how a connection is made (for example through SSH), nor what a request
// contains. The caller gives it what lies outside: [Config.Base] and [Config.AuthBase] are the
// http.RoundTrippers that send requests, [CallbackConfig.Listen] opens a listener, and
// [Config.Offer] shows a prompt to a person.
//
// # Words
//
//   - The upstream is the MCP server that the requests go to.
//   - A sign-in is everything from the upstream's challenge to a new token. A refresh is not one.
//   - A login is the portion of a sign-in that needs a person, together with the discovery and the
//     registration that prepare for it.
//   - A prompt is what the person needs for a login: URLs, and in the device grant also a code.
//   - A login page is the authorization server's page that a prompt leads to. The pages of our own
//     listener are always called our pages.
//   - The callback is the request that the browser makes to the redirect URI.
//   - A record is what the token store keeps about one account.
//   - The leader is the process that runs a login. The other processes of the account follow it.
//
// # Parts
//
//	       requests              SignIn, SignOut              Deliver, State
//	          v                         v                            v
//	+------------------------------ Transport -------------------------------+
//	| adds the token, judges the answer, sends the request again             |
//	+------------------------------------------------------------------------+
//	          v need
//	+------- flights -------+
//	| one action at a time; |
//	| other callers join it |
//	+-----------------------+
//	          v action
//	+------- renewal -------+                 +------- peers --------+
//	| refresh, one-shot     | person needed   | which process leads; |
//	| inputs, unattended    |---------------->| when a login page    |
//	| grants                |                 | may be shown         |
//	+-----------------------+                 +----------------------+
//	                                                     v this process leads
//	                                          +------- login --------+    +- callbackServer -+
//	                                          | discovery, client,   |--->| listener and our |
//	                                          | prompt, token        |    | pages            |
//	                                          +----------------------+    +------------------+
//
//	+------ accountRecord ------+   +------ status -------+   +---- asclient.Client ----+
//	| the record, in memory and |   | holds the State and |   | sends requests to       |
//	| in the store              |   | offers the prompt   |   | authorization servers   |
//	+---------------------------+   +---------------------+   +-------------------------+
//
// Each part is a type, and an arrow is a call. The three parts of the lowest row are called by the
// parts above them and call none of those. A login also calls the peers that run it: it asks when
// it may show a login page, and tells the other processes its prompt. Transport, flights, peers and
// the lowest row live from [New] to [Transport.Close], a renewal for one flight, and a login with
// its callbackServer for one login.
//
// Package asclient (oauth/asclient) sends requests and keeps nothing but DPoP nonces. Package
// tokenstore (oauth/tokenstore) keeps encrypted values on the disk. Neither imports this package.
//
// # A request
//
// [Transport.RoundTrip] looks at the request's origin (scheme, host and port). A request to any
// origin but the upstream's is sent through AuthBase, without a token. Each request is checked, so
// a redirect cannot carry the token away.
//
// A request to the upstream is sent through Base with the current token. If there is no token, a
// stored refresh token or a one-shot input may give one. Otherwise the request is sent without a
// token, and the upstream's 401 starts a sign-in. A token is refreshed [Config.RefreshSkew] before
// it expires (30 seconds by default), but never in the first half of its life. If this early
// refresh fails, the old token is used until it expires.
//
// The answer decides what happens next (judge.go). The first case that fits counts:
//
//  1. The answer complains of nothing: its status is not 400, 401, 403 or a redirect. The caller
//     gets it. If the status is below 500, the upstream has accepted the token.
//  2. The request had a token, and the challenge has the error insufficient_scope. The upstream
//     has accepted the token, but wants more scopes. A step-up follows: a sign-in that asks for the
//     scopes of the current token and those of the challenge together. If the record says that
//     these scopes were already asked for, or if the challenge names none, case 4 counts. The
//     caller gets the answer if [Config.NonInteractive] forbids logins.
//  3. The upstream wants a token, or another one: the status is 401; or it is 400 or 403, and the
//     challenge asks for a Bearer or DPoP token and the request had none, or has the error
//     invalid_token. What follows is below.
//  4. The answer does not say whether it is about the token. It is a 403; or a 400 that is no
//     message of MCP, to a request without a token; or a redirect (301, 302, 303, 307) to another
//     place than the same path, as to a login page. If the request had no token, a sign-in follows
//     where the upstream has resource metadata (RFC 9728). If its token may have expired, because
//     the server named no expiry, or if case 2 led here, the token is refreshed, once for each
//     token. Nobody is asked to log in. In every other case the caller gets the answer.
//
// In case 3:
//
//  1. The request had no token. A sign-in follows.
//  2. Another token is current by now. The request is sent again with that one.
//  3. The upstream never accepted the token, and this process got it by a refresh or a sign-in, or
//     followed the login that brought it. Not each replica of a server hears of a token at once. So
//     the request is sent again after pauses of 0.25, 0.5, 1 and 2 seconds. If the token is still
//     refused, then after a refresh a sign-in follows. After a sign-in, the request fails with
//     [TokenRefusedError], because another sign-in would end the same way. That ends neither the
//     account nor the process: later requests try the token again, and fail at once if it is still
//     refused. After ten minutes, or when the person calls [Transport.SignIn], a sign-in may
//     follow.
//  4. Every other token. It is refreshed, or else a sign-in follows.
//
// A request is sent again at most three times, each time with a fresh body from GetBody. After
// that, or if its body has no GetBody, its caller gets the 401 or 403, and no sign-in starts. The
// caller also gets it if a step-up is refused, because the token is still good for everything else.
//
// [Transport.Background] returns a second RoundTripper, for requests that nobody waits for. Such a
// request may refresh the token, but it neither starts a login nor waits for one. If only a login
// could help, its caller gets the 401 or 403.
//
// [Transport.InSession] returns a third one, for requests within a session of MCP. Some upstreams
// answer 401 for a session that they do not know. So a request that had a token is never followed
// by a login, and does not judge a fresh token: its caller gets the 401 or 403, and starts a new
// session with a request through the Transport itself.
//
// # One flight at a time
//
// A flight is one action that changes the account: it gets a token or signs out. A request or a
// SignIn describes the token that it needs (type need). If a flight is under way, they wait for its
// end and then look at the account again. Otherwise they start a flight. So fifty requests that
// meet a 401 together cause one sign-in. If the flight fails, all who waited for it fail with its
// error, unless that error does not concern them.
//
// A flight is cancelled by Close, and not by the context of the request that started it. That
// context ends only the request's own waiting.
//
// If the grant is unattended, a flight that gets a token runs that grant. Otherwise it tries these
// steps in order, until one of them gives a token:
//
//  1. It locks the record in the store and reads it. Another process may have stored a token.
//  2. It uses the refresh token, still under the lock, so that no other process uses it too.
//  3. It uses the one-shot inputs of [Config.Given]: a code or a refresh token that somebody else
//     obtained. They are used until they bring a token or are refused.
//  4. It starts a login. If NonInteractive is set, it fails with [LoginRequiredError] instead.
//
// An early refresh ends after step 2, and a flight that a background request started after step 3.
// A step-up skips the steps 2 and 3. So does the sign-in after a refreshed token was refused.
//
// A refresh that is refused ends the refresh token, whatever words the server has for it
// ([asclient.SignInError.EndsRefreshToken]); then the next step follows. After any other error,
// such as a status of 500 or no answer, the refresh token stays and the flight fails. These are the
// exceptions:
//
//   - A refusal that may be about the resource parameter: the refresh is tried once more without
//     it. If that helps, the record notes it for that server.
//   - A refusal while the access token has not expired: some servers refuse until then. After a
//     refresh ahead of expiry, for a request in the background or with any error but invalid_grant,
//     both tokens stay, and the server is not asked again before the expiry.
//   - The error invalid_client for a configured client: the refresh token stays, because the
//     configuration may be wrong, and the next step follows.
//   - A sign-in that the person asked for: it goes on with the next step after every error. So
//     [Transport.SignIn] ends with a token, or with the error of a login, and never with that of an
//     old refresh token. A record that cannot be read or used is as good as none.
//
// A new refresh token is on the disk before its access token is used. If the process crashes
// between the server's answer and the write, that refresh token is lost, and a login follows.
//
// # A sign-in
//
// These are the steps of a sign-in with a browser, [GrantAuthorizationCode]. The other grants share
// the steps 1, 2 and 4.
//
//  1. Resource metadata (RFC 9728). It is looked for at the URL that the challenge names, then at
//     the well-known path of the upstream, then at the well-known root. The resource that it names
//     must be the upstream or a parent path of it, unless [Config.Resource] says what to send. That
//     name, or Config.Resource, is sent as the resource parameter (RFC 8707), byte for byte.
//  2. Authorization server metadata (RFC 8414, then OpenID Connect Discovery). Of the servers that
//     the resource names, the first that has metadata is used; with [Endpoints].Issuer, that one
//     is. The issuer in the metadata must be the one that was named, but for a slash at its end,
//     unless the person named it. An upstream without resource metadata follows the MCP revision of
//     2025-03-26: its origin is looked up, and the issuer is what the metadata there says. If that
//     is another one, the upstream's URL is sent as the resource, so that the token is for it alone.
//     If there is none, the endpoints are /authorize, /token and /register at the upstream's origin.
//     [Discover] shows the steps 1 and 2 without a sign-in.
//  3. The listener. It is bound before anything is shown, and held until the login ends. It takes
//     the first free address of [CallbackConfig.Addrs]. The redirect URI is
//     http://HOST:PORT/callback, or [CallbackConfig.RedirectURI] where that is set. If the latter
//     is on loopback and has a port, that address is the only one that is tried. For a client that
//     is registered at a server whose redirects do not prove their issuer (RFC 9207), the path is
//     /callback/HASH with a hash of the issuer: a callback at another server's path is not taken.
//  4. The client: the configured one, or else a client ID metadata document, or else the
//     registration in the record, or else a new one (RFC 7591), which the record keeps.
//  5. The authorization request with state and PKCE S256 (RFC 7636). The scopes are those of
//     [Config.Scope], or else of the challenge, or else all of the resource metadata. A server
//     whose metadata does not promise S256 is refused, unless [Endpoints.AssumePKCE] is set.
//  6. The prompt, and the callback. The login waits [CallbackConfig.Timeout] (300 seconds) for it.
//     A callback with another state than that of the login gets an error page and is ignored. The
//     iss parameter must be the server's issuer (RFC 9207). An error without a state ends the login
//     if the browser came to it as to a page that the person sees. The listener keeps at most 64
//     connections and closes the oldest idle one for a new one.
//  7. The token. The code is exchanged for it and it is stored. Only then the browser shows
//     success, and the waiting requests go on.
//
// The prompt has three URLs. AuthorizeURL is the login page itself. It holds the state, which is a
// secret. StartURL is one of our pages. It leads to AuthorizeURL and holds no secret, so it may
// stand in logs and messages. BrowserURL is the same for the arguments of a browser command.
// Everybody on the machine can read those, so BrowserURL works only once. If the server requires
// pushed authorization requests (RFC 9126), AuthorizeURL holds only a request_uri, which works once
// and for a short time. When it was used or has expired, opening StartURL or BrowserURL pushes the
// request again.
//
// A server may forget a registered client. It says so with the error invalid_client, or it shows an
// error in the browser and never redirects. The second case looks like a person who does nothing.
// So the registration is forgotten after invalid_client, and also after a login that timed out with
// a registration of an earlier login. The next login registers again.
//
// # One login for all processes
//
// Processes with the same [Config.Key] and the same store log in once. They agree by locks and
// values in the store. Each of these is named KEY/WORD, with one of four words:
//
//   - lead is a lock. The process that holds it is the leader. The kernel frees the lock when that
//     process ends, however it ends.
//   - claim is a lock. A process takes it if a person started it in a terminal in order to log in
//     ([Config.AtTerminal]). Every other process that has the lead lock tries the claim lock too.
//     If it is taken, that process ends its login and frees the lead lock for the other one.
//   - notice is a value that the leader writes: the ID of its login, the scopes of its step-up, its
//     prompt, and at the end how the login failed.
//   - pages is a value: how many login pages were shown, and when the last one was.
//
// A process that needs a login does the following four times a second. The first case that fits
// counts:
//
//  1. The record has a token that satisfies the need. The process takes it and is done.
//  2. Another process has the lead lock. This process follows it: its State and Offer show the
//     leader's prompt, marked as Elsewhere.
//  3. The notice tells of a failure, and this process followed that login and needs the same
//     scopes. It fails in the same way. The failure of one process alone, such as a busy port, is
//     not written into the notice.
//  4. In every other case it leads. The leader before it died, or made way for a claim, or failed
//     for itself alone, or got a token with too few scopes.
//
// While the leader waits for the person, it looks at the record and at the claim lock four times a
// second. A token in the record that satisfies its need ends its login with success, whoever stored
// the token. A leader that is suspended (SIGSTOP) keeps its lock, and the others wait.
//
// Login pages are limited, so that no program opens one browser tab after the other. They are
// counted among all processes of the account, by time and whatever they led to:
//
//   - A page counts until it has settled: its login brought a token, the upstream accepted that,
//     and no other page was wanted for two minutes. Then the count starts again. So a server with
//     tokens of five minutes may have a page for each of them.
//   - There are at least 30 seconds between two login pages. There is no pause after the first two
//     pages that count, if each led to a token, because then the person is there. There is none if
//     the leader before died (its page no longer works), or with AtTerminal. During the pause,
//     [State].LastFailure says how the login before ended.
//   - After three login pages in a row without a token that the upstream accepted, and after six
//     that count whatever they led to, requests fail with [ErrHeldBack] for an hour. Each call of
//     [Transport.SignIn] may still show one.
//
// # Other grants
//
// [GrantAuto] is the authorization code grant, or the device grant at a server that has no
// authorization endpoint. [GrantNone] sends every request unchanged.
//
// In the device grant (RFC 8628) there is no listener and no callback. The prompt holds a code, and
// the token endpoint is asked at the server's pace. If the code expires, another one is shown, as
// long as somebody waits for the login.
//
// Three grants are unattended, and their tokens are not stored. In client_credentials (RFC 6749
// section 4.4) the client signs in as itself. In jwt_bearer (RFC 7523) we send a JWT that
// [Config.Assertion] returns. Enterprise_managed is the next section.
//
// # An identity provider for all upstreams
//
// With [GrantEnterpriseManaged] a company's identity provider ([Config.IDP]) says who the person
// is, and the authorization server of each upstream takes its word:
//
//  1. The person signs in at the identity provider (OpenID Connect), which gives an ID token. Or
//     [Config.Assertion] returns one that something else obtained.
//  2. The identity provider exchanges it (RFC 8693) for an assertion that one authorization server
//     takes: the upstream's. Then our client at the provider authenticates.
//  3. That authorization server gives the access token for the assertion (RFC 7523). Here it is
//     [Config.Client] that authenticates. The access token is not stored.
//
// The account at the identity provider is like that of an upstream, with a record, logins, a leader
// and limits of its own (type provider). Its key is the hash of the provider, our client there and
// [IdentityProvider].Realm, so that all upstreams and processes share it: one login page for all.
// Its token is the ID token, and it asks for the scopes openid and, if the provider lists it,
// offline_access. No resource is asked for. A provider whose metadata does not mention PKCE is not
// refused: the person named it, and OpenID Connect wants no such promise. One that lists other
// methods only is refused.
//
// The ID token is refreshed before it expires, by the rules for any token. It is also refreshed if
// the exchange refuses it. If that brings none that the exchange takes, one login follows. A
// refusal that names another cause is an error at once: the client (invalid_client,
// unauthorized_client), the kind of request (unsupported_grant_type), the upstream (invalid_target,
// invalid_scope) or the person (access_denied, unless the person has just asked for a sign-in). So
// are refusals of an ID token that a login has just brought. No login starts while the old access
// token works.
//
// What fails at the identity provider fails with [ProviderError]. [Transport.SignOut] ends the
// sign-in at the provider, because nobody who signed out of an upstream wants the next start to
// sign in again in silence. The record lists the upstreams that use it, and those are concerned as
// well: [Transport.ProviderAccount] names them. Their access tokens last until they expire.
//
// # Client authentication and DPoP
//
// A client with a private key authenticates by private_key_jwt. The audience of the JWT is the
// issuer. A client with a secret uses client_secret_basic or client_secret_post. A client without
// either sends its ID alone. Package asclient has the exact order.
//
// The resource may ask for tokens that are bound to a key (DPoP, RFC 9449), in its challenge or in
// its metadata. Then a key is made and kept in the record, and each token request and each request
// to the upstream carries a proof. It is not enough that the authorization server offers DPoP,
// because several servers offer it in front of resources that take only Bearer tokens. A proof
// holds the last nonce that the origin has sent. If an answer only asks for another nonce, the
// request is sent again, which is not counted among the three times above.
//
// # What is tolerated, and what never is
//
// Servers differ from the specifications in many ways. The shape of an answer matters little here:
// its status, the types of members that nobody needs, where a challenge stands. Package asclient
// lists what it tolerates. Where a secret goes matters always:
//
//   - A token goes to the upstream's origin alone.
//   - [ClientConfig].Secret and Key, [Config.Given] and the assertion of jwt_bearer go to the
//     server of [Endpoints].Issuer, of configured endpoints, or of their first use. The store keeps
//     which that was, until a sign-out. If the upstream then names another server, the sign-in is
//     refused with [asclient.CodeIssuerChanged]; Endpoints.Issuer allows it. The same holds for
//     every configured client whose server does not prove its issuer in redirects. Of an issuer at
//     the upstream's origin, the origin of the token endpoint has to stay the same as well.
//   - A refresh token and a registered client go to the server that gave them, at the origin of its
//     token endpoint.
//   - With Endpoints.Issuer, what the record holds of another server is not used.
//   - A code is redeemed only if its callback had the state, came to the path of its server, and
//     named no other issuer.
//
// What the person gives counts in place of what a server says: [Config.Resource] (ResourceNone
// sends none), Endpoints.Issuer, [Config.AuthorizeParams]. A new consent (prompt=consent) is asked
// for only after a login that asked for offline_access and got no refresh token.
//
// # Where requests go
//
// Requests to the upstream's origin are sent through Base, and all others through AuthBase. A URL
// that metadata names must be https, or at the upstream's own origin, or on loopback if the
// upstream is on loopback too. The package does not judge the addresses behind a name. A
// RoundTripper can check each address that it dials. Only metadata requests follow redirects.
// Requests that carry a secret follow none.
//
// # What is kept
//
// There is one record for each upstream, [Config.Realm], client, resource and audience; their hash
// is the key of the record ([Config.Key]). It holds the issuer and its endpoints, the registration,
// the tokens, their scopes and expiry, and the DPoP key. If discovery finds another issuer than the
// recorded one, the tokens and the registration of the old issuer are dropped. [Accounts] lists the
// records of a store. Package tokenstore says how values are encrypted, and where its encryption
// key lies. If [Config.Store] is nil, everything lives in memory, and processes share nothing.
//
// # The rest of Transport
//
// [Transport.SignIn] signs in without a request: it asks the upstream for its challenge itself. It
// does nothing if there is a valid token, or if the upstream wants none. [Transport.SignOut]
// revokes the tokens (RFC 7009) if the server can do that, and deletes them and the registration.
// [Transport.Deliver] takes the URL of a callback that did not reach the listener.
// [Transport.State] says where the sign-in stands and when that changes.
//
// # Errors
//
// Trying again does not help against [LoginRequiredError], and most likely not against an
// [asclient.SignInError] whose Refused is set. [TokenRefusedError] ends once the upstream takes the
// token, and [ErrHeldBack] after an hour. [PortBusyError] names the process that uses the
// callback's port. A fixed port is busy until that process frees it. An [asclient.DiscoveryError]
// names every URL that was tried. Every other error may pass, and a later request tries again. What
// Base or AuthBase returned is found beneath by errors.As. No error holds a token, a code, a state
// or a body.
//
// # How to extend it
//
// A new grant with a person is a case in login.run, and one without a person a case in
// renewal.unattended. A program that shows prompts in its own way reads [Transport.State] or sets
// [Config.Offer].
package oauth
