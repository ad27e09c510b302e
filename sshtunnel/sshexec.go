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

// maxStderr bounds how much of a command's stderr goes into its error, in bytes.
const maxStderr = 512

// process is a command on the server of an sshHop.
type process struct {
	*channelConn

	// status says how the command ended. It is nil for status 0, and valid once gone is closed.
	status *ExitError
}

// exec starts a command (RFC 4254 section 6.5).
func (h *sshHop) exec(ctx context.Context, command string) (io.ReadWriteCloser, error) {
	req := channelRequest{kind: "session", network: "session"}
	ch, reqs, err := h.openChannel(ctx, req)
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() { // ends with the answer, or with the connection
		ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command}))
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %w", errLost, err)
		case !ok:
			err = req.refused(h.where, ssh.Prohibited, "exec request refused")
		}
		started <- err
	}()
	p := &process{}
	at := addr{"ssh", h.where.alias}
	serve := func(reqs <-chan *ssh.Request) {
		defer h.released()
		p.watch(ch, reqs)
	}
	// A command may run on after its stdin has ended. Servers that pass signals on end it.
	hangUp := func() { ch.SendRequest("signal", false, ssh.Marshal(struct{ Signal string }{"TERM"})) }
	p.channelConn = newChannelConn(channelSetup{
		link:        h.link.life,
		ch:          ch,
		reqs:        reqs,
		serve:       serve,
		beforeClose: hangUp,
		laddr:       at,
		raddr:       at,
	})
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
	var stderr []byte
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the channel
		stderr, _ = io.ReadAll(io.LimitReader(ch.Stderr(), maxStderr))
		io.Copy(io.Discard, ch.Stderr())
	})
	status := &ExitError{Status: -1}
	for r := range reqs {
		if told := exitOf(r); told != nil {
			status = told
		}
		if r.WantReply {
			r.Reply(false, nil)
		}
	}
	wg.Wait()
	if status.Status != 0 || status.Signal != "" {
		status.Stderr = display.Cut(display.Printable(string(stderr)))
		p.status = status
	}
}

// exitOf returns how a command ended if r tells that (RFC 4254 section 6.10), else nil.
func exitOf(r *ssh.Request) *ExitError {
	switch r.Type {
	case "exit-status":
		var m struct{ Status uint32 }
		if ssh.Unmarshal(r.Payload, &m) == nil {
			return &ExitError{Status: int(m.Status)}
		}
	case "exit-signal":
		var m struct {
			Signal     string
			CoreDumped bool
			Msg, Lang  string
		}
		if ssh.Unmarshal(r.Payload, &m) == nil {
			return &ExitError{Signal: display.Cut(m.Signal)}
		}
	}
	return nil
}

// Read reads stdout. At the end of stdout it waits for the exit status and returns io.EOF for
// status 0, else an *ExitError.
func (p *process) Read(b []byte) (int, error) {
	n, err := p.channelConn.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case <-p.gone:
	case <-p.closed:
		if !isDone(p.gone) {
			return n, err
		}
	}
	if p.status != nil {
		return n, p.status
	}
	return n, io.EOF
}

// Close ends the command. It closes stdin and stdout, and asks the server for a TERM signal. It
// does not say how the command ended.
func (p *process) Close() error {
	p.channelConn.Close()
	return nil
}
