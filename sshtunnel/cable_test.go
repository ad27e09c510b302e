//go:build !windows

package sshtunnel

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sallyport/sshtunnel/sshconfig"
)

// cable carries TCP connections to a server, and can be cut or made a black hole.
type cable struct {
	addr *net.TCPAddr

	mu     sync.Mutex
	target string
	laid   int       // wires so far
	moved  sync.Cond // signals changes of frozen and dead
	wires  map[*wire]struct{}
	black  bool // new wires are frozen from the start
	wg     sync.WaitGroup
}

// wire is one connection with both its sides.
type wire struct {
	c         *cable
	near, far *net.TCPConn
	frozen    bool // under c.mu, as is dead
	dead      bool
}

// startCable lays a cable to host:port.
func startCable(t *testing.T, target string) *cable {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{addr: ln.Addr().(*net.TCPAddr), target: target, wires: map[*wire]struct{}{}}
	c.moved.L = &c.mu
	c.wg.Go(func() { // ends with ln
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.carry(near.(*net.TCPConn)) }) // ends with the connection, at the latest by cut
		}
	})
	t.Cleanup(func() {
		ln.Close()
		c.cut(true)
		c.wg.Wait()
	})
	return c
}

func (c *cable) carry(near *net.TCPConn) {
	c.mu.Lock()
	c.laid++
	target := c.target
	c.mu.Unlock()
	far, err := net.Dial("tcp", target)
	if err != nil {
		near.SetLinger(0)
		near.Close()
		return
	}
	w := &wire{c: c, near: near, far: far.(*net.TCPConn)}
	c.mu.Lock()
	w.frozen = c.black
	c.wires[w] = struct{}{}
	c.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { w.pump(w.far, w.near) })
	both.Go(func() { w.pump(w.near, w.far) })
	both.Wait()
	w.end(false)
	c.mu.Lock()
	delete(c.wires, w)
	c.mu.Unlock()
}

// pump copies in one direction until src or the wire ends. It passes the end of src on.
func (w *wire) pump(dst, src *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		w.c.mu.Lock()
		for w.frozen && !w.dead {
			w.c.moved.Wait()
		}
		w.c.mu.Unlock()
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			dst.CloseWrite()
			return
		}
	}
}

func (w *wire) end(reset bool) {
	w.c.mu.Lock()
	w.dead = true
	w.c.moved.Broadcast()
	w.c.mu.Unlock()
	for _, side := range []*net.TCPConn{w.near, w.far} {
		if reset {
			side.SetLinger(0)
		}
		side.Close()
	}
}

// cut ends all connections, with a reset or in order.
func (c *cable) cut(reset bool) {
	for _, w := range c.all() {
		w.end(reset)
	}
}

// freeze makes the present connections a black hole: both ends stay open, and nothing passes. With
// later set, new connections are frozen too.
func (c *cable) freeze(later bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.black = later
	for w := range c.wires {
		w.frozen = true
	}
}

// thaw lets everything pass again, also what was frozen.
func (c *cable) thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.black = false
	for w := range c.wires {
		w.frozen = false
	}
	c.moved.Broadcast()
}

// lead makes new connections go to another server.
func (c *cable) lead(target string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.target = target
}

// count returns how many connections there have been.
func (c *cable) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.laid
}

func (c *cable) all() []*wire {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*wire
	for w := range c.wires {
		all = append(all, w)
	}
	return all
}

// host returns h as it is reached through the cable. Its key is known there, too.
func (c *cable) host(t *testing.T, h *sshconfig.Host) *sshconfig.Host {
	t.Helper()
	through := *h
	known, err := os.ReadFile(h.UserKnownHostsFiles[0])
	if err != nil {
		t.Fatal(err)
	}
	through.UserKnownHostsFiles = []string{filepath.Join(t.TempDir(), "known_hosts")}
	through.HostName, through.Port = c.addr.IP.String(), c.addr.Port
	writeFile(t, through.UserKnownHostsFiles[0], strings.ReplaceAll(string(known), fmt.Sprintf("]:%d ", h.Port), fmt.Sprintf("]:%d ", c.addr.Port)))
	return &through
}
