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
// # The way to the upstream
//
// Without --via, requests go out from this machine, through the proxy of HTTPS_PROXY or HTTP_PROXY
// unless NO_PROXY excepts the host. With --via HOST they go through SSH: HOST is looked up in
// ~/.ssh/config and /etc/ssh/ssh_config as ssh does, each hop of a ProxyJump chain with its own
// block; -F, -J and -o mean what they mean to ssh. -J and -o speak of --via; where it is absent, of
// --callback-via. The connection to the upstream is a channel of the last hop, opened inside this
// process: no local port is bound, and the URL, the Host header, the TLS name and the OAuth
// resource stay the real ones. The upstream's name is resolved on the far side.
//
// Requests to authorization servers at another origin go by --oauth-route: via, direct, or auto,
// which is direct first and through SSH only where the direct dial itself fails.
//
// # Host keys and SSH authentication
//
// Each hop's key must be known, by the known_hosts files of its own configuration; there is no flag
// to skip that. Authentication uses the agent, key files, certificates, keyboard-interactive and
// password. Questions are put on the terminal by login and callback; the proxy never opens a
// terminal, which may be its host's own: it starts the program of SSH_ASKPASS by the rules of
// ssh(1), or says which command to type.
//
// # Sign-in
//
// The upstream's 401 leads to its metadata (RFC 9728), that to the authorization server's (RFC
// 8414, OpenID Connect Discovery), a client is registered there if none was given (RFC 7591), and
// the person logs in with a browser, whose answer comes back to http://127.0.0.1:53682/callback.
// The link is always printed on stderr; the browser is started with a page of the callback's
// listener that leads there once. Tokens are kept, encrypted, in the state directory, their key in
// the system's keyring or else in the configuration directory; the next start asks nothing.
//
// What the metadata of a public upstream names is not dialed at loopback, link-local or private
// addresses; the settings may name such endpoints.
//
// Where the browser is on another machine than the proxy, either the proxy reaches that machine by
// SSH (--callback-via WORKSTATION: the port is a remote forward there, gone after the login), or
// that machine reaches the proxy's (sallyport callback HOST, typed there). The latter carries only
// GET requests with a loopback Host, and only while the socket that listens on HOST belongs to the
// same user; it asks for both before it hands anything over.
//
// # Settings
//
// Each flag has an environment variable, SALLYPORT_ and its name in capitals unless --help names
// another, and a field in the JSON file of --config. A flag wins over a variable, a variable over
// the file. An empty variable counts as unset. Lists in variables are separated by newlines. All
// settings of mcp-oauth2-proxy are understood.
//
// # Errors
//
// On stderr an error is one line, then "hint:" lines. An MCP host gets JSON-RPC error -32000
// (transport, timeout) or -32001 (status of the upstream), with kind and hint in its data. The
// proxy ends only for what waiting cannot mend; an unreachable bastion or upstream is tried again.
//
//	0    done; the proxy also after end of input, SIGTERM and SIGINT
//	1    failed
//	2    usage or configuration
//	3    host key
//	4    SSH authentication refused
//	5    sign-in needed or refused
//	6    unreachable; never the proxy's own
//	130  interrupted
package main
