// Package sshtunnel reaches hosts through chains of SSH servers. It runs inside the process and
// needs no ssh.
//
// A [Tunnel] is a chain of hops. It is dialed when somebody first wants it, is kept alive, and is
// dialed again when it is lost. The last hop then opens connections ([Tunnel.DialContext]), listens
// ([Tunnel.Listen]) and runs commands ([Tunnel.Exec]). [Tunnel.Forward] carries the connections of
// a local listener. ssh_config says which hosts to pass and which keys to use. Package sshconfig
// evaluates it as OpenSSH does.
//
// # Words
//
// A hop is one SSH server on the way. A link is one established set of connections through all
// hops. A link ends as a whole: when one hop is lost, all connections are closed. A Tunnel outlives
// its links.
//
// # The parts
//
//   - [Tunnel] is what callers hold. Its methods send events to the loop, or work on a link.
//   - The loop is one goroutine. It owns everything that a Tunnel knows: the phase, the link, the
//     calls that wait, the listeners, and when to dial again. It never blocks.
//   - A link holds its hops and waits for their goroutines.
//   - A hop is an interface: open, exec, listen, heartbeat, ended, close. An SSH connection of our
//     own is one kind. The user's ControlMaster is another.
//   - A dialer takes one hop from nothing to a login. An authenticator chooses what to offer.
//   - Package hostkeys verifies the servers' keys. Package userkeys finds the user's keys. Package
//     subprocess runs commands whose stdin and stdout are a connection.
//
// # How one hop is dialed
//
// The first hop is a TCP connection, or the stdin and stdout of a ProxyCommand. Each later hop is a
// direct-tcpip channel of the hop before, and is encrypted by itself. So no hop can read what is
// meant for a later one.
//
// If a name has several addresses, they are tried 250 ms apart, and the two address families
// alternate (RFC 8305). Known hosts and the agent's list of keys are read for all hops from the
// start. Nothing else can be done early, because no byte reaches a hop before the login to the hop
// before it.
//
// ConnectTimeout bounds TCP, key exchange and login together. It is 30 s if it is not set. Its
// clock stands still while a person is asked.
//
// Package hostkeys verifies the server's key against known_hosts. A changed key is always refused,
// even with StrictHostKeyChecking no. The error is a *hostkeys.Error. After the login,
// UpdateHostKeys learns further keys that the server proves to hold, and forgets keys that the
// server no longer has.
//
// Then the user's keys are offered in OpenSSH's order, and after them keyboard-interactive and
// password. If the server refuses all of them, the error is an [AuthError]. Questions go to
// Config.Ask and never to a terminal, because the terminal may belong to the program that started
// this one.
//
// [Trace] tells each of these steps.
//
// # ControlMaster
//
// With Config.ControlMaster, the user's live ControlMaster takes the place of its host and of all
// hosts before it. Then ssh does the work: `ssh -W` opens connections, `ssh` runs commands, and
// `ssh -O forward` listens.
//
// # What happens when
//
//	nothing has come from a hop for      the link has failed; if the user sets nothing, the last hop
//	ServerAliveInterval x CountMax       is asked every 15 s and given up after 45 s
//	the machine has slept, or the        the link must answer within 5 s, or it has failed
//	address of the link is gone
//	a dial or a link has failed by       down: dialed again after 0.5 to 30 s (random), while a call
//	the network                          waits, a Listener is open or the tunnel was up before; a new
//	                                     call shortens the pause to 0.5 s; a sleep of the machine or a
//	                                     new address ends it
//	nobody could be asked, or the        needs_person: each new call tries once more, at most every
//	agent failed                         30 s
//	a host key, a login or a file        refused: never dialed again by itself, and DialContext fails
//	was refused                          at once; Connect tries again
//	the last call that waits leaves      the attempt ends, and the state is what it was
//	64 requests for a channel are        a link without connections is given up; a link with
//	unanswered                           connections refuses more
//
// # Goroutines
//
// A Tunnel has its loop, from New to Close, and one goroutine during an attempt. A link has one
// goroutine for each hop that waits for the hop's end, one for each hop that takes its requests,
// one for each hop that is watched, and one for the clocks and the local address. The first Listen
// adds two for the server's channels. x/crypto has its own. Each connection has three: one reads,
// one writes, and one takes the channel's requests. They are needed because x/crypto's channels
// know no deadlines (channelConn).
//
// A link ends by closing the outermost connection. Everything else is inside it and ends with it. A
// goodbye to a server that is gone would wait for ever.
//
// # Limits
//
// Not honoured are GSSAPI, host-based login, PKCS11Provider, SecurityKeyProvider and
// VerifyHostKeyDNS.
package sshtunnel
