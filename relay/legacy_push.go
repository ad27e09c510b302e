package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/relay/rawjson"
	"sallyport/relay/sse"
)

// Values of Config.Transport.
const (
	// TransportAuto is Streamable HTTP, or HTTP+SSE if the server refuses that.
	TransportAuto = "auto"
	// TransportHTTP is Streamable HTTP (2025-03-26 and later).
	TransportHTTP = "http"
	// TransportSSE is HTTP+SSE (2024-11-05).
	TransportSSE = "sse"
)

const (
	endpointWait = 10 * time.Second // how long a server of HTTP+SSE may take to name its endpoint
	maxEndpoint  = 4 << 10          // bytes of the endpoint's URL
)

// pushStream is the one event stream of an HTTP+SSE session (2024-11-05, basic/transports, "HTTP
// with SSE"). Messages go up in POSTs that are only accepted, and everything comes back on this
// stream. The session ends with it. Methods of a nil *pushStream say what holds without one.
type pushStream struct {
	// ctx ends with the stream.
	ctx context.Context
	end context.CancelCauseFunc
	// endpoint is where the POSTs go. It is set before ready is closed.
	endpoint *url.URL
	ready    chan struct{}
	// answered is closed when initialize was answered.
	answered chan struct{}
}

// errPushEnded is the cause of a request's end by that of its push stream.
var errPushEnded = errors.New("the event stream of the session ended")

// pushEnded is the fault of a request that was in flight when its push stream ended.
func (h *legacyHTTP) pushEnded() *fault {
	return noAnswer(where(h.cfg.URL) + ": the event stream ended before the answer")
}

// target is where requests of the session go. Nil means to where all other requests go.
func (p *pushStream) target() *url.URL {
	if p == nil {
		return nil
	}
	return p.endpoint
}

// over reports whether the session has ended with its push stream.
func (p *pushStream) over() bool { return p != nil && p.ctx.Err() != nil }

// bind returns a context that ends with ctx, or with the cause errPushEnded when p does. The caller
// calls stop.
//
// The answer on p may overtake the response to the POST, and then ctx ends with errAnswered. The
// response is waited for during lingerTime all the same, so that the connection can be used again.
func (p *pushStream) bind(ctx context.Context) (_ context.Context, stop func()) {
	if p == nil {
		return ctx, func() {}
	}
	bound, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stops := []func() bool{
		context.AfterFunc(p.ctx, func() { cancel(errPushEnded) }),
		context.AfterFunc(ctx, func() {
			if cause := context.Cause(ctx); cause != errAnswered {
				cancel(cause)
			} else {
				time.AfterFunc(lingerTime, func() { cancel(cause) })
			}
		}),
	}
	return bound, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
	}
}

// connect opens a push stream and returns the session on it when the server has named the endpoint.
// ctx bounds only that.
func (l *legacy) connect(ctx context.Context, init rawjson.Message, take sessionSink) (_ upstreamSession, err error) {
	p := &pushStream{ready: make(chan struct{}), answered: make(chan struct{})}
	p.ctx, p.end = context.WithCancelCause(l.lifetime(ctx))
	defer func() {
		if err != nil {
			p.end(err)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, l.cfg.Timeout, errTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { p.end(context.Cause(ctx)) })()
	resp, err := l.getPushStream(p.ctx)
	if err != nil {
		return upstreamSession{}, err
	}
	if !isStream(resp) {
		discard(resp)
		f := statusFault(resp, "")
		if resp.StatusCode/100 == 2 {
			f = noAnswer(where(l.cfg.URL) + ": a GET brings no event stream")
		}
		return upstreamSession{}, f
	}
	sess := upstreamSession{push: p}
	// Ends with p.ctx, or when the stream has ended and another session is there.
	l.work.Go(func() {
		retryTime := l.readPushStream(p, resp, rawjson.IDKey(init.ID), func(m rawjson.Message) { take(sess, m) })
		l.replacePushStream(p, retryTime)
	})
	select {
	case <-p.ready:
		return sess, nil
	case <-p.ctx.Done():
		return upstreamSession{}, context.Cause(p.ctx)
	case <-time.After(endpointWait):
		return upstreamSession{}, noAnswer(where(l.cfg.URL) + ": the event stream names no endpoint")
	}
}

// getPushStream asks for a push stream. As long as an obstacle is in the way, or the upstream
// refuses it for now, it tries again.
func (h *legacyHTTP) getPushStream(ctx context.Context) (*http.Response, error) {
	return h.sendPatiently(ctx, httpRequest{method: http.MethodGet, phase: new(phase)}, func() (*http.Response, error) {
		return h.getPushStreamOnce(ctx)
	})
}

func (h *legacyHTTP) getPushStreamOnce(ctx context.Context) (resp *http.Response, err error) {
	pace := retry{obstacles: h.obstacles}
	ended := pace.run(ctx, func(bool) verdict {
		resp, err = h.roundTrip(ctx, h.client.sender(ctx), http.MethodGet, upstreamSession{}, "")
		if err == nil || ctx.Err() != nil {
			return stop
		}
		return obstructed
	})
	switch {
	case ended != nil:
		return nil, ended
	case err == nil:
		return resp, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, h.obstacles.explain(err)
}

// openOnPush sends the initialize of sess and waits for the answer on the push stream. If there is
// none, the stream ends.
func (l *legacy) openOnPush(ctx context.Context, phase *phase, sess upstreamSession, init rawjson.Message) (err error) {
	p := sess.push
	defer func() {
		if l.session().push != p {
			p.end(errPushEnded)
		}
	}()
	ctx, stop := p.bind(ctx)
	defer stop()
	resp, err := l.post(ctx, phase, sess, init.Raw)
	switch {
	case errors.Is(err, errPushEnded):
		return l.pushEnded()
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return l.receive(ctx, sess, resp, func(rawjson.Message) bool { return false })
	}
	discard(resp)
	select {
	case <-p.answered:
		return nil
	case <-ctx.Done():
		if err := context.Cause(ctx); err != errPushEnded {
			return err
		}
		return l.pushEnded()
	}
}

// readPushStream passes on what p brings until its end, and returns the reconnection time that the
// server asked for, or a negative one. The response to the request with the id key is the answer to
// initialize, and goes to answer. It closes the response's body.
func (l *legacy) readPushStream(p *pushStream, resp *http.Response, key string, answer func(rawjson.Message)) time.Duration {
	cur := cursor{retry: -1}
	opened := false
	take := func(m rawjson.Message) bool {
		if opened || !isAnswer(m, key) {
			return l.streams.passMessage(m)
		}
		opened = true
		answer(m)
		close(p.answered)
		return true
	}
	defer p.end(errPushEnded)
	defer resp.Body.Close()
	held := &share{budget: l.held, ctx: p.ctx}
	defer held.hold(0)
	for e, err := range sse.Events(resp.Body, l.cfg.maxMessage, held.hold) {
		if err != nil {
			l.logFailure("event stream ended", err)
			break
		}
		cur.note(e)
		switch {
		case e.Name == "endpoint" && p.endpoint == nil:
			if p.endpoint, err = pushEndpoint(l.cfg.URL, e.Data); err != nil {
				p.end(err)
				break
			}
			close(p.ready)
		case e.HasMessage():
			if _, err := l.parse(e.Data, take); err != nil {
				l.dropped(err)
			}
		}
		if p.ctx.Err() != nil {
			break
		}
	}
	return cur.retry
}

// replacePushStream makes a new session in place of the one that has ended with p, if that is still
// the host's.
func (l *legacy) replacePushStream(p *pushStream, retryTime time.Duration) {
	var ended upstreamSession // it has a number once the first back-off is over
	pace := retry{obstacles: l.obstacles, delay: (&cursor{retry: retryTime}).delay}
	pace.run(l.ctx, func(bool) verdict {
		if ended.number != 0 {
			if err := l.renew(withoutPerson(l.ctx), ended); err != nil {
				l.logFailure("no new session", err)
			}
		}
		if ended = l.session(); ended.push != p {
			return stop // another session is there, or the one on p was never opened
		}
		return failed
	})
}

// pushEndpoint reads the URL in an endpoint event, which may be relative to base. It has to be of
// the same origin, because the token is sent to it.
func pushEndpoint(base *url.URL, data []byte) (*url.URL, error) {
	data = bytes.TrimSpace(data[:min(len(data), maxEndpoint)])
	u, err := base.Parse(string(data))
	if err != nil || u.User != nil || !sameOrigin(u, base) {
		path, _, _ := strings.Cut(string(data), "?")
		f := noAnswer(fmt.Sprintf("%s: the endpoint %q that it names is not on the same origin",
			where(base), excerpt(path, 200)))
		f.kind = "endpoint"
		return nil, f
	}
	return u, nil
}
