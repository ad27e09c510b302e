package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"sallyport/relay/rawjson"
)

const (
	// maxBusy is how often a request is sent again if the server refuses it for now and does not
	// say for how long.
	maxBusy = 4
	// scoutTime is how long the others wait for the outcome of the first request after a pause. A
	// refusal comes at once, but an answer may take long.
	scoutTime = 2 * time.Second
	// After a pause, the others are spread over a time that is spreadEach for each of them, and
	// maxSpread at most.
	spreadEach = 20 * time.Millisecond
	maxSpread  = 2 * time.Second
	// unheardWait is how long a call may wait if the host cannot be told so. Many hosts give up
	// after 60 s, and then nobody learns why.
	unheardWait = 45 * time.Second
	// maxAfter is the longest Retry-After that counts for requests of our own, whose answer nobody
	// waits for.
	maxAfter = 10 * time.Minute
)

// pauses keeps requests back while the upstream has asked us to wait (status 429, 503 or 425). A
// pause holds for requests of the same kind as those that were refused. The others are sent,
// because hosts end a server that does not answer a ping. When the pause is over, one request goes
// ahead, the scout. If the scout is not refused, the others follow, but not all at once.
type pauses struct {
	// onWait is called when a request begins to wait. It is nil where nobody wants to know.
	onWait func()

	mu sync.Mutex
	// until is the end of the pause. It is zero if there is none.
	until time.Time
	// refusal says what the upstream has answered.
	refusal *fault
	// kinds are the kinds of the requests that were refused, as kindOf names them.
	kinds map[string]bool
	// scout is the number of the request that has gone ahead. 0 means that none has.
	scout int
	// lastScout is the number of the last scout.
	lastScout int
	// waiting is how many requests wait.
	waiting int
	// refused counts the refusals since the last request that was not refused.
	refused int
	// changed is closed when any of this changes, and made anew by whoever waits.
	changed chan struct{}
}

// changeLocked wakes all who wait.
func (p *pauses) changeLocked() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// begin begins a pause after a refusal, which f tells of, or makes the one under way longer. The
// pause is as long as the upstream has asked for, and at least our own back-off if there is time
// left for that. kind is that of the request, and scout its number if it was a scout. Requests that
// were sent together are refused together, and that counts as one refusal.
func (p *pauses) begin(kind string, scout int, f *fault, asked, left time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal == nil || scout != 0 && p.scout == scout {
		p.refused++
	}
	d := max(asked, backoff(p.refused)) + rand.N(min(asked/10, time.Second)+1)
	if d >= left {
		d = max(asked, left/2)
	}
	if until := time.Now().Add(d); until.After(p.until) {
		p.until = until
	}
	if p.kinds == nil {
		p.kinds = make(map[string]bool)
	}
	p.kinds[kind] = true
	p.refusal, p.scout = f, 0
	p.changeLocked()
	return d
}

// end ends the pause because the scout of that number was not refused. It does nothing if another
// one is the scout.
func (p *pauses) end(scout int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if scout == 0 || p.scout != scout {
		return
	}
	p.until, p.refusal, p.kinds, p.scout, p.refused = time.Time{}, nil, nil, 0, 0
	p.changeLocked()
}

// giveUp lets another request be the scout, because the one of the given number waits no longer.
func (p *pauses) giveUp(scout int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if scout != 0 && p.scout == scout {
		p.scout = 0
		p.changeLocked()
	}
}

// obstacle is the pause in words, or nil if no request waits for its end.
func (p *pauses) obstacle() *Obstacle {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal == nil || p.waiting == 0 {
		return nil
	}
	return &Obstacle{Kind: p.refusal.kind, Text: p.refusal.text + "; it is asked again " + p.whenLocked()}
}

// whenLocked puts the end of the pause into words.
func (p *pauses) whenLocked() string {
	return fmt.Sprintf("in %d s", int((max(0, time.Until(p.until))+time.Second-1)/time.Second))
}

// wait waits until there is no pause for r, or until the pause is over and r is its scout. A scout
// calls end, begin or giveUp as soon as it knows its outcome. The error is the cause of ctx, or the
// refusal if the pause goes beyond ends.
func (p *pauses) wait(ctx context.Context, r httpRequest, ends time.Time) (scout int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.refusal != nil && p.kinds[kindOf(r.body)] {
		left := time.Until(p.until)
		switch {
		case p.until.After(ends):
			f := *p.refusal
			f.hints = []string{"ask again " + p.whenLocked()}
			return 0, &f
		case left <= 0 && p.scout == 0:
			p.lastScout++
			p.scout = p.lastScout
			n := p.scout
			time.AfterFunc(scoutTime, func() { p.end(n) })
			return n, nil
		case left <= 0:
			left = scoutTime // somebody else is the scout, and wakes us
		}
		if err := p.sleepLocked(ctx, left); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// sleepLocked waits for d, or for a change. If the pause is over then, it also waits for the
// caller's part of the time over which the requests are spread. It does not hold p.mu while it
// waits.
func (p *pauses) sleepLocked(ctx context.Context, d time.Duration) error {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	changed := p.changed
	p.waiting++
	p.mu.Unlock()
	if p.onWait != nil {
		p.onWait()
	}
	_, err := pause(ctx, d, changed)
	p.mu.Lock()
	spread := min(time.Duration(p.waiting)*spreadEach, maxSpread)
	over := p.refusal == nil
	p.mu.Unlock()
	if err == nil && over {
		_, err = pause(ctx, rand.N(spread), nil)
	}
	p.mu.Lock()
	p.waiting--
	return err
}

// sendPatiently carries r by send. As long as the upstream refuses r for now and there is time, it
// waits and calls send again. Its errors are those of send and of pauses.wait.
func (cl *client) sendPatiently(ctx context.Context, r httpRequest, send func() (*http.Response, error)) (*http.Response, error) {
	p := &cl.obstacles.pauses
	ends := cl.pausesEnd(r.phase, time.Now().Add(cl.cfg.Timeout))
	for tries := 0; ; tries++ {
		r.phase.Store(held)
		scout, err := p.wait(ctx, r, ends)
		r.phase.Store(unsent)
		if err != nil {
			return nil, err
		}
		resp, err := send()
		if err != nil || !isBusy(resp) {
			p.end(scout)
			return resp, err
		}
		ends = cl.pausesEnd(r.phase, ends)
		left := time.Until(ends)
		asked, again := mayRetry(r, resp, tries)
		if !again || asked >= left {
			p.giveUp(scout)
			return resp, nil
		}
		f := statusFault(resp, string(peek(resp, maxShown)))
		discard(resp)
		d := p.begin(kindOf(r.body), scout, f, asked, left)
		cl.cfg.Log.Info("the upstream asks to wait", "status", resp.StatusCode, "wait", d)
	}
}

// pausesEnd returns until when a request may be held back. fixed is the answer if there is no time
// at which the request has to be answered.
func (cl *client) pausesEnd(p *phase, fixed time.Time) time.Time {
	end := p.end()
	switch {
	case end.IsZero():
		return fixed
	case p.unheard:
		return end.Add(min(0, unheardWait-cl.cfg.Timeout))
	}
	return end
}

// kindOf is the kind of a request with the given body: its method, and the name of the tool or
// prompt.
func kindOf(body []byte) string {
	return rawjson.MemberText(body, "method") + " " + rawjson.MemberText(body, "params", "name")
}

// isBusy reports whether resp refuses a request for now: because of a limit (429), because the
// server is overloaded or away (503), or because it came too early (425, RFC 8470). If the body is
// the result of the request, that has run all the same. The body can still be read.
func isBusy(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusTooEarly:
	default:
		return false
	}
	if saysUnknownSession(refusalWords(resp)) {
		return false // it would say so again
	}
	m, err := rawjson.Parse(peek(resp, maxErrorBody))
	return err != nil || m.Kind != rawjson.Response || m.Result == nil
}

// mayRetry decides whether r may be sent again after resp, which refuses it for now. tries counts
// the refusals before. It also returns how long the upstream has asked us to wait.
//
// The header Retry-After says that the upstream has not run r, and when to come back. A 429 and a
// 425 say the first even without that header. A bare 503 does not, because some gateways send it
// when a server has died over the request. So after a bare 503 we repeat only what does no harm.
func mayRetry(r httpRequest, resp *http.Response, tries int) (asked time.Duration, again bool) {
	asked, given := retryAfter(resp.Header)
	if given {
		return asked, true
	}
	method := rawjson.MemberText(r.body, "method")
	harmless := resp.StatusCode != http.StatusServiceUnavailable || isSafe(method)
	return 0, harmless && tries < maxBusy && !hasOwnLoop(method)
}

// hasOwnLoop reports whether the senders of this method repeat its requests themselves.
func hasOwnLoop(method string) bool {
	switch method {
	case "", "initialize", "server/discover", "subscriptions/listen":
		return true
	}
	return false
}

// isSafe reports whether a request of this method may run twice without harm.
func isSafe(method string) bool {
	switch method {
	case "ping", "tasks/get", "notifications/initialized":
		return true
	}
	return strings.HasSuffix(method, "/list")
}

// retryAfter reads the header Retry-After (RFC 9110, section 10.2.3). It holds seconds or a date. A
// date is compared with the server's own clock if the answer shows that. It reports false if the
// header is missing or makes no sense.
func retryAfter(h http.Header) (d time.Duration, given bool) {
	v := strings.TrimSpace(h.Get("Retry-After"))
	whole, fraction, _ := strings.Cut(v, ".") // some send a fraction of seconds
	if whole != "" && strings.Trim(whole+fraction, "0123456789") == "" {
		seconds := 0
		for _, digit := range whole {
			seconds = min(10*seconds+int(digit-'0'), 1<<31)
		}
		if strings.Trim(fraction, "0") != "" {
			seconds++
		}
		return time.Duration(seconds) * time.Second, true
	}
	t, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	now := time.Now()
	if theirs, err := http.ParseTime(h.Get("Date")); err == nil {
		now = theirs
	}
	return max(0, t.Sub(now)), true
}
