package netwatch

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What has come is confirmed before the next wait. Before anything has come, and after an end,
// nothing is.
func TestAckAtOnce(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	conn := AckAtOnce(near)
	read := func(wants error) {
		t.Helper()
		if n, err := conn.Read(make([]byte, 8)); !errors.Is(err, wants) || n != 0 && err != nil {
			t.Fatalf("%d bytes, %v, want %v", n, err, wants)
		}
	}
	// The kernel's own mode, in which it confirms late.
	confirmsLate := func(set bool) (late bool) {
		t.Helper()
		raw, err := near.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if set {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
			}
			var quick int
			if err == nil {
				quick, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK)
			}
			late = quick == 0
		})
		if err != nil {
			t.Fatal(err)
		}
		return late
	}
	waitShortly := func() {
		conn.SetReadDeadline(time.Unix(1, 0))
		read(os.ErrDeadlineExceeded)
		conn.SetReadDeadline(time.Time{})
	}

	confirmsLate(true)
	if waitShortly(); !confirmsLate(false) {
		t.Error("nothing has come, and the mode has changed")
	}
	for range 3 {
		far.Write([]byte("x"))
		read(nil)
		confirmsLate(true)
		if waitShortly(); confirmsLate(false) {
			t.Error("what has come is confirmed late")
		}
		confirmsLate(true)
		if waitShortly(); !confirmsLate(false) {
			t.Error("it was confirmed twice")
		}
	}
	if pipe, _ := net.Pipe(); AckAtOnce(pipe) != pipe {
		t.Error("a connection that is no TCP was wrapped")
	}
}
