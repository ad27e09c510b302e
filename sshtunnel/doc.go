// Package sshtunnel is an SSH client that reaches hosts through chains of SSH servers. It works
// inside the calling process. It runs the ssh program only for a ControlMaster.
//
// A [Tunnel] is made by [New] and knows its chain of servers. The first call that needs the
// chain dials it. From the last server of the chain, a Tunnel can do what ssh does:
//
//   - [Tunnel.DialContext] opens a connection to an address that the last server can reach (ssh
//     -W).
//   - [Tunnel.Forward] does that for each connection that a local listener accepts (ssh -L).
//   - [Tunnel.Listen] makes the last server listen (ssh -R).
//   - [Tunnel.Exec] runs a command on the last server.
//   - [Tunnel.Connect] only dials. It is for programs that want to report the first error.
//
// ssh_config decides which servers are on the way and which keys are used. Package sshconfig
// evaluates it. Config.Chain is called for each attempt, so an edited file counts for the next
// one.
//
// # Words
//
//   - A hop is one SSH server of the chain. The last hop is the far end.
//   - A link is a chain of hops to which we are logged in. When one hop is lost, the whole link
//     ends. A Tunnel outlives its links.
//   - A connection is what DialContext returns, or what Accept of a Listener does. It belongs to
//     one link.
//   - An attempt dials the chain once. It ends with a link or with an error.
//
// # States
//
// [Tunnel.State] returns the state, and a channel that is closed at the next change.
//
//   - idle: nobody needs the tunnel. Nobody has yet, or a link was lost that nothing used. The next
//     call starts an attempt.
//   - dialing: an attempt is under way. State.Hop is the hop that is being dialed, and
//     State.Notice is what the person should read meanwhile. If the last call that waits gives
//     up, and there is no other reason to dial, the attempt ends and the state is what it was
//     before. An attempt that a person may be at work on goes on, because another one would ask
//     the person again.
//   - up: there is a link. It stays up until it is lost or the tunnel is closed. An idle link is
//     not closed.
//   - down: a link was lost, or an attempt failed for a reason that may pass, such as the
//     network. Calls wait for a later attempt. If a call's context ends first, its error has
//     also the error of the last attempt.
//   - needs_person: an attempt failed because a person or the agent was needed and did not help.
//     Calls fail at once with that error. A call that comes 30 s after the last attempt, or
//     later, makes one more attempt. So does Connect at any time.
//   - refused: a server refused its login, a host key was refused, ssh_config has an error, or
//     there is no algorithm in common ([AlgorithmError]). Calls fail at once with that error,
//     because another attempt could lock an account. Only Connect makes another attempt.
//
// In the state down, there are more attempts as long as a call waits, a Listener is open, or a
// connection or command was open when the link was lost. After the first failure the pause is
// 0.5 s. It doubles with each failure, up to 30 s. A random part of up to half of it is left out,
// but never below 0.5 s. A new call shortens the pause to 0.5 s. A link that has lasted less than
// 10 s counts as a failure, but the first such link costs no pause. The pauses begin anew when a
// link has lasted 10 s, when the machine wakes from sleep, and when it gets a new address.
//
// # How a hop is dialed
//
// The first hop is reached by TCP or by a ProxyCommand. Each later hop is reached by a channel
// of the hop before. Every hop has its own encryption from end to end, so no hop can read what
// is meant for a later one.
//
// If the name of the first hop has several addresses, they are raced: a new address is tried
// every 250 ms, or when one has failed, and the two address families alternate (RFC 8305). As long
// as nothing answers, all of this begins again every 1.5 s beside what is under way: a network that
// comes back is found sooner than by the repetitions of TCP and of resolvers. An attempt during
// which the machine has slept begins anew, unless a person may be at work on it.
//
// A ProxyCommand runs in a session of its own, so it has no terminal: the terminal may belong to
// another program. Only with Config.Terminal it shares the terminal, as it does with ssh. If it
// ends before the server has answered, or ends a link with a status other than 0, the error is a
// [ProxyCommandError] with its status and the end of its stderr. The tunnel ends it with all that
// it has started. With Config.Terminal and outside Linux, its own children only notice the end of
// their input. With ProxyUseFdpass, the command hands over a connected socket and may end.
//
// known_hosts is read and the agent is connected to in parallel, for all hops, when an attempt
// begins. The hops themselves are dialed one after the other, because a later hop can only be
// reached when the one before has let us in.
//
// The steps at each hop are these. [Trace] reports them to the caller.
//
//   - The connection is opened, and keys are exchanged. Text before the server's version is left
//     out. If nothing else comes, it is the cause: a *cleartext.IdentificationError.
//   - Package hostkeys verifies the server's key. A key that is refused is a *hostkeys.Error.
//   - The server is offered the user's keys, which package userkeys finds, and then
//     keyboard-interactive and password. If the server accepts none of them, the error is an
//     [AuthError].
//   - After the login, package hostkeys does UpdateHostKeys.
//
// ConnectTimeout bounds all of this for one hop, except the last step. 0 and none set no limit.
// The clock stands still while Config.Ask asks a person, and for the rest of the login as soon as
// a person may be at work elsewhere: when the server has sent a banner or an instruction, which
// may hold a link to open; when keyboard-interactive has begun or a password was sent, because
// PAM may wait for a push; and when a key signs, because the agent or a security key may wait for
// a touch. The login then ends after 10 minutes at the latest. [Notice] is what is said
// meanwhile. If the user sets no ConnectTimeout, a
// ProxyCommand that has the terminal or writes to stderr has up to 2 minutes until the server's
// first byte, because it may be asking the person something.
//
// Questions go to Config.Ask and never to the terminal, because another program may be using the
// terminal: often the one that has started this process. A passphrase is asked for again in each
// attempt, unless AddKeysToAgent has given the key to the agent.
//
// With Config.Refusals, processes agree on logins (package refusals): while one tries a login that
// nobody has made within the last minute, the others wait for its outcome, and show what the
// server says there. If the server refuses, they return the same [AuthError] without dialing.
//
// The error of an attempt is a [HopError] around these, and says at which hop and at which step
// it failed.
//
// # How a lost link is noticed
//
//   - A hop has sent nothing for ServerAliveInterval times ServerAliveCountMax. A silent hop is
//     asked for an answer after each interval. If the user sets nothing, only the last hop is
//     asked, every 15 s, and given up after 45 s. An interval of 0 turns this off for a hop. If
//     the user sets nothing, a server that has never answered a request is not given up: it may be
//     one that answers none, and ssh can use those. The hop before is asked in its place, and on
//     Linux TCP must confirm what the first hop is sent.
//   - Something was sent, and nothing at all has come for a second: the last hop is asked at once.
//     The link is given up when the silence has lasted for 4 s, or four round trips, and either TCP
//     has confirmed nothing for as long, or the question has been with the server for 2.25 s. So
//     the loss is noticed within 5 s. A slow network looks otherwise: TCP goes on to confirm.
//     Only Linux tells. On other systems, and through a ProxyCommand, the server's silence decides
//     alone. The server is left to the rule above if it may be looking up a name, if much is on
//     its way, if it has never answered, or if the user has set ServerAliveInterval, whose limits
//     then hold. If the login has needed a person, the link is given up only when the first server
//     can be reached by TCP, as after a sleep.
//   - sshd and dropbear answer nothing while they look up the name of a connection that they are
//     to open, and they do answer while they connect, and while they start a command. So only a
//     connection to a name makes them wait for, and not one to an address. A server of an unknown
//     make may be silent while it connects, too. A link that several processes share is not waited
//     for alone: see Shared connections.
//   - The machine has slept: the wall clock has run at least 5 s ahead of the monotonic clock.
//     Or the local address of the first hop's TCP connection is gone. Both are looked at every
//     second. The first server is then knocked at each second, by a TCP connection that is closed
//     at once: a machine that has just woken may have no network for a while, and that does not end
//     a link. When the server is reached, or the address has been gone for 5 s, the last hop is
//     asked. It must answer within 1.5 s or four round trips, and within 5 s if the login has
//     needed a person. If the first hop is not reached by TCP, nothing is knocked at, and the limit
//     is 3 s. So the first answer comes within 5 s of the network unless a person is needed.
//   - 64 callers have given up waiting for the last hop to open a connection. If no connection
//     is open, the link is given up. Otherwise further requests fail with an [OpenError].
//   - A connection below has ended.
//
// When a link is lost, its connections can still be read until what has come is used up. Then
// Read returns io.EOF. Write fails. A command of Exec ends with an [ExitError] whose status is
// -1. Listeners stay open: the next link is asked to listen on the same port, also if the server
// had chosen it. [Tunnel.Close] ends all of these. Calls then return [ErrClosed], and Accept
// returns net.ErrClosed.
//
// # Shared connections
//
// With Config.Shared, the chain is not dialed here if another process shares a connection through
// it, or can be started to do so. That process is a [Server]. One local connection to it is one
// stream (package mux has the protocol). Errors, notices, questions and states are those of the
// server's tunnel, and name the hops as the caller's ssh_config does. So the states above mean the
// same, and nearly all that is said here holds for both. The differences are these.
//
//   - All tunnels that use the server have one login. Its questions go to one of them at a time:
//     first to those with Config.Terminal, and then in the order in which they came. Trace has no
//     hooks between Resolved and Connected. State.SharedBy is the server's process.
//   - The login is that of the server's process: its environment and agent count, its Refusals and
//     its ControlMaster, and the files that it can read. A ProxyCommand runs there and has no
//     terminal. What it says is the notice, and its questions must come by SSH_ASKPASS.
//     Whoever makes the key of a mux.Way sees to it that these are the caller's own, too.
//   - The server must answer a ping within 2.5 s. If it does not, or if it ends, the link is lost.
//     The next attempt looks for another server.
//   - A server that is unused or too old takes no new stream. Its tunnels then become idle without
//     an error, and the next call looks for another server. Connections that are open live on until
//     they are quiet and Config.Busy says that no answer is due, for ten minutes at most.
//   - An edit of ssh_config counts for new connections after 5 s, because another server may be
//     meant. Those that are open live on.
//   - Streams of all tunnels share the windows and the order of one SSH connection. The server
//     spreads them over up to four, where a further login needs nobody. Remote forwards stay on the
//     first one.
//   - If a link is silent for 5 s and is not given up, because the last hop may be looking up a
//     name, the server logs in once more beside it, where that needs nobody. New streams go there,
//     and a stream that was being opened is opened there, too: what is open first counts. If the
//     second link has an answer to the same name, the first is given up when it has been silent for
//     11 s, which leaves a resolver time for two repetitions, unless the user has set
//     ServerAliveInterval. So a new stream waits for some 6 s, and a link that only has a slow
//     lookup in its way is lost to keepalive at the earliest.
//   - The name of a port, such as https, is looked up by the caller. All other names are resolved
//     by the last hop, as always.
//   - If no server can be used, the chain is dialed in this process after all.
//
// # ControlMaster
//
// With [MasterAlways], each attempt asks the ControlPath of each host for a live ControlMaster,
// from the last host to the first. The first that answers takes the place of its host and of all
// hosts before it. Later hops are dialed through it as usual. All work is done by the ssh
// program: ssh -W opens connections, ssh runs commands, and ssh -O forward listens. It runs in
// batch mode and asks nothing. If the master ends, the next call notices, and the link is lost.
//
// With [MasterAuto], the hosts are dialed, and the masters are asked only when a login cannot go on
// without a person: before a question, before a security key has to be touched, before
// keyboard-interactive begins, because a push may be behind it, and when the server has refused
// and a person could have helped. The masters are those of the host that is logged in to, and of
// the hosts behind it. If one answers, the login is given up, which counts as no refusal. Sockets
// of other users are left alone. With Config.Refusals, the next login of any process asks the
// masters before it connects, until a login has needed nobody. A login looks for masters once: what
// was asked is answered by the person.
//
// # Where this differs from OpenSSH
//
//   - A changed host key is always refused. ssh goes on with StrictHostKeyChecking no, with
//     passwords and forwards turned off.
//   - Keepalive is on if the user sets nothing. ssh has it off.
//   - On Linux, TCP confirms at once what the first hop sends. sshd has Nagle's algorithm on unless
//     a command runs: a small packet waits until the one before it is confirmed. ssh lets that take
//     up to 40 ms more than the round trip.
//   - ConnectTimeout is 30 s if the user sets nothing, and bounds the login, too. 0 and none mean
//     that there is no bound.
//   - The algorithms that are offered are OpenSSH's default lists, or the user's, as far as
//     x/crypto/ssh implements them. It has no sntrup761 and no group18 for key exchange, no umac
//     and no hmac-sha1-etm, no AES-CBC but aes128-cbc, and no ML-DSA keys: these are named and
//     left out, in files, agents and known_hosts.
//   - Without Ciphers, aes128-gcm comes before chacha20-poly1305, because x/crypto/ssh has no fast
//     code for the latter.
//   - The login never says publickey-hostbound-v00@openssh.com. So a key of ssh-add -h does not
//     serve through an agent that was itself forwarded to this machine.
//   - The agent may take 15 s for its list of keys, and 5 minutes for a signature.
//   - AddKeysToAgent does not add security keys.
//   - GSSAPI, host-based login, PKCS11Provider, BindInterface, RekeyLimit and VerifyHostKeyDNS have
//     no effect.
//
// # Inside
//
// One goroutine, the loop, owns the state of a Tunnel: the link, the calls that wait, the
// listeners, and the time of the next attempt. It runs from New to Close and never blocks. The
// methods of Tunnel and the attempt send it events. The attempt runs in a goroutine of its own.
//
// In the code, hop is an interface with three implementations: an SSH connection of our own, the
// user's ControlMaster, and a shared connection, which stands for the whole chain. A link is a list
// of hops. Outside the implementations, nothing asks which kind a hop is, except that a Server asks
// for a channel without the pipes of a net.Conn.
//
// The first bytes of a server pass through package cleartext, which leaves out the text before its
// version and keeps the proof of the session for the agent.
//
// A link has these goroutines, besides those of x/crypto/ssh:
//
//   - for each hop, one that waits for the end of the hop's connection;
//   - for each hop, one that handles the hop's requests, which package hostkeys needs;
//   - for each hop that is asked for signs of life, one that does so;
//   - one that looks at the clocks and the local address (package netwatch);
//   - two that accept connections for Listeners, from the first Listen on.
//
// A pool spreads the streams of one chain over several connections. It dials another one when one
// has 200 streams, when bulk makes small calls wait, or when one is silent that may be looking up a
// name. It never does if a person may be needed.
//
// A connection has three goroutines: one reads from its channel, one writes to it, and one
// handles its requests. They exist because the channels of x/crypto/ssh have no deadlines.
//
// To end a link, the connection below the first hop is closed. Everything else runs inside it
// and ends with it. No SSH_MSG_DISCONNECT is sent, because writing to a server that is gone
// could block for ever. Closing a link waits for its goroutines.
package sshtunnel
