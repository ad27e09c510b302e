package relay

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sallyport/relay/rawjson"
)

// renewTimeout is how long the making of a new session may take. If something is in the way at its
// end, such as a sign-in that waits for a person, it starts anew.
const renewTimeout = 30 * time.Second

// renewal is a new session that is being made. err is set before done is closed.
type renewal struct {
	done chan struct{}
	err  error
	// background says that no person is asked to sign in for it.
	background bool
}

// sessionSink is a sink for what an initialize brings. sess is the session that the answer opens.
type sessionSink func(sess upstreamSession, m rawjson.Message) (answered bool)

// open carries an initialize by the transport that the server speaks, and returns when nothing more
// can come of it. take gets all that it brings, together with the session that the answer opens. If
// the answer comes on a push stream, take gets nothing but the answer.
func (l *legacy) open(ctx context.Context, p *phase, init rawjson.Message, take sessionSink) error {
	if l.cfg.Transport == TransportSSE {
		sess, err := l.connect(ctx, init, take)
		if err != nil {
			return err
		}
		return l.openOnPush(ctx, p, sess, init)
	}
	resp, err := l.post(ctx, p, upstreamSession{}, init.Raw)
	if err != nil {
		return err
	}
	if err := modernRefusal(resp); err != nil {
		discard(resp)
		p.Store(unsent)
		return err
	}
	if l.cfg.Transport != TransportHTTP && mayBeHTTPSSE(resp, init) {
		p.Store(unsent)
		sess, err := l.connect(ctx, init, take)
		if err == nil {
			discard(resp)
			return l.openOnPush(ctx, p, sess, init)
		}
		// The server does not speak HTTP+SSE either, so its refusal is what counts.
		l.logFailure("no HTTP+SSE", err)
	}
	sess := upstreamSession{id: resp.Header.Get("Mcp-Session-Id"), opener: credentialsOf(resp)}
	return l.receive(ctx, sess, resp, func(m rawjson.Message) bool { return take(sess, m) })
}

// begin notes the session that the answer to initialize opens.
func (l *legacy) begin(initialize rawjson.Message, sess upstreamSession, answer rawjson.Message) {
	l.streams.delivered.clear()
	sess.version = rawjson.MemberText(answer.Result, "protocolVersion")
	l.batches.Store(sess.version == batchVersion)
	l.mu.Lock()
	old := l.current.push
	sess.number = l.current.number + 1
	l.initialize, l.current = initialize, sess
	l.mu.Unlock()
	if old != nil {
		old.end(errPushEnded)
	}
	if l.cfg.KeepAlive > 0 {
		l.keepingAlive.Do(func() { l.work.Go(pinger{l}.run) }) // ends with l.ctx
	}
}

// ready waits until no new session is being made, and returns the session to use. Only the host's
// answers may go in a session whose initialized is not accepted yet, or whose GET stream is not
// open yet.
func (l *legacy) ready(ctx context.Context) (upstreamSession, error) {
	for {
		l.mu.Lock()
		sess, r := l.current, l.renewal
		l.mu.Unlock()
		switch {
		case r != nil:
			if err := wait(ctx, r.done); err != nil {
				return upstreamSession{}, err
			}
		case sess.push.over():
			if err := l.renew(ctx, sess); err != nil {
				return upstreamSession{}, err
			}
		default:
			return sess, nil
		}
	}
}

// renew makes a new session in place of old, which the server has forgotten, or joins those who are
// making it. If there is another one than old already, it does nothing. ctx bounds only the
// waiting.
//
// A renewal in the background may fail where only a person can help. Who has joined it and is not
// in the background then begins another one.
func (l *legacy) renew(ctx context.Context, old upstreamSession) error {
	for {
		r := l.beginRenewal(ctx, old)
		if r == nil {
			return nil
		}
		if err := wait(ctx, r.done); err != nil {
			return err
		}
		if r.err == nil || !r.background || ctx.Value(inBackground{}) != nil {
			return r.err
		}
	}
}

// beginRenewal returns the renewal that is under way, or begins one. It returns nil if there is
// another session than old already.
func (l *legacy) beginRenewal(ctx context.Context, old upstreamSession) *renewal {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewal != nil || l.current.number != old.number {
		return l.renewal
	}
	r := &renewal{done: make(chan struct{}), background: ctx.Value(inBackground{}) != nil}
	l.renewal = r
	lifetime := l.lifetime(ctx)
	// Ends with l.ctx, or after renewTimeout if nothing is in the way then.
	l.work.Go(func() {
		ctx, cancel := l.obstacles.bounded(lifetime, renewTimeout)
		defer cancel()
		r.err = l.handshake(ctx)
		l.mu.Lock()
		l.renewal = nil
		l.mu.Unlock()
		close(r.done)
	})
	return r
}

// handshake opens a new session with the host's own initialize. The host sees nothing of it. The
// error is a *fault.
func (l *legacy) handshake(ctx context.Context) error {
	l.mu.Lock()
	init := l.initialize
	l.mu.Unlock()
	l.cfg.Log.Info("session lost, opening a new one")
	key := rawjson.IDKey(init.ID)
	refused := false
	initCtx, answered := context.WithCancel(ctx)
	defer answered()
	err := l.open(initCtx, new(phase), init, func(sess upstreamSession, m rawjson.Message) bool {
		switch {
		case !isAnswer(m, key):
			l.host.toHost(m)
			return false
		case m.Result == nil:
			refused = true
		default:
			l.begin(init, sess, m)
		}
		if sess.push == nil {
			answered() // nobody waits for the rest of the response
		}
		return true
	})
	if refused {
		err = errors.New("initialize was refused")
	}
	sess := l.session()
	sess.bySend = true
	if err == nil {
		err = l.postIn(ctx, sess, ownNotification(methodInitialized, nil))
		if f, ok := errors.AsType[*fault](err); ok && f.kind == "status" {
			l.logFailure(methodInitialized, err) // the session is open, and some servers refuse it
			err = nil
		}
	}
	if err == nil {
		l.openServerStream(sess)
		return nil
	}
	f := *newFault(codeTransport, "session", err.Error(), "restart the session")
	if inner, ok := errors.AsType[*fault](err); ok {
		f = *inner
	}
	if f.notRun || f.status == http.StatusUnauthorized || f.status == http.StatusForbidden {
		return &f // the token is at fault, and perhaps not the session
	}
	f.text = "the server has ended the session and a new one could not be opened: " + f.text
	return &f
}

// mayBeHTTPSSE reports whether resp, which answers an initialize and is no modernRefusal, may come
// from a server of HTTP+SSE: one that refuses the POST in one of the ways named in
// basic/transports, "Backwards Compatibility", and does not answer the request in its body. The
// body can still be read.
func mayBeHTTPSSE(resp *http.Response, init rawjson.Message) bool {
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed:
	default:
		return false
	}
	m, err := rawjson.Parse(peek(resp, maxErrorBody))
	if err != nil || m.Kind == rawjson.Batch {
		return true
	}
	return !isAnswer(m, rawjson.IDKey(init.ID))
}
