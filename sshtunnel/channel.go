package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
)

// openRequest is the payload of direct-tcpip (RFC 4254 7.2).
type openRequest struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// openUnixRequest is the payload of direct-streamlocal@openssh.com (OpenSSH's PROTOCOL, 2.4).
type openUnixRequest struct {
	Path      string
	Reserved0 string
	Reserved1 uint32
}

// open opens a connection from the hop; names are resolved there.
func (h *hop) open(ctx context.Context, network, target string) (net.Conn, error) {
	if h.master != nil {
		return h.master.open(ctx, network, target)
	}
	kind, payload := "direct-streamlocal@openssh.com", ssh.Marshal(openUnixRequest{Path: target})
	switch network {
	case "tcp", "tcp4", "tcp6":
		host, portText, err := net.SplitHostPort(target)
		if err != nil {
			return nil, err
		}
		port, err := net.LookupPort("tcp", portText)
		if err != nil {
			return nil, err
		}
		network, kind, payload = "tcp", "direct-tcpip", ssh.Marshal(openRequest{Host: host, Port: uint32(port), OriginHost: "127.0.0.1"})
	case "unix":
	default:
		return nil, net.UnknownNetworkError(network)
	}
	ch, reqs, err := h.openChannel(ctx, kind, payload, network, target)
	if err != nil {
		return nil, err
	}
	return newChannelConn(h.gather, ch, reqs, h.discard, addr{network, h.host.Alias}, farAddr(network, target)), nil
}

// discard takes the requests of a channel that openChannel has opened, until it ends.
func (h *hop) discard(reqs <-chan *ssh.Request) {
	defer h.streams.Add(-1)
	ssh.DiscardRequests(reqs)
}

// maxUnanswered bounds the opens of one hop whose callers have left before the answer: x/crypto
// cannot take an open back, and keeps a goroutine for each. sshd answers when its own connect has,
// which takes minutes where a target swallows packets.
const maxUnanswered = 64

// openChannel waits for the peer's answer, ctx or the end of the connection. When ctx ends first, a
// goroutine waits on and closes what comes of it. It ends with the connection at the latest.
// Whoever gets a channel must pass its requests to h.discard, or count h.streams down itself.
func (h *hop) openChannel(ctx context.Context, kind string, payload []byte, network, target string) (ssh.Channel, <-chan *ssh.Request, error) {
	type answer struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if h.conn.ended.Load() { // x/crypto never answers an open that comes after the end of the connection
		return nil, nil, fmt.Errorf("%w: it had ended when a channel was to be opened", errLost)
	}
	if n := h.unanswered.Load(); n >= maxUnanswered {
		if h.streams.Load() == 0 { // nobody loses anything by a new connection
			return nil, nil, fmt.Errorf("%w: the server has not answered %d requests", errLost, n)
		}
		return nil, nil, &OpenError{Hop: h.host.Alias, Network: network, Addr: target, Reason: ssh.ResourceShortage, Msg: fmt.Sprintf("%d earlier requests are not answered yet", n)}
	}
	answers := make(chan answer) // taken by us or, after ctx, by nobody
	go func() {
		left := context.AfterFunc(ctx, func() { h.unanswered.Add(1) })
		ch, reqs, err := h.client.OpenChannel(kind, payload)
		if !left() { // the caller has
			h.unanswered.Add(-1)
		}
		if err == nil {
			h.streams.Add(1)
		}
		select {
		case answers <- answer{ch, reqs, err}:
		case <-h.ended:
		case <-ctx.Done():
			if err == nil {
				go h.discard(reqs) // ends with the channel
				ch.Close()
			}
		}
	}()
	select {
	case a := <-answers:
		if refused, ok := errors.AsType[*ssh.OpenChannelError](a.err); ok {
			return nil, nil, &OpenError{Hop: h.host.Alias, Network: network, Addr: target, Reason: refused.Reason, Msg: display.Cut(refused.Message)}
		}
		if a.err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errLost, a.err)
		}
		return a.ch, a.reqs, nil
	case <-h.ended: // met by an open that is under way, which may get no answer either
		return nil, nil, fmt.Errorf("%w: it ended while a channel was being opened", errLost)
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}
