package oauth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"sallyport/oauth/asclient"
)

const (
	// refusedPause is how long no sign-in follows a refused new token, unless the person asks.
	refusedPause = 10 * time.Minute
	// metadataMemoryTime is how long it is remembered that the upstream has no resource metadata.
	metadataMemoryTime = 10 * time.Minute
	// maxKinds is how many kinds of requests are remembered that the upstream refuses.
	maxKinds = 64
	// maxPeek is how many bytes of an answer are read to see what it is.
	maxPeek = 4 << 10
)

// exchange is one request to the upstream, however often it is sent.
type exchange struct {
	*Transport
	req *http.Request
	by  caller
	// replays counts the renewals after which the request was sent again, and pauses the times that
	// it was sent again with the same fresh token.
	replays, pauses int
	// repeated says that the request was sent again with a token that the upstream had accepted a
	// moment before.
	repeated bool
	// closed says that closedFor has asked.
	closed bool
	// person says that a login may follow a refusal that does not say what it is about. It is set
	// if a person at a terminal waits, or if the upstream leads to a login page.
	person bool
}

// verdict is what an answer of the upstream leads to. The zero verdict hands it on to the caller.
type verdict struct {
	// need is the token that the upstream may take. Nil means that no token helps.
	need *need
	// again says that the same token is tried again, after pause.
	again bool
	pause time.Duration
	// err ends the request.
	err error
}

// run sends the request until the upstream takes it or nothing more can be done. access is the
// token to begin with.
func (x *exchange) run(access string) (*http.Response, error) {
	ctx, body := x.req.Context(), x.req.Body
	for {
		resp, err := x.send(x.req, body, access)
		if err != nil && x.closedFor(access) {
			resp, err = &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody, Request: x.req}, nil
		}
		if err != nil {
			return nil, err
		}
		v := x.judge(resp, access)
		if v == (verdict{}) || v.err == nil && (x.replays == maxReplays || !repeatable(x.req)) {
			return resp, nil
		}
		detach(resp)
		switch {
		case v.err != nil:
			err = v.err
		case v.again:
			err = sleep(ctx, v.pause)
		default:
			x.replays++
			n := *v.need
			n.background = n.background || x.by == inBackground
			if !n.background && !n.noLogin && n.stepUp == nil {
				resp.Body.Close() // now, as a login may take minutes
			}
			err = x.renewFor(ctx, n, resp)
			if err == errTokenTaken && !x.repeated {
				x.repeated, err = true, nil
				break
			}
			handOn := n.background || err == errNeedsPerson || err == errTokenTaken || n.stepUp != nil && isRefused(err)
			if err != nil && ctx.Err() == nil && handOn {
				x.cfg.Log.Info("request is refused, and nothing more is done", "status", resp.StatusCode, "err", err)
				return resp, nil // after a refused step-up, the token is still good for everything else
			}
		}
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		rec, _ := x.account.current()
		access = rec.Token.Access
		if x.req.GetBody != nil {
			if body, err = x.req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// closedFor reports whether the upstream most likely closes the connection because of the token
// access: it answers a request without one. The question is asked once, for a person at a terminal.
func (x *exchange) closedFor(access string) bool {
	if access == "" || !x.person || x.closed || x.req.Context().Err() != nil || !repeatable(x.req) {
		return false
	}
	x.closed = true
	return x.ping("") == tokenDead
}

// errTokenTaken says that the upstream takes the token for other requests than this one.
var errTokenTaken = errors.New("the upstream takes the token for other requests")

// renewFor renews the token. If only a login could help, and the upstream has not said yet whether
// it knows the token, it is asked before a person is. The error is errTokenTaken if it does know
// it, and errNeedsPerson if nobody may be asked. Before a login the refusal refused is closed,
// because a login may take minutes.
func (x *exchange) renewFor(ctx context.Context, n need, refused *http.Response) error {
	err := x.renew(ctx, n)
	if !n.noLogin || n.background || err != errNeedsPerson {
		return err
	}
	switch known := x.asksAbout(n.instead); {
	case known == tokenTaken:
		return errTokenTaken
	case known == tokenUnclear && x.by == inSession:
		return err
	}
	n.noLogin = false
	refused.Body.Close()
	return x.renew(ctx, n)
}

// sleep waits for d, or until ctx ends, whose cause it then returns.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// complaint is what an answer of the upstream says of the token.
type complaint int

const (
	// complaintNone: the upstream has taken the request's token, if it had one.
	complaintNone complaint = iota
	// complaintToken: the upstream wants another token, or one at all.
	complaintToken
	// complaintScope: the upstream knows the token and wants one of more scope.
	complaintScope
	// complaintUnclear: the upstream refuses the request. That may be because of the token.
	complaintUnclear
)

// complaintOf reads an answer to a request that had a token (hadToken) or had none.
func complaintOf(resp *http.Response, ch asclient.Challenge, hadToken bool) complaint {
	asksToken := ch.Bearer || ch.DPoP
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusBadRequest:
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect:
		if leadsElsewhere(resp) {
			return complaintUnclear
		}
		return complaintNone
	default:
		return complaintNone
	}
	switch {
	case resp.StatusCode == http.StatusBadRequest && !asksToken:
		if hadToken || isMessage(resp) {
			return complaintNone // a 400 is most often about the request itself
		}
		return complaintUnclear
	case hadToken && ch.Error == "insufficient_scope":
		return complaintScope
	case resp.StatusCode == http.StatusUnauthorized:
		return complaintToken
	case asksToken && (!hadToken || ch.Error == "invalid_token"):
		return complaintToken
	}
	return complaintUnclear
}

// isBusy reports whether a status says that the upstream, or a gateway before it, is out of order.
func isBusy(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// isMessage reports whether the answer is one of MCP: a JSON-RPC message or a stream of them.
func isMessage(resp *http.Response) bool {
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return true
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxPeek))
	resp.Body = readAgain(b, resp.Body)
	return bytes.Contains(b, []byte(`"jsonrpc"`))
}

// leadsElsewhere reports whether a redirect leads to another place than the same resource with
// another slash or over https. Such a place may be a login page.
func leadsElsewhere(resp *http.Response) bool {
	to, err := resp.Location()
	if err != nil || resp.Request == nil {
		return false
	}
	from := resp.Request.URL
	samePath := strings.TrimSuffix(to.Path, "/") == strings.TrimSuffix(from.Path, "/")
	return !samePath || !strings.EqualFold(to.Hostname(), from.Hostname())
}

// judge says what the answer resp to a request with the token access leads to.
func (x *exchange) judge(resp *http.Response, access string) verdict {
	ch := asclient.ReadChallenge(resp.Header)
	switch complaintOf(resp, ch, access != "") {
	case complaintToken:
		return x.judgeToken(ch, resp.StatusCode, access)
	case complaintScope:
		x.accepted(access) // the upstream knows the token, it only wants more of it
		return x.judgeScope(ch, access)
	case complaintUnclear:
		if access != "" {
			x.person = x.person || resp.StatusCode/100 == 3 && x.knowsOAuth(x.req.Context())
			return x.judgeSuspect(ch, access, x.person)
		}
		if x.knowsOAuth(x.req.Context()) {
			return verdict{need: &need{challenge: ch}}
		}
	default:
		if access != "" && x.person && resp.StatusCode >= 400 && !isBusy(resp.StatusCode) && !isMessage(resp) {
			if v := x.judgeSuspect(ch, access, true); v != (verdict{}) {
				return v
			}
		}
		if resp.StatusCode < 500 {
			x.accepted(access)
		}
		if resp.StatusCode/100 == 2 && x.account.doubts.anyRefused() {
			x.account.doubts.serves(x.kind())
		}
	}
	return verdict{}
}

// judgeToken is the verdict on a token that the upstream does not take. An empty access means that
// there was none.
func (x *exchange) judgeToken(ch asclient.Challenge, status int, access string) verdict {
	renew := verdict{need: &need{instead: access, challenge: ch}}
	rec, standing := x.account.current()
	switch {
	case access == "" || access != rec.Token.Access:
		return renew
	case standing == refused && !x.account.doubts.refusedLately(x.cfg.now()):
		renew.need.noLogin = x.by == inSession
		return renew
	case standing == fromStore || standing == accepted:
		return x.judgeKnown(renew)
	// The relay takes a 403 in a session for the answer to one call, so it must be no passing one.
	case x.by != foreground && (x.by != inSession || status != http.StatusForbidden || x.pauses == len(x.cfg.freshPauses)):
		return verdict{} // such a request does not judge a fresh token
	case standing == refused:
		return verdict{err: x.tokenRefused(ch, status)}
	case x.pauses < len(x.cfg.freshPauses):
		x.pauses++
		return verdict{again: true, pause: x.cfg.freshPauses[x.pauses-1]}
	case x.asksAbout(access) == tokenTaken:
		x.accepted(access)
		return verdict{}
	case standing == fromRefresh:
		renew.need.noRefresh = true
		return renew
	}
	x.account.refuse(access)
	return verdict{err: x.tokenRefused(ch, status)}
}

// judgeKnown is the verdict on a token that is not fresh. Its end is likely if the upstream refuses
// it, but a gateway may also answer so for one backend, or one replica of several. So a request
// that follows an accepted one is sent once more. Then a refresh shows more, once for each kind of
// request. If a refresh has not helped requests of this kind, the upstream is asked what it holds
// of the token. renew is the verdict to begin with.
func (x *exchange) judgeKnown(renew verdict) verdict {
	access := renew.need.instead
	if !x.repeated && x.account.acceptedLately(access) {
		x.repeated = true
		return verdict{again: true}
	}
	if x.person {
		return renew // the person's ping is that question
	}
	renew.need.noLogin = true
	if first := x.account.doubts.refuses(x.kind()); first {
		return renew
	}
	switch x.asksAbout(access) {
	case tokenTaken:
		return verdict{}
	case tokenDead:
		renew.need.noLogin = false
	case tokenUnclear:
		if x.by == inSession {
			return verdict{} // its caller asks again by the Transport itself
		}
		renew.need.noLogin = false
	}
	return renew
}

// kind names the requests that the upstream most likely judges as it does this one.
func (x *exchange) kind() string {
	if x.cfg.Kind == nil {
		return x.req.Method
	}
	return x.req.Method + " " + x.cfg.Kind(x.req)
}

// tokenRefused is the error for a new token that the upstream refuses.
func (x *exchange) tokenRefused(ch asclient.Challenge, status int) error {
	return &TokenRefusedError{Upstream: asclient.WithoutQuery(x.cfg.Upstream), Status: status,
		Code: asclient.PeerText(ch.Error, x.Secrets()), Description: asclient.PeerText(ch.Description, x.Secrets())}
}

// judgeScope is the verdict on a token of too little scope: a step-up, if that asks for anything
// new. Otherwise the upstream may mean that the token is too old.
func (x *exchange) judgeScope(ch asclient.Challenge, access string) verdict {
	rec, _ := x.account.current()
	wanted := strings.Fields(ch.Scope)
	askedBefore := access == rec.Token.Access && subset(wanted, rec.Asked)
	if len(wanted) == 0 || askedBefore {
		return x.judgeSuspect(ch, access, true)
	}
	if x.cfg.NonInteractive && !x.cfg.unattended() {
		return verdict{}
	}
	return verdict{need: &need{instead: access, challenge: ch, noRefresh: true,
		stepUp: union(rec.Asked, strings.Fields(rec.Token.Scope), wanted)}}
}

// judgeSuspect is the verdict on a refusal that does not say whether it is about the token. A token
// that may have expired is refreshed, once. Nobody is asked to log in unless x.person is set.
// anyAge says that the age of the token does not matter.
func (x *exchange) judgeSuspect(ch asclient.Challenge, access string, anyAge bool) verdict {
	rec, standing := x.account.current()
	fresh := standing == fromRefresh || standing == fromSignIn
	mayHaveExpired := rec.Token.Expiry.IsZero() || rec.Token.Expired(x.cfg.now())
	doubtful := access == rec.Token.Access && !fresh && (anyAge || mayHaveExpired)
	if !doubtful || !x.account.renewable() || !x.account.doubts.suspect(access) {
		return verdict{}
	}
	return verdict{need: &need{instead: access, challenge: ch, background: !x.person || x.cfg.NonInteractive}}
}

// accepted notes that the upstream took the token access.
func (t *Transport) accepted(access string) {
	if t.account.accept(access) {
		t.life.start(t.peers.noteAccepted)
	}
}

// doubts is what a process holds against tokens of its account. Its methods may be called
// concurrently.
type doubts struct {
	mu sync.Mutex
	// refusedAt is when a token of a sign-in was refused. It is zero if none was.
	refusedAt time.Time
	// suspected is the last access token that was refreshed because it may have expired.
	suspected string
	// refusedKinds are the kinds of requests for which a token was refreshed, and that the upstream
	// has not served since. There are maxKinds at most.
	refusedKinds map[string]bool
	// earlyAfter is when a refresh ahead of expiry may be tried again. It is zero if none failed.
	earlyAfter time.Time
	// clientErr is how the server refused the client of an unattended grant, and clientAt is when.
	// The server is not asked again within clientPause. clientErr is nil if the client was not
	// refused.
	clientErr   error
	clientAt    time.Time
	clientPause time.Duration
}

// noteRefusal notes that the upstream refuses a token that a sign-in brought.
func (d *doubts) noteRefusal(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refusedAt = now
}

// refusedLately reports whether a token of a sign-in was refused a short time ago. Then another
// sign-in would most likely end the same way.
func (d *doubts) refusedLately(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	age := now.Sub(d.refusedAt)
	return !d.refusedAt.IsZero() && age >= 0 && age < refusedPause
}

// suspect notes that the token access may have expired although the upstream does not say so. It
// reports whether that is news. A refresh shows whether the token had expired, and one refresh is
// enough.
func (d *doubts) suspect(access string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := d.suspected != access
	d.suspected = access
	return first
}

// refuses notes that the upstream refuses a token to requests of a kind. It reports whether that is
// news since it has last served one.
func (d *doubts) refuses(kind string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := !d.refusedKinds[kind]
	if d.refusedKinds == nil || len(d.refusedKinds) >= maxKinds {
		d.refusedKinds = make(map[string]bool)
	}
	d.refusedKinds[kind] = true
	return first
}

// anyRefused reports whether serves has anything to note.
func (d *doubts) anyRefused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.refusedKinds) > 0
}

// serves notes that the upstream has served a request of a kind.
func (d *doubts) serves(kind string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.refusedKinds, kind)
}

// refreshed notes that access replaces the token old. If old was suspected, so is access, because
// another refresh would not mend what this one did not.
func (d *doubts) refreshed(old, access string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.suspected == old {
		d.suspected = access
	}
}

// pauseEarly puts off refreshes ahead of expiry for a moment, because one has just failed.
func (d *doubts) pauseEarly(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.earlyAfter = now.Add(earlyPause)
}

// earlyPaused reports whether refreshes ahead of expiry are put off.
func (d *doubts) earlyPaused(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait := d.earlyAfter.Sub(now)
	return wait > 0 && wait <= earlyPause // a clock that was set back puts off nothing
}

// metadataMemory remembers whether the upstream has resource metadata.
type metadataMemory struct {
	mu    sync.Mutex
	known bool
	// asked is when known was learned. It is zero before.
	asked time.Time
}

// get returns what is remembered, and whether it still counts at now.
func (m *metadataMemory) get(now time.Time) (known, fresh bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	age := now.Sub(m.asked)
	return m.known, m.known || !m.asked.IsZero() && age >= 0 && age < metadataMemoryTime
}

// set remembers what was learned at now.
func (m *metadataMemory) set(known bool, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known, m.asked = known, now
}

// knowsOAuth reports whether the upstream speaks OAuth although its answer does not say so: it has
// resource metadata (RFC 9728), or the Config names an unattended grant.
func (t *Transport) knowsOAuth(ctx context.Context) bool {
	if t.cfg.unattended() {
		return true
	}
	if t.cfg.Endpoints.NoDiscovery {
		return false
	}
	if known, fresh := t.oauthKnown.get(t.cfg.now()); fresh {
		return known
	}
	f, err := t.as.FindResource(ctx, "")
	if ctx.Err() != nil {
		return false
	}
	_, refusedByUs := errors.AsType[*asclient.SignInError](err) // a sign-in says what is wrong with it
	known := f.Resource.ID != "" || refusedByUs
	t.oauthKnown.set(known, t.cfg.now())
	return known
}
