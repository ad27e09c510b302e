//go:build linux

package machines

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

func init() { Role("borrower", playBorrower) }

type borrowerConfig struct{ Addr, Socket string }

// Borrow makes an address on the loopback of the tests' machine, host:port, reachable at the same address
// inside the namespace: a server that both see, as two real machines see the internet. What crosses goes
// through a Unix socket, which no network namespace confines.
func (ns *Namespace) Borrow(t testing.TB, addr string) {
	t.Helper()
	socket := filepath.Join(OpenDir(t), "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { carry(listener, "tcp", addr) })
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	StartRole(t, ns, "borrower", borrowerConfig{Addr: addr, Socket: socket})
}

// playBorrower listens on an address and carries what comes to a Unix socket.
func playBorrower(text []byte) error {
	var config borrowerConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", config.Addr)
	if err != nil {
		return err
	}
	fmt.Println("lent", config.Addr)
	carry(listener, "unix", config.Socket)
	return nil
}

// carry connects each connection that listener accepts to addr, until listener is closed. Then it cuts
// them.
func carry(listener net.Listener, network, addr string) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer near.Close()
			far, err := net.Dial(network, addr)
			if err != nil {
				return // as if the connection was refused
			}
			defer far.Close()
			join(ctx, near, far)
		})
	}
}

// join copies both ways until both ends have ended, or ctx.
func join(ctx context.Context, near, far net.Conn) {
	ended := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() { // ends when its reader does, at the latest when the caller closes both
			io.Copy(pair[0], pair[1])
			pair[0].(interface{ CloseWrite() error }).CloseWrite()
			ended <- struct{}{}
		}()
	}
	for range 2 {
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}
