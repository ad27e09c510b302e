package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"sallyport/relay/rawjson"
	"sallyport/relay/sse"
)

// Values of Config.Transport.
const (
	TransportAuto = "auto" // Streamable HTTP, and HTTP+SSE where a server refuses that
	TransportHTTP = "http" // Streamable HTTP (2025-03-26 and later)
	TransportSSE  = "sse"  // HTTP+SSE (2024-11-05)
)

const (
	endpointWait = 10 * time.Second // how long a server of HTTP+SSE may take to name its endpoint
	maxEndpoint  = 4 << 10          // bytes of its URL
)

// link is the one event stream of an HTTP+SSE session (2024-11-05, basic/transports, "HTTP with SSE"): messages go up in POSTs that
// are only accepted, and everything comes back here. The session ends with it.
type link struct {
	ctx      context.Context // ends with the stream
	end      context.CancelCauseFunc
	endpoint *url.URL      // where to POST; set before ready is closed
	ready    chan struct{} // closed when the endpoint is known
	answered chan struct{} // closed when initialize was answered
}

// target is where its session's requests go; nil: to the upstream that all share.
func (k *link) target() *url.URL {
	if k == nil {
		return nil
	}
	return k.endpoint
}

// errLinkEnded is the cause of a request's end by that of its link.
var errLinkEnded = errors.New("the event stream of the session ended")

// open carries an initialize by the transport that the server speaks and returns when nothing more can come of it. take gets all
// that it brings, but on a link only the answer, together with the session that the answer opens.
func (l *legacy) open(ctx context.Context, phase *atomic.Int32, init rawjson.Message, take func(sess upstreamSession, m rawjson.Message) bool) error {
	if l.s.cfg.Transport == TransportSSE {
		sess, err := l.connect(ctx, init, take)
		if err != nil {
			return err
		}
		return l.openLink(ctx, phase, sess, init)
	}
	resp, err := l.send(ctx, phase, upstreamSession{}, init.Raw)
	if err != nil {
		return err
	}
	if err := modernRefusal(resp); err != nil {
		discard(resp)
		phase.Store(unsent)
		return err
	}
	if l.s.cfg.Transport != TransportHTTP && older(resp, init) {
		phase.Store(unsent)
		sess, err := l.connect(ctx, init, take)
		if err == nil {
			discard(resp)
			return l.openLink(ctx, phase, sess, init)
		}
		// It is no server of HTTP+SSE either, so the refusal is what counts.
		l.s.cfg.Log.Debug("no HTTP+SSE", "err", l.s.cfg.Mask(err.Error()))
	}
	sess := upstreamSession{id: resp.Header.Get("Mcp-Session-Id")}
	return l.receive(ctx, sess, resp, func(m rawjson.Message) bool { return take(sess, m) })
}

// older reports whether resp, to an initialize and no modernRefusal, may come from a server of HTTP+SSE: it refuses the POST in one of the
// ways named in basic/transports, "Backwards Compatibility", and does not answer it. The body can still be read.
func older(resp *http.Response, init rawjson.Message) bool {
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

// peek returns the beginning of resp's body, which can still be read.
func peek(resp *http.Response, limit int64) []byte {
	head, _ := io.ReadAll(io.LimitReader(resp.Body, limit))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	return bytes.Clone(head)
}

// connect opens a link and returns the session on it once the server has named its endpoint. ctx bounds only that.
func (l *legacy) connect(ctx context.Context, init rawjson.Message, take func(sess upstreamSession, m rawjson.Message) bool) (_ upstreamSession, err error) {
	k := &link{ready: make(chan struct{}), answered: make(chan struct{})}
	k.ctx, k.end = context.WithCancelCause(l.s.asQuiet(ctx))
	defer func() {
		if err != nil {
			k.end(err)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, l.s.cfg.Timeout, errTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { k.end(context.Cause(ctx)) })()
	resp, err := l.get(k.ctx)
	if err != nil {
		return upstreamSession{}, err
	}
	if resp.StatusCode/100 != 2 || mediaType(resp.Header) != "text/event-stream" {
		discard(resp)
		f := statusFault(resp, "")
		if resp.StatusCode/100 == 2 {
			f = noAnswer(where(l.s.cfg.URL) + ": a GET brings no event stream")
		}
		return upstreamSession{}, f
	}
	sess := upstreamSession{link: k}
	// Ends with k.ctx, or with the stream.
	l.s.work.Go(func() { l.follow(sess, resp, rawjson.IDKey(init.ID), func(m rawjson.Message) { take(sess, m) }) })
	select {
	case <-k.ready:
		return sess, nil
	case <-k.ctx.Done():
		return upstreamSession{}, context.Cause(k.ctx)
	case <-time.After(endpointWait):
		return upstreamSession{}, noAnswer(where(l.s.cfg.URL) + ": the event stream names no endpoint")
	}
}

// get asks for the stream of a link, again and again while an obstacle stands in the way.
func (l *legacy) get(ctx context.Context) (*http.Response, error) {
	for {
		resp, err := l.roundTrip(ctx, l.s.sender(ctx), http.MethodGet, upstreamSession{}, nil, "")
		if err == nil {
			return resp, nil
		}
		changed := l.s.blocked()
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case changed == nil:
			return nil, l.s.explain(err)
		}
		if err := wait(ctx, changed); err != nil {
			return nil, err
		}
	}
}

// openLink sends the initialize on its link and waits for the answer there.
func (l *legacy) openLink(ctx context.Context, phase *atomic.Int32, sess upstreamSession, init rawjson.Message) (err error) {
	k := sess.link
	defer func() {
		if l.session().link != k {
			k.end(errLinkEnded) // it was refused, or the wait for it has ended
		}
	}()
	ctx, stop := k.bind(ctx)
	defer stop()
	resp, err := l.send(ctx, phase, sess, init.Raw)
	switch {
	case errors.Is(err, errLinkEnded):
		return l.linkEnded()
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return l.receive(ctx, sess, resp, func(rawjson.Message) bool { return false })
	}
	discard(resp)
	select {
	case <-k.answered:
		return nil
	case <-ctx.Done():
		if err := context.Cause(ctx); err != errLinkEnded {
			return err
		}
		return l.linkEnded()
	}
}

func (l *legacy) linkEnded() *fault {
	return noAnswer(where(l.s.cfg.URL) + ": the event stream ended before the answer")
}

// follow passes on what a link brings until its end, and then makes a new session in place of the one that ended with it. The
// response to the request with the id key is the answer to initialize.
func (l *legacy) follow(sess upstreamSession, resp *http.Response, key string, answer func(m rawjson.Message)) {
	k, cur := sess.link, cursor{retry: -1} // for the server's retry time: the stream cannot be resumed
	opened := false
	take := func(m rawjson.Message) bool {
		if opened || !isAnswer(m, key) {
			return l.stray(m)
		}
		opened = true
		answer(m)
		close(k.answered)
		return true
	}
	for e, err := range sse.Events(resp.Body, maxMessage) {
		if err != nil {
			l.s.cfg.Log.Debug("event stream ended", "err", l.s.cfg.Mask(err.Error()))
			break
		}
		cur.note(e)
		switch {
		case e.Name == "endpoint" && k.endpoint == nil:
			if k.endpoint, err = l.endpoint(e.Data); err != nil {
				k.end(err)
				break
			}
			close(k.ready)
		case !e.HasMessage():
		default:
			if _, err := l.messages(e.Data, take); err != nil {
				l.s.cfg.Log.Warn("message of the server dropped", "err", err)
			}
		}
		if k.ctx.Err() != nil {
			break
		}
	}
	resp.Body.Close()
	k.end(errLinkEnded)
	for attempt := 1; ; attempt++ {
		now := l.session()
		if now.link != k {
			return // another session is there, or this one was never opened
		}
		if _, err := sleep(l.s.ctx, cur.delay(attempt), nil); err != nil || l.clear(l.s.ctx) != nil {
			return
		}
		if err := l.renew(l.s.ctx, now); err != nil {
			l.s.cfg.Log.Debug("no new session", "err", l.s.cfg.Mask(err.Error()))
		}
	}
}

// endpoint is the URL in an endpoint event. It has to be of the same origin, for it gets the token.
func (l *legacy) endpoint(data []byte) (*url.URL, error) {
	u, err := l.s.cfg.URL.Parse(string(bytes.TrimSpace(data[:min(len(data), maxEndpoint)])))
	if err != nil || u.User != nil || !sameOrigin(u, l.s.cfg.URL) {
		f := noAnswer(fmt.Sprintf("%s: the endpoint %q that it names is not on the same origin", where(l.s.cfg.URL), excerpt(string(bytes.SplitN(data, []byte("?"), 2)[0]), 200)))
		f.kind = "endpoint"
		return nil, f
	}
	return u, nil
}

// over reports whether the session on k has ended; a nil k never does.
func (k *link) over() bool { return k != nil && k.ctx.Err() != nil }

// bind returns a context that ends with ctx, or with the cause errLinkEnded when k does. An answer that overtakes the acceptance
// of its POST, as it may, leaves that some time, so that the connection can be used again. The caller calls stop.
func (k *link) bind(ctx context.Context) (_ context.Context, stop func()) {
	if k == nil {
		return ctx, func() {}
	}
	bound, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stops := []func() bool{
		context.AfterFunc(k.ctx, func() { cancel(errLinkEnded) }),
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
