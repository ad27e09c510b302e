//go:build unix && !linux

package mux

// noSignal is 0 because not all systems have MSG_NOSIGNAL. Go ignores SIGPIPE for sockets.
const noSignal = 0
