// Package control is the local interface of a running proxy: other sallyport processes of the same
// user ask it for its status.
//
// # Finding a proxy
//
// Each proxy listens on a socket of package localsock named PID-RANDOM.sock: a Unix stream socket,
// or a named pipe on Windows. It lies in a directory of mode 0700: "sallyport" in XDG_RUNTIME_DIR
// or, without one, "run" in the state directory. The process ID is for people only, because several
// containers may share the directory. Whoever finds that nothing listens on a socket removes its
// file.
//
// A directory with another owner, or one that is open to others, is not used. Both ends look at the
// user of the other end before they send or read a byte. If it is not their own, they close the
// connection.
//
// # Wire format, version 1
//
// The socket speaks HTTP/1.1. The first element of a request's path names the version of this
// interface.
//
//	GET /v1/status   answers 200 with one JSON object, see [Status]
//	GET /v1/watch    answers 200 with a stream of such objects, one on a line (application/x-ndjson):
//	                 the present status at once, then the new status after each change
//
// Programs from before versions know "GET /status" only, which answers as /v1/status does. After an
// upgrade, programs of both kinds run beside each other, so both sides here still speak it.
//
// A stream lasts until either side closes the connection. Changes that follow each other quickly
// may be delivered as one. A proxy closes the stream of a reader that does not take a line within
// two seconds. It serves at most 16 streams, and answers 503 to another.
//
// An answer other than 200 is a JSON object too:
//
//	404 {"error":"unknown_version","versions":[1]}   the path names another version
//	404 {"error":"unknown_request"}                  the version has no such request
//	503 {"error":"busy"}                             too many streams
//
// Within a version, fields and requests may be added; a reader ignores fields that it does not
// know. What changes or removes one raises the version, and a proxy then goes on serving the
// versions that it lists. No answer holds a secret.
package control
