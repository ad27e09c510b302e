//go:build !windows

package hostkeys

import (
	"net"
	"testing"

	"golang.org/x/crypto/ssh"
)

// sshEnd is one end of an SSH connection without a tunnel around it.
type sshEnd struct {
	ssh.Conn
	reqs <-chan *ssh.Request
}

// sshPair connects a client and a server of x/crypto.
func sshPair(t *testing.T, hostKeys ...ssh.Signer) (client, server sshEnd) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	config := &ssh.ServerConfig{NoClientAuth: true}
	for _, k := range hostKeys {
		config.AddHostKey(k)
	}
	ready := make(chan error, 1)
	go func() { // ends with the handshake
		conn, err := ln.Accept()
		if err == nil {
			server.Conn, _, server.reqs, err = ssh.NewServerConn(conn, config)
		}
		ready <- err
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	client.Conn, _, client.reqs, err = ssh.NewClientConn(conn, "", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	return client, server
}
