package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
)

const (
	nearIP, nearIP2, farIP = "10.77.0.1", "10.77.0.3", "10.77.0.2"
	// swallowed is routed to the far namespace, which drops what is for others.
	swallowed4, swallowed6 = "10.78.0.1", "fd77:1::1"
	farEnv                 = "SALLYPORT_TEST_FAR" // the far namespace, in the process within the near one
)

// Some faults need a kernel between the two ends: the cable is unplugged, swallows packets, or
// changes its address. The cable joins two network namespaces. The test runs itself once more
// inside the near one, where it finds farEnv set.
func TestNetworkFaults(t *testing.T) {
	if far := os.Getenv(farEnv); far != "" {
		testNetworkFaults(t, far)
		return
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, for network namespaces")
		}
		t.Skip("needs root, for network namespaces")
	}
	openssh.Tool(t, "ip")
	t.Parallel() // it waits most of the time; what it measures is in the other process
	near, far := fmt.Sprintf("sallyport-near-%d", os.Getpid()), fmt.Sprintf("sallyport-far-%d", os.Getpid())
	for _, ns := range []string{near, far} {
		openssh.Run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() {
			// sshd's sessions outlive it, in process groups of their own.
			pids, _ := exec.Command("ip", "netns", "pids", ns).Output()
			for word := range strings.FieldsSeq(string(pids)) {
				if pid, err := strconv.Atoi(word); err == nil {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			exec.Command("ip", "netns", "delete", ns).Run()
		})
	}
	// ip-netns(8): `ip netns exec` mounts this over /etc/hosts.
	etc := filepath.Join("/etc/netns", near)
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(etc) })
	hosts := "127.0.0.1 localhost\n" + swallowed6 + " many\n" + swallowed4 + " many\n" + farIP + " many\n"
	if err := os.WriteFile(filepath.Join(etc, "hosts"), []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"-n " + near + " link add cable type veth peer name cable netns " + far,
		"-n " + near + " addr add " + nearIP + "/24 dev cable",
		"-n " + near + " addr add fd77::1/64 dev cable nodad",
		"-n " + far + " addr add " + farIP + "/24 dev cable",
		"-n " + far + " addr add fd77::2/64 dev cable nodad",
		"-n " + near + " addr add fe80::1/64 dev cable nodad",
		"-n " + far + " addr add fe80::2/64 dev cable nodad",
		"-n " + near + " link set lo up",
		"-n " + far + " link set lo up",
		"-n " + near + " link set cable up",
		"-n " + far + " link set cable up",
		"-n " + near + " route add " + swallowed4 + "/32 via " + farIP,
		"-n " + near + " route add " + swallowed6 + "/128 via fd77::2",
	} {
		openssh.Run(t, "ip", strings.Fields(line)...)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", near, self, "-test.v", "-test.run", "^TestNetworkFaults$")
	cmd.Env = append(os.Environ(), farEnv+"="+far)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

func testNetworkFaults(t *testing.T, far string) {
	ip := func(args ...string) { openssh.Run(t, "ip", args...) }
	dir := t.TempDir()
	key := filepath.Join(dir, "id")
	pub := openssh.WriteKey(t, key, "").PublicKey()
	hostKey := openssh.WriteKey(t, filepath.Join(dir, "host_key"), "").PublicKey()
	writeFile(t, filepath.Join(dir, "authorized_keys"), string(ssh.MarshalAuthorizedKey(pub)))
	writeFile(t, filepath.Join(dir, "sshd_config"), "PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n"+
		"AuthorizedKeysFile "+filepath.Join(dir, "authorized_keys")+"\nHostKey "+filepath.Join(dir, "host_key")+"\n")
	// A namespace of its own: port 22 is free.
	sshd := exec.Command("ip", "netns", "exec", far, openssh.Tool(t, "sshd"), "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	sshd.Stderr = t.Output()
	sshd.WaitDelay = time.Second
	if err := sshd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sshd.Process.Kill()
		sshd.Wait()
	})
	openssh.Eventually(t, "sshd listens", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort(farIP, "22"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	newHost := func(t *testing.T) *sshconfig.Host {
		h := openssh.NewHost(t, "bastion", net.JoinHostPort(farIP, "22"))
		h.User, h.IdentityFiles, h.IdentityFilesSet = "root", []string{key}, true
		h.HostKeyAlias = "bastion"
		writeFile(t, h.UserKnownHostsFiles[0], "bastion "+string(ssh.MarshalAuthorizedKey(hostKey)))
		// A busy machine may take a second for an answer, and the link must not be lost by that.
		h.ServerAliveSet, h.ServerAliveInterval, h.ServerAliveCountMax = true, 500*time.Millisecond, 3
		h.ConnectTimeout = 3 * time.Second
		return h
	}
	// A link-local address reaches nothing without its zone, and known_hosts has it, too. The
	// second hop is the same machine.
	t.Run("zone", func(t *testing.T) {
		zoned := newHost(t)
		zoned.HostName, zoned.HostKeyAlias, zoned.CheckHostIP = "fe80::2%cable", "", true
		writeFile(t, zoned.UserKnownHostsFiles[0], zoned.HostName+" "+string(ssh.MarshalAuthorizedKey(hostKey)))
		second := newHost(t)
		second.HostName = zoned.HostName
		noLeak(t, func() {
			tun := newTunnel(t, nil, zoned, second)
			if err := tun.Connect(t.Context()); err != nil {
				t.Error(err)
			}
			tun.Close()
		})
	})
	// Something to reach: the banner of sshd itself.
	greet := func(t *testing.T, tun *Tunnel) net.Conn {
		t.Helper()
		conn := mustDial(t, tun, "127.0.0.1:22")
		got := make([]byte, 4)
		if _, err := conn.Read(got); err != nil || string(got) != "SSH-" {
			t.Fatalf("got %q, %v", got, err)
		}
		return conn
	}

	for _, tt := range []struct {
		name      string
		cut, mend string // arguments of ip
		ours      bool   // keepalive is ours, too slow to be what notices
		want      string // in the error of the link
	}{
		{"unplugged", "-n " + far + " link set cable down", "-n " + far + " link set cable up", false, "no sign of life"},
		{"our end down", "link set cable down", "link set cable up", false, "no sign of life"},
		{"black hole", "-n " + far + " route add blackhole " + nearIP + "/32", "-n " + far + " route del blackhole " + nearIP + "/32", false, "no sign of life"},
		{"address changed", "addr del " + nearIP + "/24 dev cable", "addr add " + nearIP2 + "/24 dev cable", true, "after the local address " + nearIP + " was lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			if tt.ours {
				h.ServerAliveSet = false
			}
			noLeak(t, func() {
				tun := newTunnel(t, nil, h)
				conn := greet(t, tun)
				ip(strings.Fields(tt.cut)...)
				lost := linkOf(tun)
				for {
					if _, err := conn.Read(make([]byte, 100)); err != nil {
						break
					}
				}
				<-lost.life.Done()
				if context.Cause(lost.life) == nil || !strings.Contains(context.Cause(lost.life).Error(), tt.want) {
					t.Errorf("link lost: %v, want %q", context.Cause(lost.life), tt.want)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if _, err := tun.DialContext(ctx, "tcp", "127.0.0.1:22"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("while it is cut: %v", err)
				}
				ip(strings.Fields(tt.mend)...)
				greet(t, tun)
				tun.Close()
			})
		})
	}

	// What a user gets who sets nothing. It takes a minute in real time, so the clock of keepalive
	// runs thirty times as fast unless SALLYPORT_SOAK is set.
	t.Run("long black hole", func(t *testing.T) {
		h := newHost(t)
		h.ServerAliveSet, h.ConnectTimeout = false, 0
		interval := defaultAliveInterval
		if os.Getenv("SALLYPORT_SOAK") == "" {
			interval /= 30
		}
		noLeak(t, func() {
			chain := func(context.Context) ([]*sshconfig.Host, error) { return []*sshconfig.Host{h}, nil }
			tun := tunnelOf(t, Config{Chain: chain, settings: settings{aliveInterval: interval}})
			conn := greet(t, tun)
			began, hole := time.Now(), time.After(4*interval)
			ip("-n", far, "route", "add", "blackhole", nearIP2+"/32") // ours since the address changed
			lost := linkOf(tun)
			<-lost.life.Done()
			t.Logf("found after %v: %v", time.Since(began), context.Cause(lost.life))
			if hop, ok := errors.AsType[*HopError](context.Cause(lost.life)); !ok || hop.Stage != StageLink || !strings.Contains(context.Cause(lost.life).Error(), "no sign of life") {
				t.Errorf("link lost: %v", context.Cause(lost.life))
			}
			io.Copy(io.Discard, conn) // ends with the link
			waiting := make(chan struct{})
			go func() { // ends when the call does
				defer close(waiting)
				if _, err := tun.DialContext(t.Context(), "tcp", "127.0.0.1:22"); err != nil {
					t.Errorf("a call that waited: %v", err)
				}
			}()
			<-hole
			ip("-n", far, "route", "del", "blackhole", nearIP2+"/32")
			<-waiting
			t.Logf("back after %v", time.Since(began))
			greet(t, tun)
			tun.Close()
		})
	})

	// A slow cable whose queue holds seconds of an upload or a download. An answer waits that long.
	t.Run("slow and full", func(t *testing.T) {
		h := newHost(t)
		h.ServerAliveSet, h.ConnectTimeout = false, 0
		for _, direction := range []struct{ ns, command string }{{"", "cat >/dev/null"}, {far, "head -c 400000 /dev/zero"}} {
			noLeak(t, func() {
				tun := newTunnel(t, nil, h)
				if err := tun.Connect(t.Context()); err != nil {
					t.Fatal(err)
				}
				shape := func(args string) {
					words := append([]string{"tc", "qdisc"}, strings.Fields(args)...)
					if direction.ns != "" {
						words = append([]string{"ip", "netns", "exec", direction.ns}, words...)
					}
					openssh.Run(t, words[0], words[1:]...)
				}
				shape("add dev cable root tbf rate 400kbit burst 3000 limit 150000") // which is 3 s
				defer shape("del dev cable root")
				lost := linkOf(tun)
				bulk, err := tun.Exec(t.Context(), direction.command)
				if err != nil {
					t.Fatal(err)
				}
				bulk.Write(make([]byte, 400_000))
				bulk.(interface{ CloseWrite() error }).CloseWrite()
				began := time.Now()
				if _, err := io.Copy(io.Discard, bulk); err != nil || lost.life.Err() != nil {
					t.Errorf("after %v: %v, link %v", time.Since(began), err, context.Cause(lost.life))
				}
				t.Logf("%q ended after %v", direction.command, time.Since(began))
				tun.Close()
			})
		}
	})

	t.Run("wake", func(t *testing.T) {
		h := newHost(t)
		h.ServerAliveSet = false
		hole := "-n " + far + " route %s blackhole " + nearIP2 + "/32"
		testWake(t, wakeTest{fmt.Sprintf(hole, "add"), fmt.Sprintf(hole, "del"), far, sshd.Process.Pid, h})
	})

	// A name of three addresses, of which two swallow packets.
	t.Run("addresses that swallow packets", func(t *testing.T) {
		ip("route", "replace", swallowed4+"/32", "via", farIP)
		h := newHost(t)
		h.HostName, h.ConnectTimeout = "many", 1500*time.Millisecond
		noLeak(t, func() {
			tun := newTunnel(t, nil, h)
			if err := tun.Connect(t.Context()); err != nil { // within ConnectTimeout, which one of them alone outlasts
				t.Fatal(err)
			}
			greet(t, tun)
			tun.Close()
		})
		h.HostName = swallowed4
		noLeak(t, func() {
			tun := newTunnel(t, nil, h)
			err := tun.Connect(t.Context())
			if _, ok := errors.AsType[*TimeoutError](err); !ok {
				t.Errorf("the address answers: %v", err)
			}
			tun.Close()
		})
	})
}
