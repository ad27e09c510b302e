package sshtunnel

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/netwatch"
)

const (
	// pingInterval is the time between two pings, and pongLimit how long an answer may take. Both
	// ends are on this machine.
	pingInterval = 2 * time.Second
	pongLimit    = 2500 * time.Millisecond
)

// presence is an attach: it tells the server that we are there, and hears how the chain is. It
// lasts as long as the hop, and as the streams of a hop that drains: somebody must notice when
// their server dies.
type presence struct {
	hop    *muxHop
	conn   *mux.Conn
	report func(progress)
	// up is closed when all hops are there.
	up chan struct{}
	// pong is the number of the latest pong, and ponged is told of each.
	pong   atomic.Int64
	ponged chan struct{}
	// doubts get why the server may be gone. It has room for one. Each has a ping.
	doubts chan error
	// gone is closed when nothing comes from the server any more.
	gone chan struct{}

	mu sync.Mutex
	// questions has what takes a question back, by its id.
	questions map[string]context.CancelFunc
}

func newPresence(h *muxHop, c *mux.Conn, report func(progress)) *presence {
	return &presence{
		hop:       h,
		conn:      c,
		report:    report,
		up:        make(chan struct{}),
		ponged:    make(chan struct{}, 1),
		doubts:    make(chan error, 1),
		gone:      make(chan struct{}),
		questions: map[string]context.CancelFunc{},
	}
}

// read takes the server's lines until it or the hop ends.
func (p *presence) read() {
	err := p.lines()
	close(p.gone) // before the streams are cut, so that none is missed
	if err != nil {
		p.failed(fmt.Errorf("the shared connection has ended: %w", err))
		p.hop.streams.Cut()
	}
}

// lines takes the server's lines. It returns nil if the server has ended the hop in order.
func (p *presence) lines() error {
	h := p.hop
	for {
		var r mux.Reply
		if err := p.conn.ReadLine(&r); err != nil {
			return err
		}
		switch {
		case r.State != nil:
			p.state(r.State)
		case r.Notice != nil:
			h.cfg.Notice(h.notice(r.Notice))
		case r.Question != nil:
			p.ask(*r.Question)
		case r.Withdrawn != nil:
			p.mu.Lock()
			if cancel := p.questions[r.Withdrawn.ID]; cancel != nil {
				cancel()
			}
			p.mu.Unlock()
		case r.Pong != 0:
			p.pong.Store(int64(r.Pong))
			select {
			case p.ponged <- struct{}{}:
			default:
			}
		case r.Up != nil && !isDone(p.up):
			close(p.up)
		case r.Draining != nil:
			h.drained(r.Draining.Why)
		case r.Lost != nil:
			h.finished.Store(true)
			h.end(h.decode(r.Lost.Error))
			return nil
		case r.Error != nil:
			h.end(h.decode(r.Error))
			return nil
		}
	}
}

// failed ends the hop because the server does not answer as it should.
func (p *presence) failed(err error) {
	if !isDone(p.up) {
		err = fmt.Errorf("%w: %w", errNotAttached, err)
	}
	p.hop.end(p.hop.where.error(StageLink, err))
}

// watch pings the server until it or the hop ends, and ends the streams of a hop that drains when
// it is time.
func (p *presence) watch() {
	defer p.conn.Close()
	h := p.hop
	timer := time.NewTimer(pingInterval)
	defer timer.Stop()
	for n := 1; ; n++ {
		var doubt error
		select {
		case <-timer.C:
		case doubt = <-p.doubts:
		case <-p.gone:
			return
		}
		if !p.ping(n, timer) {
			return
		}
		if doubt != nil {
			h.drained("it takes no connection: " + doubt.Error())
		}
		if at := time.Duration(h.drainedAt.Load()); at > 0 {
			p.retire(time.Since(start) - at)
		}
		timer.Reset(pingInterval)
	}
}

// retire ends the streams of a hop that drains when it is time.
func (p *presence) retire(drained time.Duration) {
	h := p.hop
	for _, addr := range h.streams.Retire(drained, h.cfg.Busy != nil && h.cfg.Busy()) {
		h.cfg.Log.Debug("a stream of a shared connection that drains is ended", "addr", addr.String())
	}
}

// ping asks the server for an answer, and reports whether it came. It counts ticks, because a
// process that was stopped must not take the server for dead when it goes on.
func (p *presence) ping(n int, timer *time.Timer) bool {
	p.conn.SetWriteDeadline(time.Now().Add(pongLimit))
	if p.conn.WriteLine(mux.Line{Ping: n}) != nil {
		return false // read meets the same
	}
	for ticks := 0; p.pong.Load() < int64(n); {
		timer.Reset(netwatch.RunningTick)
		select {
		case <-p.ponged:
		case <-timer.C:
			ticks++
		case <-p.gone:
			return false
		}
		if ticks < int(pongLimit/netwatch.RunningTick) {
			continue
		}
		if silent := p.hop.way.Silent; silent != nil {
			silent()
		}
		p.failed(&SilentError{After: pongLimit, Why: "from the shared connection"})
		return false
	}
	return true
}

// state passes on how far the chain is dialed.
func (p *presence) state(s *mux.State) {
	switch {
	case isDone(p.up):
		return
	case s.Phase == Down && s.Error != nil && p.hop.cfg.waits:
		p.report(progress{failed: DecodeError(s.Error, p.hop.hops)})
		return
	case s.Phase != Dialing:
		return
	}
	now := progress{hop: p.hop.alias(s.Hop), patient: s.Patient}
	if s.Notice != nil {
		now.notice = p.hop.notice(s.Notice)
	}
	p.report(now)
}

// ask puts a question of the server to the person.
func (p *presence) ask(q mux.Question) {
	ctx, cancel := context.WithCancel(p.hop.life)
	p.mu.Lock()
	p.questions[q.ID] = cancel
	p.mu.Unlock()
	p.hop.cfg.streams.tasks.Go(func() { // ends with the answer, or when the question is taken back
		defer cancel()
		answer := &mux.Answer{ID: q.ID}
		text, err := "", ErrNoPerson
		if p.hop.cfg.Ask != nil {
			text, err = p.hop.cfg.Ask(ctx, Question{Hop: p.hop.alias(q.Hop), Kind: q.Kind, Prompt: q.Prompt, Echo: q.Echo})
		}
		p.mu.Lock()
		delete(p.questions, q.ID)
		p.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if answer.Text = text; err != nil {
			answer.Text, answer.Error = "", EncodeError(err, p.hop.hops)
		}
		p.conn.WriteLine(mux.Line{Answer: answer})
	})
}
