package relay

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/relay/rawjson"
	"sallyport/relay/sse"
)

const (
	// streamOpenWait is how long calls wait for the GET stream to open. Some servers send no header
	// before the first event.
	streamOpenWait = 2 * time.Second
	// maxResumes is how many attempts in a row to resume a call's stream may bring nothing.
	maxResumes = 5
	// resumeSilence is how long a resumed stream may bring nothing before it is asked for again.
	// Each time it is doubled, up to retryMax.
	resumeSilence = 5 * time.Second
	// leastRetry is the least wait before a stream is asked for again, whatever the server says. It
	// is doubled for each connection that has brought no message, up to maxLeastRetry.
	leastRetry    = 500 * time.Millisecond
	maxLeastRetry = 8 * time.Second
)

// legacyStreams reads the event streams of the legacy wire.
type legacyStreams struct {
	*legacyHTTP
	delivered delivered
	// answered holds one token after a call was answered. A GET stream that met a 401 waits for
	// that.
	answered chan struct{}
}

// noteAnswer notes that a call was answered.
func (s *legacyStreams) noteAnswer() {
	select {
	case s.answered <- struct{}{}:
	default:
	}
}

// forgetAnswer takes back what noteAnswer has noted.
func (s *legacyStreams) forgetAnswer() {
	select {
	case <-s.answered:
	default:
	}
}

// memoryStream is the name by which Config.Load and Save know whether the server offers the GET
// stream, and streamRefused says that it does not.
const (
	memoryStream  = "stream"
	streamRefused = `"refused"`
	streamOffered = `"offered"`
)

// streamMemory remembers whether the server offers the GET stream, also for later sessions.
type streamMemory struct {
	*run

	mu sync.Mutex
	// refused is valid when loaded is set.
	loaded, refused bool
}

// isRefused reports whether the server did not offer the stream when it was asked last.
func (m *streamMemory) isRefused() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.loaded {
		m.loaded = true
		b, err := m.cfg.Load(memoryStream)
		if err != nil {
			m.cfg.Log.Debug("memory", "err", err)
		}
		m.refused = string(b) == streamRefused
	}
	return m.refused
}

// see takes the outcome of a request for the stream. A refusal other than 405 may be a gateway's.
// That the server offers the stream needs no note, unless it did not before.
func (m *streamMemory) see(resp *http.Response, err error) {
	if err != nil {
		return
	}
	refused := resp.StatusCode == http.StatusMethodNotAllowed
	if !refused && !isStream(resp) || refused == m.isRefused() {
		return
	}
	m.mu.Lock()
	m.refused = refused
	m.mu.Unlock()
	value := streamOffered
	if refused {
		value = streamRefused
	}
	if err := m.cfg.Save(memoryStream, []byte(value)); err != nil {
		m.cfg.Log.Debug("memory", "err", err)
	}
}

// openServerStream starts the GET stream of sess in place of any other, and returns when it is
// open, refused or late. The first session does not wait if the server refused the stream to the
// one before.
func (l *legacy) openServerStream(sess upstreamSession) {
	ctx, cancel := context.WithCancel(l.ctx)
	l.mu.Lock()
	if l.endServerStream != nil {
		l.endServerStream()
	}
	l.endServerStream = cancel
	l.mu.Unlock()
	if l.cfg.NoServerStream || sess.push != nil {
		cancel()
		return
	}
	opened := make(chan struct{})
	// Ends with ctx, or when the server does not offer the stream.
	l.work.Go(func() {
		defer cancel()
		l.keepServerStream(ctx, sess, sync.OnceFunc(func() { close(opened) }))
	})
	if sess.number == 1 && l.offered.isRefused() {
		return
	}
	late, stop := context.WithTimeout(ctx, streamOpenWait)
	defer stop()
	wait(late, opened)
}

// keepServerStream keeps the GET stream of sess open and passes on what it brings. It calls opened
// as soon as the first attempt has an outcome.
func (l *legacy) keepServerStream(ctx context.Context, sess upstreamSession, opened func()) {
	defer opened()
	cur := cursor{retry: -1}
	everOpen := false
	pace := retry{obstacles: l.obstacles, delay: cur.delay}
	pace.run(ctx, func(cutShort bool) verdict {
		defer opened()
		pace.news = nil
		l.streams.forgetAnswer() // an answer before this attempt says nothing about a later one
		connection, cut := l.serverStreamConnection(ctx)
		defer cut()
		resp, err := l.roundTrip(connection, l.cfg.Background, http.MethodGet, sess, cur.id)
		l.offered.see(resp, err)
		if ctx.Err() != nil {
			if err == nil {
				resp.Body.Close()
			}
			return stop
		}
		if err != nil {
			if _, redirected := errors.AsType[*fault](err); redirected {
				return stop
			}
			l.logFailure("server stream", err)
			return failed
		}
		if isStream(resp) {
			everOpen = true
			opened()
			if l.streams.pass(ctx, resp, &cur) {
				return progressed
			}
			return failed
		}
		// Only a stream that was open before proves that a 404 does not just mean "no such stream
		// here".
		lost := everOpen && l.lost(sess, resp)
		discard(resp)
		l.cfg.Log.Debug("server stream", "status", resp.StatusCode)
		switch {
		case lost:
			if l.renew(withoutPerson(ctx), sess) == nil {
				return stop // the new session has a stream of its own
			}
		case everOpen && resp.StatusCode == http.StatusConflict:
			// The server has not noticed yet that the last connection broke.
		case resp.StatusCode == http.StatusUnauthorized:
			// Another call that is answered proves that there is a token again. If this attempt was
			// made because of one, it proved nothing.
			if !cutShort {
				pace.news = l.streams.answered
			}
		case resp.StatusCode/100 == 2 || isFinal(statusFault(resp, "")):
			return stop // the server does not offer the stream
		default:
			cur.after = statusFault(resp, "").after
		}
		return failed
	})
}

// serverStreamConnection returns the context of one connection of the GET stream.
func (l *legacy) serverStreamConnection(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cut := context.WithCancel(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutServerStream = cut
	return ctx, cut
}

// pass gives the host everything that a stream outside of a call brings until it ends, and reports
// whether that was anything. It closes the response's body.
func (s *legacyStreams) pass(ctx context.Context, resp *http.Response, cur *cursor) (progress bool) {
	for e, err := range s.events(ctx, resp, cur) {
		if err != nil {
			s.logFailure("server stream ended", err)
			return progress || err == errSilent
		}
		progress = true
		if !e.HasMessage() {
			continue
		}
		if _, err := s.parse(e.Data, s.once(e, cur, s.passMessage)); err != nil {
			s.dropped(err)
		}
	}
	return progress
}

// passMessage is a sink for messages outside of a call.
func (s *legacyStreams) passMessage(m rawjson.Message) bool {
	s.activity.used()
	if !s.activity.takes(m) {
		s.host.outOfStream(m)
	}
	return false
}

// answer reads the event stream that answers a request, and resumes it where it breaks, if the
// server gave event ids. It closes the response's body, and returns nil only after the answer has
// come.
func (s *legacyStreams) answer(ctx context.Context, sess upstreamSession, resp *http.Response, take sink) error {
	cur := cursor{retry: -1}
	var result error
	pace := retry{obstacles: s.obstacles, delay: cur.delay, limit: maxResumes}
	ended := pace.run(ctx, func(bool) verdict {
		if resp == nil {
			resp, result = s.resume(ctx, sess, cur.id)
			if _, refused := errors.AsType[*fault](result); refused {
				return stop
			}
			if result != nil {
				return failed
			}
		}
		answered, progress, err := s.read(ctx, resp, &cur, take)
		resp = nil
		if answered {
			result = nil
			return stop
		}
		_, syntax := errors.AsType[*rawjson.SyntaxError](err)
		if _, batch := errors.AsType[*batchError](err); syntax || batch {
			result = noAnswer(fmt.Sprintf("%s: an event of the answer is %v", where(s.cfg.URL), err))
			return stop
		}
		if result = err; ctx.Err() != nil || cur.id == "" || isTooLong(err) {
			result = s.broken(ctx, err)
			return stop
		}
		if progress {
			return progressed
		}
		return failed
	})
	if ended != nil {
		return s.broken(ctx, result)
	}
	return result
}

// resume asks for the rest of a broken stream. An error that is no *fault may be gone at the next
// attempt.
func (s *legacyStreams) resume(ctx context.Context, sess upstreamSession, lastEventID string) (*http.Response, error) {
	resp, err := s.roundTrip(ctx, s.sender(ctx, sess), http.MethodGet, sess, lastEventID)
	if err != nil {
		return nil, err
	}
	if isStream(resp) {
		return resp, nil
	}
	discard(resp)
	switch status := resp.StatusCode; {
	case status/100 == 5, status == http.StatusConflict, status == http.StatusTooManyRequests:
		return nil, errors.New(statusText(status))
	}
	return nil, noAnswer(fmt.Sprintf("%s: the stream broke off before the answer and was not resumed: status %d",
		where(s.cfg.URL), resp.StatusCode))
}

// read gives the messages of one connection of a call's stream to take until it ends. After the
// answer it reads on, but errors do not matter then. It closes the response's body.
func (s *legacyStreams) read(ctx context.Context, resp *http.Response, cur *cursor, take sink) (answered, progress bool, err error) {
	for e, err := range s.events(ctx, resp, cur) {
		if err != nil {
			return answered, progress || err == errSilent, err
		}
		progress = true
		if !e.HasMessage() {
			continue
		}
		isIt, err := s.parse(e.Data, s.once(e, cur, take))
		if err != nil && !answered {
			return false, progress, err
		}
		answered = answered || isIt
	}
	return answered, progress, nil
}

// cursor is a place in a stream that may have several connections, one after the other.
type cursor struct {
	// id is the Last-Event-ID. "" means that the stream cannot be resumed.
	id string
	// retry is the wait that the server asked for. A negative one means that it did not ask.
	retry time.Duration
	// after is the wait that a refusal of the last attempt has asked for. 0 means that none did.
	after time.Duration
	// resumed says that this is not the first connection.
	resumed bool
	// silence is how long a resumed connection may bring nothing.
	silence time.Duration
	// vain is how many connections in a row have brought no message.
	vain int
}

// note moves cur behind e.
func (cur *cursor) note(e sse.Event) {
	cur.id, cur.silence = e.ID, 0
	if e.HasMessage() {
		cur.vain = 0
	}
	if e.Retry >= 0 {
		cur.retry = e.Retry
	}
}

// delay is the back-off after so many failures: at first as long as the server asked for, then ever
// longer. A server may ask for less than leastRetry, but it does not get that: it could end each
// connection at once, and keep us and itself busy.
func (cur *cursor) delay(failures int) time.Duration {
	after := cur.after
	cur.after = 0
	if failures > 1 || cur.retry < 0 {
		return max(after, cur.retry, backoff(failures))
	}
	least := min(leastRetry<<min(max(cur.vain-1, 0), 10), maxLeastRetry)
	if cur.retry >= leastRetry {
		least = 0 // the server has thought of us
	}
	return max(after, cur.retry, least)
}

// errSilent ends a resumed connection that brings nothing.
var errSilent = errors.New("the resumed stream was silent")

// events reads one connection of a stream, which was asked for with cur and ends with ctx, and
// moves cur on. It closes the response's body.
//
// Some servers replay what they have kept and then send nothing more on that connection
// (server-everything does). So a resumed connection that is silent for long ends with errSilent,
// and can be asked for again. That does no harm if it was alive.
func (s *legacyStreams) events(ctx context.Context, resp *http.Response, cur *cursor) iter.Seq2[sse.Event, error] {
	return func(yield func(sse.Event, error) bool) {
		defer resp.Body.Close()
		cur.vain++
		var silent atomic.Bool
		var timer *time.Timer
		if cur.resumed = cur.id != ""; cur.resumed {
			cur.silence = max(resumeSilence, min(2*cur.silence, retryMax))
			timer = time.AfterFunc(cur.silence, func() {
				silent.Store(true)
				resp.Body.Close()
			})
			defer timer.Stop()
		}
		held := &share{budget: s.held, ctx: ctx}
		defer held.hold(0)
		for e, err := range sse.Events(resp.Body, s.cfg.maxMessage, held.hold) {
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

// once returns a sink that keeps from take what a resumed stream brings for the second time.
// Answers pass in any case: a call takes only one, and its own stream may be the second that brings
// it.
func (s *legacyStreams) once(e sse.Event, cur *cursor, take sink) sink {
	if !e.OwnID {
		return take
	}
	return func(m rawjson.Message) bool {
		if m.Kind != rawjson.Response && s.delivered.add(e.ID, m.Raw) && cur.resumed {
			return false
		}
		return take(m)
	}
}

// maxReplay is how many messages are remembered, so that they are known in a replay.
const maxReplay = 4096

// delivered remembers the last messages that came as events with ids. An event id is unique in its
// session and is replayed only on its own stream (basic/transports, "Resumability and Redelivery").
// But some servers replay everything on each stream, and the ids of others are not unique. So a
// message is known only if both its id and its bytes are.
type delivered struct {
	mu    sync.Mutex
	known map[uint64]struct{}
	// ring has the hashes in known. When it is full, the oldest is at next.
	ring []uint64
	next int
}

var deliveredSeed = maphash.MakeSeed()

// add notes a message and reports whether it was known.
func (d *delivered) add(id string, raw []byte) bool {
	var h maphash.Hash
	h.SetSeed(deliveredSeed)
	h.WriteString(id)
	h.WriteByte(0)
	h.Write(raw)
	sum := h.Sum64()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.known[sum]; known {
		return true
	}
	if d.known == nil {
		d.known = map[uint64]struct{}{}
	}
	if len(d.ring) < maxReplay {
		d.ring = append(d.ring, sum)
	} else {
		delete(d.known, d.ring[d.next])
		d.ring[d.next] = sum
		d.next = (d.next + 1) % maxReplay
	}
	d.known[sum] = struct{}{}
	return false
}

// clear forgets everything, because the event ids of a new session begin anew.
func (d *delivered) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known, d.ring, d.next = nil, nil, 0
}
