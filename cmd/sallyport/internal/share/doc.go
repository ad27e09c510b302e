// Package share is the shared connection to a bastion, as seen by the command: it finds, starts,
// runs and ends the process that holds it. Package sshtunnel has the connection itself, and
// sshtunnel/mux the protocol.
//
// # Who shares
//
// A way is all that decides how a chain of hosts is reached, trusted and signed in at: the resolved
// fields of each hop, the variables that have a part in them, the machine and its network. Its key
// is a hash of that. A process of this user with the same key shares the connection, whatever the
// hosts are called there. After an edit of ssh_config the key is another one.
//
// # The directory
//
// The directory "shared" lies beside the control sockets: below "sallyport" in XDG_RUNTIME_DIR or,
// without one, below "run" in the state directory. Where neither can be made, or the path is too
// long for a socket, it lies below "sallyport-UID" in the directory of temporary files. It has mode
// 0700, and one that may be somebody else's is not used.
//
//	KEY.lock         is locked (flock) by the process that starts a share; it holds the last number
//	KEY-NUMBER.sock  is the socket of a share, mode 0600
//
// The number is the time of the start in nanoseconds, in hexadecimal digits, and larger than every
// number before. So the newest socket of a key is the last one by name, and no name is ever used
// again. Whoever finds that nobody listens on a socket may therefore remove it at any time.
//
// # Finding and starting
//
// A process tries the sockets of its key, the newest first. It takes the first share that greets it
// within 3 s and takes new streams. A share that stays silent is left alone: it may be stopped, and
// come back. If there is none, the process takes the lock, looks again, makes the next socket, and
// starts the share with it. It keeps the lock until the share has greeted it. So of any number of
// processes that need a connection at once, one starts a share, and the others find that.
//
// Any of these processes may be killed or stopped (SIGSTOP) anywhere, and come back later. Then
// still no two dial:
//
//   - A lock dies with its process. One whose process is stopped is taken away after 5 s, by
//     removing its file. The process that comes back has a smaller number than whoever took the
//     lock away.
//   - A share dials only while a client waits for it, and asks before each attempt whether a newer
//     socket is there. If so, it dials no more: it serves its streams until they have ended.
//
// The time of waiting is counted while this process runs, so that a machine that was asleep does
// not take the others for silent.
//
// # The process
//
// A share is nobody's child and has no terminal, so that it outlives its starter. It gets its
// socket as descriptor 3 and everything else as JSON on stdin: its command line holds one word. It
// ends when it was unused for some time, when it is too old, when it is told to, when a newer one
// has its place, and when its socket is gone. In each case it first gives up its name, takes no new
// stream, and lets those that it has come to their end.
package share
