//go:build !linux

package netwatch

import "net"

// LimitUnsent does nothing, because no write of this system waits for that.
func LimitUnsent(*net.TCPConn, int) {}
