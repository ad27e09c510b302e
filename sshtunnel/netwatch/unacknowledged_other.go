//go:build !linux

package netwatch

import "net"

// Unacknowledged returns 0, because this system does not tell.
func Unacknowledged(*net.TCPConn) uint32 { return 0 }
