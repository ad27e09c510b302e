// Package callback carries the browser's answer from a loopback port of this machine, the
// workstation, to the same port of the hosts where proxies run. It is what `sallyport callback`
// does.
//
// On a shared host somebody else could listen on the port first and be handed an authorization
// code. So a request is carried only to a socket that belongs to the same user, and the owner is
// checked before and after the connection is made.
package callback
