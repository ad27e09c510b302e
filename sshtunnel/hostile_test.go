//go:build !windows

package sshtunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/cleartext"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// scripted is a TCP server that plays a script on each connection and then closes it.
func scripted(t testing.TB, script func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the peer
				defer conn.Close()
				script(conn)
			}()
		}
	}()
	return ln.Addr().String()
}

// say is a script that sends a text and closes the connection when the client has sent its version.
func say(text string) func(net.Conn) {
	return func(conn net.Conn) {
		conn.Read(make([]byte, 100))
		io.WriteString(conn, text)
	}
}

// hold is a script that sends a text and then waits until the client goes.
func hold(text string) func(net.Conn) {
	return func(conn net.Conn) {
		io.WriteString(conn, text)
		io.Copy(io.Discard, conn)
	}
}

// forever is a script that sends a text again and again after another.
func forever(first, text string) func(net.Conn) {
	return func(conn net.Conn) {
		go io.Copy(io.Discard, conn) // ends with conn
		for _, err := io.WriteString(conn, first); err == nil; {
			_, err = io.WriteString(conn, text)
		}
	}
}

// plainPacket is a packet before the first key exchange (RFC 4253 section 6).
func plainPacket(payload ...byte) string {
	padding := 8 - (len(payload)+5)%8
	if padding < 4 {
		padding += 8
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	b = append(append(b, byte(padding)), payload...)
	return string(append(b, make([]byte, padding)...))
}

// kexInit is an SSH_MSG_KEXINIT (RFC 4253 section 7.1) with the same list everywhere.
func kexInit(list string) string {
	payload := make([]byte, 17)
	payload[0] = 20
	for range 10 {
		payload = binary.BigEndian.AppendUint32(payload, uint32(len(list)))
		payload = append(payload, list...)
	}
	return plainPacket(append(payload, 0, 0, 0, 0, 0)...)
}

// is reports whether an error is or wraps an E.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// Whatever a peer sends in place of the SSH protocol, a dial ends with the right kind of error, at
// the latest by ConnectTimeout.
func TestPeersThatAreNoSSHServer(t *testing.T) {
	t.Parallel()
	const version = "SSH-2.0-x\r\n"
	any := func(error) bool { return true }
	for _, tt := range []struct {
		name   string
		script func(net.Conn)
		want   func(error) bool
		phase  string
	}{
		{"silence", hold(""), is[*TimeoutError], Down},
		{"nothing", say(""), any, Down},
		{"one endless line", forever("", strings.Repeat("x", 1000)), is[*cleartext.IdentificationError], Down},
		{"endless lines", forever("", "hello\r\n"), is[*cleartext.IdentificationError], Down},
		{"endless zeros", forever("", "\x00\x00\x00\x00"), is[*cleartext.IdentificationError], Down},
		{"why not", say("Not allowed at this time\r\n"), is[*cleartext.IdentificationError], Down},
		{"a web server", say("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nbad"), is[*cleartext.IdentificationError], Down},
		{"half a version", say("SSH-2.0-"), any, Down},
		{"version 1", hold("SSH-1.5-old\r\n"), is[*cleartext.IdentificationError], Refused},
		{"version 3", hold("SSH-3.0-new\r\n"), is[*cleartext.IdentificationError], Refused},
		{"a long version", hold("SSH-2.0-" + strings.Repeat("x", 5000) + "\r\n"), any, Down},
		{"version 1.99", say("SSH-1.99-both\r\n"), func(err error) bool { return !is[*cleartext.IdentificationError](err) }, Down},
		{"a version and silence", hold(version), is[*TimeoutError], Down},
		{"a version and the end", say(version), any, Down},
		{"a packet of 4 GiB", hold(version + "\xff\xff\xff\xff\x04" + strings.Repeat("x", 100)), any, Down},
		{"a packet of nothing", hold(version + "\x00\x00\x00\x00"), any, Down},
		{"more padding than packet", hold(version + "\x00\x00\x00\x0c\xff" + strings.Repeat("x", 100)), any, Down},
		{"endless SSH_MSG_IGNORE", forever(version, plainPacket(2, 0, 0, 0, 0)), any, Down},
		{"endless SSH_MSG_UNIMPLEMENTED", forever(version, plainPacket(3, 0, 0, 0, 0)), any, Down},
		{"SSH_MSG_DISCONNECT", hold(version + plainPacket(1, 0, 0, 0, 2, 0, 0, 0, 2, 'n', 'o', 0, 0, 0, 0)), any, Down},
		{"a login before the keys", hold(version + plainPacket(52)), any, Down},
		{"half a KEXINIT", hold(version + plainPacket(20, 1, 2, 3)), any, Down},
		{"a KEXINIT and silence", hold(version + kexInit("none")), is[*AlgorithmError], Refused},
		{"nothing in common", hold(version + kexInit("made-up@example.test")), is[*AlgorithmError], Refused},
		{"empty lists", hold(version + kexInit("")), is[*AlgorithmError], Refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := openssh.NewHost(t, "bastion", scripted(t, tt.script))
			h.ConnectTimeout = 2 * time.Second
			noLeak(t, func() {
				tun := newTunnel(t, nil, h)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := tun.Connect(ctx)
				if err == nil || ctx.Err() != nil || !tt.want(err) {
					t.Errorf("got %v", err)
				}
				if st, _ := tun.State(); st.Phase != tt.phase {
					t.Errorf("phase %s, want %s: %v", st.Phase, tt.phase, err)
				}
				if len(err.Error()) > 600 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
				tun.Close()
			})
		})
	}
}

// The text that a server sends before its version is no obstacle, as far as ssh takes it.
func TestTextBeforeTheVersion(t *testing.T) {
	t.Parallel()
	s := startFake(t, sshtest.Config{})
	for name, text := range map[string]string{
		"a line":       "welcome\r\n",
		"bare newline": "\n\n\n",
		"long lines":   strings.Repeat(strings.Repeat("x", 8000)+"\r\n", 20),
		"many lines":   strings.Repeat("a legal notice\r\n", 1000),
	} {
		addr := scripted(t, func(conn net.Conn) {
			far, err := net.Dial("tcp", s.Addr())
			if err != nil {
				return
			}
			defer far.Close()
			io.WriteString(conn, text)
			go func() { // ends with the client
				io.Copy(far, conn)
				far.Close()
			}()
			io.Copy(conn, far)
		})
		h := openssh.NewHost(t, "bastion", addr)
		h.HostKeyAlias = "bastion"
		writeFile(t, h.UserKnownHostsFiles[0], s.KnownHosts("bastion"))
		noLeak(t, func() {
			tun := newTunnel(t, nil, h)
			if err := tun.Connect(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			tun.Close()
		})
	}
}

// Endless banners during a login end it within the time that a person has.
func TestEndlessBanners(t *testing.T) {
	t.Parallel()
	config := &ssh.ServerConfig{NoClientAuth: true}
	var banners ssh.ServerPreAuthConn
	config.PreAuthConnCallback = func(c ssh.ServerPreAuthConn) { banners = c }
	config.NoClientAuthCallback = func(ssh.ConnMetadata) (*ssh.Permissions, error) {
		for {
			if err := banners.SendAuthBanner(strings.Repeat("read this\n", 100)); err != nil {
				return nil, err
			}
		}
	}
	key := sshtest.NewKey()
	config.AddHostKey(key)
	addr := scripted(t, func(conn net.Conn) { ssh.NewServerConn(conn, config) })
	h := openssh.NewHost(t, "bastion", addr)
	h.HostKeyAlias = "bastion"
	writeFile(t, h.UserKnownHostsFiles[0], "bastion "+openssh.KeyLine(key.PublicKey()))
	noLeak(t, func() {
		tun := tunnelOf(t, Config{Chain: chainOf(h), settings: settings{patience: time.Second}})
		if err := tun.Connect(t.Context()); !is[*TimeoutError](err) {
			t.Errorf("got %v", err)
		}
		tun.Close()
	})
}
