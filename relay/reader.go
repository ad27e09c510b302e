package relay

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync"
	"time"

	"sallyport/relay/rawjson"
)

// maxNotifications is how many notifications of the host may be on their way, and how many of its
// answers. Further ones are dropped.
const maxNotifications = 1024

// reader takes what the host sends, and keeps the order that the protocol asks for ("Order" in the
// package comment).
type reader struct {
	session *session
	// queue has the notifications on their way.
	queue chan *notification

	// What follows belongs to the goroutine that reads.

	// opened is closed when initialize is answered. It is nil before initialize came.
	opened <-chan struct{}
	// ready is closed when calls may go: initialized was accepted, too. It is nil before initialize
	// came.
	ready <-chan struct{}
	// line is the last place in the line before a gate.
	line place
}

// isClosed reports whether gate is closed.
func isClosed(gate <-chan struct{}) bool {
	select {
	case <-gate:
		return true
	default:
		return false
	}
}

func newReader(s *session) *reader {
	return &reader{session: s, queue: make(chan *notification, maxNotifications)}
}

// read hands on the host's lines until In or the session has ended. It waits for nothing but In
// and, with an answer of our own, Out. It returns nil at the end of In.
func (r *reader) read(lines *lineReader) error {
	s := r.session
	for {
		line, err := lines.next()
		if s.ctx.Err() != nil {
			return nil
		}
		switch {
		case err == errTooLong:
			s.refuse(line, invalidRequest(err.Error()), nil)
			s.carried(s.cfg.maxMessage)
			continue
		case err == io.EOF || errors.Is(err, io.ErrClosedPipe):
			return nil
		case err != nil:
			return &hostError{"read from", err}
		case len(bytes.TrimSpace(line)) == 0:
			continue
		}
		s.carried(len(line))
		m, err := rawjson.Parse(line)
		if err != nil {
			s.refuse(nil, &fault{code: codeParse, kind: "parse", text: err.Error()}, nil)
			continue
		}
		r.dispatch(m, nil)
	}
}

// dispatch hands on one message. b collects the answer to it, if it is a part of a batch.
func (r *reader) dispatch(m rawjson.Message, b *batchAnswers) {
	switch m.Kind {
	case rawjson.Request:
		r.request(m, b)
	case rawjson.Notification:
		r.notification(m)
	case rawjson.Response:
		r.response(m)
	case rawjson.Batch:
		r.batch(m, b)
	default:
		r.session.refuse(nil, invalidRequest("neither a request nor a notification nor a response"), b)
	}
}

// request begins a call, or answers the request here.
func (r *reader) request(m rawjson.Message, b *batchAnswers) {
	s := r.session
	m, f := s.early.renamed(m)
	c := &call{Message: m, key: rawjson.IDKey(m.ID), progress: progressKey(m.Params, "_meta"),
		arrived: time.Now(), after: r.ready, batch: b}
	if c.isInit() {
		if b != nil {
			s.refuse(m.ID, invalidRequest("initialize in a batch"), b)
			return
		}
		c.after, c.gate = nil, make(chan struct{})
	}
	if f == nil {
		f = s.hidden.refuse(m)
	}
	if f != nil {
		r.refuse(c, f)
		return
	}
	pending := s.early.answered.Load()
	if pending != nil && !c.isInit() {
		if s.early.answerInPlace(pending, m, b) {
			return
		}
	}
	if m.Method == "tools/list" {
		s.early.listBegins()
	}
	c.signIn = callsSignIn(m)
	if f := s.calls.enter(c); f != nil {
		r.refuse(c, f)
		return
	}
	// enter has counted one goroutine in s.work. All that are begun here end with the call's
	// context at the latest.
	if c.Method == "server/discover" {
		s.early.discoverAsked(c)
	}
	switch {
	case c.isInit():
		r.opened, r.ready = c.gate, c.gate
		s.early.begin(c)
		s.work.Done()
	case c.signIn:
		go s.carry(c, func() error { return s.early.signIn.call(c, s.early.opening()) })
	default:
		if c.after != nil && !isClosed(c.after) {
			r.line = r.line.behind()
			c.line = r.line
		}
		go s.carry(c, func() error { return s.upstream.call(c) })
		// Go runs the goroutine that was started last before all others. So this one gets its turn
		// before the next line starts another.
		runtime.Gosched()
	}
	if pending != nil && !c.isInit() && !c.signIn {
		pending.retryNow()
	}
}

// refuse answers a call that does not begin.
func (r *reader) refuse(c *call, f *fault) {
	r.session.audit(c, nil, f, true)
	r.session.refuse(c.ID, f, c.batch)
}

// notification queues a notification, or ends the call that it cancels.
func (r *reader) notification(m rawjson.Message) {
	s := r.session
	if m.Method == "notifications/cancelled" {
		r.cancelCall(m)
		return
	}
	taken := s.calls.addPending(s.cfg.maxCalls + maxNotifications)
	n := &notification{Message: m, after: r.ready, opened: r.opened, done: s.calls.dealtWith}
	if m.Method == methodInitialized {
		n.gate = make(chan struct{})
		r.ready = n.gate
		s.early.hostReady(n.gate)
	}
	if taken {
		select {
		case r.queue <- n:
			return
		default:
		}
	}
	s.cfg.Log.Warn("notification dropped", "method", excerpt(m.Method, 64), "err", "too many are waiting")
	if n.gate != nil {
		close(n.gate)
	}
	if taken {
		s.calls.dealtWith()
	}
}

// sendNotifications sends the queued notifications, one after the other, until the session ends.
func (r *reader) sendNotifications() {
	s := r.session
	for {
		select {
		case n := <-r.queue:
			after := n.after
			if n.gate != nil {
				after = n.opened
			}
			if wait(s.ctx, after) == nil {
				s.upstream.notify(*n)
				continue
			}
			if n.gate != nil {
				close(n.gate)
			}
			n.done()
		case <-s.ctx.Done():
			return
		}
	}
}

// cancelCall ends the call that a notifications/cancelled names. The call's own goroutine sends the
// notification on, so that it cannot overtake the request.
func (r *reader) cancelCall(m rawjson.Message) {
	s := r.session
	id := rawjson.Member(m.Params, "requestId")
	if id == nil || !rawjson.ValidID(id) {
		return
	}
	c := s.calls.find(rawjson.IDKey(id))
	// The call may be answered already. And initialize must not be cancelled
	// (basic/utilities/cancellation).
	if c == nil || c.isInit() || !c.claim() {
		return
	}
	s.calls.remove(c)
	s.audit(c, nil, nil, false)
	c.cancel(&cancelled{m})
	if c.batch != nil {
		s.reply(nil, c.batch)
	}
}

// response hands on an answer of the host, to the server or to a request of our own.
func (r *reader) response(m rawjson.Message) {
	s := r.session
	if s.early.signIn.hostAnswered(m) {
		return
	}
	opened := r.opened
	// Ends with the session or Config.Timeout.
	taken := s.calls.startReply(func() {
		if wait(s.ctx, opened) == nil {
			s.upstream.respond(m)
		}
	})
	if !taken {
		s.cfg.Log.Warn("response dropped", "id", logID(m.ID), "err", "too many are waiting")
	}
}

// batch hands on the elements of a batch one by one, because upstream they travel so.
func (r *reader) batch(m rawjson.Message, outer *batchAnswers) {
	s := r.session
	if outer != nil || !longerThan(m.Raw, 0) {
		s.refuse(nil, invalidRequest("an empty or nested batch"), outer)
		return
	}
	if longerThan(m.Raw, maxBatch) {
		s.refuse(nil, invalidRequest((&batchError{maxBatch}).Error()), nil)
		return
	}
	b := &batchAnswers{open: 1}
	for e := range rawjson.Elements(m.Raw) {
		em, err := rawjson.Parse(e)
		if err != nil {
			em = rawjson.Message{}
		}
		if em.Kind == rawjson.Request || em.Kind == rawjson.Batch || em.Kind == rawjson.Invalid {
			b.expect()
		}
		r.dispatch(em, b)
	}
	s.reply(nil, b)
}

// batchAnswers collects what answers a batch. That is one array again (2025-03-26, basic,
// "Batching").
type batchAnswers struct {
	mu sync.Mutex
	// open is how many answers are still to come, plus one while the batch is being read.
	open int
	line []byte
}

// expect notes that one more answer is to come.
func (b *batchAnswers) expect() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open++
}

// add takes one answer, or nil if there will be none. It returns the whole line when nothing more
// is to come, and nil before.
func (b *batchAnswers) add(answer []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if answer != nil {
		sep := byte(',')
		if len(b.line) == 0 {
			sep = '['
		}
		b.line = append(append(b.line, sep), answer...)
	}
	if b.open--; b.open > 0 || len(b.line) == 0 {
		return nil
	}
	return append(b.line, ']')
}
