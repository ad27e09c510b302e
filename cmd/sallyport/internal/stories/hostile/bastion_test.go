//go:build linux

package hostile_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/cmd/sallyport/internal/machines"
)

// packet is an SSH packet before there is a key (RFC 4253 section 6).
func packet(payload []byte) []byte {
	padding := 8 - (len(payload)+5)%8
	if padding < 4 {
		padding += 8
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	b = append(append(b, byte(padding)), payload...)
	return append(b, make([]byte, padding)...)
}

// text is a string of SSH (RFC 4251 section 5).
func text(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

// bastion is an SSH server that serves each connection with serve.
func bastion(t *testing.T, sent *atomic.Int64, serve func(conn net.Conn, config *ssh.ServerConfig)) (args []string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer conn.Close()
				c := *config
				serve(counted{conn, sent}, &c)
			}()
		}
	}()
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	known := filepath.Join(t.TempDir(), "known_hosts")
	line := fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(signer.PublicKey()))
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--timeout", "8s", "--grant", "none", "-F", "none", "-o", "UserKnownHostsFile=" + known, "--via", "u@" + ln.Addr().String()}
}

// before sends bytes before there is a key.
func before(version string, write func(w io.Writer)) func(net.Conn, *ssh.ServerConfig) {
	return func(conn net.Conn, _ *ssh.ServerConfig) {
		go io.Copy(io.Discard, conn)
		io.WriteString(conn, version)
		write(conn)
	}
}

// after opens a session with the client, and lets flood do what it likes.
func after(flood func(c *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request)) func(net.Conn, *ssh.ServerConfig) {
	return func(conn net.Conn, config *ssh.ServerConfig) {
		c, chans, reqs, err := ssh.NewServerConn(conn, config)
		if err != nil {
			return
		}
		defer c.Close()
		flood(c, chans, reqs)
	}
}

// A bastion is no more trusted with our memory than an upstream.
func TestBastion(t *testing.T) {
	const version = "SSH-2.0-x\r\n"
	for _, row := range []struct {
		name  string
		letIn int64
		serve func(conn net.Conn, config *ssh.ServerConfig)
	}{
		{"lines before the version", 0, before("", func(w io.Writer) { repeat(w, endless, "", strings.Repeat("x", 200)+"\r\n", "", version) })},
		{"a line before the version", 0, before("", func(w io.Writer) { repeat(w, endless, "", "x", "", version) })},
		{"a long version", 0, before("", func(w io.Writer) { repeat(w, endless, "SSH-2.0-", "x", "", "\r\n") })},
		{"ignore before the keys", 0, before(version, func(w io.Writer) {
			repeat(w, endless, "", string(packet(append([]byte{2}, text(strings.Repeat("x", 30000))...))), "", "")
		})},
		{"debug before the keys", 0, before(version, func(w io.Writer) {
			repeat(w, endless, "", string(packet(append([]byte{4, 1}, append(text(strings.Repeat("x", 30000)), text("")...)...))), "", "")
		})},
		{"a large packet", 0, before(version, func(w io.Writer) { repeat(w, endless, "\x0f\xff\xff\xff\x05", "x", "", "") })},
		{"a key exchange of 30 kB names", 0, before(version, func(w io.Writer) {
			repeat(w, 1, "", string(packet(append(append([]byte{20}, make([]byte, 16)...), text(strings.Repeat("a,", 15000))...))), "", "")
		})},
		{"disconnect", 0, before(version, func(w io.Writer) {
			w.Write(packet(append([]byte{1, 0, 0, 0, 2}, append(text(strings.Repeat("x", 30000)), text("")...)...)))
		})},
		{"banners", 0, func(conn net.Conn, config *ssh.ServerConfig) {
			over := make(chan struct{})
			config.PreAuthConnCallback = func(c ssh.ServerPreAuthConn) {
				go func() { // ends with the connection
					defer close(over)
					for range 2900 {
						if c.SendAuthBanner(strings.Repeat("x", 190000)) != nil {
							return
						}
					}
					conn.Close()
				}()
			}
			config.NoClientAuthCallback = func(ssh.ConnMetadata) (*ssh.Permissions, error) {
				<-over // so long the client waits, and reads banners
				return nil, io.EOF
			}
			ssh.NewServerConn(conn, config)
		}},
		{"channels", 0, after(func(c *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
			go ssh.DiscardRequests(reqs)
			for range 16 {
				go func() {
					for range 10000 {
						if _, _, err := c.OpenChannel("forwarded-tcpip", make([]byte, 30000)); err != nil {
							if _, refused := err.(*ssh.OpenChannelError); !refused {
								return
							}
						}
					}
				}()
			}
			c.Wait()
		})},
		{"requests with answers", 0, after(func(c *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
			go ssh.DiscardRequests(reqs)
			for range 100000 {
				if _, _, err := c.SendRequest("keepalive@openssh.com", true, make([]byte, 30000)); err != nil {
					return
				}
			}
		})},
		{"requests", 0, after(func(c *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
			go ssh.DiscardRequests(reqs)
			for range 20000 {
				if _, _, err := c.SendRequest("x", false, make([]byte, 30000)); err != nil {
					return
				}
			}
		})},
		{"host keys", 0, after(func(c *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
			go ssh.DiscardRequests(reqs)
			key := text(string(c.ClientVersion()))
			for range 2000 {
				if _, _, err := c.SendRequest("hostkeys-00@openssh.com", false, []byte(strings.Repeat(string(key), 30000/len(key)))); err != nil {
					return
				}
			}
		})},
		{"data of a channel", 16 * mib, after(func(c *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
			go ssh.DiscardRequests(reqs)
			for n := range chans {
				ch, rs, err := n.Accept()
				if err != nil {
					return
				}
				go ssh.DiscardRequests(rs)
				go repeat(ch, endless, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", ":\n", "", "")
				go repeat(ch.Stderr(), endless, "", "x", "", "")
			}
		})},
		{"refusal of a channel", 0, after(func(c *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
			go ssh.DiscardRequests(reqs)
			for n := range chans {
				n.Reject(ssh.ConnectionFailed, strings.Repeat("x", 200000))
			}
		})},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			args := bastion(t, &sent, row.serve)
			h := start(t, false, append(args, "http://127.0.0.1:1/mcp")...)
			h.send(machines.InitializeLine)
			h.send(request(2, "tools/list"))
			h.send(request(3, "tools/call"))
			l := h.answer("3")
			h.check(sent.Load(), row.letIn, told(l))
		})
	}
}

// A ProxyCommand may write to its stderr what it likes.
func TestProxyCommand(t *testing.T) {
	for _, row := range []struct{ name, command string }{
		{"lines", "yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx | head -c 200000000 >&2; exit 3"},
		{"one line", "head -c 200000000 /dev/zero | tr '\\\\0' x >&2; exit 3"},
		{"stdout", "yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx | head -c 200000000"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, false, "--timeout", "8s", "--grant", "none", "-F", "none", "-o", "ProxyCommand=sh -c \""+row.command+"\"", "--via", "h.invalid", "http://127.0.0.1:1/mcp")
			h.send(machines.InitializeLine)
			h.send(request(3, "tools/call"))
			l := h.answer("3")
			h.check(0, 0, told(l))
		})
	}
}

// A file that is far too large is an error, or its beginning counts. It is never read as a whole.
func TestFiles(t *testing.T) {
	large := func(unit string) string {
		path := filepath.Join(t.TempDir(), "large")
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		repeat(f, 200*mib, "", unit, "", "")
		return path
	}
	config := large("Host x\n IdentityFile y\n")
	known := large("example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8mJ1hRPyPJ5gPSBvLYS0dEBG5KJ8d9TqkEVQqFyBbX\n")
	words := large("x\n")
	// A file of keys may be long, and is read up to a limit.
	letIn := map[string]int64{"known_hosts": 32 * mib, "revoked": 64 * mib}
	for _, row := range []struct {
		name string
		args []string
	}{
		{"ssh_config", []string{"-F", config, "--via", "h.invalid"}},
		{"known_hosts", []string{"-F", "none", "-o", "UserKnownHostsFile=" + known}},
		{"identity", []string{"-F", "none", "-o", "IdentityFile=" + words}},
		{"identity of zeros", []string{"-F", "none", "-o", "IdentityFile=/dev/zero"}},
		{"revoked", []string{"-F", "none", "-o", "RevokedHostKeys=" + words}},
		{"settings", []string{"--config", words}},
		{"settings of zeros", []string{"--config", "/dev/zero"}},
		{"roots", []string{"--ca-file", words}},
		{"roots of zeros", []string{"--ca-file", "/dev/zero"}},
		{"client certificate", []string{"--client-cert", words}},
		{"client secret", []string{"--grant", "client_credentials", "--client-id", "c", "--client-secret-file", words}},
		{"client secret of zeros", []string{"--grant", "client_credentials", "--client-id", "c", "--client-secret-file", "/dev/zero"}},
		{"headers", []string{"--header-file", words}},
		{"assertion", []string{"--grant", "jwt_bearer", "--client-id", "c", "--assertion-file", words}},
		{"client key", []string{"--grant", "client_credentials", "--client-id", "c", "--client-key", words}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			args := row.args
			if strings.Contains(strings.Join(args, " "), "-F") {
				var sent atomic.Int64
				b := bastion(t, &sent, after(func(*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request) {}))
				args = append(args, "--grant", "none", b[len(b)-2], b[len(b)-1])
			}
			var h *host
			var l line
			for try := 0; try < 10 && (h == nil || h.look() == 0); try++ { // it may end before anybody looks
				h = start(t, false, append(args, u.URL+"/mcp")...)
				h.send(machines.InitializeLine)
				h.send(request(3, "tools/call"))
				l = h.answer("3")
			}
			h.check(0, letIn[row.name], fmt.Sprintf("%s; %.150q", told(l), h.err()))
		})
	}
}
