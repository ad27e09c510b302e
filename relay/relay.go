package relay

import (
	"context"
	"errors"
	"time"

	"sallyport/relay/rawjson"
)

const (
	// finalGrace is how long a final obstacle waits for a request to answer.
	finalGrace = 3 * time.Second

	// Leaving takes at most exitBound: calls in flight may finish within exitGrace, and then the
	// upstream has exitGoodbye. exitReserve of the whole is kept for what comes after that.
	exitBound   = 1800 * time.Millisecond
	exitGrace   = time.Second
	exitGoodbye = time.Second
	exitReserve = 200 * time.Millisecond
)

// Run carries the session until In ends, ctx ends or an obstacle is final. It returns nil for the
// first two, and the obstacle's Final for the third. If In or Out breaks, it returns an error that
// wraps theirs: where nobody reads Out any more, errors.Is(err, syscall.EPIPE) is true.
//
// From the end to the return it takes less than two seconds. All goroutines of Run have ended then,
// except a Read of In or a Write to Out that is still blocked.
func Run(ctx context.Context, cfg Config) error {
	s := newSession(ctx, cfg)
	s.startIdle()
	defer s.idle.timer.Stop()
	s.work.Go(s.watcher.watch)            // ends with s.ctx
	s.work.Go(s.reader.sendNotifications) // ends with s.ctx
	if s.hidden.pins != nil {
		s.work.Go(s.hidden.pins.watch) // ends with s.ctx
	}

	ended := make(chan error, 1)
	// Ends with In. It is not counted in s.work, because a Read of the real stdin cannot be
	// interrupted.
	go func() { ended <- s.reader.read(newLineReader(s.cfg.In, s.cfg.maxMessage)) }()
	var err error
	var deadline time.Time
	select {
	case err = <-ended:
		deadline = time.Now().Add(exitBound)
		s.calls.drain(exitGrace)
	case <-s.ctx.Done():
		deadline = time.Now().Add(exitBound)
	}
	s.leave(ctx, deadline)

	if final := s.calls.finalObstacle(); final != nil {
		return final.Final
	}
	if broken, ok := errors.AsType[*hostError](context.Cause(s.ctx)); ok {
		return broken
	}
	return err
}

// session is the host's side of a Run: it joins the parts, and is what the wires know of the host.
// Each part owns its own state, under a mutex of its own.
type session struct {
	*run
	// reader takes what the host sends, in order.
	reader *reader
	// out is the only way to the host.
	out *lineWriter
	// hidden are the tools that the host does not see.
	hidden *toolFilter
	// calls are the requests of the host that are in flight.
	calls *callTable
	// obstacles knows what is in the way.
	obstacles *obstacles
	// watcher tells the host what its calls wait for.
	watcher *watcher
	// early answers in the server's place before that is reached.
	early *early
	// outcomes decides what of a call is told to more than the host.
	outcomes outcomes
	// memory is what one session learns for the next.
	memory *sessionMemory
	// upstream carries messages to the server.
	upstream wire
}

func newSession(ctx context.Context, cfg Config) *session {
	s := &session{run: newRun(ctx, cfg)}
	s.reader = newReader(s)
	s.out = newLineWriter(s.cfg.Out)
	s.hidden = newToolFilter(s.cfg.IgnoreTools, func(name string) {
		s.cfg.Log.Warn("a tool of the server is cut out of its list, because its name is one of the proxy's own",
			"tool", clean(name, s.cfg.Mask, 64))
	})
	if s.cfg.PinTools {
		s.hidden.pins = newToolPins(s.run, func() bool { return s.early.signIn.hostInitialized() }, s.write)
	}
	s.calls = newCallTable(s.run)
	s.watcher = &watcher{session: s, wake: make(chan struct{}, 1)}
	s.early = newEarly(s)
	s.memory = &sessionMemory{run: s.run}
	s.obstacles = &obstacles{run: s.run, giveUp: s.giveUp}
	s.obstacles.pauses.onWait = s.watcher.lookAgain
	s.upstream = newRouter(s.run, s, s.obstacles)
	return s
}

// hostError is a failure of In or Out.
type hostError struct {
	what string
	err  error
}

func (e *hostError) Error() string { return e.what + " the host: " + e.err.Error() }

func (e *hostError) Unwrap() error { return e.err }

// Causes of the end of a call or of the session.
var (
	errTimeout  = errors.New("timeout")
	errAnswered = errors.New("answered")
	errClosing  = errors.New("the session is ending")
	errAnew     = errors.New("the host has begun another session")
)

// write writes one line to the host. A failure ends the session.
func (s *session) write(line []byte) {
	defer s.carried(len(line))
	if err := s.out.line(line); err != nil && err != errClosing {
		s.end(&hostError{"write to", err})
	}
}

// reply writes an answer to the host, as a line or as a part of the batch b.
func (s *session) reply(line []byte, b *batchAnswers) {
	if b != nil {
		if line = b.add(line); line == nil {
			return
		}
	}
	s.write(line)
}

// refuse answers a request that was never entered in the table. A nil id becomes null.
func (s *session) refuse(id []byte, f *fault, b *batchAnswers) {
	s.reply(f.line(id, s.cfg.Mask), b)
	s.checkFinal()
}

// answer implements hostSide.
func (s *session) answer(c *call, line []byte) bool { return s.answerOf(c, line, nil) }

// answerOf is answer for a line that is that of the fault f, or the server's own if f is nil.
func (s *session) answerOf(c *call, line []byte, f *fault) bool {
	if c.own != nil {
		c.own(line)
		return true
	}
	if !c.claim() {
		return false
	}
	s.calls.remove(c)
	s.audit(c, line, f, false)
	if c.Method == "tools/list" {
		line = s.hidden.list(line)
	}
	s.reply(line, c.batch)
	s.calls.release(c)
	s.checkFinal()
	switch c.Method {
	case "tools/list":
		s.early.listed(line)
		s.memory.rememberTools(c, line)
	case "server/discover":
		s.memory.remember(memoryDiscover, rawjson.Member(line, "result"))
	}
	return true
}

// toHost implements hostSide.
func (s *session) toHost(m rawjson.Message) {
	if m.Kind == rawjson.Request || m.Kind == rawjson.Notification {
		s.write(m.Raw)
	}
}

// outOfStream implements hostSide.
func (s *session) outOfStream(m rawjson.Message) {
	if m.Kind == rawjson.Response && rawjson.ValidID(m.ID) {
		// Some servers answer on the GET stream whatever was asked while that was open.
		if c := s.calls.find(rawjson.IDKey(m.ID)); c != nil && s.answer(c, m.Raw) {
			c.cancel(errAnswered)
		}
		return
	}
	if m.Method == "notifications/progress" {
		s.calls.keepAlive(progressKey(m.Params))
	}
	s.toHost(m)
}

// keepAlive implements hostSide.
func (s *session) keepAlive(c *call) { c.keepAlive(s.cfg.Timeout) }

// lastsForever implements hostSide.
func (s *session) lastsForever(c *call) {
	c.timer.Stop()
	s.calls.release(c)
}

// giveUp answers all that is in flight with o, against which waiting does not help. Run ends when a
// request has been answered with it, or after finalGrace.
func (s *session) giveUp(o *Obstacle) {
	open, first := s.calls.refuseAll(o)
	if !first {
		return
	}
	// The caller of Run tells the person, who would read the same words twice if this were louder.
	s.cfg.Log.Info("giving up", "err", s.cfg.Mask(o.Text))
	for _, c := range open {
		c.cancel(o.fault())
	}
	timer := time.AfterFunc(finalGrace, func() { s.end(o.Final) })
	context.AfterFunc(s.ctx, func() { timer.Stop() })
}

// checkFinal ends the session if an obstacle is final and the last call in flight has been
// answered.
func (s *session) checkFinal() {
	if final := s.calls.finalObstacle(); final != nil && s.calls.len() == 0 {
		s.end(final.Final)
	}
}

// leave ends everything by the deadline: calls that are still in flight are answered, and the
// upstream is told.
func (s *session) leave(ctx context.Context, deadline time.Time) {
	s.calls.close()
	s.end(errClosing)
	// The upstream is told even if ctx has ended.
	until := time.Now().Add(exitGoodbye)
	if latest := deadline.Add(-exitReserve); latest.Before(until) {
		until = latest
	}
	goodbye, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	s.upstream.goodbye(goodbye)
	finished := make(chan struct{})
	// Ends with the work. That outlives Run only in a Write that nobody reads.
	go func() {
		s.work.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-time.After(time.Until(deadline)):
	}
	close(s.out.quit)
}
