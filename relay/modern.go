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

	"sallyport/relay/rawjson"
	"sallyport/relay/sse"
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
		version:      rawjson.MemberText(params, "_meta", metaPrefix+"protocolVersion"),
		capabilities: rawjson.Member(params, "_meta", metaPrefix+"clientCapabilities"),
		info:         rawjson.Member(params, "_meta", metaPrefix+"clientInfo"),
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
	base = rawjson.Set(base, rawjson.Quote(id.version), metaPrefix+"protocolVersion")
	base = rawjson.Set(base, capabilities, metaPrefix+"clientCapabilities")
	if id.info != nil {
		base = rawjson.Set(base, id.info, metaPrefix+"clientInfo")
	}
	return base
}

// newID returns an id for a request of our own, which no host uses.
func (m *modern) newID() []byte {
	return rawjson.Quote("sallyport-" + strconv.FormatInt(m.last.Add(1), 10))
}

// request makes a request of our own; params is a raw object.
func (m *modern) request(method string, params []byte, id identity) rawjson.Message {
	msg := rawjson.Message{Kind: rawjson.Request, ID: m.newID(), Method: method, Params: rawjson.Set(params, id.meta(nil), "_meta")}
	msg.Raw = slices.Concat([]byte(`{"jsonrpc":"2.0","id":`), msg.ID, []byte(`,"method":`), rawjson.Quote(method), []byte(`,"params":`), msg.Params, []byte{'}'})
	return msg
}

// isModern reports whether m comes from a modern host. Only one asks for server/discover.
func isModern(m rawjson.Message) bool {
	return m.Method == "server/discover" || identityIn(m.Params).version != ""
}

// errorCode is the code of an error answer; 0 for anything else.
func errorCode(m rawjson.Message) int {
	if m.Result != nil {
		return 0
	}
	code, _ := strconv.Atoi(string(rawjson.Member(bytes.Trim(m.Raw, " \t"), "error", "code")))
	return code
}

// isModernCode reports whether only a modern server answers with the error code: all that the specification may yet add count.
func isModernCode(code int) bool { return code <= codeHeaderMismatch && code >= -32099 }

// call carries a request of a modern host as it is.
func (m *modern) call(c *call) error {
	id := identityIn(c.Params)
	if id.version == "" {
		id.version = modernVersions[0]
	}
	answer := func(a rawjson.Message) { m.s.answer(c, m.forHost(c, a)) }
	if c.Method == "subscriptions/listen" {
		m.s.endless(c)
		return m.follow(c.ctx, m.s.cfg.Send, &c.phase, c.Message, id, false, answer, m.s.toHost)
	}
	return m.ask(c.ctx, m.s.cfg.Send, &c.phase, c.Message, id, answer, func(n rawjson.Message) {
		m.s.touch(c)
		m.s.toHost(n)
	})
}

// forHost returns the line that answers c: the server's own bytes, but for a list of tools that has invalid ones, and for an
// answer to a later round, or a refusal without an id, which gets the host's.
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

// screen notes the parameters that a list of tools wants in headers, and drops the tools whose definition is invalid in that
// (basic/transports/streamable-http, "Schema Extension").
func (m *modern) screen(a rawjson.Message) []byte {
	tools := rawjson.Elements(rawjson.Member(a.Result, "tools"))
	var kept [][]byte
	for _, tool := range tools {
		if err := m.tools.learn(tool); err != nil {
			m.s.cfg.Log.Warn("tool dropped from the list", "err", fmt.Errorf("%q: %w", excerpt(rawjson.MemberText(tool, "name"), 128), err))
			continue
		}
		kept = append(kept, tool)
	}
	if len(kept) == len(tools) {
		return a.Raw
	}
	return rawjson.Set(a.Raw, rawjson.ArrayOf(kept), "result", "tools")
}

// ask carries one request. What answers it is given to answer, and notifications before that to aside; both own what they get only
// until they return. A call that the server refuses because of its headers is sent again, once, with what a fresh list of tools asks for.
func (m *modern) ask(ctx context.Context, rt http.RoundTripper, phase *atomic.Int32, req rawjson.Message, id identity, answer, aside func(rawjson.Message)) error {
	var refusal []byte
	_, err := m.once(ctx, rt, phase, req, id.version, func(a rawjson.Message) {
		if req.Method == "tools/call" && errorCode(a) == codeHeaderMismatch {
			refusal = bytes.Clone(a.Raw)
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
		if a, err := rawjson.Parse(refusal); err == nil {
			answer(a)
		}
		return nil
	}
	_, err = m.once(ctx, rt, phase, req, id.version, answer, aside)
	return err
}

// once is ask without the second attempt; it returns the HTTP status, too.
func (m *modern) once(ctx context.Context, rt http.RoundTripper, phase *atomic.Int32, req rawjson.Message, version string, answer, aside func(rawjson.Message)) (status int, err error) {
	// Whoever leaves the stream tells the server so by closing it (basic/patterns/cancellation).
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	resp, err := m.deliver(ctx, rt, phase, nil, m.header(req, version), req.Raw)
	if err != nil {
		return 0, err
	}
	key, done := rawjson.IDKey(req.ID), false
	take := func(a rawjson.Message) bool {
		switch {
		case done:
		case isAnswer(a, key), resp.StatusCode/100 != 2 && isModernCode(errorCode(a)): // an error may lack the id
			done = true
			answer(a)
			// The stream should end now. Reading it to its end lets the connection be used again.
			time.AfterFunc(lingerTime, leave)
		case a.Kind == rawjson.Notification:
			aside(a)
		default:
			m.s.cfg.Log.Debug("message of the server dropped", "method", excerpt(a.Method, 64), "id", logID(a.ID))
		}
		return done
	}
	if !isStream(resp) {
		return resp.StatusCode, m.body(ctx, resp, take)
	}
	defer resp.Body.Close()
	for e, failed := range sse.Events(resp.Body, maxMessage) {
		switch {
		case failed != nil:
			err = m.broken(ctx, failed)
		case !e.HasMessage():
		default:
			if _, syntax := m.messages(e.Data, take); syntax != nil && !done {
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
		_, err := m.once(ctx, m.s.cfg.Send, new(atomic.Int32), m.request("tools/list", params, id), id.version, func(a rawjson.Message) {
			m.screen(a)
			next = bytes.Clone(rawjson.Member(a.Result, "nextCursor"))
		}, func(rawjson.Message) {})
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

// follow is ask for a subscription: where its stream breaks off it is asked for again (basic/patterns/subscriptions), if the server has
// accepted it once or stubborn says so. Only the first acknowledgement is given to aside.
func (m *modern) follow(ctx context.Context, rt http.RoundTripper, phase *atomic.Int32, req rawjson.Message, id identity, stubborn bool, answer, aside func(rawjson.Message)) error {
	acked := false
	for attempt := 1; ; attempt++ {
		ended := false
		err := m.ask(ctx, rt, phase, req, id, func(a rawjson.Message) {
			ended = true
			answer(a)
		}, func(n rawjson.Message) {
			attempt = 1
			if n.Method != methodAck {
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
	version := identityIn(n.Params).version
	if version == "" {
		version = modernVersions[0]
	}
	resp, err := m.deliver(ctx, m.s.cfg.Send, new(atomic.Int32), nil, m.header(n.Message, version), n.Raw)
	if err != nil {
		m.s.cfg.Log.Warn("not accepted upstream", "method", excerpt(n.Method, 64), "err", m.s.cfg.Mask(err.Error()))
		return
	}
	discard(resp)
}

// respond: a modern server asks nothing, so a host's answer is to nobody.
func (m *modern) respond(a rawjson.Message) {
	m.s.cfg.Log.Debug("response dropped", "id", logID(a.ID))
}

// giveUp: the end of a call's context has closed its stream, which is all that a modern server is told.
func (m *modern) giveUp(rawjson.Message) {}

func (m *modern) goodbye(context.Context) {}
