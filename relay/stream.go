package relay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/relay/rawjson"
	"sallyport/relay/sse"
)

const (
	streamOpenWait = 2 * time.Second  // how long calls wait for the GET stream to open; some servers send no header before the first event
	retryDefault   = time.Second      // before a broken stream is asked for again, if the server named no time
	retryMax       = 30 * time.Second // the longest wait of our own between two attempts
	maxResumes     = 5                // attempts in a row to resume a call's stream that bring nothing
	resumeSilence  = 5 * time.Second  // a resumed stream that brings nothing is asked for again; doubled up to retryMax
)

// openStream starts the GET stream of sess in place of any other and returns when it is open, refused, or late.
func (l *legacy) openStream(sess upstreamSession) {
	ctx, cancel := context.WithCancel(l.s.ctx)
	l.mu.Lock()
	if l.endStream != nil {
		l.endStream()
	}
	l.endStream = cancel
	l.mu.Unlock()
	if l.s.cfg.NoServerStream || sess.link != nil {
		cancel()
		return
	}
	opened := make(chan struct{})
	// Ends with ctx, or when the server does not offer the stream.
	l.s.work.Go(func() { defer cancel(); l.listen(ctx, sess, sync.OnceFunc(func() { close(opened) })) })
	late, stop := context.WithTimeout(ctx, streamOpenWait)
	defer stop()
	wait(late, opened)
}

// listen keeps the GET stream of sess and passes on what it brings. It calls opened when the first attempt has an outcome.
func (l *legacy) listen(ctx context.Context, sess upstreamSession, opened func()) {
	defer opened()
	cur := cursor{retry: -1}
	everOpen := false
	var unauthorized, woken bool // the last attempt met a 401; it was made because a call had been answered
	for attempt := 0; ; attempt++ {
		if attempt > 0 {
			var early <-chan struct{}
			if unauthorized && !woken {
				early = l.worked
			}
			var err error
			if woken, err = sleep(ctx, cur.delay(attempt), early); err != nil || l.clear(ctx) != nil {
				return
			}
		}
		unauthorized = false
		select {
		case <-l.worked: // what worked before this attempt says nothing about a later one
		default:
		}
		resp, err := l.roundTrip(ctx, l.s.cfg.Background, http.MethodGet, sess, nil, cur.id)
		if ctx.Err() != nil {
			if err == nil {
				resp.Body.Close()
			}
			return
		}
		switch {
		case err != nil:
			var f *fault
			if errors.As(err, &f) {
				return // a redirect
			}
			l.s.cfg.Log.Debug("server stream", "err", l.s.cfg.Mask(err.Error()))
		case everOpen && l.lost(sess, resp):
			// Only a stream that was open once proves that 404 does not just mean "no such stream here".
			discard(resp)
			if l.renew(ctx, sess) == nil {
				return // the new session has a stream of its own
			}
		case everOpen && resp.StatusCode == http.StatusConflict:
			discard(resp) // the server has not noticed yet that the last one broke
			l.s.cfg.Log.Debug("server stream", "status", resp.StatusCode)
		case resp.StatusCode == http.StatusUnauthorized:
			discard(resp)
			unauthorized = true
			l.s.cfg.Log.Debug("server stream", "status", resp.StatusCode)
		case resp.StatusCode/100 == 4 && resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout,
			resp.StatusCode/100 == 2 && mediaType(resp.Header) != "text/event-stream":
			discard(resp)
			l.s.cfg.Log.Debug("no server stream", "status", resp.StatusCode)
			return
		case resp.StatusCode/100 != 2:
			discard(resp)
			l.s.cfg.Log.Debug("server stream", "status", resp.StatusCode)
		default:
			everOpen = true
			opened()
			if l.pass(resp, &cur) {
				attempt = 0
			}
		}
		opened()
	}
}

// pass hands the host everything that a GET stream brings until it ends, and reports whether that was anything.
func (l *legacy) pass(resp *http.Response, cur *cursor) (progress bool) {
	for e, err := range l.events(resp, cur) {
		if err != nil {
			l.s.cfg.Log.Debug("server stream ended", "err", l.s.cfg.Mask(err.Error()))
			return progress || err == errSilent
		}
		progress = true
		if !e.HasMessage() {
			continue
		}
		if _, err := l.messages(e.Data, l.once(e, cur, l.stray)); err != nil {
			l.s.cfg.Log.Warn("message of the server dropped", "err", err)
		}
	}
	return progress
}

// stray handles a message from outside a call's own stream.
func (l *legacy) stray(m rawjson.Message) bool {
	if m.Kind == rawjson.Response && rawjson.ValidID(m.ID) {
		// Some servers answer on this stream whatever was asked while it was open.
		l.s.mu.Lock()
		c := l.s.calls[rawjson.IDKey(m.ID)]
		l.s.mu.Unlock()
		if c != nil && l.s.answer(c, m.Raw) {
			c.cancel(errAnswered)
		}
		return false
	}
	if m.Method == "notifications/progress" {
		l.progress(m)
	}
	l.s.toHost(m)
	return false
}

// progress gives the call that m is about its full time again.
func (l *legacy) progress(m rawjson.Message) {
	key := progressKey(m.Params)
	if key == "" {
		return
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for _, c := range l.s.calls {
		if c.progress == key && c.timer.Stop() {
			c.timer.Reset(l.s.cfg.Timeout)
		}
	}
}

// cursor is a place in a stream.
type cursor struct {
	id      string        // Last-Event-ID; "" the stream cannot be resumed
	retry   time.Duration // what the server asked for; below 0: nothing
	resumed bool          // this is not the first connection of the stream
	silence time.Duration // how long a resumed connection may bring nothing
}

// errSilent ends a resumed connection that brings nothing.
var errSilent = errors.New("the resumed stream was silent")

// events reads one connection of a stream and keeps cur, which the connection was asked for with. Some servers replay what they
// have kept and send nothing on that connection afterwards (server-everything), so a resumed one that is silent for long ends
// with errSilent and can be asked for again; that does no harm where it is alive. It closes the response's body.
func (l *legacy) events(resp *http.Response, cur *cursor) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		defer resp.Body.Close()
		var silent atomic.Bool
		var timer *time.Timer
		if cur.resumed = cur.id != ""; cur.resumed {
			cur.silence = max(resumeSilence, min(2*cur.silence, retryMax))
			timer = time.AfterFunc(cur.silence, func() { silent.Store(true); resp.Body.Close() })
			defer timer.Stop()
		}
		for e, err := range sse.Events(resp.Body, maxMessage) {
			switch {
			case err != nil && silent.Load():
				err = errSilent
			case err == nil:
				cur.note(e)
				if cur.resumed {
					timer.Reset(resumeSilence)
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (cur *cursor) note(e sse.Event) {
	cur.id, cur.silence = e.ID, 0
	if e.Retry >= 0 {
		cur.retry = e.Retry
	}
}

// delay is how long to wait before the given attempt, counted from 1: at first as long as the server asked for, then ever
// longer.
func (cur *cursor) delay(attempt int) time.Duration {
	if attempt <= 1 && cur.retry >= 0 {
		return cur.retry
	}
	return max(cur.retry, backoff(attempt))
}

// backoff is the wait before the given attempt, counted from 1: retryDefault, doubled each time up to retryMax, of which a random
// half is left out.
func backoff(attempt int) time.Duration {
	d := min(retryMax, retryDefault<<min(max(attempt-1, 0), 10))
	return d/2 + rand.N(d/2)
}

// sleep waits for d, or until early brings something, which it reports.
func sleep(ctx context.Context, d time.Duration, early <-chan struct{}) (woken bool, err error) {
	select {
	case <-time.After(d):
		return false, nil
	case <-early:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// clear waits until nothing is in the way of the upstream.
func (srv *server) clear(ctx context.Context) error {
	for {
		changed := srv.s.blocked()
		if changed == nil {
			return nil
		}
		if err := wait(ctx, changed); err != nil {
			return err
		}
	}
}

// stream reads the event stream that answers a request, and resumes it where it breaks if the server gave event ids. It
// closes the response's body.
func (l *legacy) stream(ctx context.Context, sess upstreamSession, resp *http.Response, take sink) error {
	cur := cursor{retry: -1}
	attempt := 1
	for {
		answered, progress, err := l.pump(resp, &cur, take)
		if answered {
			return nil
		}
		var syntax *rawjson.SyntaxError
		switch {
		case errors.As(err, &syntax):
			return noAnswer(fmt.Sprintf("%s: an event of the answer is %v", where(l.s.cfg.URL), err))
		case ctx.Err() != nil || cur.id == "" || isTooLong(err):
			return l.broken(ctx, err)
		}
		if progress {
			attempt = 1
		}
		for resp = nil; resp == nil; attempt++ {
			if attempt > maxResumes {
				return l.broken(ctx, err)
			}
			if resp, err = l.resume(ctx, sess, cur, attempt); errors.As(err, new(*fault)) {
				return err
			}
		}
	}
}

// resume asks for the rest of a broken stream. An error that is no *fault may be gone at the next attempt.
func (l *legacy) resume(ctx context.Context, sess upstreamSession, cur cursor, attempt int) (*http.Response, error) {
	if _, err := sleep(ctx, cur.delay(attempt), nil); err != nil {
		return nil, err
	}
	if err := l.clear(ctx); err != nil {
		return nil, err
	}
	resp, err := l.roundTrip(ctx, l.s.cfg.Send, http.MethodGet, sess, nil, cur.id)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 && mediaType(resp.Header) == "text/event-stream" {
		return resp, nil
	}
	discard(resp)
	if resp.StatusCode/100 == 5 || resp.StatusCode == http.StatusConflict || resp.StatusCode == http.StatusTooManyRequests {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil, noAnswer(fmt.Sprintf("%s: the stream broke off before the answer and was not resumed: status %d", where(l.s.cfg.URL), resp.StatusCode))
}

// pump gives the messages of one connection of a call's stream to take until it ends. After the answer it is read on for its rest,
// but its end is no error then.
func (l *legacy) pump(resp *http.Response, cur *cursor, take sink) (answered, progress bool, err error) {
	for e, err := range l.events(resp, cur) {
		if err != nil {
			return answered, progress || err == errSilent, err
		}
		progress = true
		if !e.HasMessage() {
			continue
		}
		done, err := l.messages(e.Data, l.once(e, cur, take))
		if err != nil && !answered {
			return false, progress, err
		}
		answered = answered || done
	}
	return answered, progress, nil
}
