//go:build !unix

package main

import "net"

// asksSockets says that quietSocket cannot tell, so that direct connections are left to net/http, which reads them at rest.
const asksSockets = false

func quietSocket(net.Conn) bool { return false }
