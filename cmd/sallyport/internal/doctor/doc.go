// Package doctor walks the whole way from this machine to the upstream, step by step, and says of
// each step whether it works, what that was concluded from, why it matters, and what to do next. It
// is `sallyport doctor`.
//
// # What a run does, and what it never does
//
// [Run] makes the rows in the order of the way, so that the first one that fails is the cause, and
// the rows behind it are skipped with the reason. Rows that do not depend on it are looked at all
// the same: the store, the callback's port, and the metadata of a login server that is known from
// the settings or from the last sign-in.
//
// A run opens one connection to each SSH host, sends the upstream some requests without a token and
// some with the stored one, and asks for metadata. If the upstream speaks a revision of MCP with
// sessions, one session is opened and ended. It begins no sign-in, renews no token, registers no
// client, and runs no command on the last hop but "true". Without Config.Ask, passwords and answers
// are not offered to SSH servers, and keys that want a touch are left out, so that nobody is asked.
// Refused logins are not told to other processes. On the disk nothing is made: the store is opened
// for reading alone, known_hosts is not written, and no key is added to the agent. Where
// StrictHostKeyChecking would note a new key, a copy of known_hosts in the directory of temporary
// files takes it, which is gone afterwards.
//
// Each row has a bound of its own, and the whole run ends within some minutes.
//
// # The rows
//
// The IDs are a contract. N counts the hops from 1. The rows of the hops to --callback-via begin
// with "callback.hop." and mean the same.
//
//	client              what an MCP host keeps from its servers; with --client only
//	settings            the settings that were made, and where
//	ssh.config          ssh_config can be read, and which hosts it leads through
//	hop.N.config        what it makes of a hop, with the file and line of each value
//	hop.N.keys          the keys in the order in which they are offered, and the agent
//	hop.N.name          the address of the hop
//	hop.N.tcp           the connection: TCP, a ProxyCommand, or a forward of the hop before
//	hop.N.hostkey       the host key, and the line that vouches for it
//	hop.N.kex           the key exchange: its algorithms, post-quantum or not
//	hop.N.login         the login: by which key or method, and what was tried
//	hop.N.roundtrip     how long the hop takes to answer
//	via.open            the last hop forwards to the upstream
//	via.listen          it forwards back to us; not needed for the upstream
//	via.exec            it runs commands; not needed for the upstream
//	upstream.proxy      the HTTP proxy of a direct connection
//	upstream.name       the upstream's address, where the connection comes from
//	upstream.tcp        the connection to it
//	upstream.tls        its certificate, and the days left
//	upstream.http       an answer to a first request
//	clock               our clock against the Date of that answer
//	signin.challenge    the upstream asks for a token
//	signin.resource     the protected resource's metadata (RFC 9728)
//	signin.server       the login server's metadata (RFC 8414)
//	signin.issuer       the issuer in it is the one that was asked for
//	signin.pkce         PKCE with S256
//	signin.client       a way for the login server to know our client
//	store.directory     the token store can be read and written
//	store.key           its key, and where that lies
//	token.stored        the stored sign-in, until when it is good, and what renews it
//	token.accepted      the upstream accepts the token
//	upstream.mcp        revision and transport of MCP
//	callback.helper     a browser that another machine lends
//	callback.port       a port for the callback can be had
//	callback.loopback   a request of this machine arrives there
//	callback.browser    the program that opens the login page
//	shared              the shared connections
//	proxies             the proxies that run here, and what is in their way
//	hosts               the entries in the files of MCP hosts
//
// # The JSON form, version 1
//
// `sallyport doctor --json` prints one [Report]. Within a version, fields and rows may be added; a
// reader ignores what it does not know. What changes or removes one raises the version. No field
// holds a secret, but names of hosts and people are in clear. [Report.Strangers] is the form
// without them.
//
// The exit status is that of the first failure: 1 failed, 2 configuration, 3 host key, 4 SSH
// authentication, 5 sign-in, 6 unreachable. It is 0 if there are only warnings.
//
// # Words
//
// What failed is explained by package explain, in the words that every other command has for it.
// This package adds the reason why a row matters (why.go), and words for what is no error.
package doctor
