//go:build !linux

package netwatch

import "net"

// AckAtOnce returns conn, because this system has no such option.
func AckAtOnce(conn net.Conn) net.Conn { return conn }
