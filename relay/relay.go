package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/relay/rawjson"
)

const (
	maxCalls   = 1024 // requests of the host in flight; one more is answered busy
	maxNotices = 1024 // notifications, and answers of the host, on their way; more are dropped

	idleLoad  = 1 << 20                // bytes carried after which there is memory to give back
	idleAfter = 500 * time.Millisecond // after the last of them

	lingerTime = time.Second     // how long a stream may stay open after its call was answered
	finalGrace = 3 * time.Second // how long a final obstacle waits for a request to answer

	// Leaving takes at most exitBound: calls in flight may finish within exitGrace, then the upstream is told.
	exitBound   = 1800 * time.Millisecond
	exitGrace   = time.Second
	exitGoodbye = time.Second
)

// Config describes one relayed session.
type Config struct {
	In     io.Reader         // the host's messages, one per line
	Out    io.Writer         // each Write holds whole messages
	URL    *url.URL          // the upstream endpoint
	Header http.Header       // extra upstream headers
	Send   http.RoundTripper // adds the token, finds the way; follows no redirects
	// Background is Send for what nobody waits for, the GET stream and the DELETE: it never starts a sign-in of a person but
	// returns the 401, after which the stream is asked for again later. nil: Send.
	Background http.RoundTripper

	Transport       string        // TransportAuto, TransportHTTP or TransportSSE; "": TransportAuto
	IgnoreTools     []string      // patterns of tools to hide and to refuse; * stands for any characters
	ProtocolVersion string        // sent until the server has negotiated one; "" none
	NoServerStream  bool          // never open the GET stream
	Timeout         time.Duration // a call's limit, reset by progress; 0: 300 s
	Patience        time.Duration // how long a request not yet sent waits for an obstacle to pass; 0: 25 s
	// InitPatience is how long initialize and server/discover wait before they are answered in the server's place, and how long anything has to
	// be in the way before the host is told of it; 0: 3 s.
	InitPatience time.Duration
	Version      string // our own, of an early answer's serverInfo; "" devel

	// Obstacle returns what is in the way now (nil: nothing) and a channel that is closed at the next change. It is called
	// from several goroutines. A nil func: nothing ever is.
	Obstacle func() (o *Obstacle, changed <-chan struct{})
	// SignIn is behind the sign-in tool: it asks the person for a sign-in, if one is wanted, and waits for that. What Send asks
	// for is begun by a program, and may be held back where such sign-ins were in vain. A nil func: what Send asks for will do.
	SignIn func(ctx context.Context) error
	// Idle is called some time after the beginning, and after a large message or many: a good time to give memory back. nil: nothing.
	Idle func()
	// Explain turns an error of Send into words; Explain(err).Final says that waiting cannot mend it. It is called from
	// several goroutines. A nil func: the error's own words.
	Explain func(error) Explanation
	// Mask hides every secret in use in text that may come from the upstream: an error's text and the excerpt of a body,
	// not the hints and the link of an Obstacle.
	Mask func(string) string

	// Load and Save keep, for this upstream, what one session learns for the next, each thing under a name of its own. A name
	// that was never saved loads as nil. Nil funcs: nothing is remembered.
	Load func(name string) ([]byte, error)
	Save func(name string, b []byte) error

	Log *slog.Logger // nil discards
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		p   *time.Duration
		def time.Duration
	}{{&c.Timeout, 300 * time.Second}, {&c.Patience, 25 * time.Second}, {&c.InitPatience, 3 * time.Second}} {
		if *d.p <= 0 {
			*d.p = d.def
		}
	}
	if c.Version == "" {
		c.Version = "devel"
	}
	if c.Background == nil {
		c.Background = c.Send
	}
	if c.Obstacle == nil {
		c.Obstacle = func() (*Obstacle, <-chan struct{}) { return nil, nil }
	}
	if c.SignIn == nil {
		c.SignIn = func(context.Context) error { return nil }
	}
	if c.Explain == nil {
		c.Explain = func(error) Explanation { return Explanation{} }
	}
	if c.Idle == nil {
		c.Idle = func() {}
	}
	if c.Mask == nil {
		c.Mask = func(s string) string { return s }
	}
	if c.Load == nil {
		c.Load = func(string) ([]byte, error) { return nil, nil }
	}
	if c.Save == nil {
		c.Save = func(string, []byte) error { return nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Run carries the session until In ends, ctx ends or an obstacle is final. It returns nil for the first two, the obstacle's
// Final for the third, and the error of In or Out if one of these broke; an Out that nobody reads any more is matched by
// errors.Is(err, syscall.EPIPE). From the end to the return it takes less than two seconds. Neither In nor Out is closed.
func Run(ctx context.Context, cfg Config) error {
	cfg.setDefaults()
	s := &session{cfg: cfg, hide: newToolFilter(cfg.IgnoreTools), calls: map[string]*call{}, drained: make(chan struct{}), turn: make(chan struct{}),
		wake: make(chan struct{}, 1), ours: "sallyport-" + rand.Text() + "-"}
	s.ctx, s.end = context.WithCancelCause(ctx)
	s.out = newLineWriter(cfg.Out)
	s.up = newUpstream(s)
	s.idle = time.AfterFunc(idleAfter, func() {
		s.load.Store(0)
		cfg.Idle()
	})
	defer s.idle.Stop()
	s.work.Go(s.watch)      // ends with s.ctx
	s.work.Go(s.up.notices) // ends with s.ctx

	ended := make(chan error, 1)
	// Ends with In. It is outside s.work because a Read of the real stdin cannot be interrupted.
	go s.read(newLineReader(cfg.In, maxMessage), ended)
	var err error
	var deadline time.Time
	select {
	case err = <-ended:
		deadline = time.Now().Add(exitBound)
		s.drain(exitGrace)
	case <-s.ctx.Done():
		deadline = time.Now().Add(exitBound)
	}
	s.leave(ctx, deadline)

	s.mu.Lock()
	defer s.mu.Unlock()
	switch cause := context.Cause(s.ctx); {
	case s.final != nil:
		return s.final.Final
	case errors.As(cause, new(*hostError)):
		return cause
	}
	return err
}

// session is the host's side of Run.
type session struct {
	cfg  Config
	out  *lineWriter
	hide toolFilter
	up   *upstream
	ctx  context.Context // the session's lifetime; the cause says what ended it
	end  context.CancelCauseFunc
	work sync.WaitGroup
	wake chan struct{} // holds one token: watch is to look again
	turn chan struct{} // given to a goroutine that has carried a call: it is to read on
	ours string        // what the ids of our own requests to the host begin with

	early atomic.Pointer[opening] // the opening whose initialize was answered early; nil: none, and nothing costs anything

	// Only the reader uses these. Each is closed when messages after it may go; see "Order" in the package comment.
	opened <-chan struct{} // initialize was answered; nil before it came
	ready  <-chan struct{} // initialized was accepted too
	next   func()          // the call that the last line began; nil: none. The reader's goroutine is to run it

	idle *time.Timer  // Config.Idle
	load atomic.Int64 // bytes carried since it was called

	mu      sync.Mutex       // guards what follows
	calls   map[string]*call // by idKey, in flight
	replies int              // answers of the host on their way
	pending int              // messages of the host not yet dealt with
	closed  bool             // nothing new is taken
	drained chan struct{}    // closed when closed and nothing is pending
	final   *Obstacle        // the first final obstacle

	opening     *opening  // the last; nil before initialize
	discovered  time.Time // when the host asked for server/discover first; zero: it did not
	initialized bool      // the host has sent notifications/initialized
	urlMode     bool      // the host shows links
	link        signInLink
	tools       [][]byte // the pages of a tools/list so far
	nextTools   string   // the cursor of its next page
}

// hostError is a failure of In or Out.
type hostError struct {
	what string
	err  error
}

func (e *hostError) Error() string { return e.what + " the host: " + e.err.Error() }

func (e *hostError) Unwrap() error { return e.err }

var (
	errTimeout  = errors.New("timeout")
	errAnswered = errors.New("answered")
	errClosing  = errors.New("the session is ending")
	errAnew     = errors.New("the host has begun another session")
)

// read hands on the host's lines until In ends, whose error it then gives to ended. It waits for nothing but In and, with an answer
// of its own, Out. The goroutine that has read a call carries it, while another one reads on: that saves the call, with which somebody
// may be waiting, the way to another thread. Then it waits for its next turn to read, for its stack has grown to what a call needs.
func (s *session) read(lines *lineReader, ended chan<- error) {
	for s.readCall(lines, ended) {
		call := s.next
		s.next = nil
		select {
		case s.turn <- struct{}{}:
		default:
			go s.read(lines, ended) // ends with s.ctx, or when In has ended in its turn
		}
		call()
		select {
		case <-s.turn:
		case <-s.ctx.Done():
			return
		}
	}
}

// readCall hands on lines until one has set s.next; false: In or the session has ended.
func (s *session) readCall(lines *lineReader, ended chan<- error) bool {
	for s.next == nil {
		line, err := lines.next()
		if s.ctx.Err() != nil {
			ended <- nil
			return false
		}
		switch {
		case err == errTooLong:
			s.refuse(line, invalidRequest(err.Error()), nil)
			s.carried(maxMessage)
			continue
		case err == io.EOF || errors.Is(err, io.ErrClosedPipe):
			ended <- nil
			return false
		case err != nil:
			ended <- &hostError{"read from", err}
			return false
		case len(bytes.TrimSpace(line)) == 0:
			continue
		}
		s.carried(len(line))
		m, err := rawjson.Parse(line)
		if err != nil {
			s.refuse(nil, &fault{code: codeParse, kind: "parse", text: err.Error()}, nil)
			continue
		}
		s.dispatch(m, nil)
	}
	return true
}

func (s *session) dispatch(m rawjson.Message, b *batchAnswers) {
	switch m.Kind {
	case rawjson.Request:
		s.request(m, b)
	case rawjson.Notification:
		s.notification(m)
	case rawjson.Response:
		s.response(m)
	case rawjson.Batch:
		s.batch(m, b)
	default:
		s.refuse(nil, invalidRequest("neither a request nor a notification nor a response"), b)
	}
}

func (s *session) notification(m rawjson.Message) {
	if m.Method == "notifications/cancelled" {
		s.cancelCall(m)
		return
	}
	s.mu.Lock()
	full := s.closed || s.pending >= maxCalls+maxNotices
	if !full {
		s.pending++
	}
	s.mu.Unlock()
	n := notice{Message: m, after: s.ready, opened: s.opened}
	if m.Method == "notifications/initialized" {
		n.gate = make(chan struct{})
		s.ready = n.gate
		s.hostReady(n.gate)
	}
	if full || !s.up.notify(n) {
		s.cfg.Log.Warn("notification dropped", "method", excerpt(m.Method, 64), "err", "too many are waiting")
		if n.gate != nil {
			close(n.gate)
		}
		if !full {
			s.settle()
		}
	}
}

func (s *session) response(m rawjson.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shownLocked(m) {
		return
	}
	if s.closed || s.replies >= maxNotices {
		s.cfg.Log.Warn("response dropped", "id", logID(m.ID), "err", "too many are waiting")
		return
	}
	s.replies++
	s.pending++
	opened := s.opened
	// Ends with s.ctx or Config.Timeout at the latest.
	s.work.Go(func() {
		s.up.respond(m, opened)
		s.mu.Lock()
		s.replies--
		s.mu.Unlock()
		s.settle()
	})
}

// toHost passes on a message of the server that answers no call.
func (s *session) toHost(m rawjson.Message) {
	if m.Kind == rawjson.Request || m.Kind == rawjson.Notification {
		s.write(m.Raw)
	}
}

// write writes one line to the host. A failure ends the session.
func (s *session) write(line []byte) { s.writeWith(line, false) }

// writeWith is write, together with what others write at the time if others says that there may be some.
func (s *session) writeWith(line []byte, others bool) {
	defer s.carried(len(line))
	if err := s.out.line(line, others); err != nil && err != errClosing {
		s.end(&hostError{"write to", err})
	}
}

// carried notes that n bytes are let go that have come or gone.
func (s *session) carried(n int) {
	if s.load.Add(int64(n)) >= idleLoad {
		s.idle.Reset(idleAfter)
	}
}

// settle counts one message of the host as dealt with.
func (s *session) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending--; s.closed && s.pending == 0 {
		close(s.drained)
	}
}

// drain takes nothing new and waits until all that was taken is dealt with, at most for grace.
func (s *session) drain(grace time.Duration) {
	s.mu.Lock()
	s.closed = true
	idle := s.pending == 0
	s.mu.Unlock()
	if idle {
		return
	}
	select {
	case <-s.drained:
	case <-time.After(grace):
	case <-s.ctx.Done():
	}
}

// leave ends everything by the deadline: calls still in flight are answered, the upstream is told.
func (s *session) leave(ctx context.Context, deadline time.Time) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end(errClosing)
	// A farewell runs after the end of ctx, too, and leaves some time for the rest.
	byeCtx, cancel := context.WithDeadline(context.WithoutCancel(ctx), minTime(time.Now().Add(exitGoodbye), deadline.Add(-200*time.Millisecond)))
	defer cancel()
	s.up.goodbye(byeCtx)
	finished := make(chan struct{})
	// Ends with the work; that can outlive Run only in a Write that nobody reads.
	go func() { s.work.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(time.Until(deadline)):
	}
	close(s.out.quit)
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
