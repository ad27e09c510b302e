// Package callback is the workstation's side of a login whose browser is on another machine than
// the login. It is what `sallyport callback` does. Package helper is the other side, and the
// protocol between the two.
//
// # The desk
//
// A [Desk] serves connections of the protocol of package helper, each of which is one login. For as
// long as the login lasts, it holds the port of the redirect URI on 127.0.0.1 and on [::1]. Several
// logins share a port: a callback belongs to the login whose state it has, and reaches no other. A
// second helper of this machine, which finds the port taken, joins the first through the socket
// that each desk listens on.
//
// # What a HOST can do
//
// HOST may be hostile. All it can do is ask. Its link is opened only if it is an authorization
// request with PKCE whose answer comes back to the port that is held here (see checkLogin), and
// only after the person has said Continue on a page of ours, or did so earlier for the same HOST,
// login server and client. No byte of HOST becomes a page: we show our own, and its words are plain
// text there, without controls, and short. A brake bounds how many pages a HOST can open: one at a
// time, or three that nobody looks at, none for an hour after three that the person refused or left
// alone, and a total. What HOST itself ends is no page left alone, ten times in an hour. A page
// that the brake keeps shut opens by hand, and Continue there loosens it. Nor does HOST learn more
// than a few of the ports that are taken here.
//
// # A login that ends, and begins anew
//
// A proxy on HOST may be killed in mid-login, or its MCP host starts it anew. A login of the same
// HOST, upstream, login server and client takes over the page of one that is away while HOST is
// there, or that was withdrawn (predecessorLocked): what the person reads or has agreed to is the
// same. No browser is started as long as the tab may be there. A callback with the old state leads
// the tab to the new login page. The code in it goes to no login but its own. One Continue is good
// for a few such logins at most. If none comes, the page says that the program has ended.
//
// # Our pages
//
// Our pages have an origin of their own, a random port of 127.0.0.1. The link that starts the
// browser is in the arguments of a program, which other users can read, so it works once and leads
// to a page with another name, which is in no argument. Where the system tells (Linux), no other
// user gets any page. A page has no script and loads nothing, and its form has a token. The
// callback is answered by a redirect to such a page, so that the code does not stay in the address
// bar. The page waits for the outcome of HOST's code exchange. A connection to HOST that breaks in
// between loses nothing: the query is kept until the login expires. It lies in a file of mode 0600
// as well ([Kept]), until HOST has told the outcome and for an hour at most. So the helper may be
// killed: the next one hands the query over, at the same address of our pages if that is free,
// where the browser waits. The file is no way in for others: a code is bound to the verifier that
// HOST has.
//
// # Other tools
//
// A tool that knows nothing of helpers listens on a port of HOST. [Carrier] carries a callback to
// the same port there, if the person asked for it with --port. On a shared host somebody else could
// listen on the port first and be handed an authorization code. So a request is carried only to a
// socket that belongs to the same user, and the owner is checked before and after the connection is
// made. The sshd of HOST makes it, or a sallyport there where sshd forbids that: which of the two
// serves is found out at the start (Host.Connect). If more than one HOST may wait, the person
// chooses, and none gets the callback before. The answer is HOST's own page, so it is put into a
// sandbox: it has no origin, no script and no cookies, and cannot leave a service worker behind.
// Interim answers (1xx) are swallowed. A redirect leads to a port of this machine only if that is
// carried, too: the tool means its own ports of HOST, and a browser would send another program here
// what it keeps for this machine.
package callback
