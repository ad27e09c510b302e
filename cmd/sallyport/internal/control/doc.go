// Package control is the local interface of a running proxy, and of a `sallyport login` that waits:
// other sallyport processes of the same user ask it for its status, and hand it a callback that a
// person has copied.
//
// # Finding a proxy
//
// Each proxy, and each login in a terminal, listens on a socket of package localsock named
// PID-RANDOM.sock: a Unix stream socket, or a named pipe on Windows. It lies in a directory of mode
// 0700: "sallyport" in XDG_RUNTIME_DIR or, without one, "run" in the state directory. The process
// ID is for people only, because several containers may share the directory. Whoever finds that
// nothing listens on a socket removes its file.
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
//	POST /v1/callback  takes a callback and answers 200 with its outcome, see [Outcome]
//
// Programs from before versions know "GET /status" only, which answers as /v1/status does. After an
// upgrade, programs of both kinds run beside each other, so both sides here still speak it.
//
// A stream lasts until either side closes the connection. Changes that follow each other quickly
// may be delivered as one. A proxy closes the stream of a reader that does not take a line within
// two seconds. It serves at most 16 streams, and answers 503 to another.
//
// The callback of a login is the request that the browser makes to the redirect URI (RFC 6749
// section 4.1.2). Where the browser is on another machine, it reaches nobody, and the person copies
// its URL. The body of the request is a JSON object of at most 64 KiB:
//
//	{"callback":"http://127.0.0.1:53682/callback?code=...&state=..."}
//
// A callback of nothing but a query ("?code=...&state=...") is judged by its state. The answer
// comes when the login is over, or after a minute, and "outcome" says what became of it:
//
//	{"outcome":"signed_in"}
//	{"outcome":"failed","kind":...,"text":...,"hints":[...]}   the words are for people
//	{"outcome":"not_mine"}   no login of this process waits for this callback: nothing has changed
//	{"outcome":"pending"}    the login goes on after the minute
//
// The callback holds the code of the login, which is a secret. It is not logged, and no answer
// repeats it. A proxy takes at most 4 callbacks at a time, and answers 503 to another.
//
// An answer other than 200 is a JSON object too:
//
//	404 {"error":"unknown_version","versions":[1]}   the path names another version
//	404 {"error":"unknown_request"}                  the version has no such request
//	400 {"error":"bad_request"}                      the body is none that is described here
//	503 {"error":"busy"}                             too many streams, or too many callbacks
//
// Within a version, fields and requests may be added; a reader ignores fields that it does not
// know. What changes or removes one raises the version, and a proxy then goes on serving the
// versions that it lists. No answer holds a secret.
package control
