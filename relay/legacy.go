package relay

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/relay/rawjson"
)

// renewTimeout bounds the making of a new session after a 404.
const renewTimeout = 30 * time.Second

// noticeWait is how long later messages wait for the server to accept a notification before them.
const noticeWait = 10 * time.Second

// legacy is the wire of 2025-03-26, 2025-06-18 and 2025-11-25.
type legacy struct {
	*server
	proven atomic.Int64  // number of the last session in which the server accepted something
	worked chan struct{} // holds one token after a call was answered, for a GET stream that waits for that

	delivered delivered

	mu         sync.Mutex // guards what follows
	cur        upstreamSession
	initialize rawjson.Message // the host's own, for a new session
	renewal    *renewal
	endStream  context.CancelFunc // ends the GET stream; nil: there is none
}

// upstreamSession is what the server gave in answer to initialize.
type upstreamSession struct {
	id      string // Mcp-Session-Id; "" none
	version string // negotiated; "" not yet
	number  int    // counts sessions
	link    *link  // of HTTP+SSE; nil: Streamable HTTP
}

// notice is a notification on its way, behind the gate after.
type notice struct {
	rawjson.Message
	after, opened <-chan struct{}
	gate          chan struct{} // notifications/initialized only: closed when calls may follow
}

// renewal is a new session being made; err is set before done is closed.
type renewal struct {
	done chan struct{}
	err  error
}

func newLegacy(srv *server) *legacy {
	return &legacy{server: srv, worked: make(chan struct{}, 1)}
}

// roundTrip is do in sess. The next initialize forgets where a permanent redirect led.
func (l *legacy) roundTrip(ctx context.Context, rt http.RoundTripper, method string, sess upstreamSession, body []byte, lastEventID string) (*http.Response, error) {
	if sess.number == 0 {
		l.moved.Store(nil)
	}
	return l.do(ctx, rt, method, sess.link.target(), l.header(method, sess, lastEventID), body)
}

// send is deliver in sess.
func (l *legacy) send(ctx context.Context, phase *atomic.Int32, sess upstreamSession, body []byte) (*http.Response, error) {
	if sess.number == 0 {
		l.moved.Store(nil)
	}
	resp, err := l.deliver(ctx, l.s.sender(ctx), phase, sess.link.target(), l.header(http.MethodPost, sess, ""), body)
	if err == nil && resp.StatusCode/100 == 2 {
		l.proven.Store(int64(sess.number))
	}
	return resp, err
}

// receive reads the answer to a request in sess, which take recognises. It closes the response's body and returns nil only after the
// answer has come.
func (l *legacy) receive(ctx context.Context, sess upstreamSession, resp *http.Response, take sink) error {
	if isStream(resp) {
		return l.stream(ctx, sess, resp, take)
	}
	return l.body(ctx, resp, take)
}

func (l *legacy) session() upstreamSession {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cur
}

// ready waits until no new session is being made and returns the one to use. Nothing but the host's answers may go in a
// session before its initialized was accepted and its GET stream opened.
func (l *legacy) ready(ctx context.Context) (upstreamSession, error) {
	for {
		l.mu.Lock()
		sess, r := l.cur, l.renewal
		l.mu.Unlock()
		switch {
		case r != nil:
			if err := wait(ctx, r.done); err != nil {
				return upstreamSession{}, err
			}
		case sess.link.over():
			if err := l.renew(ctx, sess); err != nil {
				return upstreamSession{}, err
			}
		default:
			return sess, nil
		}
	}
}

// call carries c and returns when nothing more can come of it. The error says why there is no answer.
func (l *legacy) call(c *call) error {
	if c.init {
		return l.open(c.ctx, &c.phase, c.Message, func(sess upstreamSession, m rawjson.Message) bool {
			if isAnswer(m, c.key) && m.Result != nil {
				l.begin(c.Message, sess, m)
			}
			return l.take(c, m)
		})
	}
	for renewed := false; ; renewed = true {
		sess, err := l.ready(c.ctx)
		if err != nil {
			return err
		}
		gone, err := l.attempt(c, sess, renewed)
		if !gone {
			return err
		}
		c.phase.Store(unsent)
		if err := l.renew(c.ctx, sess); err != nil {
			return err
		}
	}
}

// attempt carries c in sess. It reports whether the session is gone, so that c did not run and may be sent in another one; the last
// attempt takes that for the answer.
func (l *legacy) attempt(c *call, sess upstreamSession, last bool) (gone bool, err error) {
	ctx, stop := sess.link.bind(c.ctx)
	defer stop()
	resp, err := l.send(ctx, &c.phase, sess, c.Raw)
	switch {
	case err == errLinkEnded && c.phase.Load() == unsent && !last:
		return true, nil
	case err == errLinkEnded:
		return false, l.linkEnded()
	case err != nil:
		return false, err
	case !last && l.lost(sess, resp):
		discard(resp)
		return true, nil
	case sess.link == nil || resp.StatusCode/100 != 2:
		return false, l.receive(ctx, sess, resp, func(m rawjson.Message) bool { return l.take(c, m) })
	}
	discard(resp)
	select {
	case <-c.ctx.Done(): // by the answer, too
		return false, context.Cause(c.ctx)
	case <-sess.link.ctx.Done():
		return false, l.linkEnded()
	}
}

// lost reports whether resp says that the server has forgotten sess: with 404 (basic/transports, "Session Management"), or, as
// some servers do, with 400 and words about the session, which count only if it has worked. The body can still be read.
func (l *legacy) lost(sess upstreamSession, resp *http.Response) bool {
	switch {
	case sess.id == "" && sess.link == nil:
		return false
	case resp.StatusCode == http.StatusNotFound:
		return true
	case resp.StatusCode != http.StatusBadRequest || l.proven.Load() != int64(sess.number) || mediaType(resp.Header) == "text/html":
		return false
	}
	head := peek(resp, maxShown)
	words := string(head)
	if e := rawjson.Member(head, "error"); e != nil && e[0] == '{' {
		words = rawjson.MemberText(e, "message")
	}
	return strings.Contains(strings.ToLower(words), "session")
}

// take handles one message that came for c.
func (l *legacy) take(c *call, m rawjson.Message) bool {
	switch {
	case isAnswer(m, c.key):
		l.s.answer(c, m.Raw)
		select {
		case l.worked <- struct{}{}:
		default:
		}
		// The stream should end now. Reading it to its end lets the connection be used again.
		c.timer.Reset(lingerTime)
		return true
	case m.Kind == rawjson.Response:
		l.s.cfg.Log.Debug("answer to another request dropped", "id", logID(m.ID))
	default:
		l.s.touch(c)
		l.s.toHost(m)
	}
	return false
}

func isAnswer(m rawjson.Message, key string) bool {
	return m.Kind == rawjson.Response && rawjson.ValidID(m.ID) && rawjson.IDKey(m.ID) == key
}

// wait waits for gate, if there is one, or the end of ctx.
func wait(ctx context.Context, gate <-chan struct{}) error {
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin notes the session that the answer to initialize opens.
func (l *legacy) begin(initialize rawjson.Message, sess upstreamSession, answer rawjson.Message) {
	l.delivered.clear()
	sess.version = rawjson.MemberText(answer.Result, "protocolVersion")
	l.mu.Lock()
	old := l.cur.link
	sess.number = l.cur.number + 1
	l.initialize, l.cur = initialize, sess
	l.mu.Unlock()
	if old != nil {
		old.end(errLinkEnded)
	}
}

// notice sends n and returns when the next may go.
func (l *legacy) notice(n notice) {
	if n.gate != nil {
		defer close(n.gate)
	}
	accepted := make(chan struct{})
	// Ends with s.ctx or Config.Timeout.
	l.s.work.Go(func() {
		defer l.s.settle()
		l.post(n.Message)
		close(accepted)
		wait(l.s.ctx, n.gate)
	})
	l.standBy(accepted)
	if n.gate != nil {
		l.openStream(l.session())
	}
}

// standBy waits for accepted, but no longer than noticeWait while nothing is in the way of the upstream.
func (srv *server) standBy(accepted <-chan struct{}) {
	for {
		o, changed := srv.s.cfg.Obstacle()
		var late <-chan time.Time
		if o == nil {
			late = time.After(noticeWait)
		}
		select {
		case <-accepted:
			return
		case <-late:
			return
		case <-changed:
		}
	}
}

// giveUp posts the notice that nobody waits for a request any more.
func (l *legacy) giveUp(cancelled rawjson.Message) { l.post(cancelled) }

// respond carries the host's answer to a request of the server.
func (l *legacy) respond(m rawjson.Message) { l.post(m) }

// post carries a message that has no answer. What goes wrong is only logged: the host waits for nothing.
func (l *legacy) post(m rawjson.Message) {
	err := l.tryPost(m)
	if err != nil && l.s.ctx.Err() == nil {
		l.s.cfg.Log.Warn("not accepted upstream", "method", excerpt(m.Method, 64), "err", l.s.cfg.Mask(err.Error()))
	}
}

// tryPost is post with its error. A notification that meets the end of its session is sent again in a new one, once.
func (l *legacy) tryPost(m rawjson.Message) error {
	ctx := l.s.ctx
	if m.Kind == rawjson.Response {
		// It waits for no renewal, whose initialized may bring the question it answers. And it is not sent again: whoever
		// asked is gone with the session.
		return l.postIn(ctx, l.session(), m)
	}
	sess, err := l.ready(ctx)
	if err != nil {
		return err
	}
	err = l.postIn(ctx, sess, m)
	var f *fault
	if !errors.As(err, &f) || !f.lost {
		return err
	}
	if err := l.renew(ctx, sess); err != nil || m.Method == "notifications/initialized" {
		return err // the new session has had its own initialized
	}
	if sess, err = l.ready(ctx); err != nil {
		return err
	}
	return l.postIn(ctx, sess, m)
}

// postIn carries a message that has no answer and returns once the server has accepted it, or after Config.Timeout: a person may be signing in.
func (l *legacy) postIn(ctx context.Context, sess upstreamSession, m rawjson.Message) error {
	ctx, cancel := context.WithTimeout(ctx, l.s.cfg.Timeout)
	resp, err := l.send(ctx, new(atomic.Int32), sess, m.Raw)
	switch {
	case err != nil:
	case resp.StatusCode/100 != 2:
		f := statusFault(resp, "")
		f.lost = l.lost(sess, resp)
		discard(resp)
		err = f
	case mediaType(resp.Header) == "text/event-stream":
		// Nobody asked for a stream, but what it brings is the server's. Ends with the stream or with ctx.
		l.s.work.Go(func() { defer cancel(); l.pass(resp, new(cursor)) })
		return nil
	default:
		discard(resp)
	}
	cancel()
	return err
}

// renew makes a new session in place of old, which the server has forgotten, or joins those who do. ctx bounds only the waiting.
func (l *legacy) renew(ctx context.Context, old upstreamSession) error {
	l.mu.Lock()
	r := l.renewal
	if r == nil && l.cur.number != old.number {
		l.mu.Unlock()
		return nil
	}
	if r == nil {
		r = &renewal{done: make(chan struct{})}
		l.renewal = r
		// Ends with s.ctx or renewTimeout.
		l.s.work.Go(func() {
			ctx, cancel := context.WithTimeout(l.s.ctx, renewTimeout)
			defer cancel()
			r.err = l.handshake(ctx)
			l.mu.Lock()
			l.renewal = nil
			l.mu.Unlock()
			close(r.done)
		})
	}
	l.mu.Unlock()
	if err := wait(ctx, r.done); err != nil {
		return err
	}
	return r.err
}

// handshake opens a new session with the host's own initialize; the host sees nothing of it. The error is a *fault.
func (l *legacy) handshake(ctx context.Context) error {
	l.mu.Lock()
	init := l.initialize
	l.mu.Unlock()
	l.s.cfg.Log.Info("session lost, opening a new one")
	key := rawjson.IDKey(init.ID)
	refused := false
	initCtx, answered := context.WithCancel(ctx)
	defer answered()
	err := l.open(initCtx, new(atomic.Int32), init, func(sess upstreamSession, m rawjson.Message) bool {
		switch {
		case !isAnswer(m, key):
			l.s.toHost(m)
			return false
		case m.Result == nil:
			refused = true
		default:
			l.begin(init, sess, m)
		}
		if sess.link == nil {
			answered() // the rest of the stream is not waited for
		}
		return true
	})
	if refused {
		err = errors.New("initialize was refused")
	}
	sess := l.session()
	if err == nil {
		err = l.postIn(ctx, sess, rawjson.Message{Kind: rawjson.Notification, Method: "notifications/initialized",
			Raw: []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)})
	}
	if err == nil {
		l.openStream(sess)
		return nil
	}
	f := fault{code: codeTransport, kind: "session", text: err.Error(), hints: []string{"restart the session"}}
	if inner := (*fault)(nil); errors.As(err, &inner) {
		f = *inner
	}
	f.text = "the server has ended the session and a new one could not be opened: " + f.text
	return &f
}

// goodbye ends the session upstream (DELETE) unless something is in the way. A server may answer 405.
func (l *legacy) goodbye(ctx context.Context) {
	sess := l.session()
	if o, _ := l.s.cfg.Obstacle(); sess.id == "" || o != nil {
		return
	}
	resp, err := l.roundTrip(ctx, l.s.cfg.Background, http.MethodDelete, sess, nil, "")
	if err != nil {
		l.s.cfg.Log.Debug("goodbye", "err", l.s.cfg.Mask(err.Error()))
		return
	}
	resp.Body.Close()
	l.s.cfg.Log.Debug("goodbye", "status", resp.StatusCode)
}
