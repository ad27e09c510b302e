// Package mux is the protocol between a program and the process that shares an SSH connection with
// it. It holds what both sides need; the server and the client are in package sshtunnel.
//
// The process that shares is the server. It is logged in to the last of a chain of hops, or logs in
// when the first client asks for it. A client is a program that wants to reach something from the
// last hop. All of them belong to one user of one machine.
//
// # Connections
//
// The server listens on a Unix socket, or on a named pipe in Windows. One local connection is one
// stream: a connection to an address that the last hop reaches, a command, and so on. So deadlines,
// the end of one direction and the waiting for a slow reader are what the system makes of them. A
// client opens as many connections as it needs. The server and the client each check that the other
// one is a process of the same user before they send anything (SO_PEERCRED on Linux). Where the
// socket is, how a server is started, and which server fits a chain, is no part of this protocol:
// package share of cmd/sallyport says it for sallyport's own.
//
// A connection begins with lines. A line is one JSON object, in UTF-8, and ends with \n. It has at
// most 65536 bytes with its end. Who gets a longer line closes the connection. Names that a side
// does not know are ignored. A field that is false, 0 or empty may be missing, except hop. Times
// are in the form of RFC 3339.
//
// The server speaks first. Its first line is its greeting (Greeting):
//
//	{"mux":1,"version":"v0.4.0","pid":47,"started":"2025-06-01T09:00:00Z","hops":["bastion"]}
//
// mux is the version of the protocol, here 1. hops are the aliases that the server knows the hops
// by. A client may know them by other names. So every message names a hop by its index in this
// list: 0 is the first. Where hop is missing, no hop is meant. If draining is true, the server
// takes no new stream, and the client looks for another server.
//
// The client answers with one line, its request (Request), within 10 s:
//
//	{"mux":1,"op":"dial","network":"tcp","address":"upstream:443"}
//
// The server then sends lines (Reply), each of which has one member. Most begin with "ok" or
// "error". If the server does not know op, the answer is {"error":{"type":"unknown_op"}}. If it
// does not speak the request's version, it is
// {"error":{"type":"unknown_version","versions":[1]}}. After an error the server closes the
// connection. Greeting, status, drain and stop are the same in all versions.
//
// # attach
//
// A client keeps one attach open as long as it uses the server. Streams are refused while no
// client is attached (type not_attached).
//
//	{"mux":1,"op":"attach","attach":{"pid":815,"purpose":"https://mcp.example",
//	    "hops":["jump","inner"],"terminal":false,"ask":true,"insist":false,"wait":true}}
//
// (This is one line.) purpose and hops, the client's own names of the hops, are for status alone.
// terminal says that a person waits at the client's terminal, ask that the client takes questions,
// and insist that a login is to be tried also if it was refused shortly before. wait says that the
// client waits while the hops are not reached for a reason that may pass. The server then dials
// them again and again, and sends each failure as a state with the phase down and the error. Without
// wait the first failure is the answer. The client leaves by closing the connection, or by ending
// its direction.
//
// If the chain is not up, the server dials it now, or lets the client wait for the attempt that is
// under way. Meanwhile it sends, in any order and number:
//
//	{"state":{"phase":"dialing","hop":0,"notice":{...},"patient":true,"error":{...}}}
//	{"notice":{"hop":0,"text":"Open this link: ...","url":"https://..."}}
//	{"question":{"id":"3","hop":0,"kind":"password","prompt":"alice@bastion's password: "}}
//	{"withdrawn":{"id":"3"}}
//
// A state comes at each change. Its phase is idle, dialing, up, down, needs_person or refused, as
// in package sshtunnel. If patient is true, a person may be at work on the login, so it may take
// minutes. A notice comes once for each text that the person should read; what was said in this
// attempt before the client came is repeated. state.notice is all that was said at this hop. A
// question comes only if the request had ask. Its kind is passphrase, password,
// keyboard-interactive, host-key or add-key, and echo says that the answer may be shown while it is
// typed. The prompt names the answers that are possible, such as yes and no. The client answers by
// one of
//
//	{"answer":{"id":"3","text":"secret"}}
//	{"answer":{"id":"3","error":{"type":"no_person"}}}
//	{"answer":{"id":"3","error":{"text":"cancelled"}}}
//
// no_person means that nobody can be asked here. Another client is then asked. Any other error is
// the answer. Each question is put to one client at a time: those with a terminal first, and then
// in the order in which they came. A question that is withdrawn wants no answer any more.
//
// In the end there is {"up":{"since":"..."}}, or {"error":{...}} and the end of the connection. The
// client may then ask for streams, each on a connection of its own.
//
// At any time, the client may send {"ping":7}. The server answers {"pong":7} at once. A client that
// gets no pong for 2.5 s takes the server for dead.
//
// After up, the server sends
//
//	{"lost":{"error":{...}}}
//	{"draining":{"why":"idle"}}
//
// After lost the server closes the connection. All streams end at about the same time, when what
// has come is read. The client attaches anew if it wants the chain again. draining may also come
// before up.
//
// # draining
//
// After draining the streams live on, but no new one is opened, so the client looks for another
// server. It keeps attach open, and pings, as long as it has a stream here, and closes it then. If
// there is no pong, its streams here have ended. The same holds if a client opens no new stream for
// a reason of its own, such as a chain that has changed, or a server that takes no new connection.
//
// A stream that never ended would keep the server alive, and logged in. So the client ends a stream
// that has carried no byte in either direction for a time. That time is 60 s at first, and is
// shorter the longer the server drains, down to 0 after 10 minutes. If the last bytes have gone to
// the server, an answer may be due: such a stream ends after 10 minutes, and so does a command. The
// client ends streams because it alone knows that it is not just sending. The server ends those that
// are left 30 s later.
//
// # dial
//
//	{"mux":1,"op":"dial","network":"tcp","address":"upstream:443"}
//	{"mux":1,"op":"dial","network":"unix","address":"/run/service.sock"}
//
// The address of tcp is host:port, with an IPv6 address in brackets. The last hop resolves names.
// The answer is {"ok":{}} or {"error":{...}}. ok may come at once, because the server keeps a spare
// connection to a TCP address that is in use. If the chain is lost just then, the answer comes when
// it is up again. The client sends nothing of the stream before it has the answer. Behind the line
// of ok, the connection carries the stream's bytes in both directions. A side that has no more to
// send shuts down this direction (shutdown(2), SHUT_WR; in Windows, an empty message). A client
// that closes the connection before the answer takes its request back.
//
// # listen and accept
//
//	{"mux":1,"op":"listen","network":"tcp","address":"127.0.0.1:0"}
//
// The host is resolved by the hop: an empty one stands for all its addresses. With port 0 the hop
// chooses one. A Unix socket has the network unix and its path, as for dial.
//
// The answer is {"ok":{"port":40001}}, with the port that the hop listens on, which is 0 for a Unix
// socket. The hop listens until the client ends its direction or closes the connection, or the
// chain is lost. In each case the server closes the connection when the hop has been told. For each
// connection that arrives at the hop there is a line:
//
//	{"arrival":{"id":"9","remote":"192.0.2.7:50000"}}
//
// The client takes it over by a new connection, whose answer is ok and then the stream's bytes, as
// for dial:
//
//	{"mux":1,"op":"accept","id":"9"}
//
// The server closes arrivals that nobody takes over within 10 s. At most 16 wait for each listen,
// and more are closed at once.
//
// # exec and wait
//
//	{"mux":1,"op":"exec","command":"uname -a"}
//
// The answer is {"ok":{"id":"5"}}. Bytes from the client are the command's stdin, and those from
// the server its stdout. The command is ended when the client closes the connection. How it ended
// is told on another connection:
//
//	{"mux":1,"op":"wait","id":"5"}
//	{"exit":{"status":1,"signal":"","stderr":"the beginning of stderr"}}
//
// The answer comes when the command has ended, and again for each wait within a minute. status is
// -1 if the hop did not tell.
//
// # status, drain and stop
//
//	{"mux":1,"op":"status"}
//	{"mux":1,"op":"drain","why":"a newer version"}
//	{"mux":1,"op":"stop"}
//
// status is answered by {"status":{...}}, with these members (Status):
//
//	pid version started hops   as in the greeting
//	addresses                  user@host:port of each hop
//	phase since                the phase of attach's states, and when it began
//	state                      more of such a state, where there is more to say
//	connections                SSH connections that are up through the hops
//	streams opened             open now, and all that there were
//	bytes_in bytes_out         from the hops and to them, of all streams
//	rtt                        nanoseconds that the last hop took to answer
//	users attached             who is attached: a list of pid, purpose, hops, since, waiting; and how
//	                           many are, because the list is cut where the line would be too long
//	ends_at idle_ends_at       when the server drains at the latest, and when if nothing is opened
//	idle_since draining        when the last stream ended; whether no new one is taken
//
// drain makes the server take no new stream, and end when the open ones have ended, which takes
// some ten minutes at most. Its member why is for people. stop makes it end now. Both are answered
// by {"ok":{}}.
//
// # Errors
//
// An error (Error) says what the program would have met if it had dialed by itself: its type, its
// words, the index of the hop, further members of the type in fields, and the causes, each of which
// is an error again:
//
//	{"error":{"type":"open","text":"hop bastion could not connect to ...","hop":0,"fields":{...}}}
//
// text alone is enough to show it to a person. The types of the protocol are bad_request,
// unknown_op, unknown_version, not_attached (attach first) and draining (look for another server).
// The comment of Error lists all others.
package mux
