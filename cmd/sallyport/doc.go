// Sallyport carries an MCP session between an MCP host's stdio and a remote, OAuth2-protected
// Streamable HTTP MCP server, and manages its own SSH tunnels.
//
//	sallyport [flags] [URL]                the proxy, the default command
//	sallyport login [flags] [URL]          sign in now, in the terminal
//	sallyport logout [flags] [URL]         revoke and forget; --all forgets every upstream
//	sallyport status [--json]              what is stored, which proxies run here, their tunnels
//	sallyport callback [flags] HOST...     lend this machine's browser to proxies on HOST
//	sallyport ssh-config [flags] HOST      the configuration resolved for HOST, as ssh -G prints it
//	sallyport version
//
// # The route to the upstream
//
// Without --via, requests leave this machine directly. They use the HTTP proxy of HTTPS_PROXY or
// HTTP_PROXY unless NO_PROXY excepts the host.
//
// With --via HOST, requests go through SSH. Sallyport looks HOST up in ~/.ssh/config and
// /etc/ssh/ssh_config as ssh does, and gives each hop of a ProxyJump chain its own block. The flags
// -F, -J and -o mean what they mean to ssh. If both --via and --callback-via are given, -J and -o
// belong to --via. The connection to the upstream is a channel of the last hop, inside this
// process. No local port is bound. The URL, the Host header, the TLS name and the OAuth resource
// stay the real ones, and the last hop resolves the upstream's name.
//
// The flag --oauth-route says how requests to authorization servers of another origin leave: via,
// direct, or auto. The route auto is direct, and through SSH only if the direct dial itself fails.
//
// # Host keys and SSH authentication
//
// The key of each hop must be known to the known_hosts files of its own configuration. No flag
// skips that. Sallyport authenticates with the agent, key files, certificates, keyboard-interactive
// and passwords. The commands login and callback ask the person in the terminal. The proxy never
// opens a terminal, because it may be the MCP host's own. It starts the program of SSH_ASKPASS by
// the rules of ssh(1), or says which command to type.
//
// # Sign-in
//
// The upstream answers a request with 401. Its metadata (RFC 9728) names the authorization server,
// whose own metadata comes next (RFC 8414, OpenID Connect Discovery). Sallyport registers a client
// there if the settings name none (RFC 7591). The person logs in with a browser, and the callback
// goes to http://127.0.0.1:53682/callback, or to a path below that if the login server does not say
// in the callback who it is. A link to the login page is always printed on stderr. The browser is
// started with another link, which works once. Tokens are stored encrypted in the state directory.
// Their key is in the system's keyring, or else in the configuration directory. The next start asks
// nothing.
//
// If the browser is on another machine than the proxy, there are two ways. The proxy reaches the
// workstation by SSH: with --callback-via WORKSTATION the callback's port is a remote forward
// there, which is gone after the login. Or the workstation reaches the proxy's machine: the person
// types `sallyport callback HOST` on the workstation.
//
// # Settings
//
// Each flag has an environment variable, and a field in the JSON file of --config. The variable is
// SALLYPORT_ and the flag's name in capitals, unless --help names another. A flag counts more than
// a variable, and a variable more than the file. An empty variable counts as unset. Lists in
// variables are separated by newlines. All settings of mcp-oauth2-proxy are understood.
//
// # Login servers that need a setting
//
// Most of what servers do otherwise than the specifications say needs no setting. The comments of
// the packages oauth, oauth/asclient and relay list what is tolerated, and what never is. What is
// left is a choice that only the person can make. The hint of an error names the setting.
//
//   - The metadata is of another issuer than the one that led to it, nothing leads to a login
//     server, or the login server of a public upstream has a private address: --issuer URL. The
//     person vouches for the server at that URL. Its metadata is used, whatever the upstream names,
//     and a configured secret or key goes to no other server.
//   - The server refuses the parameter resource (AADSTS9010010 of Entra), or the upstream's
//     metadata names another resource than its URL: --resource none leaves the parameter out, and
//     --resource URI is used in place of what the metadata names.
//   - The server registers no clients: its administrator gives a client ID (--client-id), and
//     perhaps a secret (--client-secret-file) or a key (--client-key).
//   - The server takes no redirect URI but with the name localhost: --callback-host localhost.
//   - The server wants a parameter of its own in the authorize URL, such as a hint of the tenant,
//     or prompt=consent and access_type=offline before it gives a refresh token: --authorize-param
//     NAME=VALUE. It cannot replace a parameter of the protocol.
//   - The metadata does not mention PKCE, although the server knows S256: --pkce assume.
//   - The upstream takes ID tokens only: --bearer id.
//   - The upstream or the login server wants a client certificate: --client-cert FILE, and
//     --client-cert-key FILE if the key is in another file. The key must not be encrypted. The
//     files are read again when they change.
//   - The new token is refused, because it is for another resource, audience or scope than the
//     upstream wants: --resource, --audience, --scope.
//   - A firewall blocks the User-Agent sallyport/VERSION: --header 'User-Agent: NAME'. It replaces
//     the name in every request to the upstream's origin, also in those for metadata and tokens. No
//     other header of --header is sent with those.
//   - The upstream forgets a session that is idle: --keep-alive 30s sends pings.
//
// No setting gets past these: cleartext http to a host that is not loopback (but for
// --allow-insecure-http), a request with a secret that is redirected to another origin, a callback
// of another issuer, a server that does PKCE without S256, and a token that is bound to a key which
// nobody asked for.
//
// The cookies of an upstream are sent back to its origin, for load balancers. At most 50 are kept,
// in memory. A cookie in --header replaces one of the same name.
//
// # Errors
//
// On stderr an error is one line, followed by "hint:" lines. An MCP host gets the JSON-RPC error
// -32000 (transport, timeout) or -32001 (HTTP status of the upstream). Its message holds the cause
// and the hints, because many hosts show nothing else. Its data has kind and hint, too. Stderr and
// `sallyport status` name the same cause and the same hints. No hint names a setting that is made
// already, unless that setting is what is wrong.
//
// The proxy ends only because of a wrong setting, a host key, or an SSH authentication that is
// refused. It tries an unreachable bastion or upstream again. A sign-in that a server or the person
// refused does not end it: each call gets the cause, and a later call tries again. After a login
// page that led to nothing, the next one is shown 30 seconds later at the earliest.
//
//	0    done; the proxy also after end of input, SIGTERM and SIGINT
//	1    failed
//	2    usage or configuration
//	3    host key
//	4    SSH authentication refused
//	5    sign-in needed or refused; the proxy does not end with it
//	6    unreachable; the proxy does not end with it
//	130  interrupted
//
// # What is defended against whom
//
// A network between this machine and a hop, or between the last hop and the upstream, learns
// nothing and changes nothing: host keys and certificates are verified, and no flag turns that off.
// Cleartext http to a host that is not loopback needs --allow-insecure-http.
//
// An upstream gets its own token only. The token carries the upstream's resource (RFC 8707), and is
// sent to its origin alone. Metadata of a public upstream cannot make sallyport send requests to
// loopback, link-local or private addresses. The settings may name such endpoints.
//
// A client certificate tells who we are and holds no secret. The upstream and its authorization
// server get it if they ask for one. No other origin gets it, even if metadata or a redirect leads
// there. Cookies of the upstream go to its origin alone, and are left out of requests to an
// authorization server there.
//
// A link of a login server is opened only if it is http or https. The command of --browser may pass
// its arguments to a shell, so all characters that mean something to a shell are percent-encoded.
//
// Another user of this machine sees neither tokens nor the login's state: files have mode 0600, the
// control socket is in a directory of mode 0700, secrets are taken out of the environment of child
// processes, and a browser's arguments hold a link that works once. A secret in the arguments of
// sallyport itself is warned about.
//
// Another user of the machine where the proxy runs could listen on the callback's port first. So
// `sallyport callback` carries only GET requests with a loopback Host header, and only to a socket
// that belongs to the same user, which it checks before and after it connects.
//
// A peer's text reaches people with its control characters removed, and cut. The MCP host gets the
// beginning of an error's body, with every secret in use replaced.
//
// Whoever can read the memory or the files of the person's account can use the person's tokens.
//
// # Glossary
//
// One word has one meaning in the whole tree.
//
//   - host, or MCP host: the program that starts sallyport and talks to it over stdin and stdout.
//     In sshtunnel/sshconfig a Host is ssh_config's.
//   - upstream: the remote MCP server that the session is carried to.
//   - hop: one SSH server on the way. bastion: the last hop of --via.
//   - tunnel: the chain of hops, which is dialed on demand and dialed again when it is lost. link:
//     one established set of connections through all hops of a tunnel. It ends as a whole. In
//     messages to people a link is a URL to open.
//   - session: the MCP session that relay carries. call: one request of the host that is in flight.
//   - wire: the form of MCP that is spoken with the upstream: legacy, modern, or bridge.
//   - obstacle: what is in the way of the upstream at present. explanation: one error in words for
//     people.
//   - sign-in: everything from the upstream's challenge to a new token. A refresh is not one.
//     login: the portion of a sign-in that needs a person, together with the discovery and the
//     registration that prepare for it.
//   - prompt: what a person needs for a login: URLs, and in the device grant also a code. login
//     page: the authorization server's page that a prompt leads to. callback: the request that the
//     browser makes to the redirect URI.
//   - record: what the token store keeps about one account. leader: the process that runs a login.
//     The other processes of the account follow it.
//   - route: how a request leaves: direct or via. background request: one that nobody waits for. It
//     never starts a login.
//   - person: the human. workstation: the machine with the person's browser.
//
// # Packages
//
// Package main is a page. The rest is in internal: cli (grammar and sources of the settings),
// session (from settings to tunnels, routes, sign-in and store), explain (words for errors),
// obstacle (what is in the way), person (messages, questions, browser), control (the local
// interface of a running proxy), callback (carrying the callback), hostio (stdin, parent, memory),
// environment, and command, which is the whole program. Package machines and the folders stories
// and bench are tests.
package main
