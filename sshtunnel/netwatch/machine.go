// Package netwatch notices what the machine does to connections: it sleeps, it changes its network,
// or its TCP has sent what the peer does not confirm. It also bounds what TCP keeps back, and waits
// without counting the time in which the machine stood still.
package netwatch

import (
	"net"
	"time"
)

// sleepJump is how far the wall clock must run ahead of the monotonic clock to tell of a sleep. The
// monotonic clock stands still while the machine sleeps.
const sleepJump = 5 * time.Second

// Machine is what the operating system tells of the machine. Tests make their own.
type Machine struct {
	// Wall returns the time without a monotonic reading.
	Wall func() time.Time
	// Addrs returns the addresses of the machine's interfaces.
	Addrs func() ([]net.Addr, error)
}

// This returns the machine that the process runs on.
func This() Machine {
	return Machine{Wall: func() time.Time { return time.Now().Round(0) }, Addrs: net.InterfaceAddrs}
}

// Has reports whether an interface has the address. It reports true if the system does not tell.
func (m Machine) Has(ip net.IP) bool {
	addrs, err := m.Addrs()
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

// Clocks is a reading of both clocks. The difference of two readings tells of a sleep.
type Clocks struct {
	// m is whose clocks they are.
	m Machine
	// mono has the monotonic reading, and wall has none.
	mono, wall time.Time
}

// Clocks reads both clocks.
func (m Machine) Clocks() Clocks { return Clocks{m, time.Now(), m.Wall()} }

// Slept returns how long the machine has slept since the last reading, and takes a new one. It is 0
// below 5 s, because the clocks may differ a little, and if somebody has set the wall clock back.
func (c *Clocks) Slept() time.Duration {
	before := *c
	*c = c.m.Clocks() // one reading for this call and the next, so that no sleep falls between
	slept := c.wall.Sub(before.wall) - c.mono.Sub(before.mono)
	if slept < sleepJump {
		return 0
	}
	return slept
}

// Lookout notices what makes it worthwhile to dial again at once: the machine has slept, or it has
// a new address and so perhaps another network.
type Lookout struct {
	// clocks were read at the last look.
	clocks Clocks
	// addrs are the machine's addresses at the last look.
	addrs map[string]bool
}

// Lookout returns a Lookout that has had its first look.
func (m Machine) Lookout() *Lookout {
	o := &Lookout{clocks: m.Clocks(), addrs: map[string]bool{}}
	o.newAddress()
	return o
}

// News reports whether something has happened since the last look, and looks.
func (o *Lookout) News() bool {
	slept, moved := o.clocks.Slept() > 0, o.newAddress()
	return slept || moved
}

func (o *Lookout) newAddress() bool {
	addrs, err := o.clocks.m.Addrs()
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
