package relay

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/relay/rawjson"
)

// era is the kind of protocol that a server speaks (2026-07-28, basic/versioning, "Terminology").
type era string

const (
	unknownEra era = ""
	legacyEra  era = "legacy" // with initialize
	modernEra  era = "modern" // without initialize
)

// memoryEra is the name by which Config.Load and Save know the era.
const memoryEra = "era"

// maxVersions is how many versions of a server are looked at.
const maxVersions = 64

// eras finds out, and remembers, of which era the server is.
type eras struct {
	*client
	modern *modern

	mu sync.Mutex
	// loaded says that Config.Load has been asked.
	loaded bool
	// current is what is remembered or found; found says that it was found in this session.
	current era
	found   bool
	// saved is what Config.Save was told last.
	saved era
	// probing is the search that is under way. It is nil if there is none.
	probing *discovery
}

// discovery is one search for the server's era. All but done is set before done is closed.
type discovery struct {
	done chan struct{}
	era  era
	// result is the raw DiscoverResult. It is nil if the server gave none.
	result []byte
	// err says why the era is unknown.
	err error
	// sent says that the server may have got the question.
	sent bool
}

// allowsInitialize reports whether initialize may succeed although server/discover has failed. A
// gateway may refuse a method that it does not know with any status or redirect, or by closing the
// connection.
func (d *discovery) allowsInitialize() bool {
	f, ok := errors.AsType[*fault](d.err)
	return ok && (f.kind == "status" || f.kind == "redirect" || d.sent && !f.notRun)
}

// known returns what is known of the server without asking the memory, and whether that was found
// in this session.
func (e *eras) known() (current era, found bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current, e.found
}

// recall returns what known does, but the first time it asks the memory before.
func (e *eras) recall() (current era, found bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.loaded {
		e.loaded = true
		b, err := e.cfg.Load(memoryEra)
		if err != nil {
			e.cfg.Log.Debug("memory", "err", err)
		}
		if remembered := era(strings.Trim(string(b), `"`)); remembered == legacyEra || remembered == modernEra {
			e.current, e.saved = remembered, remembered
		}
	}
	return e.current, e.found
}

// note takes found, which may be unknownEra, for what the server speaks in this session. A legacy
// server is remembered only when it has opened a session.
func (e *eras) note(found era) {
	e.mu.Lock()
	e.current, e.found = found, found != unknownEra
	e.mu.Unlock()
	if found == modernEra {
		e.remember(found)
	}
}

// remember keeps what the server speaks, also for later sessions.
func (e *eras) remember(found era) {
	e.mu.Lock()
	isNew := e.saved != found
	e.current, e.found, e.saved = found, true, found
	e.mu.Unlock()
	if !isNew {
		return
	}
	if err := e.cfg.Save(memoryEra, rawjson.Quote(string(found))); err != nil {
		e.cfg.Log.Debug("memory", "err", err)
	}
}

// discover asks the server what it speaks, or joins those who are asking. What was found earlier in
// this session is good enough unless anew is set. sender returns what carries the question. ctx
// bounds only the waiting; if that ends before there is an outcome, the discovery has only the
// error.
func (e *eras) discover(ctx context.Context, who identity, anew bool, sender senderOf) (*discovery, error) {
	e.mu.Lock()
	d := e.probing
	switch {
	case d == nil && e.found && !anew:
		d = &discovery{era: e.current}
		e.mu.Unlock()
		return d, nil
	case d == nil:
		d = &discovery{done: make(chan struct{})}
		e.probing = d
		lifetime := e.lifetime(ctx)
		// Ends with the lifetime, or when the server has been silent for acceptWait.
		e.work.Go(func() {
			e.probe(lifetime, d, who, sender(lifetime))
			e.note(d.era)
			e.mu.Lock()
			e.probing = nil
			e.mu.Unlock()
			close(d.done)
		})
	}
	e.mu.Unlock()
	if err := wait(ctx, d.done); err != nil {
		return &discovery{err: err}, err
	}
	return d, d.err
}

// probe sends server/discover. If the server refuses the version, probe asks once more in one that
// both sides speak (basic/versioning, "Protocol Version Negotiation").
func (e *eras) probe(lifetime context.Context, d *discovery, who identity, send http.RoundTripper) {
	who.version = modernVersions[0]
	for range 2 {
		p := new(phase)
		p.setEnd(time.Now().Add(acceptWait)) // a server that asks for a longer pause has answered
		status, answer, err := e.ask(lifetime, who, send, p)
		d.era, d.err = classify(status, answer, err)
		d.sent = p.Load() != unsent
		d.result = answer.Result
		if d.era != modernEra || errorCode(answer) != codeVersion {
			break
		}
		who.version = commonVersion(rawjson.Member(answer.Raw, "error", "data", "supported"))
	}
}

// errUnanswered says that the server has kept silent for acceptWait, as one that knows neither the
// method nor what to answer to such a request.
var errUnanswered = errors.New("no answer to server/discover")

// senderOf returns what carries the requests of a context.
type senderOf func(context.Context) http.RoundTripper

// ask sends server/discover once. It returns the HTTP status and the answer, which is of the kind
// Invalid if there is none.
func (e *eras) ask(lifetime context.Context, who identity, send http.RoundTripper, p *phase) (status int, answer rawjson.Message, err error) {
	ctx, cancel := context.WithCancel(lifetime)
	defer cancel()
	done := make(chan struct{})
	e.work.Go(func() { // ends with ctx
		defer close(done)
		status, err = e.modern.once(ctx, modernRequest{
			Message: e.modern.request("server/discover", []byte("{}"), who), who: who,
			send: send, phase: p,
			answer: func(a rawjson.Message) { answer, _ = rawjson.Parse(bytes.Clone(a.Raw)) },
			aside:  func(rawjson.Message) {},
		})
	})
	e.obstacles.waitAccepted(done)
	cancel()
	<-done
	if errors.Is(err, context.Canceled) && e.ctx.Err() == nil {
		err = errUnanswered
	}
	return status, answer, err
}

// classify tells a server's era from its answer to server/discover, or from the error if there is
// none (basic/transports/streamable-http, "Backward Compatibility").
func classify(status int, a rawjson.Message, err error) (era, error) {
	code := errorCode(a)
	switch {
	case a.Result != nil && commonVersion(rawjson.Member(a.Result, "supportedVersions")) != "",
		code == codeVersion && commonVersion(rawjson.Member(a.Raw, "error", "data", "supported")) != "",
		code == codeHeaderMismatch, code == codeMissingCapability,
		code == codeNoMethod && status == http.StatusNotFound:
		return modernEra, nil
	case err == nil, err == errUnanswered:
		return legacyEra, nil
	}
	if f, ok := errors.AsType[*fault](err); ok &&
		(f.kind == "bad_answer" || f.kind == "status" && isFinal(err) && f.status != http.StatusForbidden) {
		return legacyEra, nil
	}
	return unknownEra, err // A gateway may have answered, or the upstream was not reached.
}

// commonVersion returns the newest version in a raw array that the modern wire speaks, and "" if
// there is none.
func commonVersion(raw []byte) string {
	theirs := rawjson.Texts(raw, maxVersions)
	for _, v := range modernVersions {
		if slices.Contains(theirs, v) {
			return v
		}
	}
	return ""
}

// eraError is the refusal of an initialize by a server that seems to be modern.
type eraError struct {
	answer rawjson.Message
	*fault
}

func (e *eraError) Unwrap() error { return e.fault }

// modernRefusal returns an *eraError if resp, which answers an initialize, seems to come from a
// modern server. Otherwise it returns nil. The body can still be read.
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
