//go:build !windows

package sshtunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// chainOf is a Config.Chain that never changes.
func chainOf(hosts ...*sshconfig.Host) func(context.Context) ([]*sshconfig.Host, error) {
	return func(context.Context) ([]*sshconfig.Host, error) { return hosts, nil }
}

// connectProxy is an HTTP proxy that knows CONNECT only (RFC 9110 section 9.3.6).
func connectProxy(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	serve := func(conn net.Conn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", req.Host)
		if err != nil {
			return
		}
		defer far.Close()
		io.WriteString(conn, "HTTP/1.0 200 Connection established\r\n\r\n")
		go func() { // ends with conn
			io.Copy(far, in)
			far.Close()
		}()
		io.Copy(conn, far)
	}
	go func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(conn) // ends with the peers
		}
	}()
	return ln.Addr().String()
}

// passer hands over a connection as the dialers of ProxyUseFdpass do, sss_ssh_knownhostsproxy among
// them. It closes its own descriptor and runs on until its stdin ends.
const passer = `
import array, socket, sys
far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
pair = socket.socket(fileno=1)
pair.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [far.fileno()]))])
far.close()
`

// Every kind of ProxyCommand that people have leads to a real server.
func TestProxyCommandsThatWork(t *testing.T) {
	t.Parallel()
	openssh.Tool(t, "nc")
	for _, tt := range []struct {
		name    string
		command func(t *testing.T) string // %h and %p are the server
		edit    func(*sshconfig.Host)
	}{
		{"nc", func(*testing.T) string { return "nc %h %p" }, nil},
		{"nc through a proxy", func(t *testing.T) string { return "nc -X connect -x " + connectProxy(t) + " %h %p" }, nil},
		{"socat", func(t *testing.T) string { openssh.Tool(t, "socat"); return "socat - TCP:%h:%p" }, nil},
		{"exec", func(*testing.T) string { return "sh -c 'exec nc %h %p'" }, nil},
		{"env", func(*testing.T) string { return "env PORT=%p sh -c 'exec nc %h $PORT'" }, nil},
		{"quotes", func(*testing.T) string { return `sh -c "x='%h'; nc \"\$x\" \"%p\""` }, nil},
		{"a full path", func(t *testing.T) string { return openssh.Tool(t, "nc") + " %h %p" }, nil},
		{"it says something", func(*testing.T) string { return "sh -c 'echo open https://login.test/x >&2; exec nc %h %p'" }, nil},
		{"a script like cloudflared's", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "access ssh")
			script := "#!/bin/sh\nmkfifo \"$0.in\"\nnc \"$2\" \"$4\" <\"$0.in\" &\ncat >\"$0.in\"\nwait\n"
			if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			return "'" + path + "' --host %h --port %p"
		}, nil},
		{"a descriptor handed over", func(t *testing.T) string {
			return openssh.Tool(t, "/usr/bin/python3") + " -c '" + passer + "' %h %p"
		}, func(h *sshconfig.Host) { h.ProxyUseFdpass = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := echo(t)
			key := filepath.Join(t.TempDir(), "id")
			s := openssh.Start(t, openssh.WriteKey(t, key, "").PublicKey())
			h := s.Host(t, "bastion", key)
			h.ProxyCommand = strings.NewReplacer("%h", h.HostName, "%p", strconv.Itoa(h.Port)).Replace(tt.command(t))
			if tt.edit != nil {
				tt.edit(h)
			}
			for _, terminal := range []bool{false, true} {
				noLeak(t, func() {
					tun := tunnelOf(t, Config{Terminal: terminal, Chain: chainOf(h)})
					checkEcho(t, mustDial(t, tun, target))
					checkEcho(t, mustDial(t, tun, target))
					tun.Close()
				})
			}
		})
	}
}

// The cause of a failure is how the command ended, not that a connection did.
func TestProxyCommandsThatFail(t *testing.T) {
	t.Parallel()
	notExecutable := filepath.Join(t.TempDir(), "file")
	writeFile(t, notExecutable, "")
	for _, tt := range []struct {
		name, command string
		fdpass        bool
		want          ProxyCommandError
		phase         string
	}{
		{"a status", "sh -c 'echo one >&2; echo two >&2; exit 3'", false, ProxyCommandError{Program: "sh", Status: 3, Stderr: "one; two"}, Down},
		{"no newline", "sh -c 'printf oops >&2; exit 1'", false, ProxyCommandError{Program: "sh", Status: 1, Stderr: "oops"}, Down},
		{"the last lines only", "sh -c 'for i in 1 2 3 4 5; do echo $i >&2; done; exit 1'", false, ProxyCommandError{Program: "sh", Status: 1, Stderr: "3; 4; 5"}, Down},
		{"cut", "sh -c 'head -c 100000 /dev/zero | tr \"\\0\" x >&2; exit 1'", false, ProxyCommandError{Program: "sh", Status: 1, Stderr: strings.Repeat("x", 200) + "..."}, Down},
		{"a terminal's controls", `sh -c 'printf "a\033[2J\n" >&2; exit 1'`, false, ProxyCommandError{Program: "sh", Status: 1, Stderr: "a[2J"}, Down},
		{"a password in a link", "sh -c 'echo no answer from http://ada:secret@proxy:3128 >&2; exit 1'", false, ProxyCommandError{Program: "sh", Status: 1, Stderr: "no answer from http://proxy:3128"}, Down},
		{"a signal", "sh -c 'kill -KILL $$'", false, ProxyCommandError{Program: "sh", Status: -1, Signal: "killed"}, Down},
		{"status 0 with words", "sh -c 'echo no such tunnel >&2'", false, ProxyCommandError{Program: "sh", Stderr: "no such tunnel"}, Down},
		{"not executable", notExecutable, false, ProxyCommandError{Program: "file", Status: 126}, NeedsPerson},
		{"not found", "/no/such/dialer --secret x", false, ProxyCommandError{Program: "dialer", Status: 127}, NeedsPerson},
		{"not found, to hand over", "/no/such/dialer", true, ProxyCommandError{Program: "dialer", Status: 127}, NeedsPerson},
		{"nothing handed over", "true", true, ProxyCommandError{Program: "true", Status: -1}, Down},
		{"text instead of a descriptor", "echo SSH-2.0-x", true, ProxyCommandError{Program: "echo", Status: -1}, Down},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := openssh.NewHost(t, "bastion", "127.0.0.1:1")
			h.ProxyCommand, h.ProxyUseFdpass = tt.command, tt.fdpass
			noLeak(t, func() {
				tun := newTunnel(t, nil, h)
				err := tun.Connect(t.Context())
				got, ok := errors.AsType[*ProxyCommandError](err)
				if !ok {
					t.Fatalf("got %v", err)
				}
				if tt.want.Status >= 126 || tt.fdpass { // the shell's own words differ
					tt.want.Stderr, tt.want.Err = got.Stderr, got.Err
				}
				if *got != tt.want {
					t.Errorf("got %+v, want %+v", *got, tt.want)
				}
				hop, _ := errors.AsType[*HopError](err)
				if st, _ := tun.State(); st.Phase != tt.phase || hop.Stage != StageConnect {
					t.Errorf("phase %s, stage %s, want %s, %s", st.Phase, hop.Stage, tt.phase, StageConnect)
				}
				t.Log(err)
				tun.Close()
			})
		})
	}
}

// A command that has carried a link and then ends is the reason of its loss. A silent end with
// status 0 is the server's.
func TestProxyCommandThatEndsInASession(t *testing.T) {
	t.Parallel()
	openssh.Tool(t, "nc")
	for status, want := range map[int]string{7: "ProxyCommand sh ended with status 7", 0: "the server closed the connection"} {
		s := startFake(t, sshtest.Config{})
		h := fakeHost(t, "bastion", s)
		h.ProxyCommand = fmt.Sprintf("sh -c 'nc %s %d; exit %d'", h.HostName, h.Port, status)
		noLeak(t, func() {
			tun := newTunnel(t, nil, h)
			if err := tun.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			l := linkOf(tun)
			s.Drop()
			<-l.closed
			if got := fmt.Sprint(context.Cause(l.life)); !strings.HasSuffix(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			tun.Close()
		})
	}
}

// A command that hangs is told from a server that does, and ConnectTimeout is named.
func TestProxyCommandThatHangs(t *testing.T) {
	t.Parallel()
	h := openssh.NewHost(t, "bastion", "127.0.0.1:1")
	h.ProxyCommand, h.ConnectTimeout = "sh -c 'echo connecting to %h >&2; exec sleep 1000'", time.Second
	noLeak(t, func() {
		tun := newTunnel(t, nil, h)
		err := tun.Connect(t.Context())
		want := `hop bastion: connect: no answer within 1s (ConnectTimeout) by ProxyCommand sh, which said "connecting to %h"`
		if fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
		tun.Close()
	})
}

// No process of a command outlives the tunnel, whether the command shares our process group or not.
func TestProxyCommandLeavesNoProcess(t *testing.T) {
	t.Parallel()
	for _, terminal := range []bool{false, true} {
		dir := t.TempDir()
		h := openssh.NewHost(t, "bastion", "127.0.0.1:1")
		h.ProxyCommand = "sh -c 'trap \"\" HUP; sh -c \"echo \\$\\$ >" + dir + "/inner; sleep 1000; true\" & echo $$ >" + dir + "/outer; wait'"
		noLeak(t, func() {
			tun := tunnelOf(t, Config{Terminal: terminal, Chain: chainOf(h)})
			go tun.Connect(t.Context()) // ends with tun
			pids := make([]int, 0, 2)
			openssh.Eventually(t, "two processes", func() bool {
				pids = pids[:0]
				for _, name := range []string{"inner", "outer"} {
					text, _ := os.ReadFile(filepath.Join(dir, name))
					if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
						pids = append(pids, pid)
					}
				}
				return len(pids) == 2
			})
			tun.Close()
			openssh.Eventually(t, "both ended", func() bool {
				return !slices.ContainsFunc(pids, func(pid int) bool { return syscall.Kill(pid, 0) == nil })
			})
		})
	}
}

func TestProgramOf(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"nc -x ada:secret@proxy %h":   "nc",
		"exec /usr/bin/nc x":          "nc",
		"env A=secret B=c '/opt/x y'": "x",
		"":                            "command",
		"TOKEN=secret":                "command",
		"\"C:\x1b\" x":                "C:",
	} {
		if got := programOf(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}
