package relay

import (
	"context"
	"crypto/rand"
	"net/http"
	"sync"
	"time"

	"sallyport/relay/rawjson"
)

// pingWait is how long the answer to a ping of ours may take.
const pingWait = 30 * time.Second

// activity notes when a session was last used, and which ping is under way.
type activity struct {
	mu sync.Mutex
	// last is when a message went or came. It is zero before the first.
	last time.Time
	// calls is how many calls of the host are under way.
	calls int
	// key is the IDKey of our ping, and pong is closed by its answer. They are zero if there is
	// none.
	key  string
	pong chan struct{}
}

// used notes that a message has gone or come.
func (a *activity) used() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = time.Now()
}

// callBegins notes that a call is under way. The caller calls ended.
func (a *activity) callBegins() (ended func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.calls--
		a.last = time.Now()
	}
}

// idleFor returns how long nothing has gone or come. It is 0 while a call is under way.
func (a *activity) idleFor() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls > 0 {
		return 0
	}
	return time.Since(a.last)
}

// ping begins a ping with the raw id, and returns the channel that its answer closes.
func (a *activity) ping(id []byte) (pong <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.key, a.pong = rawjson.IDKey(id), make(chan struct{})
	return a.pong
}

// takes reports whether m answers the ping under way.
func (a *activity) takes(m rawjson.Message) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pong == nil || !isAnswer(m, a.key) {
		return false
	}
	close(a.pong)
	a.key, a.pong = "", nil
	return true
}

// pinger keeps a session of the legacy wire alive.
type pinger struct{ *legacy }

// run pings the server whenever the session has been idle for Config.KeepAlive, until l.ctx ends.
// It sends no ping while something is in the way.
func (l pinger) run() {
	every := l.cfg.KeepAlive
	for {
		left := every - l.activity.idleFor()
		if _, err := pause(l.ctx, max(left, 0), nil); err != nil {
			return
		}
		if l.activity.idleFor() < every {
			continue
		}
		l.activity.used() // also if nothing is sent
		if o, _ := l.cfg.Obstacle(); o == nil && l.obstacles.pauses.obstacle() == nil {
			l.ping(l.session())
		}
	}
}

// ping asks the server of sess for a sign of life, and deals with the loss of the session, or of
// its connection. No person is asked to sign in for it: a refusal of the token waits until the host
// asks for something.
func (l pinger) ping(sess upstreamSession) {
	id := rawjson.Quote("sallyport-" + rand.Text())
	pong := l.activity.ping(id)
	ctx, cancel := context.WithTimeout(withoutPerson(l.ctx), pingWait)
	defer cancel()
	p := new(phase)
	p.setEnd(time.Now().Add(pingWait))
	resp, err := l.post(ctx, p, sess, requestLine(id, "ping", nil))
	switch {
	case l.ctx.Err() != nil:
	case err != nil && ctx.Err() != nil:
		l.connectionLost(sess, err)
	case err != nil:
		l.logFailure("ping", err) // whatever uses the connection meets the same error and deals with it
	case l.lost(sess, resp) && resp.StatusCode != http.StatusUnauthorized:
		discard(resp)
		if err := l.renew(ctx, sess); err != nil {
			l.logFailure("ping", err)
		}
	case resp.StatusCode/100 != 2:
		discard(resp)
		l.cfg.Log.Debug("ping", "status", resp.StatusCode)
	case sess.push == nil:
		// Whatever the answer is, the server is alive.
		l.receive(ctx, sess, resp, func(m rawjson.Message) bool {
			l.streams.passMessage(m)
			return m.Kind == rawjson.Response
		})
	default:
		discard(resp)
		if err := wait(ctx, pong); err != nil && l.ctx.Err() == nil {
			l.connectionLost(sess, err)
		}
	}
}

// connectionLost deals with a server that has not answered a ping. The connection of its event
// stream may have broken without a sign, so the stream is asked for again. With HTTP+SSE the
// session ends with that stream, and a new one is made.
func (l pinger) connectionLost(sess upstreamSession, err error) {
	l.logFailure("no answer to a ping", err)
	if sess.push != nil {
		sess.push.end(errPushEnded)
		return
	}
	l.mu.Lock()
	cut := l.cutServerStream
	l.mu.Unlock()
	if cut != nil {
		cut()
	}
}
