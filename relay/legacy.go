package relay

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	"sallyport/relay/rawjson"
)

// legacy is the wire of 2025-03-26, 2025-06-18 and 2025-11-25, and with a pushStream that of
// 2024-11-05.
type legacy struct {
	*legacyHTTP
	streams *legacyStreams
	// offered remembers whether the server offers the GET stream.
	offered *streamMemory

	mu sync.Mutex
	// current is the session that messages go in.
	current upstreamSession
	// initialize is the host's own, which also opens the sessions after the first.
	initialize rawjson.Message
	// renewal is the new session that is being made. It is nil if none is.
	renewal *renewal
	// endServerStream ends the GET stream, and cutServerStream breaks its connection. They are nil
	// before the first one.
	endServerStream, cutServerStream context.CancelFunc
	// keepingAlive begins to send pings.
	keepingAlive sync.Once
}

// upstreamSession is what the server gave in answer to initialize.
type upstreamSession struct {
	// id is the Mcp-Session-Id. "" means that the server gave none.
	id string
	// version is the negotiated one. It is "" until initialize is answered.
	version string
	// number counts the sessions. It is 0 until initialize is answered.
	number int
	// push is the stream of an HTTP+SSE session. It is nil for Streamable HTTP.
	push *pushStream
	// opener tells the credentials that the session was opened with from others.
	opener credentials
	// bySend says that a request goes by Config.Send, because one in a session was refused already.
	bySend bool
}

// sender returns what carries the requests of ctx in sess.
func (h *legacyHTTP) sender(ctx context.Context, sess upstreamSession) http.RoundTripper {
	if sess.id == "" || sess.bySend {
		return h.client.sender(ctx)
	}
	return h.sessionSender(ctx)
}

func newLegacy(cl *client) *legacy {
	h := &legacyHTTP{client: cl}
	return &legacy{
		legacyHTTP: h, streams: &legacyStreams{legacyHTTP: h, answered: make(chan struct{}, 1)}, offered: &streamMemory{run: h.run},
	}
}

func (l *legacy) session() upstreamSession {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// call carries c. The call of an initialize opens the session.
func (l *legacy) call(c *call) error {
	if c.isInit() {
		return l.open(c.ctx, &c.phase, c.Message, func(sess upstreamSession, m rawjson.Message) bool {
			if isAnswer(m, c.key) && m.Result != nil {
				l.begin(c.Message, sess, m)
			}
			return l.take(c, m)
		})
	}
	defer l.activity.callBegins()()
	for renewed := false; ; renewed = true {
		sess, err := l.ready(c.ctx)
		if err != nil {
			return err
		}
		sess.bySend = renewed
		lost, err := l.attempt(c, sess, renewed)
		if !lost {
			return err
		}
		c.phase.Store(unsent)
		if err := l.renew(c.ctx, sess); err != nil {
			return err
		}
	}
}

// attempt carries c in sess. It reports whether c was refused because the session is lost. In the
// last attempt that is no reason to send c again: the refusal becomes its answer.
func (l *legacy) attempt(c *call, sess upstreamSession, last bool) (lost bool, err error) {
	ctx, stop := sess.push.bind(c.ctx)
	defer stop()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	resp, err := l.post(ctx, &c.phase, sess, c.Raw)
	switch {
	case err == errPushEnded && c.phase.Load() == unsent && !last:
		return true, nil
	case err == errPushEnded:
		return false, l.pushEnded()
	case err != nil:
		return false, err
	}
	switch {
	case last:
		l.noteOutcome(sess, c.Message, resp)
	case l.endsSession(ctx, sess, c.Message, resp):
		discard(resp)
		return true, nil
	}
	if sess.push == nil || resp.StatusCode/100 != 2 {
		err = l.receive(ctx, sess, resp, func(m rawjson.Message) bool {
			if !last && resp.StatusCode/100 == 2 && l.deniesSession(sess, c, m) {
				lost = true
				leave() // nobody waits for the rest of the response
				return true
			}
			return l.take(c, m)
		})
		return lost, err
	}
	discard(resp)
	select {
	case <-c.ctx.Done(): // also by the answer
		return false, context.Cause(c.ctx)
	case <-sess.push.ctx.Done():
		return false, l.pushEnded()
	}
}

// receive reads what answers a request in sess and gives it to take. It closes the response's body,
// and returns nil only after the answer has come.
func (l *legacy) receive(ctx context.Context, sess upstreamSession, resp *http.Response, take sink) error {
	if isStream(resp) {
		return l.streams.answer(ctx, sess, resp, take)
	}
	return l.body(ctx, resp, take)
}

// take handles one message that came for c.
func (l *legacy) take(c *call, m rawjson.Message) bool {
	switch {
	case isAnswer(m, c.key):
		l.host.answer(c, m.Raw)
		l.streams.noteAnswer()
		c.linger()
		return true
	case m.Kind == rawjson.Response:
		l.cfg.Log.Debug("answer to another request dropped", "id", logID(m.ID))
	default:
		l.host.keepAlive(c)
		l.host.toHost(m)
	}
	return false
}

// notify sends n. It returns when the server has accepted n, or acceptWait has passed, and, after
// initialized, the GET stream is open, refused or late.
func (l *legacy) notify(n notification) {
	if n.gate != nil {
		defer close(n.gate)
	}
	accepted := make(chan struct{})
	// Ends with l.ctx or Config.Timeout.
	l.work.Go(func() {
		defer n.done()
		l.deliverUnanswered(n.Message)
		close(accepted)
		wait(l.ctx, n.gate)
	})
	l.obstacles.waitAccepted(accepted)
	if n.gate != nil {
		l.openServerStream(l.session())
	}
}

func (l *legacy) giveUp(cancelled rawjson.Message) { l.deliverUnanswered(cancelled) }

func (l *legacy) respond(m rawjson.Message) { l.deliverUnanswered(m) }

// deliverUnanswered carries a message that has no answer. The host does not wait, so a failure is
// only logged.
func (l *legacy) deliverUnanswered(m rawjson.Message) {
	if err := l.postUnanswered(m); err != nil && l.ctx.Err() == nil {
		l.cfg.Log.Warn("not accepted upstream", "method", excerpt(m.Method, 64), "err", l.cfg.Mask(err.Error()))
	}
}

// postUnanswered carries a message that has no answer. A notification that meets the end of its
// session is sent again in a new one, once.
func (l *legacy) postUnanswered(m rawjson.Message) error {
	if m.Kind == rawjson.Response {
		// It does not wait for a renewal, because its initialized may bring the question that m
		// answers. And it is not sent again, because whoever asked is gone with the session.
		return l.postIn(l.ctx, l.session(), m)
	}
	sess, err := l.ready(l.ctx)
	if err != nil {
		return err
	}
	err = l.postIn(l.ctx, sess, m)
	if f, ok := errors.AsType[*fault](err); !ok || !f.sessionLost {
		return err
	}
	if err := l.renew(l.ctx, sess); err != nil || m.Method == methodInitialized {
		return err // the new session has had its own initialized
	}
	if sess, err = l.ready(l.ctx); err != nil {
		return err
	}
	sess.bySend = true
	return l.postIn(l.ctx, sess, m)
}

// postIn carries a message that has no answer in sess. It returns when the server has accepted it,
// or after Config.Timeout: a person may be signing in meanwhile.
func (l *legacy) postIn(ctx context.Context, sess upstreamSession, m rawjson.Message) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	resp, err := l.post(ctx, new(phase), sess, m.Raw)
	switch {
	case err != nil:
	case resp.StatusCode/100 != 2:
		f := statusFault(resp, "")
		if sess.bySend {
			l.noteOutcome(sess, m, resp)
		} else {
			f.sessionLost = l.endsSession(ctx, sess, m, resp)
		}
		discard(resp)
		err = f
	case isStream(resp):
		// The server was not asked for a stream, but what it brings is for the host. Ends with the
		// stream or with ctx.
		l.work.Go(func() {
			defer cancel()
			l.streams.pass(ctx, resp, new(cursor))
		})
		return nil
	default:
		discard(resp)
	}
	cancel()
	return err
}

// goodbye ends the session upstream with a DELETE, unless something is in the way. A server may
// answer 405.
func (l *legacy) goodbye(ctx context.Context) {
	sess := l.session()
	if o, _ := l.cfg.Obstacle(); sess.id == "" || o != nil || !l.cfg.MayLeave() {
		return
	}
	resp, err := l.roundTrip(ctx, l.cfg.Background, http.MethodDelete, sess, "")
	if err != nil {
		l.logFailure("goodbye", err)
		return
	}
	resp.Body.Close()
	l.cfg.Log.Debug("goodbye", "status", resp.StatusCode)
}

// legacyHTTP makes the HTTP requests of the legacy wire.
type legacyHTTP struct {
	*client
	// proven is the number of the last session in which the server accepted something.
	proven atomic.Int64
	// activity tells how long the session has been idle.
	activity activity
	// unhelped are the requests that a new session has not helped.
	unhelped kindSet
}

// roundTrip makes a GET or a DELETE in sess. lastEventID asks for the rest of a stream; "" asks for
// a new one. Before there is a session, requests start at the configured URL again, wherever a
// redirect has led before.
func (h *legacyHTTP) roundTrip(ctx context.Context, send http.RoundTripper, method string, sess upstreamSession,
	lastEventID string) (*http.Response, error) {
	if sess.number == 0 {
		h.moved.Store(nil)
	}
	header := h.header(sess)
	if method == http.MethodGet {
		header["Accept"] = []string{"text/event-stream"}
	}
	if lastEventID != "" {
		header["Last-Event-Id"] = []string{lastEventID}
	}
	return h.do(ctx, httpRequest{send: send, method: method, url: sess.push.target(), header: header})
}

// post delivers body in sess. Its errors are those of deliver.
func (h *legacyHTTP) post(ctx context.Context, p *phase, sess upstreamSession, body []byte) (*http.Response, error) {
	if sess.number == 0 {
		h.moved.Store(nil)
	}
	header := h.header(sess)
	header["Content-Type"] = []string{"application/json"}
	header["Accept"] = []string{"application/json, text/event-stream"}
	h.activity.used()
	defer h.activity.used()
	resp, err := h.deliver(ctx, httpRequest{send: h.sender(ctx, sess), method: http.MethodPost, url: sess.push.target(),
		header: header, body: body, phase: p})
	if err == nil && resp.StatusCode/100 == 2 {
		h.proven.Store(int64(sess.number))
	}
	return resp, err
}

// header returns the header of a request in sess (Streamable HTTP of 2025-03-26 and later).
func (h *legacyHTTP) header(sess upstreamSession) http.Header {
	header := h.userHeader()
	if sess.id != "" {
		header["Mcp-Session-Id"] = []string{sess.id}
	}
	if v := sess.version; v != "" {
		header["Mcp-Protocol-Version"] = []string{v}
	} else if v := h.cfg.ProtocolVersion; v != "" {
		header["Mcp-Protocol-Version"] = []string{v}
	}
	return header
}
