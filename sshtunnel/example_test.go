package sshtunnel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"sallyport/sshtunnel"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
)

// A program reaches a server that only a bastion can see.
func Example() {
	server := greeter()
	defer server.Close()
	chain, stop := bastion()
	defer stop()

	tunnel, err := sshtunnel.New(sshtunnel.Config{Chain: chain})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tunnel.Close()
	conn, err := tunnel.DialContext(context.Background(), "tcp", server.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	fmt.Printf("%s, %v\n", text, err)
	state, _ := tunnel.State()
	fmt.Println(state.Phase)
	// Output:
	// hello, <nil>
	// up
}

// A trace tells the steps of a dial.
func ExampleTrace() {
	chain, stop := bastion()
	defer stop()
	tunnel, err := sshtunnel.New(sshtunnel.Config{
		Chain: chain,
		Trace: &sshtunnel.Trace{
			Connected:       func(i sshtunnel.ConnectedInfo) { fmt.Println(i.Hop, "is reached by", i.By) },
			HostKeyAccepted: func(i sshtunnel.HostKeyInfo) { fmt.Println("its key is in line", i.Voucher.Line, "of a file") },
			KeyExchanged:    func(i sshtunnel.KeyExchangeInfo) { fmt.Println("post-quantum:", i.PostQuantum()) },
			AuthTried:       func(i sshtunnel.AuthInfo) { fmt.Println(i.Method, "was", i.Outcome) },
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tunnel.Close()
	if err := tunnel.Connect(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// bastion is reached by tcp
	// its key is in line 1 of a file
	// post-quantum: true
	// none was accepted
}

// bastion starts a server that lets everybody in. It returns the chain of hosts that an ssh_config
// for it gives.
func bastion() (chain func(context.Context) ([]*sshconfig.Host, error), stop func()) {
	s, err := sshtest.Start(sshtest.Config{NoAuth: true, Dial: new(net.Dialer).DialContext})
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	known, file := filepath.Join(dir, "known_hosts"), filepath.Join(dir, "config")
	host, port, _ := net.SplitHostPort(s.Addr())
	config := fmt.Sprintf("Host bastion\n HostName %s\n Port %s\n UserKnownHostsFile %s\n", host, port, known)
	if err := errors.Join(os.WriteFile(known, []byte(s.KnownHosts("")), 0o600), os.WriteFile(file, []byte(config), 0o600)); err != nil {
		panic(err)
	}
	r := &sshconfig.Resolver{UserFile: file}
	chain = func(ctx context.Context) ([]*sshconfig.Host, error) { return r.Chain(ctx, "bastion") }
	return chain, func() {
		s.Close()
		os.RemoveAll(dir)
	}
}

// greeter is a server that says hello.
func greeter() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "hello")
			conn.Close()
		}
	}()
	return ln
}
