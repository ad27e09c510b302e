//go:build linux

package bench_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshconfig"
)

// idleTunnels is how many tunnels the figures for one are taken from.
const idleTunnels = 20

func init() {
	machines.Role("load", playLoad)
	machines.Role("idle", playIdle)
	machines.Role("warm", playWarm)
}

// playLoad carries a load and prints how long it took, without the dialing: one time for each way.
func playLoad(text []byte) error {
	var l load
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	times, err := l.run()
	fmt.Println(strings.Trim(fmt.Sprint(times), "[]"))
	return err
}

func (l load) run() ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*machines.Patience)
	defer cancel()
	var conns []net.Conn
	if l.Forward != "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.Forward)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	var sockets []string
	if l.Config != "" {
		sockets = append(sockets, "")
	}
	if l.Socket != "" {
		sockets = append(sockets, l.Socket)
	}
	for _, socket := range sockets {
		tunnel, err := newTunnel(l.Config, l.Alias, socket)
		if err != nil {
			return nil, err
		}
		defer tunnel.Close()
		for range cmp.Or(l.Streams, 1) {
			conn, err := tunnel.DialContext(ctx, "tcp", l.Target)
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			conns = append(conns, conn)
		}
	}
	if l.Forward != "" && l.Config != "" {
		return l.byTurns(conns)
	}
	return l.atOnce(conns)
}

// playWarm makes two connections by one tunnel, has an echo of each in turn, and prints a line when
// the process that shares the connection has had time to make use of that.
func playWarm(text []byte) error {
	var l load
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), machines.Patience)
	defer cancel()
	tunnel, err := newTunnel(l.Config, l.Alias, l.Socket)
	if err != nil {
		return err
	}
	defer tunnel.Close()
	var conns []net.Conn
	for range 2 {
		conn, err := tunnel.DialContext(ctx, "tcp", l.Target)
		if err != nil {
			return err
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	const exchanges = 4
	for range exchanges {
		for _, conn := range conns {
			b := []byte{warmByte}
			if _, err := conn.Write(b); err != nil {
				return err
			}
			if _, err := io.ReadFull(conn, b); err != nil {
				return err
			}
		}
	}
	time.Sleep(time.Second) // nothing tells when the spare channel is there
	fmt.Println("warm")
	return nil
}

// newTunnel makes a tunnel as the command makes it. With a socket it goes through the shared
// connection of the process that listens there, and never alone.
func newTunnel(config, alias, socket string) (*sshtunnel.Tunnel, error) {
	resolver := &sshconfig.Resolver{UserFile: config, UserFileRequired: true, Getenv: os.Getenv}
	c := sshtunnel.Config{
		Chain:  func(ctx context.Context) ([]*sshconfig.Host, error) { return resolver.Chain(ctx, alias) },
		Getenv: os.Getenv,
	}
	if socket != "" {
		dial := func(ctx context.Context) (net.Conn, error) { return localsock.Dial(ctx, socket) }
		way := mux.Way{Key: socket, Find: func(context.Context) (mux.Dialer, error) { return dial, nil }}
		c.Shared = func(context.Context, []*sshconfig.Host) (mux.Way, error) { return way, nil }
	}
	return sshtunnel.New(c)
}

// atOnce carries the load over all connections at the same time.
func (l load) atOnce(conns []net.Conn) ([]time.Duration, error) {
	errs := make(chan error, len(conns))
	begin := time.Now()
	for _, conn := range conns {
		go func() { errs <- bulk(conn, l.Op, l.Count/int64(len(conns))) }()
	}
	for range conns {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	return []time.Duration{time.Since(begin)}, nil
}

// byTurns carries the load over each connection, a part at a time in turns. It returns how long an
// echo took, or all bytes would have taken, by the median of the parts.
func (l load) byTurns(conns []net.Conn) ([]time.Duration, error) {
	const turns = 32
	times := make([][]time.Duration, len(conns))
	for range turns {
		for i, conn := range conns {
			if l.Op == opEcho {
				took, err := echoes(conn, max(l.Count/turns, 1))
				if err != nil {
					return nil, err
				}
				times[i] = append(times[i], took...)
				continue
			}
			begin := time.Now()
			if err := bulk(conn, l.Op, l.Count/turns); err != nil {
				return nil, err
			}
			times[i] = append(times[i], time.Since(begin)*turns)
		}
	}
	medians := make([]time.Duration, len(conns))
	for i := range conns {
		medians[i] = median(times[i])
	}
	return medians, nil
}

// playIdle prints the memory in KiB, heap and stacks, and the goroutines of one idle tunnel.
func playIdle(text []byte) error {
	var l load
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), machines.Patience)
	defer cancel()
	var before float64
	var goroutines int
	for i := range idleTunnels + 1 { // the first one pays for what all share
		if i == 1 {
			before, goroutines = memoryInUse(), runtime.NumGoroutine()
		}
		tunnel, err := newTunnel(l.Config, l.Alias, "")
		if err != nil {
			return err
		}
		defer tunnel.Close()
		if err := tunnel.Connect(ctx); err != nil {
			return err
		}
	}
	fmt.Println((memoryInUse()-before)/1024/idleTunnels, float64(runtime.NumGoroutine()-goroutines)/idleTunnels)
	return nil
}

// memoryInUse is that of the heap and of the stacks, in bytes.
func memoryInUse() float64 {
	runtime.GC()
	runtime.GC() // sync.Pool gives up its content at the second one
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc + stats.StackInuse)
}
