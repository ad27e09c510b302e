// Package localsock has stream sockets between processes of one user on one machine.
//
// # Unix
//
// A socket is a Unix stream socket of mode 0600, in a directory of mode 0700 that belongs to this
// user. Both ends look at the user of the other end before they send or read a byte: SO_PEERCRED on
// Linux, LOCAL_PEERCRED on macOS, FreeBSD and DragonFly. The other systems cannot tell, so there
// the directory alone protects.
//
// The name of a socket appears only when the socket already listens. A connection that is refused
// therefore means that the process is gone, and its name may be removed ([Gone]). There is one
// exception: macOS and the BSD systems also refuse when the queue of a listener is full. On Linux
// [Dial] waits for room in the queue.
//
// # Windows
//
// A socket is a named pipe, \\.\pipe\sallyport-USER-NAME. USER is a hash of the user's SID, and
// NAME is the last element of the socket's path without ".sock". The access list of the pipe admits
// that SID alone, and the pipe refuses connections from other machines. The client looks at the
// owner of the pipe before it sends or reads a byte: a process of another user could have taken the
// name first, but only an administrator can make a pipe that somebody else owns. The server's end
// needs no such look, because the access list has kept all others out.
//
// At the path itself lies an empty file. It makes the sockets of a directory listed and removed
// alike on all systems. It appears only when the pipe already listens.
//
// A pipe is in message mode. That makes CloseWrite possible, which sends an empty message.
// CloseWrite waits until the other end has read everything before it.
package localsock
