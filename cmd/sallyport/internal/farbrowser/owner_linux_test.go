package farbrowser

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"sallyport/oauth/procnet"
)

// TestOwner asks for the owner of a connection in both ways: of one that stands, and of one whose
// end is closed.
func TestOwner(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	client, server := netip.MustParseAddrPort(conn.LocalAddr().String()), netip.MustParseAddrPort(l.Addr().String())
	ask := func() (kernel, table bool) {
		t.Helper()
		uid, ok, err := askKernel(client, server)
		if err != nil {
			t.Logf("this kernel has no sock_diag: %v", err)
			ok = ownsSocket(client, server)
		} else if ok && int(uid) != os.Geteuid() {
			t.Errorf("the kernel says that user %d has our socket", uid)
		}
		text, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		_, table = procnet.Connected(string(text), client, server)
		return ok, table
	}
	if kernel, table := ask(); !kernel || !table {
		t.Errorf("a connection that stands: kernel %t, table %t", kernel, table)
	}
	conn.Close()
	if kernel, table := ask(); kernel || table {
		t.Errorf("a connection whose end is closed: kernel %t, table %t", kernel, table)
	}
	if _, ok, err := askKernel(server, client); ok || err != nil {
		t.Errorf("the other end is taken for the client's: %t, %v", ok, err)
	}
}

func TestDiagAnswers(t *testing.T) {
	for name, b := range map[string][]byte{"nothing": nil, "short": make([]byte, 30), "another type": make([]byte, 200)} {
		if _, ok, err := readDiag(b); ok || err == nil {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
}
