// Package share is the shared connection to a bastion, as seen by the command: it finds, starts,
// runs and ends the process that holds it. Package sshtunnel has the connection itself, and
// sshtunnel/mux the protocol. testdata/client.py is another client.
//
// # Who shares
//
// A way is all that decides how a chain of hosts is reached, trusted and signed in at: the resolved
// fields of each hop, the variables that have a part in them, the machine and its network. Its key
// is a hash of that (see way.key). A process of this user with the same key shares the connection,
// whatever the hosts are called there. After an edit of ssh_config the key is another one: new
// streams go through another share, and the old one ends when its streams have ended.
//
// Not shared is a chain with a ProxyCommand that may depend on the working directory. A command at
// a terminal runs a ProxyCommand itself, which may ask there, unless a share is up already. These
// chains are dialed in the process itself, and nobody is warned (mux.ErrAlone). So is any chain for
// which no share can be had, with a warning (mux.ErrUnavailable).
//
// # The agent
//
// The agent of SSH_AUTH_SOCK decides by which keys we sign in, so it is part of the way. Many MCP
// hosts do not pass that variable on to their servers, and a person at a terminal has it. A process
// without the variable has not chosen an agent. It takes the one by which another process of this
// user went the same way last ([Client.Agent]), as long as a connection by that is up, or the agent
// answers. So its key is the same, and it meets the connection that `sallyport login` has opened:
// also one that needed a passphrase, which no agent has. Without such a process it looks for the
// session's agent (package agents). A variable that is set but empty says that there is to be no
// agent. That is a choice, and the way is that of a process that has found none.
//
// # The directory
//
// The directory "shared" lies beside the control sockets: below "sallyport" in XDG_RUNTIME_DIR or,
// without one, below "run" in the state directory. Where neither can be made, or the path is too
// long for a socket, it lies below "sallyport-UID" in the directory of temporary files. It has mode
// 0700, and one that may be somebody else's is not used.
//
//	KEY.lock         is locked (flock) by the process that starts a share; it holds the last number
//	KEY.lock-        is locked by a process that takes that lock away from another one
//	KEY-NUMBER.sock  is the socket of a share, mode 0600
//	KEY.agent        names the agent by which the last process went that way; KEY is without it
//
// KEY has 16 hexadecimal digits. NUMBER is the time of the start in milliseconds, with nine digits
// to the base of 36, and larger than every number before. So the newest socket of a key is the last
// one by name, and no name is ever used again. Whoever finds that nobody listens on a socket may
// therefore remove it at any time.
//
// # Finding and starting
//
// A process tries the sockets of its key, the newest first. It takes the first share that greets it
// within 3 s, takes new streams, and is no older version of this program. It removes a socket that
// nobody listens on. A share that stays silent is left alone: it may be stopped, and come back. If
// there is none, the process takes the lock, looks again, makes the next socket, and starts the
// share with it. It keeps the lock until the share has greeted it. So of any number of processes
// that need a connection at once, one starts a share, and the others find that. Shares of an older
// version are then asked to drain.
//
// Any of these processes may be killed or stopped (SIGSTOP) anywhere, and come back later. Then
// still no two dial:
//
//   - A lock dies with its process. One whose process is stopped is taken away after 5 s, by
//     putting another file in its place. The process that comes back has a smaller number than
//     whoever took the lock away. Windows lets nobody take it away: whoever has waited for 20 s
//     there dials by itself.
//   - A share dials only while a client waits for it, and asks before each attempt whether a newer
//     socket is there. If so, it dials no more: it serves its streams until they have ended.
//
// A proxy does all this before its host has written a line, and again when it dials. A host that
// starts many servers at once may write to them when all have been started.
//
// The time of waiting is counted while this process runs, so that a machine that was asleep does
// not take the others for silent.
//
// # The process
//
// A share is `sallyport share` with the variable SALLYPORT_SHARE_STAGE. The starter runs it twice:
// the first process (detach) starts the second (run) and ends. So a share is nobody's child, has a
// session of its own and no terminal, and outlives its starter. Whoever wants the connection waits
// for both, so neither lays out the grammar of the command line. It gets its socket as descriptor 3
// and everything else as JSON on stdin (see order): its command line holds one word. Its working
// directory is the root. Its environment is what SSH may need of its starter's. If the chain runs
// commands, it is all of that but for the settings of this program. On Windows a
// socket cannot be handed over: the share makes it, and says so on stdout to the starter.
//
// # The end
//
// A share ends when no stream was open for --share-idle (Settings.Idle), also if processes are
// attached; when it is as old as --share-max; when somebody types `sallyport share --stop` or
// `sallyport logout --all`; when a newer version asks it to drain; when a newer share has its
// place; when its socket is gone; and by a signal. By stop and by a signal it ends at once.
// Otherwise it takes no new stream, which its greeting tells, and ends with the last stream that it
// has. `sallyport status` shows which shares there are ([AskAll]), those that drain included.
package share
