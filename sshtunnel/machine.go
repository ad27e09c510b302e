package sshtunnel

import (
	"net"
	"time"
)

// sleepJump is how far the wall clock must run ahead of the monotonic clock to tell of a sleep. The
// monotonic clock stands still while the machine sleeps.
const sleepJump = 5 * time.Second

// machine is what a tunnel asks the operating system about. Tests put their own in.
type machine struct {
	// wall returns the time without a monotonic reading.
	wall func() time.Time
	// addrs returns the addresses of the machine's interfaces.
	addrs func() ([]net.Addr, error)
}

var thisMachine = machine{
	wall:  func() time.Time { return time.Now().Round(0) },
	addrs: net.InterfaceAddrs,
}

// has reports whether an interface has the address. It reports true if the system does not tell.
func (m machine) has(ip net.IP) bool {
	addrs, err := m.addrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}

// clocks is a reading of both clocks. The difference of two readings tells of a sleep.
type clocks struct {
	m          machine
	mono, wall time.Time
}

func (m machine) clocks() clocks { return clocks{m, time.Now(), m.wall()} }

// slept returns how long the machine has slept since the last call. Less than sleepJump means
// nothing: the clocks may differ a little, and somebody may have set the wall clock back.
func (c *clocks) slept() time.Duration {
	before := *c
	*c = c.m.clocks() // one reading for this call and the next, so that no sleep falls between
	return c.wall.Sub(before.wall) - c.mono.Sub(before.mono)
}

// lookout notices what makes it worthwhile to dial again at once: the machine has slept, or it has
// a new address and so perhaps another network.
type lookout struct {
	clocks clocks
	// addrs are the machine's addresses at the last look.
	addrs map[string]bool
}

func (m machine) lookout() *lookout {
	o := &lookout{clocks: m.clocks(), addrs: map[string]bool{}}
	o.newAddress()
	return o
}

// news reports whether something has happened since the last call.
func (o *lookout) news() bool {
	slept, moved := o.clocks.slept() >= sleepJump, o.newAddress()
	return slept || moved
}

func (o *lookout) newAddress() bool {
	addrs, err := o.clocks.m.addrs()
	if err != nil {
		return false
	}
	before, found := o.addrs, false
	o.addrs = map[string]bool{}
	for _, a := range addrs {
		o.addrs[a.String()] = true
		found = found || !before[a.String()]
	}
	return found
}
