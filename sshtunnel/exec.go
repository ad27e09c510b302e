package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
)

// maxStderr is how much of a command's stderr is kept for its error, in bytes.
const maxStderr = 512

// process is a command on the last hop.
type process struct {
	*channelConn
	stderr []byte

	status *ExitError // to be read after gone; nil: status 0
}

// exec starts a command (RFC 4254 6.5).
func (h *hop) exec(ctx context.Context, cmd string) (io.ReadWriteCloser, error) {
	if h.master != nil {
		return h.master.exec(cmd)
	}
	ch, reqs, err := h.openChannel(ctx, "session", nil, "session", "")
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() { // ends with the answer, or with the link
		ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{cmd}))
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %w", errLost, err)
		case !ok:
			err = &OpenError{Hop: h.host.Alias, Network: "session", Reason: ssh.Prohibited, Msg: "exec request refused"}
		}
		started <- err
	}()
	p := &process{}
	at := addr{"ssh", h.host.Alias}
	p.channelConn = newChannelConn(nil, ch, reqs, func(reqs <-chan *ssh.Request) {
		defer h.streams.Add(-1)
		p.watch(ch, reqs)
	}, at, at)
	p.bye = func() { ch.SendRequest("signal", false, ssh.Marshal(struct{ Signal string }{"TERM"})) }
	select {
	case err = <-started:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		p.channelConn.Close()
		return nil, err
	}
	return p, nil
}

// watch takes the exit status and stderr until the channel ends.
func (p *process) watch(ch ssh.Channel, reqs <-chan *ssh.Request) {
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the channel
		p.stderr, _ = io.ReadAll(io.LimitReader(ch.Stderr(), maxStderr))
		io.Copy(io.Discard, ch.Stderr())
	})
	status := &ExitError{Status: -1}
	for r := range reqs {
		switch r.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if ssh.Unmarshal(r.Payload, &m) == nil {
				status = &ExitError{Status: int(m.Status)}
			}
		case "exit-signal":
			var m struct {
				Signal     string
				CoreDumped bool
				Msg, Lang  string
			}
			if ssh.Unmarshal(r.Payload, &m) == nil {
				status = &ExitError{Signal: display.Cut(m.Signal)}
			}
		}
		if r.WantReply {
			r.Reply(false, nil)
		}
	}
	wg.Wait()
	if status.Status != 0 || status.Signal != "" {
		status.Stderr = display.Cut(display.Printable(string(p.stderr)))
		p.status = status
	}
}

// Read reads stdout. At its end it waits for the status: io.EOF stands for 0, an *ExitError for any other.
func (p *process) Read(b []byte) (int, error) {
	n, err := p.channelConn.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case <-p.gone:
	case <-p.closed:
		select {
		case <-p.gone:
		default:
			return n, err
		}
	}
	if p.status != nil {
		return n, p.status
	}
	return n, io.EOF
}

// Close ends the command: a signal for servers that pass it on, and the end of its stdin and
// stdout. It does not report how the command ended.
func (p *process) Close() error {
	p.channelConn.Close()
	return nil
}
