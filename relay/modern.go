package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// modernVersions are the revisions of the modern wire that we speak, the newest first.
var modernVersions = []string{"2026-07-28"}

// The error codes that only a modern server uses (2026-07-28, basic, "Error Codes").
const (
	codeHeaderMismatch    = -32020
	codeMissingCapability = -32021
	codeVersion           = -32022
)

const (
	metaPrefix = "io.modelcontextprotocol/" // of the protocol's own keys in _meta
	methodAck  = "notifications/subscriptions/acknowledged"
	maxPages   = 100 // of a list of tools, read after a refusal
)

// modern is the wire of 2026-07-28 and, by itself, what carries a modern host: each request is a POST of its own, and nothing holds
// them together.
type modern struct {
	*server
	tools toolHeaders
	last  atomic.Int64 // number of our own last request
}

// identity is what a modern request says of its client.
type identity struct {
	version            string
	capabilities, info []byte // raw JSON; nil: none
}

// identityIn reads the identity in a request's raw params.
func identityIn(params []byte) identity {
	return identity{
		version:      memberText(params, "_meta", metaPrefix+"protocolVersion"),
		capabilities: member(params, "_meta", metaPrefix+"clientCapabilities"),
		info:         member(params, "_meta", metaPrefix+"clientInfo"),
	}
}

// meta returns the raw _meta of a request: base, or an empty object, with the identity in it.
func (id identity) meta(base []byte) []byte {
	if len(base) == 0 || base[0] != '{' {
		base = []byte("{}")
	}
	capabilities := id.capabilities
	if len(capabilities) == 0 || capabilities[0] != '{' {
		capabilities = []byte("{}")
	}
	base = set(base, quote(id.version), metaPrefix+"protocolVersion")
	base = set(base, capabilities, metaPrefix+"clientCapabilities")
	if id.info != nil {
		base = set(base, id.info, metaPrefix+"clientInfo")
	}
	return base
}

// newID returns an id for a request of our own, which no host uses.
func (m *modern) newID() []byte {
	return quote("sallyport-" + strconv.FormatInt(m.last.Add(1), 10))
}

// request makes a request of our own; params is a raw object.
func (m *modern) request(method string, params []byte, id identity) message {
	msg := message{kind: request, id: m.newID(), method: method, params: set(params, id.meta(nil), "_meta")}
	msg.raw = slices.Concat([]byte(`{"jsonrpc":"2.0","id":`), msg.id, []byte(`,"method":`), quote(method), []byte(`,"params":`), msg.params, []byte{'}'})
	return msg
}

// isModern reports whether m comes from a modern host. Only one asks for server/discover.
func isModern(m message) bool {
	return m.method == "server/discover" || identityIn(m.params).version != ""
}

// errorCode is the code of an error answer; 0 for anything else.
func errorCode(m message) int {
	if m.result != nil {
		return 0
	}
	code, _ := strconv.Atoi(string(member(bytes.Trim(m.raw, " \t"), "error", "code")))
	return code
}

// isModernCode reports whether only a modern server answers with the error code: all that the specification may yet add count.
func isModernCode(code int) bool { return code <= codeHeaderMismatch && code >= -32099 }

// call carries a request of a modern host as it is.
func (m *modern) call(c *call) error {
	id := identityIn(c.params)
	if id.version == "" {
		id.version = modernVersions[0]
	}
	answer := func(a message) { m.s.answer(c, m.forHost(c, a)) }
	if c.method == "subscriptions/listen" {
		m.s.endless(c)
		return m.follow(c.ctx, m.s.cfg.Send, &c.phase, c.message, id, false, answer, m.s.toHost)
	}
	return m.ask(c.ctx, m.s.cfg.Send, &c.phase, c.message, id, answer, func(n message) {
		m.s.touch(c)
		m.s.toHost(n)
	})
}

// forHost returns the line that answers c: the server's own bytes, but for a list of tools that has invalid ones, and for an
// answer to a later round, or a refusal without an id, which gets the host's.
func (m *modern) forHost(c *call, a message) []byte {
	line := a.raw
	if c.method == "tools/list" {
		line = m.screen(a)
	}
	if !isAnswer(a, c.key) {
		line = set(line, c.id, "id")
	}
	return line
}

// screen notes the parameters that a list of tools wants in headers, and drops the tools whose definition is invalid in that
// (basic/transports/streamable-http, "Schema Extension").
func (m *modern) screen(a message) []byte {
	tools := elements(member(a.result, "tools"))
	var kept [][]byte
	for _, tool := range tools {
		if err := m.tools.learn(tool); err != nil {
			m.s.cfg.Log.Warn("tool dropped from the list", "err", fmt.Errorf("%q: %w", excerpt(memberText(tool, "name"), 128), err))
			continue
		}
		kept = append(kept, tool)
	}
	if len(kept) == len(tools) {
		return a.raw
	}
	return set(a.raw, arrayOf(kept), "result", "tools")
}

// ask carries one request. What answers it is given to answer, and notifications before that to aside; both own what they get only
// until they return. A call that the server refuses because of its headers is sent again, once, with what a fresh list of tools asks for.
func (m *modern) ask(ctx context.Context, rt http.RoundTripper, phase *atomic.Int32, req message, id identity, answer, aside func(message)) error {
	var refusal []byte
	_, err := m.once(ctx, rt, phase, req, id.version, func(a message) {
		if req.method == "tools/call" && errorCode(a) == codeHeaderMismatch {
			refusal = bytes.Clone(a.raw)
			return
		}
		answer(a)
	}, aside)
	if err != nil || refusal == nil {
		return err
	}
	phase.Store(unsent) // what was refused did not run
	if err := m.relist(ctx, id); err != nil {
		if ctx.Err() != nil {
			return err
		}
		m.s.cfg.Log.Debug("list of tools", "err", m.s.cfg.Mask(err.Error()))
		if a, err := parse(refusal); err == nil {
			answer(a)
		}
		return nil
	}
	_, err = m.once(ctx, rt, phase, req, id.version, answer, aside)
	return err
}

// once is ask without the second attempt; it returns the HTTP status, too.
func (m *modern) once(ctx context.Context, rt http.RoundTripper, phase *atomic.Int32, req message, version string, answer, aside func(message)) (status int, err error) {
	// Whoever leaves the stream tells the server so by closing it (basic/patterns/cancellation).
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	resp, err := m.deliver(ctx, rt, phase, nil, m.header(req, version), req.raw)
	if err != nil {
		return 0, err
	}
	key, done := idKey(req.id), false
	take := func(a message) bool {
		switch {
		case done:
		case isAnswer(a, key), resp.StatusCode/100 != 2 && isModernCode(errorCode(a)): // an error may lack the id
			done = true
			answer(a)
			// The stream should end now. Reading it to its end lets the connection be used again.
			time.AfterFunc(lingerTime, leave)
		case a.kind == notification:
			aside(a)
		default:
			m.s.cfg.Log.Debug("message of the server dropped", "method", excerpt(a.method, 64), "id", logID(a.id))
		}
		return done
	}
	if !isStream(resp) {
		return resp.StatusCode, m.body(ctx, resp, take)
	}
	defer resp.Body.Close()
	for e, failed := range events(resp.Body, maxMessage) {
		switch {
		case failed != nil:
			err = m.broken(ctx, failed)
		case len(bytes.TrimSpace(e.data)) == 0 || e.name != "" && e.name != "message":
		default:
			if _, syntax := m.messages(e.data, take); syntax != nil && !done {
				return resp.StatusCode, noAnswer(where(m.s.cfg.URL) + ": an event of the answer is " + syntax.Error())
			}
		}
	}
	if done {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, err
}

// relist reads the server's list of tools anew.
func (m *modern) relist(ctx context.Context, id identity) error {
	params := []byte("{}")
	for range maxPages {
		var next []byte
		_, err := m.once(ctx, m.s.cfg.Send, new(atomic.Int32), m.request("tools/list", params, id), id.version, func(a message) {
			m.screen(a)
			next = bytes.Clone(member(a.result, "nextCursor"))
		}, func(message) {})
		if err != nil {
			return err
		}
		if len(next) == 0 || next[0] != '"' {
			return nil
		}
		params = set([]byte("{}"), next, "cursor")
	}
	return nil
}

// follow is ask for a subscription: where its stream breaks off it is asked for again (basic/patterns/subscriptions), if the server has
// accepted it once or stubborn says so. Only the first acknowledgement is given to aside.
func (m *modern) follow(ctx context.Context, rt http.RoundTripper, phase *atomic.Int32, req message, id identity, stubborn bool, answer, aside func(message)) error {
	acked := false
	for attempt := 1; ; attempt++ {
		ended := false
		err := m.ask(ctx, rt, phase, req, id, func(a message) {
			ended = true
			answer(a)
		}, func(n message) {
			attempt = 1
			if n.method != methodAck {
				aside(n)
			} else if !acked {
				acked = true
				aside(n)
			}
		})
		if ended || ctx.Err() != nil || !acked && !stubborn || isFinal(err) {
			return err
		}
		m.s.cfg.Log.Debug("subscription broken off", "err", m.s.cfg.Mask(err.Error()))
		phase = new(atomic.Int32) // a subscription that waits for its way is still the same
		if _, err := sleep(ctx, backoff(attempt), nil); err != nil {
			return err
		}
		if err := m.clear(ctx); err != nil {
			return err
		}
	}
}

// isFinal reports whether err is a refusal that time cannot mend.
func isFinal(err error) bool {
	var f *fault
	if !errors.As(err, &f) {
		return false
	}
	switch f.status {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return f.kind == "redirect" || f.status/100 == 4
}

// notice carries a notification of a modern host.
func (m *modern) notice(n notice) {
	defer m.s.settle()
	ctx, cancel := context.WithTimeout(m.s.ctx, noticeWait)
	defer cancel()
	version := identityIn(n.params).version
	if version == "" {
		version = modernVersions[0]
	}
	resp, err := m.deliver(ctx, m.s.cfg.Send, new(atomic.Int32), nil, m.header(n.message, version), n.raw)
	if err != nil {
		m.s.cfg.Log.Warn("not accepted upstream", "method", excerpt(n.method, 64), "err", m.s.cfg.Mask(err.Error()))
		return
	}
	discard(resp)
}

// respond: a modern server asks nothing, so a host's answer is to nobody.
func (m *modern) respond(a message) {
	m.s.cfg.Log.Debug("response dropped", "id", logID(a.id))
}

// giveUp: the end of a call's context has closed its stream, which is all that a modern server is told.
func (m *modern) giveUp(message) {}

func (m *modern) goodbye(context.Context) {}
