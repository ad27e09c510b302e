package relay

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"sallyport/relay/rawjson"
)

// wire carries messages upstream by one protocol.
type wire interface {
	call(c *call) error               // carries one request and returns when nothing more can come of it; the error says why there is no answer
	notice(n notice)                  // carries one notification, settles it, and returns when the next may go
	respond(m rawjson.Message)        // carries the host's answer to a request of the server
	giveUp(cancelled rawjson.Message) // tells the server that nobody waits for a request any more
	goodbye(ctx context.Context)      // ends the session upstream
}

// era is the kind of wire that a server speaks (2026-07-28, basic/versioning, "Terminology").
type era string

const (
	unknownEra era = ""
	legacyEra  era = "legacy" // with initialize
	modernEra  era = "modern" // without
)

// memoryEra is the name by which Config.Load and Save know the era.
const memoryEra = "era"

// eraError is the refusal of an initialize by a server that seems to be modern.
type eraError struct {
	answer rawjson.Message
	*fault
}

func (e *eraError) Unwrap() error { return e.fault }

// modernRefusal returns an *eraError if resp, to initialize, looks like a modern server's. The body can still be read.
func modernRefusal(resp *http.Response) error {
	if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusNotFound {
		return nil
	}
	head := peek(resp, maxShown)
	a, err := rawjson.Parse(bytes.Clone(head))
	if err != nil {
		return nil
	}
	if code := errorCode(a); isModernCode(code) || resp.StatusCode == http.StatusNotFound && code == codeNoMethod {
		return &eraError{a, statusFault(resp, string(head))}
	}
	return nil
}

// upstream finds out what the server and the host speak, and gives each message to the wire for that.
type upstream struct {
	s      *session
	queue  chan notice
	legacy *legacy
	modern *modern
	bridge *bridge

	mu      sync.Mutex // guards what follows
	loaded  bool       // the memory was asked
	known   era        // remembered or found
	found   bool       // known was found in this session
	saved   era        // what the memory holds
	probing *discovery // nil: none
	opened  wire       // what carries the session that the host has opened with initialize; nil: it has not
}

// discovery is the search for the server's era; the rest is set before done is closed.
type discovery struct {
	done   chan struct{}
	era    era
	result []byte // raw DiscoverResult; nil: the server gave none
	err    error  // why era is unknown
}

func newUpstream(s *session) *upstream {
	srv := &server{s: s}
	m := &modern{server: srv}
	return &upstream{s: s, queue: make(chan notice, maxNotices), legacy: newLegacy(srv), modern: m, bridge: newBridge(m)}
}

// wire returns what carries the messages of the host's own session.
func (u *upstream) wire() wire {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.opened != nil:
		return u.opened
	case u.known == modernEra:
		return u.modern
	}
	return u.legacy
}

// call carries c and returns when nothing more can come of it. The error says why there is no answer.
func (u *upstream) call(c *call) error {
	switch {
	case c.init:
		return u.initialize(c)
	case c.after == nil && isModern(c.Message):
		return u.callModern(c)
	}
	if err := wait(c.ctx, c.after); err != nil {
		return err
	}
	return u.wire().call(c)
}

// initialize opens a session for a legacy host: upstream if the server speaks that, else in the bridge alone.
func (u *upstream) initialize(c *call) error {
	id := identity{capabilities: rawjson.Member(c.Params, "capabilities"), info: rawjson.Member(c.Params, "clientInfo")}
	if known, _ := u.recall(); known != legacyEra && u.s.cfg.Transport != TransportSSE {
		d, err := u.discover(c.ctx, id, true)
		var f *fault
		switch {
		case err == nil && d.era == modernEra && d.result != nil:
			return u.open(u.bridge, c, d)
		case err != nil && !(errors.As(err, &f) && f.kind == "status"):
			return err
		}
	}
	err := u.open(u.legacy, c, nil)
	var refusal *eraError
	if !errors.As(err, &refusal) {
		if err == nil && u.legacy.session().version != "" {
			u.remember(legacyEra)
		}
		return err
	}
	// What was remembered is no longer so.
	d, err := u.discover(c.ctx, id, true)
	switch {
	case err != nil:
		return err
	case d.era == modernEra:
		return u.open(u.bridge, c, d)
	case isAnswer(refusal.answer, c.key):
		u.s.answer(c, refusal.answer.Raw)
		return nil
	}
	return refusal.fault
}

func (u *upstream) open(w wire, c *call, d *discovery) error {
	u.mu.Lock()
	u.opened = w
	u.mu.Unlock()
	if w == u.bridge {
		return u.bridge.open(c, d.result)
	}
	return w.call(c)
}

// callModern carries a request of a modern host, if the server is modern, too.
func (u *upstream) callModern(c *call) error {
	known, found := u.recall()
	if known == legacyEra && !found && c.Method != "server/discover" {
		known = unknownEra // this host has no other way, so what is remembered is put to the test
	}
	for range 2 {
		if known == unknownEra {
			d, err := u.discover(c.ctx, identityIn(c.Params), false)
			if err != nil {
				return err
			}
			known, found = d.era, true
		}
		if known != modernEra {
			break
		}
		err := u.modern.call(c)
		if contradicts(err) {
			known = unknownEra
			u.note(known)
		}
		if found || known == modernEra {
			return err
		}
	}
	// Any error that is not a modern one sends a host that knows both wires to initialize (basic/transports/stdio, "Backward
	// Compatibility").
	return &fault{code: codeNoMethod, kind: "no_method", text: excerpt(c.Method, 64) + ": the server speaks the protocol up to 2025-11-25",
		hints: []string{"open the session with initialize"}}
}

// contradicts reports whether err, of a request to a modern server, is the refusal of one that is none.
func contradicts(err error) bool {
	var f *fault
	return errors.As(err, &f) && f.kind == "status" &&
		(f.status == http.StatusBadRequest || f.status == http.StatusNotFound || f.status == http.StatusMethodNotAllowed)
}

// notify queues n behind the notifications before it; false: the queue is full.
func (u *upstream) notify(n notice) bool {
	select {
	case u.queue <- n:
		return true
	default:
		return false
	}
}

// notices sends the queued notifications, one after the other.
func (u *upstream) notices() {
	for {
		select {
		case n := <-u.queue:
			after := n.after
			if n.gate != nil {
				after = n.opened
			}
			if wait(u.s.ctx, after) == nil {
				u.wire().notice(n)
				continue
			}
			if n.gate != nil {
				close(n.gate)
			}
			u.s.settle()
		case <-u.s.ctx.Done():
			return
		}
	}
}

// respond carries the host's answer to a request of the server, once initialize was answered.
func (u *upstream) respond(m rawjson.Message, opened <-chan struct{}) {
	if wait(u.s.ctx, opened) == nil {
		u.wire().respond(m)
	}
}

// giveUp tells the server that nobody waits for a request any more.
func (u *upstream) giveUp(cancelled rawjson.Message) { u.wire().giveUp(cancelled) }

// goodbye ends the session upstream.
func (u *upstream) goodbye(ctx context.Context) { u.wire().goodbye(ctx) }

// recall returns what is known of the server, at first from the memory.
func (u *upstream) recall() (known era, found bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.loaded {
		u.loaded = true
		b, err := u.s.cfg.Load(memoryEra)
		if err != nil {
			u.s.cfg.Log.Debug("memory", "err", err)
		}
		if e := era(strings.Trim(string(b), `"`)); e == legacyEra || e == modernEra {
			u.known, u.saved = e, e
		}
	}
	return u.known, u.found
}

// note takes e, or unknownEra, for what the server speaks in this session.
func (u *upstream) note(e era) {
	u.mu.Lock()
	u.known, u.found = e, e != unknownEra
	u.mu.Unlock()
	if e == modernEra {
		u.remember(e)
	}
}

// remember notes for later sessions what the server has been seen to speak.
func (u *upstream) remember(e era) {
	u.mu.Lock()
	news := u.saved != e
	u.known, u.found, u.saved = e, true, e
	u.mu.Unlock()
	if !news {
		return
	}
	if err := u.s.cfg.Save(memoryEra, rawjson.Quote(string(e))); err != nil {
		u.s.cfg.Log.Debug("memory", "err", err)
	}
}

// discover asks the server what it speaks, or joins those who do. Unless anew is set, what was found in this session will do. ctx
// bounds only the waiting.
func (u *upstream) discover(ctx context.Context, id identity, anew bool) (*discovery, error) {
	u.mu.Lock()
	d := u.probing
	switch {
	case d == nil && u.found && !anew:
		d = &discovery{era: u.known}
		u.mu.Unlock()
		return d, nil
	case d == nil:
		d = &discovery{done: make(chan struct{})}
		u.probing = d
		lifetime := u.s.asQuiet(ctx)
		// Ends with s.ctx, or when the server has kept silent for noticeWait.
		u.s.work.Go(func() {
			u.probe(lifetime, d, id)
			u.mu.Lock()
			u.probing = nil
			u.mu.Unlock()
			close(d.done)
		})
	}
	u.mu.Unlock()
	if err := wait(ctx, d.done); err != nil {
		return nil, err
	}
	return d, d.err
}

// probe sends server/discover. A version that is refused is replaced, once, by one that both sides speak (basic/versioning, "Protocol
// Version Negotiation").
func (u *upstream) probe(lifetime context.Context, d *discovery, id identity) {
	id.version = modernVersions[0]
	for range 2 {
		status, answer, err := u.ask(lifetime, id)
		d.era, d.err = classify(status, answer, err)
		d.result = answer.Result
		if d.era != modernEra || errorCode(answer) != codeVersion {
			break
		}
		id.version = mutual(rawjson.Member(answer.Raw, "error", "data", "supported"))
	}
	u.note(d.era)
}

// errUnanswered: the server has kept silent for noticeWait, like one that knows neither the method nor what to do then.
var errUnanswered = errors.New("no answer to server/discover")

// ask sends server/discover once and returns the HTTP status and the answer; an answer of kind invalid: there was none.
func (u *upstream) ask(lifetime context.Context, id identity) (status int, answer rawjson.Message, err error) {
	ctx, cancel := context.WithCancel(lifetime)
	defer cancel()
	done := make(chan struct{})
	u.s.work.Go(func() { // ends with ctx
		defer close(done)
		status, err = u.modern.once(ctx, u.s.sender(ctx), new(atomic.Int32), u.modern.request("server/discover", []byte("{}"), id), id.version,
			func(a rawjson.Message) { answer, _ = rawjson.Parse(bytes.Clone(a.Raw)) }, func(rawjson.Message) {})
	})
	u.legacy.standBy(done)
	cancel()
	<-done
	if errors.Is(err, context.Canceled) && u.s.ctx.Err() == nil {
		err = errUnanswered
	}
	return status, answer, err
}

// classify tells a server's era from its answer to server/discover, or from the error if there was none (basic/transports/streamable-http,
// "Backward Compatibility").
func classify(status int, a rawjson.Message, err error) (era, error) {
	var f *fault
	code := errorCode(a)
	switch {
	case a.Result != nil && mutual(rawjson.Member(a.Result, "supportedVersions")) != "",
		code == codeVersion && mutual(rawjson.Member(a.Raw, "error", "data", "supported")) != "",
		code == codeHeaderMismatch, code == codeMissingCapability,
		code == codeNoMethod && status == http.StatusNotFound:
		return modernEra, nil
	case err == nil, err == errUnanswered:
		return legacyEra, nil
	case errors.As(err, &f) && (f.kind == "bad_answer" || f.kind == "status" && isFinal(err) && f.status != http.StatusForbidden):
		return legacyEra, nil
	}
	return unknownEra, err // it may be a gateway's, or the link's
}

// mutual returns the newest modern version in a raw array that we speak; "" there is none.
func mutual(raw []byte) string {
	theirs := rawjson.Texts(raw)
	for _, v := range modernVersions {
		if slices.Contains(theirs, v) {
			return v
		}
	}
	return ""
}
