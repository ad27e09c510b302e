//go:build linux

package machines

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The addresses of the two ends that FarApart joins.
const NearIP, FarIP = "10.77.0.1", "10.77.0.2"

// FarApart makes two network namespaces, NearIP and FarIP, with real kernel TCP between them and a
// fixed round trip. A packet has at most mtu bytes: 1500 on the internet, and 9000 for work with
// much to move, where the program in between would be what is measured. Not every kernel has netem,
// so that program joins a pair of TUN devices and holds each packet back.
func FarApart(t testing.TB, roundTrip time.Duration, mtu int) (near, far *Namespace) {
	t.Helper()
	near, far = NewNamespace(t), NewNamespace(t)
	StartRole(t, nil, "delay", delayConfig{A: near.Name, B: far.Name, OneWay: roundTrip / 2})
	for _, end := range []struct {
		ns *Namespace
		ip string
	}{{near, NearIP}, {far, FarIP}} {
		// The kernel's own limit, 4 MiB with all overhead, holds less than two windows of SSH in
		// flight: one connection would carry no more than two streams, whoever sends.
		if err := end.ns.Enter(func() error {
			return os.WriteFile("/proc/sys/net/ipv4/tcp_wmem", []byte("4096 16384 33554432"), 0)
		}); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"addr", "add", end.ip + "/30", "dev", delayDevice},
			// A queue that holds a whole window, for the link is to be long, not lossy.
			{"link", "set", delayDevice, "up", "mtu", strconv.Itoa(mtu), "txqueuelen", "20000"},
		} {
			if out, err := exec.Command("ip", append([]string{"-n", end.ns.Name}, args...)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %q: %v: %s", args, err, out)
			}
		}
	}
	return near, far
}

const delayDevice = "delay0"

type delayConfig struct {
	A, B   string // network namespaces
	OneWay time.Duration
}

func init() { Role("delay", playDelay) }

// playDelay joins two network namespaces until it is ended.
func playDelay(text []byte) error {
	var config delayConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	a, err := openTUN(config.A)
	if err != nil {
		return err
	}
	b, err := openTUN(config.B)
	if err != nil {
		return err
	}
	fmt.Println("joined")
	ended := make(chan error)
	go func() { ended <- carryPackets(a, b, config.OneWay) }()
	go func() { ended <- carryPackets(b, a, config.OneWay) }()
	return <-ended
}

// openTUN makes a TUN device in a namespace and returns its file descriptor. A read or a write is
// one packet (Linux's Documentation/networking/tuntap).
func openTUN(name string) (fd int, err error) {
	err = (&Namespace{Name: name}).Enter(func() error {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR, 0); err != nil {
			return fmt.Errorf("/dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(delayDevice)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(req))); errno != 0 {
			return fmt.Errorf("TUNSETIFF: %w", errno)
		}
		return nil
	})
	return fd, err
}

// carryPackets passes packets on, each a fixed time after it came. A packet for which there is no
// room is lost.
func carryPackets(from, to int, delay time.Duration) error {
	type packet struct {
		due  time.Time
		data []byte
	}
	queue := make(chan packet, 100_000)
	go func() { // ends with the queue
		for p := range queue {
			time.Sleep(time.Until(p.due))
			unix.Write(to, p.data) // a device that is not up yet loses it
		}
	}()
	defer close(queue)
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(from, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		select {
		case queue <- packet{time.Now().Add(delay), append([]byte(nil), buf[:n]...)}:
		default:
		}
	}
}
