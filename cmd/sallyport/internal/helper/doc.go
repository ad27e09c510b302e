// Package helper brings a login to the browser of another machine, and the callback back.
//
// Two machines take part. HOST is where a proxy or `sallyport login` wants to sign in. The
// workstation is where the person's browser is. A sallyport on the workstation is the helper: it
// holds the port of the redirect URI, opens the login page, and gives the callback's query back to
// the login whose state it has. This package is the protocol between the two, and the side of HOST.
// Package callback is the side of the workstation.
//
// # The way between the two
//
// A login on HOST connects to a Unix socket there (package localsock). Behind the socket is the
// helper: see Carry. One connection carries one login. Whoever accepts a connection knows over
// which HOST it came, so no message says that, with the exception of "from" below.
//
// # How connections come from HOST
//
// Carry tries two ways, and says nothing until one is proven: a connection from the workstation to
// the socket on HOST must come back.
//
//   - By exec. A fixed command looks for a sallyport on HOST, in PATH and where people put one,
//     passes over one that does not run there, and runs `sallyport far-end`. That process owns the
//     socket, and carries its connections over stdin and stdout (yamux). Its first line says what
//     it is; what a login shell prints before that is skipped. It ends with its stdin, or when the
//     workstation answers no ping, and its socket with it.
//   - By a forwarded socket, where HOST runs another command in place of ours, or none. The sshd
//     of HOST makes a socket in /tmp, with a name that nobody can guess and of mode 0600. It
//     leaves the file behind when the connection ends, so each link asks for another name, and a
//     login removes what refuses its connection. StreamLocalBindMask of that sshd may give the
//     socket another mode. A login makes one private that nobody may connect to. It does not use
//     one that others may connect to, and says so: in a connection whose first line is
//     "open-socket", because Carry cannot look at the mode where no command runs. Then Carry gives
//     up that way until the next link.
//
// What HOST refuses is an error with a type, at once. What is lost is looked for again: a Carrier
// outlives links, far ends and a sleep of the workstation.
//
// # The side of HOST
//
// A login (Logins) asks all helpers that are there to hold its port, before it begins. If one does,
// HOST binds no port, and the callback comes by Deliver. It binds the port after all (ListenHere)
// if the person seems to sit at HOST, whose browser opens as well. If none does within some
// seconds, the port is bound on HOST, and helpers that come later are shown the login as well. The
// first may choose the port, all others get the one that is agreed on. If the last helper is gone
// for some seconds, HOST binds the port after all. The first callback with the right state counts;
// the other helpers are told the outcome.
//
// A socket is used only if its file is this user's, nobody else may write to it, and the process
// behind it is this user's too (package localsock). Other processes of the same user are not kept
// out: they could read the tokens as well.
//
// # A port of HOST
//
// Some sshds run commands and forward no TCP. There DialPort runs `sallyport far-end --dial=PORT`,
// which connects its stdin and stdout to that port of 127.0.0.1. The callbacks of other tools need
// that. Whose the port is, is up to the caller.
//
// # The workstation dialed from HOST
//
// With --callback-via, HOST dials the workstation, and runs `sallyport far-end --join` there. Its
// stdin and stdout are one connection of the protocol. It joins the helper that runs on the
// workstation, or is one itself as long as the login lasts. The login travels in messages only:
// nothing of it stands in the command.
//
// # The protocol, version 1
//
// Each message is a JSON object on a line of its own, of at most 64 KiB. A reader ignores members
// and types that it does not know. The first line of each side is a hello; a side that does not
// speak the version of the other closes the connection.
//
//	L  {"type":"hello","version":1}
//	H  {"type":"hello","version":1}
//
// L is the login, and H is the helper. The login then asks for a port:
//
//	L  {"type":"hold","login":ID,"upstream":URL,"redirect_uri":URI,"fixed":BOOL,
//	    "more":BOOL,"from":HOST,"dials":BOOL}
//	H  {"type":"held","redirect_uri":URI,"host":HOST}
//
// ID is a random name of the login, which nobody else knows. The redirect URI is the one that the
// login would like. If fixed is false, the helper may answer with another port, because the wanted
// one is taken. The helper holds the port on 127.0.0.1 and [::1] until the login ends. The host of
// its answer is HOST as the person typed it on the workstation. The member from is for a helper
// that hands a login on to another helper of the same workstation: it names the HOST from which the
// login came, and counts only if the connection is one within the workstation. If the port cannot
// be held:
//
//	H  {"type":"error","kind":"port_busy","text":TEXT}
//
// The login then connects anew and asks for the next port of its list, if it has one. Its hold has
// "more":true as long as another port follows, so that the helper can tell the person.
//
// Next comes the login page:
//
//	L  {"type":"login","authorize_url":URL,"redirect_uri":URI,"issuer":URL,"expires":TIME}
//	H  {"type":"shown","how":"confirm"}
//
// The issuer is empty if the login server was configured by its endpoints. How says what the person
// sees: "confirm" is our page that asks whether to go on, "opened" is the login page, "waiting"
// says that the page of another login is open first, and "nowhere" says that no browser could be
// started. If only the far side reaches the login server, and no browser that goes there could be
// opened, it is "by_hand"; if no way to it is known, "unreached". The helper says it again when it
// changes. It refuses a login with an error, whose kind is "refused" (the person said no),
// "too_many" (the brake on pages holds) or "invalid" (the link is none that may be opened; the text
// says why). After "refused" and "invalid" the login does not ask this helper again.
//
// The link of a pushed authorization request (RFC 9126) lasts a minute or so. The helper asks for a
// new one when the person is ready, and gets it in a message like the first:
//
//	H  {"type":"relink"}
//	L  {"type":"login", ...}
//
// A login whose hold says "dials" makes connections for the browser of the helper, because it may
// reach the login server in a way that no other program of HOST has: through its own --via. It
// connects only as long as its login page is shown, by the rules of package farbrowser. It offers a
// way out and no more: the helper decides which hosts use it. The bytes of these connections are
// those of a yamux session in which the helper opens the streams. They travel in messages of both
// sides, in base64, so that they pass wherever the login does:
//
//	L, H  {"type":"bytes","bytes":BASE64}
//
// Each stream begins with a line of the helper, and one of the login:
//
//	H  {"addr":"HOST:PORT"}
//	L  {"ok":BOOL,"text":TEXT}
//
// At last the browser comes back:
//
//	H  {"type":"callback","query":QUERY}
//	L  {"type":"outcome","ok":BOOL,"text":TEXT}
//	L  {"type":"end"}
//	H  {"type":"end"}
//
// The query is that of the callback, as the browser sent it. The outcome is that of the code
// exchange; its text, for people, says why it failed. The login sends end when it needs the helper
// no more, for any reason. The helper answers with end if it was told the outcome. An end without
// an outcome before it means that nothing came of the login here.
//
// A connection that breaks without an end loses nothing. The helper keeps the port, the page and
// the query until the login expires, and the query in a file, too. The login connects anew and says
// hold and login again, with the same ID. The helper goes on where it was, and sends a query again
// that has had no outcome. The login takes a repeated query for the same one, because the state is
// the same. An outcome that had no answer is told again on the next connection, to whichever helper
// that is: the helper may have been killed, and another process of the workstation has what it
// kept.
package helper
