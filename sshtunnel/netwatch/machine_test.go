package netwatch

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// testMachine is a machine whose wall clock and addresses are set by hand.
type testMachine struct {
	ahead time.Duration // of the wall clock
	addrs []net.Addr
	err   error
}

func (m *testMachine) machine() Machine {
	return Machine{
		Wall:  func() time.Time { return time.Now().Round(0).Add(m.ahead) },
		Addrs: func() ([]net.Addr, error) { return m.addrs, m.err },
	}
}

func address(last byte) net.Addr {
	return &net.IPNet{IP: net.IPv4(192, 0, 2, last), Mask: net.CIDRMask(24, 32)}
}

// A sleep is told once. A small step of the wall clock, or one back, is none.
func TestSlept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &testMachine{}
		clocks := m.machine().Clocks()
		for _, tt := range []struct{ step, want time.Duration }{
			{0, 0}, {time.Hour, time.Hour}, {0, 0}, {sleepJump - 1, 0}, {sleepJump, sleepJump}, {-time.Hour, 0}, {0, 0},
		} {
			time.Sleep(time.Minute)
			m.ahead += tt.step
			if got := clocks.Slept(); got != tt.want {
				t.Errorf("the wall clock went %v ahead: slept %v, want %v", tt.step, got, tt.want)
			}
		}
	})
}

// A sleep and a new address are news, once. A lost address is not, nor is a system that tells
// nothing for a while.
func TestNews(t *testing.T) {
	t.Parallel()
	m := &testMachine{addrs: []net.Addr{address(1)}}
	lookout := m.machine().Lookout()
	for _, tt := range []struct {
		name string
		do   func()
		want bool
	}{
		{"nothing", func() {}, false},
		{"a sleep", func() { m.ahead += time.Hour }, true},
		{"nothing after a sleep", func() {}, false},
		{"another address", func() { m.addrs = []net.Addr{address(1), address(2)} }, true},
		{"nothing after an address", func() {}, false},
		{"an address is gone", func() { m.addrs = m.addrs[:1] }, false},
		{"the system does not tell", func() { m.err = errors.New("no") }, false},
		{"it tells again", func() { m.err = nil }, false},
		{"the address is back", func() { m.addrs = m.addrs[:2] }, true},
	} {
		tt.do()
		if got := lookout.News(); got != tt.want {
			t.Errorf("%s: news %v", tt.name, got)
		}
	}
}

func TestHas(t *testing.T) {
	t.Parallel()
	m := &testMachine{addrs: []net.Addr{address(1)}}
	if !m.machine().Has(net.IPv4(192, 0, 2, 1)) || m.machine().Has(net.IPv4(192, 0, 2, 2)) {
		t.Error("not the addresses of the machine")
	}
	m.err = errors.New("no")
	if !m.machine().Has(net.IPv4(192, 0, 2, 2)) {
		t.Error("an address is missing although the system does not tell")
	}
}

// The real machine has the loopback address, and has not slept during the test.
func TestThis(t *testing.T) {
	t.Parallel()
	clocks := This().Clocks()
	if !This().Has(net.IPv4(127, 0, 0, 1)) || clocks.Slept() != 0 {
		t.Error("not this machine")
	}
}
