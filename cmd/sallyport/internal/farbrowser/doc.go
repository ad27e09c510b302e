// Package farbrowser opens a login page that only the far side of an SSH connection reaches.
//
// Whoever is about to open a login page calls [Open]. Open dials the login server from this
// machine, for a few seconds at most. If that works, any browser will do, and nothing else happens.
// If it fails and the far side reaches the server, Open starts a small HTTP proxy on loopback, and
// a browser that uses it.
//
// # The browser
//
// It is a browser that the person has installed, with a profile of ours: the one that BROWSER
// names, if it can do this, else the first one of Chromium's family, else Firefox. The profile lies
// under the state directory (for snap and flatpak below the only directory that they may write),
// has mode 0700 and is kept, so that the person is
// still signed in at the login server the next time. Each key has a profile of its own, because the
// same host name may be another server in another network.
//
// A browser reads its PAC file at its start, and an open one takes links for later starts. So the
// port of the proxy stays the same as long as a window of ours is open: the next login listens
// there and opens a new tab. The browser inherits a socket that is bound to that port, so that no
// other user of this machine can listen there between two logins. (Windows has no such thing: there
// the port is free.) Two logins at once share the port, and each carries connections of both. A
// window that takes no link is asked to close, unless another login uses it: then the login gets a
// second profile. That is so with Firefox.
//
// A browser counts as opened only when it has asked the proxy for the host of the login page, or
// has given the link to a window that did so before.
//
// Where no browser can be started, or the person has named another one, the result holds the
// address of a PAC file for a browser of theirs. That file sends the proxy nothing but the hosts
// that are known to be reached through the far side alone.
//
// # Which connections go where
//
// The PAC file of our profile sends every https URL with a host name to the proxy, because a
// browser reads the file once, before anybody knows where the login leads. The proxy decides for
// each host, when the browser first connects to it: it dials from this machine, and through the far
// side where that fails. From this machine it uses the HTTP proxy that HTTPS_PROXY names, if there
// is one. It remembers the side until the login ends. So the far side learns of no
// host that is reached without it, and a host that was reached from here is never looked for in the
// far network.
//
// A callback on loopback stays there: browsers use no proxy for loopback, and the PAC file says
// DIRECT. It also says DIRECT for the servers of the browser's maker, which browsers ask unbidden,
// and for everything that is not encrypted and not at the login server. After the login the proxy
// is gone, so the window reaches only what is DIRECT.
//
// # A login of another machine
//
// The far side may be a machine whose login is shown here (package callback). Its connections are
// then made by the login itself, in an [Exit] there, which follows the same rules: it dials from
// its machine, and through its own far side where that fails.
//
// # What the proxy refuses
//
//   - A connection of another user of this machine. Linux, macOS and Windows tell whose the other
//     end is. On a system that does not tell, every local user is served, and the log says so.
//   - A host that is this machine: loopback, link-local, an address of an interface, or a name that
//     leads to one of them. The address is looked at when it is dialed.
//   - An address in place of a name, unless it is the login server's own.
//   - What is not encrypted, except to the login server itself. Behind a proxy, a browser cannot
//     notice that a page asks for a private address, of this network or of the far one. A server
//     there that a page has no business with has no certificate for the name that the page uses.
//   - More than 512 hosts in a login. More than 256 connections at once wait.
package farbrowser
