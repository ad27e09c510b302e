package hostkeys_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
)

// A client of x/crypto that trusts a server exactly when ssh would.
func ExampleVerifier() {
	server, err := sshtest.Start(sshtest.Config{NoAuth: true})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	knownHosts := filepath.Join(dir, "known_hosts")
	address, err := net.ResolveTCPAddr("tcp", server.Addr())
	if err != nil {
		log.Fatal(err)
	}
	host := &sshconfig.Host{
		Alias: "web", HostName: "127.0.0.1", Port: address.Port,
		StrictHostKeyChecking: "yes", UserKnownHostsFiles: []string{knownHosts},
	}

	connect := func() (hostkeys.Voucher, error) {
		ctx := context.Background()
		verifier, err := hostkeys.New(ctx, hostkeys.Config{Host: host})
		if err != nil {
			return hostkeys.Voucher{}, err
		}
		conn, err := net.Dial("tcp", server.Addr())
		if err != nil {
			return hostkeys.Voucher{}, err
		}
		defer conn.Close()
		verifier.DialedDirectly(conn.RemoteAddr())
		var voucher hostkeys.Voucher
		var refused error
		_, _, _, err = ssh.NewClientConn(conn, "", &ssh.ClientConfig{
			HostKeyAlgorithms: verifier.Algorithms(),
			HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
				voucher, refused = verifier.Verify(ctx, key, nil)
				return refused
			},
		})
		return voucher, errors.Join(refused, err)
	}

	_, err = connect()
	if e, ok := errors.AsType[*hostkeys.Error](err); ok {
		fmt.Println("unknown:", e.Unknown)
		fmt.Println("to accept it:", e.Remedy())
	}
	if err := os.WriteFile(knownHosts, []byte(server.KnownHosts("")), 0o600); err != nil {
		log.Fatal(err)
	}
	voucher, err := connect()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("line %d of %s vouches for it\n", voucher.Line, filepath.Base(voucher.File))
	// Output:
	// unknown: true
	// to accept it: ssh web
	// line 1 of known_hosts vouches for it
}
