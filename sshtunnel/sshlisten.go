package sshtunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/channel"
)

// goodbyeLimit bounds a request that only tidies up on the server.
const goodbyeLimit = 3 * time.Second

// forwardRequest is the payload of tcpip-forward and of its cancel (RFC 4254 section 7.1).
type forwardRequest struct {
	Host string
	Port uint32
}

// forwardUnixRequest is the payload of streamlocal-forward@openssh.com (OpenSSH's PROTOCOL, 2.4).
type forwardUnixRequest struct{ Path string }

// forwardedOpen is the payload of forwarded-tcpip (RFC 4254 section 7.2).
type forwardedOpen struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// forwardedUnixOpen is the payload of forwarded-streamlocal@openssh.com.
type forwardedUnixOpen struct{ Path, Reserved string }

// sshForward is a remote forward of an sshHop.
type sshForward struct {
	// at is where the server listens. The table's lock guards the port.
	at       listenAddress
	arrivals *backlog
}

// forwardTable brings the channels that a server opens to the listeners they are for.
//
// x/crypto has such a table too. It queues connections that nobody accepts, and a full queue stops
// the one goroutine that reads from the server, so that even keepalive fails. This table refuses
// connections instead.
type forwardTable struct {
	link *link

	mu sync.Mutex
	// forwards is nil until the first one.
	forwards map[*sshForward]struct{}
	// over is set when the connection has ended.
	over bool
}

// add enters a forward. The first one starts the goroutines that take channels.
func (f *forwardTable) add(client *ssh.Client, fw *sshForward) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.forwards == nil && !f.over {
		f.forwards = map[*sshForward]struct{}{}
		for _, kind := range []string{"forwarded-tcpip", "forwarded-streamlocal@openssh.com"} {
			opens := client.HandleChannelOpen(kind)
			f.link.tasks.Go(func() { // ends when the connection closes opens
				for nc := range opens {
					f.open(nc)
				}
			})
		}
	}
	if !f.over {
		f.forwards[fw] = struct{}{}
	}
}

func (f *forwardTable) remove(fw *sshForward) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.forwards, fw)
}

// shut makes the table refuse new forwards, because the connection has ended.
func (f *forwardTable) shut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
}

// open accepts a channel of the server, or refuses it.
func (f *forwardTable) open(nc ssh.NewChannel) {
	var fw *sshForward
	raddr := farAddr("unix", "@")
	switch nc.ChannelType() {
	case "forwarded-tcpip":
		var m forwardedOpen
		if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil {
			nc.Reject(ssh.ConnectionFailed, "bad request")
			return
		}
		fw = f.find(listenAddress{"tcp", m.Host, m.Port})
		raddr = farAddr("tcp", net.JoinHostPort(m.OriginHost, strconv.FormatUint(uint64(m.OriginPort), 10)))
	default:
		var m forwardedUnixOpen
		if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil {
			nc.Reject(ssh.ConnectionFailed, "bad request")
			return
		}
		fw = f.find(listenAddress{network: "unix", host: m.Path})
	}
	switch {
	case fw == nil:
		nc.Reject(ssh.Prohibited, "no such forward") // RFC 4254 section 7.2: MUST
		return
	case fw.arrivals.full():
		nc.Reject(ssh.ResourceShortage, "too many connections wait")
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	f.mu.Lock()
	laddr := fw.at.netAddr()
	f.mu.Unlock()
	fw.arrivals.add(newChannelConn(f.link, channel.Setup{
		Channel: ch, Requests: reqs, Serve: ssh.DiscardRequests, Local: laddr, Remote: raddr,
	}))
}

// find returns the forward for an address as the server words it; nil if there is none. Servers
// differ in the host they name: the one that was asked for, or the one they bound. So if the host
// matches no forward, the port decides, provided that only one forward has it.
func (f *forwardTable) find(at listenAddress) *sshForward {
	f.mu.Lock()
	defer f.mu.Unlock()
	var samePort []*sshForward
	for fw := range f.forwards {
		if fw.at == at {
			return fw
		}
		if at.network == "tcp" && fw.at.network == "tcp" && fw.at.port == at.port {
			samePort = append(samePort, fw)
		}
	}
	if len(samePort) == 1 {
		return samePort[0]
	}
	return nil
}

// listenRequest returns the name and payload of the global request for a forward.
func listenRequest(prefix string, at listenAddress) (string, []byte) {
	if at.network == "unix" {
		return prefix + "streamlocal-forward@openssh.com", ssh.Marshal(forwardUnixRequest{at.host})
	}
	return prefix + "tcpip-forward", ssh.Marshal(forwardRequest{at.host, at.port})
}

// listen asks for a remote forward (RFC 4254 section 7.1). If ctx ends before the answer, a
// goroutine takes back a forward that is granted later.
func (h *sshHop) listen(ctx context.Context, at listenAddress, arrivals *backlog) (*grant, error) {
	fw := &sshForward{at: at, arrivals: arrivals}
	h.forwards.add(h.client, fw) // before the answer, because a connection may come right behind it
	type answer struct {
		ok   bool
		resp []byte
		err  error
	}
	answers := make(chan answer)
	go func() { // ends with the answer, or with the connection
		name, payload := listenRequest("", at)
		ok, resp, err := h.client.SendRequest(name, true, payload)
		select {
		case answers <- answer{ok, resp, err}:
		case <-ctx.Done():
			if ok && err == nil {
				name, payload := listenRequest("cancel-", at)
				h.client.SendRequest(name, false, payload)
			}
		}
	}()
	var err error
	select {
	case a := <-answers:
		switch {
		case a.err != nil:
			err = fmt.Errorf("%w: %w", errLost, a.err)
		case !a.ok:
			err = &ListenError{Hop: h.where.alias, Network: at.network, Addr: at.String()}
		case at.network == "tcp" && at.port == 0 && len(a.resp) >= 4: // the server has chosen the port
			h.forwards.mu.Lock()
			fw.at.port = binary.BigEndian.Uint32(a.resp)
			at = fw.at
			h.forwards.mu.Unlock()
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		h.forwards.remove(fw)
		return nil, err
	}
	return &grant{port: at.port, cancel: func() error {
		h.forwards.remove(fw)
		return h.cancelForward(at)
	}}, nil
}

// cancelForward takes a remote forward back. Some servers (dropbear) refuse that. The forward then
// stays until the connection ends, and the table refuses its connections.
func (h *sshHop) cancelForward(at listenAddress) error {
	done := make(chan error, 1)
	go func() { // ends with the answer, or with the connection
		name, payload := listenRequest("cancel-", at)
		ok, _, err := h.client.SendRequest(name, true, payload)
		if err == nil && !ok {
			err = errors.New("refused")
		}
		done <- err
	}()
	timer := time.NewTimer(goodbyeLimit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return context.DeadlineExceeded
	case <-h.life.Done():
		return nil
	}
}
