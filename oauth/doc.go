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
//   - A prompt is what the person needs for a login: URLs, and a code if there is one.
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
// stored refresh token or a one-shot input ([Config.Given]) may give one. Otherwise the request is
// sent without a token, and the upstream's 401 starts a sign-in. A token is refreshed
// [Config.RefreshSkew] before it expires (30 seconds by default), but never in the first half of
// its life. If this early refresh fails, the old token is used until it expires.
//
// The answer decides what happens next (judge.go). It complains of one of these things, and the
// first that fits counts:
//
//   - Nothing. That is every status but 400, 401, 403 and the redirects 301, 302, 303 and 307. A
//     redirect to the same path of the same host counts as nothing, too, and so does a 400 without
//     a challenge if the request had a token or the body is a message of MCP. The caller gets the
//     answer. If its status is below 500, the upstream has accepted the token.
//   - Scope: the request had a token, and the challenge has the error insufficient_scope. The
//     upstream has accepted the token. A step-up follows, which is a sign-in that asks for the
//     scopes of the current token and those of the challenge together. If [Config.NonInteractive]
//     forbids logins, the caller gets the answer. If the challenge names no scopes, or only scopes
//     that were asked for already, the token may be too old: it is refreshed, as under "unclear".
//   - The token: the status is 401, or the challenge of a 400 or 403 asks for a Bearer or DPoP
//     token and the request had none, or that challenge has the error invalid_token. The next list
//     says what follows.
//   - Something unclear: every other 400, 403 or redirect. If the request had no token, a sign-in
//     follows, provided that the upstream has resource metadata (RFC 9728). If it had one that has
//     expired, or that may have because the server named no expiry, the token is refreshed, once
//     for each token. Nobody is asked to log in. There is one exception: if the upstream has
//     resource metadata, a redirect most likely leads to a login page. So the token is refreshed
//     whatever its age, and a login follows if the refresh is refused. In every other case the
//     caller gets the answer.
//
// With [Config.AtTerminal] a person waits for a good token. So every answer of 400 and above is
// treated as such a redirect, except a message of MCP and the answer of a busy server (429, 502,
// 503, 504). A connection that is closed without an answer counts as a refusal of the token, once,
// if the upstream answers a request without a token with a refusal.
//
// If the answer complains of the token, the first of these that fits is done:
//
//  1. The request had no token. A sign-in follows.
//  2. Another token is current by now. The request is sent again with that one.
//  3. The token is fresh: a refresh or a sign-in has just brought it, and the upstream has never
//     accepted it. The replicas of a server do not all learn of a token at once, so the request is
//     sent again after pauses of 0.25, 0.5, 1 and 2 seconds. If the token is still refused, a
//     sign-in follows a token of a refresh. For a token of a sign-in the request fails with
//     [TokenRefusedError], because another sign-in would end the same way. Later requests try that
//     token again, without the pauses. A sign-in may follow after ten minutes, or when the person
//     calls [Transport.SignIn].
//  4. The upstream has accepted the token in the last ten seconds. The request is sent once more
//     with the same token, because one replica of several may refuse what the others take.
//  5. Every other token is refreshed. If that brings none, the upstream is asked about the token
//     (evidence.go): a ping outside the session shows it, up to three times. If the upstream takes
//     that ping, and refuses the same ping without a token, the token lives. Then the request is
//     sent once more, and the caller gets the answer, whatever it is. Otherwise a sign-in follows.
//
// So a 401 to one kind of request, which a gateway passes on for one backend, costs one refresh and
// no login page. [Config.Kind] names the kind. Until the upstream serves a request of that kind
// again, the next 401 to one leads to no refresh, as long as the upstream takes the ping. The
// answer to a ping counts for ten seconds. The pauses of a fresh token end with the same question.
//
// After a renewal a request is sent again, at most three times, each time with a fresh body from
// GetBody. The caller gets the refusal itself after the third time, or if the body has no GetBody;
// then no sign-in starts either. The caller also gets it if a step-up is refused, because the token
// is still good for everything else.
//
// Two more RoundTrippers add the token:
//
//   - [Transport.Background] is for requests that nobody waits for. They may refresh the token, but
//     neither start a login nor wait for one. If only a login could help, the caller gets the 401
//     or 403.
//   - [Transport.InSession] is for requests within a session of MCP, because some upstreams answer
//     401 for a session that they do not know. A 401 to a request that had a token leads to a login
//     only if the upstream refuses the token outside the session as well, and it does not judge a
//     fresh token. Otherwise the caller gets the 401. The caller then starts a new session with a
//     request through the Transport itself, which judges the token.
//
// # One flight at a time
//
// A flight is one action that changes the account: it gets a token or signs out. A request or a
// SignIn describes the token that it needs (type need). If a flight is under way, the caller waits
// for its end and then looks at the account again. Otherwise the caller starts a flight. So fifty
// requests that meet a 401 together cause one sign-in. If the flight fails, all who waited for it
// fail with its error, unless that error does not concern them.
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
// An early refresh ends after step 2, and the flight of a background request after step 3. A
// step-up skips the steps 2 and 3, and so does the sign-in after a refreshed token was refused.
//
// A refusal of a refresh ends the refresh token, whatever words the server has for it, and the next
// step follows ([asclient.SignInError.EndsRefreshToken] is the exact rule). After any other error,
// such as a status of 500 or no answer, the refresh token stays and the flight fails. The
// exceptions are:
//
//   - The answer is undecided ([asclient.SignInError.Undecided]), for example a success without a
//     token, a redirect or temporarily_unavailable. The third such answer in a row ends the refresh
//     token, if the first came at least 30 seconds before. The record counts them.
//   - There is no answer, or one of the 5xx class, and the upstream names another authorization
//     server by now. Then the old server may be gone, and the next step follows.
//   - The refusal may be about the resource parameter. The refresh is tried once more without it.
//     If that helps, the record notes it for that server.
//   - The access token has not expired yet, and some servers refuse a refresh until it has. Both
//     tokens stay, and the server is not asked again before the expiry, if nobody waits for the
//     refresh, if the old token still works, or if the error says so or is not invalid_grant.
//   - A configured client is not known to the server. The refresh token stays, because the
//     configuration may be wrong, and the next step follows.
//   - The person asked for the sign-in, or AtTerminal is set. Every error leads to the next step.
//     So [Transport.SignIn] ends with a token or with the error of a login, never with that of an
//     old refresh token.
//
// A record that cannot be read or used is as good as none.
//
// A new refresh token is on the disk before its access token is used. If the process crashes
// between the server's answer and the write, that refresh token is lost, and a login follows.
//
// # A sign-in
//
// These are the steps of a sign-in with a browser, [GrantAuthorizationCode]. The other grants share
// the steps 1, 2 and 4. Package asclient has the places, their order, and what may be used.
//
//  1. Resource metadata (RFC 9728). What it names, or [Config.Resource] if that is set, is sent as
//     the resource parameter (RFC 8707), byte for byte.
//  2. Authorization server metadata (RFC 8414, OpenID Connect Discovery): that of
//     [Endpoints].Issuer if the person names one, and otherwise of the first server in the resource
//     metadata that has some. An upstream without resource metadata follows MCP's revision of
//     2025-03-26: its own origin is looked up, and then the default endpoints there are used. If
//     the metadata there names another issuer, the upstream's URL is sent as the resource.
//     [Discover] shows the steps 1 and 2 without a sign-in.
//  3. The listener. It is bound before anything is shown, and held until the login ends. It takes
//     the first free address of [CallbackConfig.Addrs]. The redirect URI is
//     http://HOST:PORT/callback, or [CallbackConfig.RedirectURI] if that is set. If the latter is
//     on loopback and has a port, that address is the only one that is tried. A client that is
//     registered at a server whose redirects do not prove their issuer (RFC 9207) gets the path
//     /callback/HASH, with a hash of the issuer. A callback at the path of another server is not
//     taken. "Callback paths" below has the exceptions.
//  4. The client: the configured one, or else a client ID metadata document, or else the
//     registration in the record, or else a new one (RFC 7591), which the record keeps. It is
//     registered for the scopes of step 5, because some servers let it ask for no others.
//  5. The authorization request with state and PKCE S256 (RFC 7636). The scopes are those of
//     [Config.Scope], or else of the challenge, or else all of the resource metadata. If
//     Config.Scope is empty and the server lists offline_access, that is added.
//  6. The prompt, and the callback. The login waits [CallbackConfig.Timeout] (300 seconds) for it.
//     A callback with another state than that of the login gets an error page and is ignored. The
//     iss parameter must be the server's issuer, if it is there or was promised (RFC 9207). An
//     error without a state ends the login, provided that the browser shows the answer as a page.
//     The listener keeps at most 64 connections. For one more it closes the oldest that sends no
//     request.
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
// A server may forget a registered client. It says so in the redirect, at the token endpoint or at
// another endpoint, by a code such as invalid_client or in words
// ([asclient.SignInError.UnknownClient]). Then the same login registers again and goes on, with one
// more login page if the first was used up. It does so once, and only for a client of an earlier
// login. Other servers show an error in the browser and never redirect, which looks like a person
// who does nothing. So the registration is also forgotten after a login that timed out with a
// registration of an earlier login, and the next login registers again. A person who starts a login
// again, after a page that led to no token, gets a new registration as well.
//
// # A code beside the link
//
// If [Config.CodeBeside] reports true, the person's browser may be on a machine that does not
// bring the callback here. A login of [GrantAuto] at a server with a device authorization endpoint
// then runs the device grant (RFC 8628) beside the authorization request: the same client, scopes,
// resource and DPoP key. The prompt has the code beside the link ([Prompt.HasOtherWay]). Nothing
// of this is a reason for the login to fail, or to show its link later than half a second after it
// was there. In detail:
//
//   - A client is registered for the device grant as well. If the server does not like that, it is
//     registered as it always was. It is also after two login pages in a row that led to no token.
//     A client of an earlier login, and a configured one, are tried as they are.
//   - The link waits half a second for the code, so that most people see both at once. If the code
//     comes later, it is added to the prompt in the State, for the followers too, and Offer is not
//     called again. Whatever else the endpoint answers, there is no code, and the log says why.
//   - A code that expires, and one that is refused where it is entered, is taken out of the
//     prompt. Another one is not asked for: codes last longer than logins do.
//   - What comes first counts. A callback ends the requests for the device's token. If one of them
//     is under way, the callback waits up to two seconds for it before its code is spent. So the
//     server gives one token, and none has to be revoked: some servers then revoke all that the
//     person has granted us. A token that comes when the login has ended in another way is
//     revoked.
//   - A refusal at the link (access_denied) ends the login, whatever becomes of the code.
//
// # Callback paths
//
// A server that the upstream names may send the browser on to another server. The code of that one
// would then come back to us and go to the first server (RFC 9700 section 4.4). If redirects do not
// prove their issuer, a path of its own for each server tells them apart. The path /callback
// without a hash is used in these cases:
//
//   - The redirects prove their issuer.
//   - The Config names the server ([Endpoints].Issuer or the endpoints). The person vouches for it.
//   - The client is configured, so it has one redirect URI. The account is bound to one server:
//     "What never is" says how. The same holds with [CallbackConfig.RedirectURI].
//   - The server refuses to register another path, registers other redirect URIs, or names the
//     redirect URI in an error of the login page. Then the same login goes on with /callback. Or
//     the login page before led to no token, which is all that some servers show. The account is
//     then bound to this server, until a sign-out.
//
// In the last case /callback is used only if no other server has it: the account is not bound to
// another one, and the store holds no other account whose callbacks come to /callback without a
// proof. Otherwise a server that takes no other path is refused with [asclient.CodeIssuerChanged].
// Endpoints.Issuer gets past that.
//
// # One login for all processes
//
// Processes with the same [Config.Key] and the same store log in once. They agree by locks and
// values in the store. These are named KEY/WORD:
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
//   - A page counts until it has settled: its login brought a token, the upstream accepted the
//     token, and no other page was wanted for two minutes. Then the count starts again. So a server
//     with tokens of five minutes may have a page for each of them.
//   - There are at least 30 seconds between two login pages. There is no pause after one of the
//     first two pages that count, if it led to a token, because then the person is there. There is
//     none if the leader before died (its page no longer works), or with AtTerminal. During the
//     pause, [State].LastFailure says how the login before ended.
//   - After three login pages in a row without a token that the upstream accepted, and after six
//     that count whatever they led to, requests fail with [ErrHeldBack] for an hour. Each call of
//     [Transport.SignIn] may still show one, and so may a process with AtTerminal.
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
// Some servers lock a client that shows a wrong secret again and again. So if the server refuses
// the client of an unattended grant, requests get the same error at once for 5 seconds, and for
// twice as long after each further refusal, up to five minutes. [Transport.SignIn] asks the server
// all the same.
//
// # An identity provider for all upstreams
//
// With [GrantEnterpriseManaged] a company's identity provider ([Config.IDP]) says who the person
// is, and the authorization server of each upstream takes its word:
//
//  1. The person signs in at the identity provider (OpenID Connect), which gives an ID token. Or
//     [Config.Assertion] returns an ID token that something else obtained.
//  2. The identity provider exchanges the ID token (RFC 8693) for an assertion that only the
//     upstream's authorization server takes. In this request our client at the provider
//     authenticates.
//  3. The authorization server gives the access token for the assertion (RFC 7523). In this request
//     [Config.Client] authenticates. The access token is not stored.
//
// The account at the identity provider is like that of an upstream, with a record, logins, a leader
// and limits of its own (type provider). The key of the record is a hash of the provider, our
// client there and [IdentityProvider].Realm, so all upstreams and processes share one login page.
// The account's token is the ID token. It is asked for with the scopes openid and, if the provider
// lists it, offline_access, and without a resource. A provider whose metadata does not mention PKCE
// is not refused, because the person named it, and OpenID Connect does not ask for that. A provider
// that lists other methods than S256 is refused.
//
// The ID token is refreshed before it expires, by the rules for any token, and also if the provider
// refuses to exchange it. If the exchange refuses the refreshed one too, a login follows, once.
// Some refusals are errors at once, because another ID token would not help: those that name the
// client (invalid_client, unauthorized_client), the kind of request (unsupported_grant_type), the
// upstream (invalid_target, invalid_scope) or the person (access_denied, unless the person has just
// asked for a sign-in), and every refusal of an ID token that a login has just brought. While the
// upstream's old access token works, no login starts.
//
// What fails at the identity provider fails with [ProviderError]. [Transport.SignOut] ends the
// sign-in at the provider as well. Otherwise the next start would sign the person in again without
// a word. Other upstreams that use the sign-in lose it, too: [Transport.ProviderAccount] names
// them. Their access tokens last until they expire.
//
// # Tokens that are bound to a key
//
// The resource may ask for tokens that are bound to a key (DPoP, RFC 9449), in its challenge or in
// its metadata. Then a key is made and kept in the record, and each token request and each request
// to the upstream carries a proof. It is not enough that the authorization server offers DPoP,
// because several servers offer it in front of resources that take only Bearer tokens. A proof
// holds the last nonce that the origin has sent. If an answer only asks for another nonce, the
// request is sent again. That does not count as one of the three times above.
//
// # What is tolerated
//
// Servers differ from the specifications in many ways. Package asclient lists what it tolerates in
// documents, issuers, registrations and answers. This package tolerates more of what servers do:
//
//   - A status of 400 or 403 or a redirect in place of 401, and a 401 that is about a session.
//   - A fresh token that is refused for some seconds.
//   - A refresh token that is refused in unusual words, because of the resource parameter, or
//     because the access token has not expired.
//   - A server that grants a refresh token only after a new consent. prompt=consent is sent after a
//     login that asked for offline_access and got no refresh token, and never before.
//   - A server that forgets our client, also without saying so, one that lets a client ask for no
//     other scopes than it was registered for, and one that takes no callback path but /callback.
//   - A dead refresh token, or a dead access token that seems alive, even if the server does not
//     say so in the words of OAuth.
//   - A callback with an error and no state, or with neither an error nor a code. It ends the login
//     at once.
//   - An upstream that asked for DPoP once and does so no more. The next login brings an unbound
//     token, provided that neither its challenge nor its metadata asks for another.
//   - An upstream that moves to another authorization server. The next sign-in goes there.
//
// What the person gives counts in place of what a server says: [Config.Resource] ([ResourceNone]
// sends none), [Endpoints].Issuer, [Config.AuthorizeParams].
//
// # What never is
//
//   - A token goes to the upstream's origin alone. Each request is checked by its origin, so a
//     redirect cannot carry a token away. A refresh token and a registered client go to the server
//     that gave them, at the origin of its token endpoint.
//   - A code is redeemed only if its callback had the state, came to the path of its server, and
//     named no other issuer. PKCE with S256 is always used. A server whose metadata does not
//     promise it is refused, unless [Endpoints].AssumePKCE is set.
//   - Configured secrets stay at one server. [ClientConfig].Secret and Key, [Config.Given] and
//     the assertion of jwt_bearer go to the server of [Endpoints].Issuer or of configured
//     endpoints, or else to the server of their first use. The store keeps the name of that
//     server, under KEY/issuer, until a sign-out. If the upstream later names another one, the
//     sign-in is refused with [asclient.CodeIssuerChanged], and only Endpoints.Issuer allows it.
//     The same holds for a configured client or redirect URI without a secret, if the server does
//     not prove its issuer in redirects. A configured token endpoint is the server whose metadata
//     lists it, also when it is not configured any more. If the issuer is at the upstream's
//     origin, its token endpoint must stay at its origin as well.
//   - With Endpoints.Issuer, what the record holds of another server is not used. A sign-out
//     revokes it at that server, unless that takes a configured secret.
//   - As far as the store knows, only one server without proof of its issuer has callbacks at the
//     path /callback, unless the person vouches for more.
//   - A request in the background, an early refresh and [Config.NonInteractive] never start a
//     login.
//   - No answer of a server makes login pages come faster than their limits.
//   - No URL that a server names is requested in cleartext. Package asclient has the exact rule,
//     and says which requests follow a redirect. The addresses behind a name are not judged here: a
//     RoundTripper can check each address that it dials.
//
// # What is kept
//
// There is one record for each upstream, [Config.Realm], client, resource and audience; their hash
// is the key of the record ([Config.Key]). It holds the issuer and its endpoints, the registration,
// the tokens, their scopes and expiry, the DPoP key, and what refreshes and logins have taught
// about the server. If discovery finds another issuer than the recorded one, the tokens and the
// registration of the old issuer are dropped. [Accounts] lists the records of a store. Package
// tokenstore says how values are encrypted, and where its encryption key lies. If [Config.Store] is
// nil, everything lives in memory, and processes share nothing.
//
// # The rest of Transport
//
// [Transport.SignIn] signs in without a request: it asks the upstream for its challenge itself. It
// does nothing if there is a valid token, or if the upstream wants none: it asks for no token, and
// has no resource metadata or answers even the call of a tool. [Transport.SignOut]
// revokes the tokens (RFC 7009) if the server can do that, and deletes them and the registration.
// Tokens that the server failed to revoke are kept, unless the caller insists.
// [Transport.Deliver] takes the URL of a callback that did not reach the listener, or its query
// alone.
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
