package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"sallyport/relay/rawjson"
	"sallyport/relay/sse"
)

// modernVersions are the revisions that the modern wire speaks, the newest first.
var modernVersions = []string{"2026-07-28"}

// The error codes that only a modern server uses (2026-07-28, basic, "Error Codes").
const (
	codeHeaderMismatch    = -32020
	codeMissingCapability = -32021
	codeVersion           = -32022
)

const (
	// metaPrefix begins the protocol's own keys in _meta.
	metaPrefix = "io.modelcontextprotocol/"
	methodAck  = "notifications/subscriptions/acknowledged"
	// lingerTime is how long a stream may stay open after the answer came on it.
	lingerTime = time.Second
	// maxLogged is how many tools of one list the log names.
	maxLogged = 20
	// maxPages is how many pages of a list of tools are read after a refusal.
	maxPages = 100
)

// modern is the wire of 2026-07-28. By itself it carries a modern host: each request is a POST of
// its own, and nothing holds them together.
type modern struct {
	*client
	tools toolHeaders
	// lastID is the number of the last request of our own.
	lastID atomic.Int64
}

// identity is what a modern request says of its client.
type identity struct {
	// version is the revision that the request is made in.
	version string
	// capabilities and info are raw. They are nil if the client named none.
	capabilities, info []byte
}

// identityIn reads the identity in the raw params of a request.
func identityIn(params []byte) identity {
	return identity{
		version:      rawjson.MemberText(params, "_meta", metaPrefix+"protocolVersion"),
		capabilities: rawjson.Member(params, "_meta", metaPrefix+"clientCapabilities"),
		info:         rawjson.Member(params, "_meta", metaPrefix+"clientInfo"),
	}
}

// inNewestVersion is who in the newest version that we speak, if who names none.
func (who identity) inNewestVersion() identity {
	if who.version == "" {
		who.version = modernVersions[0]
	}
	return who
}

// meta returns the raw _meta of a request: base, or an empty object, with the identity in it.
func (who identity) meta(base []byte) []byte {
	capabilities := who.capabilities
	if len(capabilities) == 0 || capabilities[0] != '{' {
		capabilities = []byte("{}")
	}
	base = rawjson.Set(orEmpty(base), rawjson.Quote(who.version), metaPrefix+"protocolVersion")
	base = rawjson.Set(base, capabilities, metaPrefix+"clientCapabilities")
	if who.info != nil {
		base = rawjson.Set(base, who.info, metaPrefix+"clientInfo")
	}
	return base
}

// orEmpty returns the raw object obj, or an empty object if it is anything else.
func orEmpty(obj []byte) []byte {
	if len(obj) == 0 || obj[0] != '{' {
		return []byte("{}")
	}
	return obj
}

// isModern reports whether m comes from a modern host. Only such a host asks for server/discover,
// or says who it is in a request.
func isModern(m rawjson.Message) bool {
	return m.Method == "server/discover" || identityIn(m.Params).version != ""
}

// errorCode is the code of an error answer. It is 0 for anything else.
func errorCode(m rawjson.Message) int {
	if m.Result != nil {
		return 0
	}
	code, _ := strconv.Atoi(string(rawjson.Member(bytes.Trim(m.Raw, " \t"), "error", "code")))
	return code
}

// isModernCode reports whether only a modern server answers with the error code. Those that the
// specification has reserved for later count, too.
func isModernCode(code int) bool { return code <= codeHeaderMismatch && code >= -32099 }

// newID returns the raw id of a request of our own. No host uses such ids.
func (m *modern) newID() []byte {
	return rawjson.Quote("sallyport-" + strconv.FormatInt(m.lastID.Add(1), 10))
}

// request makes a request of our own. params is a raw object.
func (m *modern) request(method string, params []byte, who identity) rawjson.Message {
	msg := rawjson.Message{Kind: rawjson.Request, ID: m.newID(), Method: method}
	msg.Params = rawjson.Set(params, who.meta(nil), "_meta")
	msg.Raw = requestLine(msg.ID, method, msg.Params)
	return msg
}

// call carries a request of a modern host as it is.
func (m *modern) call(c *call) error {
	r := modernRequest{
		Message: c.Message, who: identityIn(c.Params).inNewestVersion(), send: m.cfg.Send, phase: &c.phase,
		answer: func(a rawjson.Message) { m.host.answer(c, m.forHost(c, a)) },
		aside: func(n rawjson.Message) {
			m.host.keepAlive(c)
			m.host.toHost(n)
		},
	}
	if c.Method == "subscriptions/listen" {
		m.host.lastsForever(c)
		r.aside = m.host.toHost
		return m.subscribe(c.ctx, r)
	}
	return m.ask(c.ctx, r)
}

// forHost returns the line that answers c. It is the server's own, with two exceptions: a list of
// tools loses the invalid ones, and an answer whose id is not the host's gets that. The latter is
// one to a later round, or a refusal without an id.
func (m *modern) forHost(c *call, a rawjson.Message) []byte {
	line := a.Raw
	if c.Method == "tools/list" {
		line = m.screen(a)
	}
	if !isAnswer(a, c.key) {
		line = rawjson.Set(line, c.ID, "id")
	}
	return line
}

// screen notes the parameters that a list of tools wants in headers, and drops the tools whose
// definition is invalid in that (basic/transports/streamable-http, "Schema Extension").
func (m *modern) screen(a rawjson.Message) []byte {
	dropped := 0
	valid := rawjson.Filter(rawjson.Member(a.Result, "tools"), func(tool []byte) bool {
		err := m.tools.learn(tool)
		if err != nil && dropped < maxLogged {
			dropped++
			name := excerpt(shortText(rawjson.Member(tool, "name")), 128)
			m.cfg.Log.Warn("tool dropped from the list", "err", fmt.Errorf("%q: %w", name, err))
		}
		return err == nil
	})
	if valid == nil {
		return a.Raw
	}
	return rawjson.Set(a.Raw, valid, "result", "tools")
}

// modernRequest is one request on the modern wire, and what becomes of all that it brings.
type modernRequest struct {
	rawjson.Message
	who   identity
	send  http.RoundTripper
	phase *phase
	// answer takes the answer, and aside the notifications before it. What they get is valid only
	// until they return.
	answer, aside func(rawjson.Message)
	// stubborn is for a subscription only: it is asked for again even if the server has never
	// accepted it.
	stubborn bool
}

// ask carries one request. If the server refuses a call because of its headers, ask sends it again,
// once, with what a fresh list of tools asks for.
func (m *modern) ask(ctx context.Context, r modernRequest) error {
	var refusal []byte
	first := r
	first.answer = func(a rawjson.Message) {
		if r.Method == "tools/call" && errorCode(a) == codeHeaderMismatch {
			refusal = bytes.Clone(a.Raw)
			return
		}
		r.answer(a)
	}
	if _, err := m.once(ctx, first); err != nil || refusal == nil {
		return err
	}
	r.phase.Store(unsent) // what was refused has not run
	if err := m.relist(ctx, r.who); err != nil {
		if ctx.Err() != nil {
			return err
		}
		m.logFailure("list of tools", err)
		if a, err := rawjson.Parse(refusal); err == nil {
			r.answer(a)
		}
		return nil
	}
	_, err := m.once(ctx, r)
	return err
}

// once carries one request, once. It returns the HTTP status, too.
func (m *modern) once(ctx context.Context, r modernRequest) (status int, err error) {
	// Leaving the stream closes it, and that tells the server that nobody waits any more
	// (basic/patterns/cancellation).
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	resp, err := m.post(ctx, r)
	if err != nil {
		return 0, err
	}
	key, done := rawjson.IDKey(r.ID), false
	take := sink(func(a rawjson.Message) bool {
		switch {
		case done:
		case isAnswer(a, key), resp.StatusCode/100 != 2 && isModernCode(errorCode(a)): // an error may lack the id
			done = true
			r.answer(a)
			// The stream should end now. It is read to its end, so that the connection can be used
			// again.
			time.AfterFunc(lingerTime, leave)
		case a.Kind == rawjson.Notification:
			r.aside(a)
		default:
			m.cfg.Log.Debug("message of the server dropped", "method", excerpt(a.Method, 64), "id", logID(a.ID))
		}
		return done
	})
	if !isStream(resp) {
		return resp.StatusCode, m.body(ctx, resp, take)
	}
	defer resp.Body.Close()
	held := &share{budget: m.held, ctx: ctx}
	defer held.hold(0)
	for e, ended := range sse.Events(resp.Body, m.cfg.maxMessage, held.hold) {
		switch {
		case ended != nil:
			err = m.broken(ctx, ended)
		case e.HasMessage():
			if _, syntax := m.parse(e.Data, take); syntax != nil && !done {
				return resp.StatusCode, noAnswer(where(m.cfg.URL) + ": an event of the answer is " + syntax.Error())
			}
		}
	}
	if done {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, err
}

// post delivers the message of r. Its errors are those of deliver.
func (m *modern) post(ctx context.Context, r modernRequest) (*http.Response, error) {
	return m.deliver(ctx, httpRequest{send: r.send, method: http.MethodPost,
		header: m.header(r.Message, r.who.version), body: r.Raw, phase: r.phase})
}

// relist reads the server's list of tools anew.
func (m *modern) relist(ctx context.Context, who identity) error {
	params := []byte("{}")
	for range maxPages {
		var next []byte
		_, err := m.once(ctx, modernRequest{
			Message: m.request("tools/list", params, who), who: who, send: m.cfg.Send, phase: new(phase),
			answer: func(a rawjson.Message) {
				m.screen(a)
				next = bytes.Clone(rawjson.Member(a.Result, "nextCursor"))
			},
			aside: func(rawjson.Message) {},
		})
		if err != nil {
			return err
		}
		if len(next) == 0 || next[0] != '"' {
			return nil
		}
		params = rawjson.Set([]byte("{}"), next, "cursor")
	}
	return nil
}

// subscribe carries a subscription. If its stream breaks off after the server has accepted it,
// subscribe asks for it again (basic/patterns/subscriptions). Only the first acknowledgement is
// given to r.aside.
func (m *modern) subscribe(ctx context.Context, r modernRequest) error {
	var result error
	accepted := false
	pace := retry{obstacles: m.obstacles, delay: func(failures int) time.Duration {
		if f, ok := errors.AsType[*fault](result); ok {
			return max(f.after, backoff(failures))
		}
		return backoff(failures)
	}}
	ended := pace.run(ctx, func(bool) verdict {
		answered, progress := false, false
		attempt := r
		attempt.answer = func(a rawjson.Message) {
			answered = true
			r.answer(a)
		}
		attempt.aside = func(n rawjson.Message) {
			progress = true
			if n.Method != methodAck || !accepted {
				r.aside(n)
			}
			accepted = accepted || n.Method == methodAck
		}
		result = m.ask(ctx, attempt)
		if answered || ctx.Err() != nil || !accepted && !r.stubborn || isFinal(result) {
			return stop
		}
		m.logFailure("subscription broken off", result)
		r.phase = new(phase) // what happens to a later attempt says nothing about the host's own request
		if progress {
			return progressed
		}
		return failed
	})
	if ended != nil {
		return ended
	}
	return result
}

// notify carries a notification of a modern host. It returns when the server has accepted it, or
// acceptWait has passed.
func (m *modern) notify(n notification) {
	if n.gate != nil { // no modern host sends initialized, but one that does must not be stuck
		defer close(n.gate)
	}
	accepted := make(chan struct{})
	// Ends with m.ctx or Config.Timeout.
	m.work.Go(func() {
		defer n.done()
		defer close(accepted)
		m.deliverUnanswered(n)
	})
	m.obstacles.waitAccepted(accepted)
}

// deliverUnanswered carries a notification. The host does not wait, so a failure is only logged.
func (m *modern) deliverUnanswered(n notification) {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.Timeout)
	defer cancel()
	resp, err := m.post(ctx, modernRequest{Message: n.Message, who: identityIn(n.Params).inNewestVersion(),
		send: m.cfg.Send, phase: new(phase)})
	if err != nil {
		m.cfg.Log.Warn("not accepted upstream", "method", excerpt(n.Method, 64), "err", m.cfg.Mask(err.Error()))
		return
	}
	discard(resp)
}

// respond drops m. A modern server asks nothing, so nobody waits for an answer of the host.
func (m *modern) respond(a rawjson.Message) {
	m.cfg.Log.Debug("response dropped", "id", logID(a.ID))
}

// giveUp does nothing. The end of a call's context has closed its stream, and a modern server is
// told nothing more.
func (m *modern) giveUp(rawjson.Message) {}

// goodbye does nothing. There is no session upstream.
func (m *modern) goodbye(context.Context) {}
