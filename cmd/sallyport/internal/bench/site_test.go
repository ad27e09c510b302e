//go:build linux

package bench_test

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// site is three SSH servers in one network, and clients in another or in the same one.
type site struct {
	// near is where the clients are.
	near *machines.Namespace
	// config is an ssh_config that leads from each hop to the next.
	config string
	// hops are the aliases in it, servers what they lead to.
	hops    []string
	servers []*machines.SSHD
	// loads is the address, as the hops see it, of a service that gives each load what it asks for.
	loads string
	// silent is the address, likewise, of a service that never answers and reports on first when a
	// connection brought its first byte. Only connections of warmUp get an answer: an echo.
	silent string
	first  chan time.Time
	// home is the home directory of the programs that are measured, and where their sockets lie.
	home string
}

// newSite starts the SSH servers and the services behind them. ip is the address of far that near
// can reach, config holds lines of sshd_config(5). The servers are daemons with the limits that
// sshd has by itself. All of it ends with the benchmark.
func newSite(t testing.TB, near, far *machines.Namespace, ip string, config ...string) *site {
	t.Helper()
	s := &site{near: near, home: t.TempDir(), first: make(chan time.Time, 100)}
	var hops []machines.Hop
	for i := range 3 {
		alias := fmt.Sprintf("hop%d", i+1)
		server := machines.StartSSHD(t, machines.SSHDOptions{
			NS: far, Listen: net.JoinHostPort(ip, "0"), Daemon: true, Config: append(slices.Clip(config), "LogLevel ERROR"),
		})
		hops = append(hops, machines.Hop{
			Alias: alias, SSHD: server, Config: []string{"Ciphers aes128-gcm@openssh.com", "IdentityAgent none"},
		})
		s.hops, s.servers = append(s.hops, alias), append(s.servers, server)
	}
	s.config = machines.WriteSSHConfig(t, hops...)

	loads := far.Listen(t, "127.0.0.1:0")
	s.loads = loads.Addr().String()
	go serveLoads(loads) // ends with the listener
	silent := far.Listen(t, "127.0.0.1:0")
	s.silent = silent.Addr().String()
	go s.serveSilent(silent) // ends with the listener
	return s
}

// newSiteAt is newSite with a round trip between the clients and the SSH servers; 0 means loopback.
func newSiteAt(t testing.TB, roundTrip time.Duration) *site {
	t.Helper()
	near, far, ip := apart(t, roundTrip, largePackets)
	return newSite(t, near, far, ip)
}

// The sizes of packets, in bytes. On the internet a fleet's answers share packets of that size.
// Bulk gets large ones, as machines.FarApart says.
const (
	internetPackets = 1500
	largePackets    = 9000
)

// apart makes two networks with a round trip between them, or one for both if that is 0. ip is the
// address of far that near can reach.
func apart(t testing.TB, roundTrip time.Duration, mtu int) (near, far *machines.Namespace, ip string) {
	t.Helper()
	if roundTrip == 0 {
		here := machines.NewNamespace(t)
		return here, here, "127.0.0.1"
	}
	near, far = machines.FarApart(t, roundTrip, mtu)
	return near, far, machines.FarIP
}

func (s *site) serveSilent(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() { // ends with the client
			defer conn.Close()
			var b [1]byte
			_, err := io.ReadFull(conn, b[:])
			switch {
			case err == nil && b[0] == warmByte:
				conn.Write(b[:])
				io.Copy(conn, conn)
				return
			case err == nil:
				s.first <- time.Now()
			}
			io.Copy(io.Discard, conn)
		}()
	}
}

// startSSH is the time from the start of ssh to the first byte that it brings to the service.
func (s *site) startSSH(t testing.TB, hops int) time.Duration {
	cmd := exec.Command("ssh", "-F", s.config, "-W", s.silent, s.hops[hops-1])
	return s.timeStart(t, cmd, "x")
}

// startSallyport is the same of sallyport, which has a host's first request to carry.
func (s *site) startSallyport(t testing.TB, hops int, sharing side) time.Duration {
	cmd := exec.Command(machines.Sallyport(t), append(sharing.flags(t), "-F", s.config, "--via", s.hops[hops-1], "https://"+s.silent+"/mcp")...)
	return s.timeStart(t, cmd, initializeLine)
}

func (s *site) timeStart(t testing.TB, cmd *exec.Cmd, input string) time.Duration {
	t.Helper()
	cmd.Env = append(os.Environ(), "HOME="+s.home, "XDG_CONFIG_HOME="+s.home, "XDG_STATE_HOME="+s.home, "XDG_RUNTIME_DIR="+s.home,
		"SALLYPORT_HEADER=Authorization: Bearer none")
	stdin, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	cmd.Stdin = stdin
	// Written before the start, or a slow writer would count.
	if _, err := io.WriteString(writer, input); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	p := s.startIn(t, cmd)
	stdin.Close()
	defer p.Stop()
	select {
	case at := <-s.first:
		return at.Sub(begin)
	case <-p.Exited:
		t.Fatalf("%q ended: %s", cmd.Args, p.Err)
	case <-time.After(machines.Patience):
		t.Fatalf("%q: nothing came: %s", cmd.Args, p.Err)
	}
	return 0
}

// startMaster starts the ControlMaster of a user, who has logged in to the last of so many hops. It
// returns the path of its socket, and what ends it.
func (s *site) startMaster(t testing.TB, hops int) (socket string, stop func()) {
	t.Helper()
	socket = filepath.Join(machines.OpenDir(t), "master")
	cmd := exec.Command("ssh", "-F", s.config, "-M", "-N", "-S", socket, s.hops[hops-1])
	p := s.startIn(t, cmd)
	machines.Poll(t, func() bool {
		return exec.Command("ssh", "-F", s.config, "-S", socket, "-O", "check", s.hops[hops-1]).Run() == nil
	}, "the ControlMaster to answer")
	return socket, p.Stop
}

// startRiding is startSSH of an ssh that takes the connection of a ControlMaster.
func (s *site) startRiding(t testing.TB, hops int, socket string) time.Duration {
	cmd := exec.Command("ssh", "-F", s.config, "-S", socket, "-W", s.silent, s.hops[hops-1])
	return s.timeStart(t, cmd, "x")
}

// warmByte is what warmUp sends. No greeting of TLS begins with it.
const warmByte = 'w'

// warmUp uses the service silent through the shared connection as other processes of the person
// would: by two streams at once. From then on the shared connection has a spare channel for the
// next one.
func (s *site) warmUp(t testing.TB, hops int) {
	t.Helper()
	sockets, _ := filepath.Glob(s.home + "/sallyport/shared/*.sock")
	if len(sockets) == 0 {
		t.Fatal("there is no shared connection")
	}
	newest := slices.MaxFunc(sockets, func(a, b string) int { return cmp.Compare(modified(t, a), modified(t, b)) })
	p, _ := machines.StartRole(t, s.near, "warm", load{Target: s.silent, Config: s.config, Alias: s.hops[hops-1], Socket: newest})
	p.Stop()
}

// modified is when a file was modified.
func modified(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime().UnixNano()
}

// startIn starts a program where the clients are.
func (s *site) startIn(t testing.TB, cmd *exec.Cmd) (p *machines.Process) {
	t.Helper()
	if err := s.near.Enter(func() error { p = machines.StartProcess(t, cmd); return nil }); err != nil {
		t.Fatal(err)
	}
	return p
}

// startForward starts `ssh -L` that listens on forwardAddr and leads to target, an address as the
// first hop sees it. It waits until ssh listens.
func (s *site) startForward(t testing.TB, target string) *machines.Process {
	t.Helper()
	cmd := exec.Command("ssh", "-F", s.config, "-N", "-L", forwardAddr+":"+target, s.hops[0])
	p := s.startIn(t, cmd)
	deadline := time.Now().Add(machines.Patience)
	for !s.near.Listens(t, forwardPort) {
		if time.Now().After(deadline) {
			t.Fatalf("ssh -L does not listen: %s", p.Err)
		}
		time.Sleep(10 * time.Millisecond) // nothing tells when ssh listens
	}
	return p
}

// forwardAddr is where `ssh -L` listens. Each namespace of the benchmarks has no more than one.
const (
	forwardPort = 20022
	forwardAddr = "127.0.0.1:20022"
)
