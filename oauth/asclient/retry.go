package asclient

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxPause   = 45 * time.Second // all pauses of one request together
	maxPauses  = 5                // of one request
	shortPause = time.Second      // the least one

	freshFor    = 30 * time.Second // how long a server may need to tell its replicas of a new client
	maxUnknown  = 2                // tries after a refusal of such a client
	maxLostCode = 1                // tries after an answer that may have lost a code
)

// pauses bounds the time that one request waits for a server that is busy.
type pauses struct {
	count int
	total time.Duration
}

// wait waits as long as a server asks for, and longer each time. It reports false at once if that
// is too long for the bound, or for the deadline of ctx. The error is the cause of ctx.
func (p *pauses) wait(ctx context.Context, asked time.Duration) (again bool, err error) {
	pause := max(asked, shortPause<<p.count)
	if p.count == maxPauses || p.total+pause > maxPause {
		return false, nil
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false, nil
	}
	p.count, p.total = p.count+1, p.total+pause
	select {
	case <-time.After(pause):
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// asksToWait returns how long a server that is busy asks us to wait. It reports false if the answer
// says nothing of that kind.
func (a answer) asksToWait(now time.Time) (time.Duration, bool) {
	switch {
	case a.status == http.StatusTooEarly, a.status == http.StatusTooManyRequests, a.status >= http.StatusInternalServerError:
	case a.status == http.StatusForbidden && a.header.Get("Retry-After") != "": // as of GitHub
	default:
		if f := a.fault(); !rateLimited(f.code) && !unavailable(f.code) && !saysTooOften(f.words) {
			return 0, false
		}
	}
	if d, ok := retryAfterIn(a.header, now); ok {
		return d, true
	}
	if d, ok := readDocument(a.body); ok { // as of Discord
		if wait, ok := seconds(d.text("retry_after")); ok {
			return wait, true
		}
	}
	if a.status == http.StatusTooManyRequests {
		return rateLimitReset(a.header, now)
	}
	return 0, false
}

// retryAfterIn reads Retry-After (RFC 9110 section 10.2.3), and the same in milliseconds, which
// some servers send. A date counts from the server's own clock, if the answer has its time.
func retryAfterIn(h http.Header, now time.Time) (time.Duration, bool) {
	for _, name := range []string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if d, ok := seconds(h.Get(name)); ok {
			return d / 1000, true
		}
	}
	text := h.Get("Retry-After")
	if d, ok := seconds(text); ok {
		return d, true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxLifetime), true
}

// rateLimitReset reads the fields that rate limiters send in place of Retry-After. A large number
// is a time in seconds or milliseconds since 1970.
func rateLimitReset(h http.Header, now time.Time) (time.Duration, bool) {
	for _, name := range []string{"RateLimit-Reset", "X-RateLimit-Reset-After", "X-RateLimit-Reset", "X-Rate-Limit-Reset"} {
		d, ok := seconds(h.Get(name))
		if !ok {
			continue
		}
		if secs := d / time.Second; secs > 1e8 { // some three years
			text, _ := strconv.ParseFloat(strings.TrimSpace(h.Get(name)), 64)
			if text > 1e11 {
				text /= 1000
			}
			d = min(max(time.Unix(int64(text), 0).Sub(now), 0), maxLifetime)
		}
		return d, true
	}
	return 0, false
}

// seconds reads a number of seconds. A negative number counts as 0, and a large one as a hundred
// years.
func seconds(text string) (time.Duration, bool) {
	secs, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(secs) {
		return 0, false
	}
	return time.Duration(min(max(secs, 0), maxLifetime.Seconds()) * float64(time.Second)), true
}

// retries are the further tries of one request, beyond what a server asks for by Retry-After.
type retries struct {
	// unknown counts the tries after an answer that does not know a new client.
	unknown int
	// lost counts the tries after an answer that may have lost a code.
	lost int
}

// next returns the request to send after an answer that grants nothing, or after an error of the
// network, and the pause before it. It reports false if another try cannot help.
//
//   - A server that objects to the resource parameter gets the request without it. A refresh is not
//     sent again here: package oauth does that, and remembers it.
//   - A client that was registered a moment ago may not be known to all replicas of the server.
//   - An authorization code costs the person another login page. So it is sent once more if the
//     answer does not say no. It does no harm if the server has spent the code.
func (r *retries) next(c *Client, q call, a answer, err error) (again call, pause time.Duration, ok bool) {
	isCode := q.form.Get("grant_type") == grantTypeCode
	if err != nil {
		r.lost++
		return q, shortPause, isCode && r.lost <= maxLostCode && !isTimeout(err)
	}
	if a.status/100 == 2 && !a.fault().standard || a.other != "" {
		return q, 0, false
	}
	switch e := q.refusal(a); {
	case e.UnknownClient() && c.memory.isFresh(q.who.ID, c.now()):
		r.unknown++
		return q, shortPause, r.unknown <= maxUnknown
	case q.mayLackResource(c, e, isCode):
		q.form = without(q.form, "resource")
		return q, 0, true
	case isCode && !e.Refused && a.status/100 != 3:
		r.lost++
		return q, shortPause, r.lost <= maxLostCode
	}
	return q, 0, false
}

// withoutResource returns q as its server takes it: without the resource parameter, if the server
// took an earlier request only after that was left out.
func (q call) withoutResource(c *Client) call {
	if _, objects := c.memory.noResource.Load(q.server.ID()); objects && q.stage != StageRefresh {
		q.form = without(q.form, "resource")
	}
	return q
}

// mayLackResource reports whether a refused request may be good without its resource parameter. The
// person's own word for the resource stays. Everything but a code is sent again only if the server
// names the parameter.
func (q call) mayLackResource(c *Client, e *SignInError, isCode bool) bool {
	if q.stage == StageRefresh || !q.form.Has("resource") || c.ResourceGiven || c.ExtraParams["resource"] != "" || c.AuthorizeParams["resource"] != "" {
		return false
	}
	return e.Names("resource") || isCode && e.ObjectsTo("resource")
}

// isFresh reports whether a client was registered here a moment ago.
func (m *memory) isFresh(id string, now time.Time) bool {
	at, ok := m.registered.Load(id)
	return ok && now.Sub(at.(time.Time)) < freshFor
}

// without returns a copy of form without a parameter.
func without[M ~map[string][]string](form M, name string) M {
	left := make(M, len(form))
	for other, values := range form {
		if other != name {
			left[other] = slices.Clone(values)
		}
	}
	return left
}
