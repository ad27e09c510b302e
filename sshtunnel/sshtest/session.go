package sshtest

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"
)

// session is one client that has logged in.
type session struct {
	// s is the server that the client has logged in to.
	s *Server
	// conn is the SSH connection.
	conn *ssh.ServerConn
	// ctx ends with the connection.
	ctx    context.Context
	cancel context.CancelFunc
	// wg counts the goroutines of the connection, which handle waits for.
	wg sync.WaitGroup

	// mu guards what follows.
	mu sync.Mutex
	// forwards holds the remote forwards by host:port or path, as the client names them.
	forwards map[string]net.Listener
	// over is set by closeForwards.
	over bool
}

// The payloads of RFC 4254 section 7 and of OpenSSH's PROTOCOL, 2.4.
type (
	// directOpen opens a direct-tcpip channel, and a forwarded-tcpip one in the other direction.
	directOpen struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	// directUnixOpen opens a direct-streamlocal channel.
	directUnixOpen struct {
		Path      string
		Reserved0 string
		Reserved1 uint32
	}
	// forwardRequest asks for a remote forward of a port, or takes it back.
	forwardRequest struct {
		Host string
		Port uint32
	}
	// forwardUnixRequest does the same for a socket.
	forwardUnixRequest struct{ Path string }
	// forwardedUnixOpen opens a channel for a connection to that socket.
	forwardedUnixOpen struct{ Path, Reserved string }
)

// requests answers global requests until the connection ends. Requests that it does not know get a
// failure, which is also a right answer to a keepalive (RFC 4254 section 4).
func (c *session) requests(reqs <-chan *ssh.Request) {
	for r := range reqs {
		ok, reply, known := false, []byte(nil), true
		switch r.Type {
		case "keepalive@openssh.com":
			c.s.keepalives.Add(1)
			known = false
		case "tcpip-forward":
			var m forwardRequest
			if ssh.Unmarshal(r.Payload, &m) == nil {
				var port int
				// Only a client that asked for port 0 is told the port (RFC 4254 section 7.1).
				if port, ok = c.listen("tcp", net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))), m); ok && m.Port == 0 {
					reply = ssh.Marshal(struct{ Port uint32 }{uint32(port)})
				}
			}
		case "streamlocal-forward@openssh.com":
			var m forwardUnixRequest
			if ssh.Unmarshal(r.Payload, &m) == nil {
				_, ok = c.listen("unix", m.Path, forwardRequest{})
			}
		case "cancel-tcpip-forward":
			var m forwardRequest
			if ssh.Unmarshal(r.Payload, &m) == nil {
				ok = c.unlisten(net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))))
			}
		case "cancel-streamlocal-forward@openssh.com":
			var m forwardUnixRequest
			if ssh.Unmarshal(r.Payload, &m) == nil {
				ok = c.unlisten(m.Path)
			}
		default:
			known = false
		}
		if r.WantReply && (known || c.s.cfg.Stall != StallRequest) {
			r.Reply(ok, reply)
		}
	}
}

// listen starts a remote forward and returns its port. The forward ends when the client takes it
// back, or with the connection.
func (c *session) listen(network, addr string, asked forwardRequest) (int, bool) {
	if c.s.cfg.Listen == nil {
		return 0, false
	}
	ln, err := c.s.cfg.Listen(network, addr)
	if err != nil {
		return 0, false
	}
	// The client takes the forward back under the port that it was told.
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
		asked.Port = uint32(tcp.Port)
		addr = net.JoinHostPort(asked.Host, strconv.Itoa(tcp.Port))
	}
	c.mu.Lock()
	c.forwards[addr] = ln
	if c.over {
		ln.Close() // the request was read before the connection ended
	}
	c.mu.Unlock()
	c.wg.Go(func() { // ends when the forward is taken back, or with the connection
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			kind, payload := "forwarded-streamlocal@openssh.com", ssh.Marshal(forwardedUnixOpen{Path: addr})
			if from, ok := conn.RemoteAddr().(*net.TCPAddr); ok && network == "tcp" {
				kind = "forwarded-tcpip"
				payload = ssh.Marshal(directOpen{asked.Host, asked.Port, from.IP.String(), uint32(from.Port)})
			}
			c.wg.Go(func() { // ends with the connection
				ch, reqs, err := c.conn.OpenChannel(kind, payload)
				if err != nil {
					conn.Close()
					return
				}
				splice(ch, reqs, conn)
			})
		}
	})
	return int(asked.Port), true
}

// unlisten takes a remote forward back, and reports whether there was one.
func (c *session) unlisten(addr string) bool {
	if c.s.cfg.DenyCancel {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ln, ok := c.forwards[addr]
	if ok {
		ln.Close()
		delete(c.forwards, addr)
	}
	return ok
}

// closeForwards ends all remote forwards.
func (c *session) closeForwards() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, ln := range c.forwards {
		ln.Close()
	}
}

// channel serves one channel to its end. The types of channels are those of RFC 4254 section 7.2
// and of OpenSSH's PROTOCOL, 2.4.
func (c *session) channel(nc ssh.NewChannel) {
	network, addr := "tcp", ""
	switch nc.ChannelType() {
	case "direct-tcpip":
		var m directOpen
		if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil {
			nc.Reject(ssh.ConnectionFailed, "bad request")
			return
		}
		addr = net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port)))
	case "direct-streamlocal@openssh.com":
		var m directUnixOpen
		if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil {
			nc.Reject(ssh.ConnectionFailed, "bad request")
			return
		}
		network, addr = "unix", m.Path
	case "session":
		c.session(nc)
		return
	default:
		nc.Reject(ssh.UnknownChannelType, "unknown channel type")
		return
	}
	if c.s.cfg.Dial == nil {
		nc.Reject(ssh.Prohibited, "open failed")
		return
	}
	conn, err := c.s.cfg.Dial(c.ctx, network, addr)
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		conn.Close()
		return
	}
	splice(ch, reqs, conn)
}

// session runs the command of an exec request. Shells, terminals and variables are refused. The
// channel ends with the command.
func (c *session) session(nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	for r := range reqs {
		var m struct{ Command string }
		ok := r.Type == "exec" && c.s.cfg.Exec != nil && ssh.Unmarshal(r.Payload, &m) == nil
		if r.WantReply {
			r.Reply(ok, nil)
		}
		if !ok {
			continue
		}
		// The end of the requests is the end of the channel, which ends the command's context.
		go func() { // ends with the channel
			for range reqs {
			}
			cancel()
		}()
		status := c.s.cfg.Exec(ctx, m.Command, ch, ch, ch.Stderr())
		ch.CloseWrite()
		ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
		return
	}
}

// splice copies in both directions until both have ended. It passes the end of each direction on.
// It closes both.
func splice(ch ssh.Channel, reqs <-chan *ssh.Request, conn net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the channel, as does conn then
		ssh.DiscardRequests(reqs)
		conn.Close()
	})
	sent := make(chan struct{})
	wg.Go(func() { // ends when conn does
		defer close(sent)
		_, err := io.Copy(ch, conn)
		if ch.CloseWrite(); err != nil {
			ch.Close()
		}
	})
	io.Copy(conn, ch)
	// A connection without a half-close can only be closed as a whole.
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	} else {
		conn.Close()
	}
	<-sent
	ch.Close()
	wg.Wait()
	conn.Close()
}
