// Package sshtunnel reaches hosts through chains of SSH servers, inside the process.
//
// A [sshconfig.Resolver] reads ssh_config files as OpenSSH does and answers with a chain of [sshconfig.Host] values. A
// [Tunnel] dials that chain when somebody first wants it, keeps it alive, and dials it again when it
// is lost. What runs over it are channels of the last hop: [Tunnel.DialContext] (names are resolved
// there), [Tunnel.Forward] (a local listener), [Tunnel.Listen] (a remote forward) and [Tunnel.Exec].
//
// # One hop
//
// ConnectTimeout (30 s where unset) bounds TCP, key exchange and authentication together; it stands
// still while a person is asked. The first hop is a TCP connection or a ProxyCommand, each further
// one a direct-tcpip channel of the hop before. No hop inside can be read by one outside it. The
// addresses of a name are tried 250 ms apart, families in turn (RFC 8305). known_hosts and the agent's
// list of keys are read for all hops while the first ones are dialed; nothing else may overlap, for a
// hop's first byte needs the login of the one before.
//
// With Config.ControlMaster the user's live ControlMaster stands for the hops up to its host:
// connections go by ssh -W, commands by ssh, remote forwards by ssh -O forward.
//
// Host keys are checked against known_hosts by a reader of our own that agrees with OpenSSH 10:
// hashed names, [host]:port, wildcards, a bare entry for any port, @cert-authority, @revoked, and
// lines that cannot be parsed spoil no others. KnownHostsCommand adds to it, RevokedHostKeys (lists of
// keys, and key revocation lists) take away; CheckHostIP and NoHostAuthenticationForLocalhost
// are ssh's. The algorithms that known_hosts can verify are asked for first. A changed key is always
// refused, also with StrictHostKeyChecking no: see [hostkeys.Error]. After login, UpdateHostKeys notes
// further keys that the server proves to hold, and drops those it has no more. Our processes take
// turns in writing, by a lock on the directory; a rewritten file replaces the old one at once.
//
// Keys are offered in OpenSSH's order: certificates, listed keys of the agent, its other keys
// (unless IdentitiesOnly), files. A passphrase is asked for only after the server accepted the key;
// AddKeysToAgent follows its first use. RSA keys sign with SHA-2 only, security keys through the agent
// only. Then keyboard-interactive and password. Questions go to Config.Ask, never to a terminal: under
// an MCP host /dev/tty may be the host's own. See [AuthError].
//
// # Goroutines
//
// A Tunnel has one goroutine that dials, from the first call to Close. A link has two per hop, one that
// waits for its end and one that takes its requests for UpdateHostKeys, one per hop that is watched, one
// for the clocks and the local address, and two for forwarded channels, besides those of x/crypto.
// Each connection has one that reads and one that writes, since x/crypto's channels know no
// deadlines; where several wait for an answer, what they write is sent together (gatherConn). A link ends by closing the outermost connection: everything else is inside it, and a
// farewell to a peer that is gone would wait for ever.
//
// # What happens when
//
//	nothing came for a hop's         the link has failed; our default is 15 s x 3 on the last hop
//	ServerAliveInterval x CountMax
//	the machine slept, or its        the link must answer within 5 s, else it has failed
//	address of the link is gone
//	the last waiting call left       the attempt ends, the state is what it was
//	64 opens are unanswered          a link without connections is given up, else no more are sent
//	dial or link failed (network)   down: again after 0.5-30 s, jittered, while a DialContext waits,
//	                                a Listener is open, or it was up before; a new call cuts the wait
//	                                short, a sleep or a new address of the machine ends it
//	no person, no agent             needs_person: once more for each new call, at most every 30 s
//	host key, login or file said no refused: never again by itself; DialContext fails at once
//
// Not honoured: GSSAPI, host-based login, PKCS11Provider, SecurityKeyProvider, VerifyHostKeyDNS.
package sshtunnel
