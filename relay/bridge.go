package relay

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	legacyVersion = "2025-11-25" // the newest, offered to a host that names one we do not know
	maxRounds     = 16           // questions and answers, in turn, before one call is answered
	maxQuestions  = 64           // questions of the server in one round
	maxWatched    = 1024         // resources that the host has subscribed to
)

// legacyVersions are the revisions that a host may open its session with.
var legacyVersions = []string{"2024-11-05", "2025-03-26", "2025-06-18", legacyVersion}

// bridge is the wire of a legacy host to a modern server. It plays the host's session, which the server knows nothing of: what
// initialize and logging/setLevel said goes with each request, and a subscriptions/listen of its own brings what the server
// would have sent by itself. A question that a modern server gives for an answer becomes a request to the host, whose answer the call is
// sent again with.
type bridge struct {
	*modern
	turn chan struct{} // holds one token; who has it may change the subscription

	mu       sync.Mutex // guards what follows
	who      identity   // the host's
	logLevel []byte     // raw JSON; nil: the host has set none
	lists    []string   // fields of the filter for the lists that the server says may change
	watched  map[string][]byte
	streams  []*subscription // in the order of their requests; all but the last are about to end
	asked    map[string]chan message
}

// subscription is one subscriptions/listen.
type subscription struct {
	end     context.CancelFunc
	done    bool          // acknowledged; guarded by bridge.mu
	settled chan struct{} // closed when the server has acknowledged or refused it
	uris    []string      // resources that the server has agreed to tell about; set before settled is closed
}

func newBridge(m *modern) *bridge {
	return &bridge{modern: m, turn: make(chan struct{}, 1), watched: map[string][]byte{}, asked: map[string]chan message{}}
}

// open answers the host's initialize from a raw DiscoverResult; nil: the server gave none.
func (b *bridge) open(c *call, discovered []byte) error {
	version := memberText(c.params, "protocolVersion")
	if !slices.Contains(legacyVersions, version) {
		version = legacyVersion
	}
	capabilities := member(discovered, "capabilities")
	if capabilities == nil {
		capabilities = []byte(`{"tools":{},"resources":{},"prompts":{},"completions":{}}`) // whatever it has: a refusal does no harm
	}
	server := member(discovered, "_meta", metaPrefix+"serverInfo")
	if server == nil {
		server = member(discovered, "serverInfo")
	}
	if server == nil {
		server = set([]byte(`{"version":""}`), quote(b.s.cfg.URL.Host), "name")
	}
	result := set([]byte("{}"), quote(version), "protocolVersion")
	result = set(result, capabilities, "capabilities")
	result = set(result, server, "serverInfo")
	if instructions := member(discovered, "instructions"); instructions != nil {
		result = set(result, instructions, "instructions")
	}
	b.mu.Lock()
	b.who = identity{version: modernVersions[0], capabilities: bytes.Clone(member(c.params, "capabilities")), info: bytes.Clone(member(c.params, "clientInfo"))}
	b.lists = nil
	for _, list := range []string{"tools", "prompts", "resources"} {
		if string(member(capabilities, list, "listChanged")) == "true" {
			b.lists = append(b.lists, list+"ListChanged")
		}
	}
	b.mu.Unlock()
	b.result(c, result)
	return nil
}

// result answers c with a raw result of our own.
func (b *bridge) result(c *call, raw []byte) {
	b.s.answer(c, resultLine(c.id, raw))
}

func (b *bridge) call(c *call) error {
	if len(c.params) > 0 && c.params[0] != '{' && string(c.params) != "null" {
		return &fault{code: codeParams, kind: "invalid_request", text: "params is no object"}
	}
	switch c.method {
	case "ping":
		b.result(c, []byte("{}"))
		return nil
	case "logging/setLevel":
		level := member(c.params, "level")
		if len(level) == 0 || level[0] != '"' {
			return &fault{code: codeParams, kind: "invalid_request", text: "level is no string"}
		}
		b.mu.Lock()
		b.logLevel = bytes.Clone(level)
		b.mu.Unlock()
		b.result(c, []byte("{}"))
		return nil
	case "resources/subscribe", "resources/unsubscribe":
		return b.watch(c)
	}
	return b.forward(c)
}

// forward carries c in as many rounds as the server has questions (basic/patterns/mrtr).
func (b *bridge) forward(c *call) error {
	b.mu.Lock()
	who, level := b.who, b.logLevel
	b.mu.Unlock()
	meta := who.meta(member(c.params, "_meta"))
	if level != nil {
		meta = set(meta, level, metaPrefix+"logLevel")
	}
	req := c.message
	req.raw = set(c.raw, meta, "params", "_meta")
	for round := 1; round <= maxRounds; round++ {
		var asks *questions
		var err error
		failed := b.ask(c.ctx, b.s.cfg.Send, &c.phase, req, who, func(a message) {
			asks, err = questionsIn(a)
			if asks == nil && err == nil {
				b.s.answer(c, b.forHost(c, a))
			}
		}, func(n message) {
			b.s.touch(c)
			b.s.toHost(n)
		})
		switch {
		case failed != nil:
			return failed
		case err != nil:
			return err
		case asks == nil:
			return nil
		}
		b.s.touch(c)
		c.phase.Store(replied) // nothing of c runs at the server until the next round, but c waits for the host, not for the way
		answers, err := b.question(c, asks)
		if err == nil && len(asks.keys) == 0 {
			_, err = sleep(c.ctx, backoff(round), nil) // it only wants to be asked again later
		}
		if err != nil {
			return err
		}
		req.id = b.newID()
		params := set(orEmpty(c.params), meta, "_meta")
		if answers != nil {
			params = set(params, answers, "inputResponses")
		}
		if asks.state != nil {
			params = set(params, asks.state, "requestState")
		}
		req.raw = set(set(c.raw, req.id, "id"), params, "params")
	}
	return noAnswer(fmt.Sprintf("the server has asked for input %d times and still gives no answer", maxRounds))
}

func orEmpty(obj []byte) []byte {
	if len(obj) == 0 || obj[0] != '{' {
		return []byte("{}")
	}
	return obj
}

// questions is an InputRequiredResult.
type questions struct {
	keys    []string // the server's names of its requests
	methods []string
	params  [][]byte // raw
	any     bool     // inputRequests was there
	state   []byte   // raw requestState; nil: none
}

// questionsIn reads an answer that asks for input; nil: it is a complete answer.
func questionsIn(a message) (*questions, error) {
	switch kind := member(a.result, "resultType"); {
	case len(kind) == 0:
		return nil, nil // complete
	case kind[0] == '"' && text(kind) == "complete":
		return nil, nil
	case kind[0] != '"' || text(kind) != "input_required":
		return nil, noAnswer(fmt.Sprintf("the answer is of a kind that the host does not know: %q", excerpt(string(kind), 80)))
	}
	q := &questions{state: bytes.Clone(member(a.result, "requestState"))}
	requests := member(a.result, "inputRequests")
	var err error
	if len(requests) > 0 && requests[0] == '{' {
		q.any = true
		s := scanner{b: requests}
		s.object(1, func(key string, val []byte) {
			method := memberText(val, "method")
			switch method {
			case "elicitation/create", "sampling/createMessage", "roots/list":
			default:
				err = noAnswer(fmt.Sprintf("the server asks for %q, which is no input", excerpt(method, 64)))
			}
			if len(q.keys) == maxQuestions {
				err = noAnswer(fmt.Sprintf("the server asks more than %d questions at once", maxQuestions))
				return
			}
			q.keys, q.methods, q.params = append(q.keys, key), append(q.methods, method), append(q.params, bytes.Clone(member(val, "params")))
		})
	}
	if err == nil && !q.any && q.state == nil {
		err = noAnswer("the server asks for input and does not say which")
	}
	return q, err
}

// question puts all questions to the host and returns the raw inputResponses; nil: there were no questions.
func (b *bridge) question(c *call, q *questions) ([]byte, error) {
	if !q.any {
		return nil, nil
	}
	ids, answers := make([][]byte, len(q.keys)), make([]chan message, len(q.keys))
	for i := range q.keys {
		ids[i], answers[i] = b.newID(), make(chan message, 1)
		b.mu.Lock()
		b.asked[idKey(ids[i])] = answers[i]
		b.mu.Unlock()
		line := slices.Concat([]byte(`{"jsonrpc":"2.0","id":`), ids[i], []byte(`,"method":`), quote(q.methods[i]))
		if q.params[i] != nil {
			line = slices.Concat(line, []byte(`,"params":`), q.params[i])
		}
		b.s.write(append(line, '}'))
	}
	out := []byte("{}")
	var err error
	for i, answered := range answers {
		if err == nil {
			select {
			case a := <-answered:
				b.s.touch(c)
				if a.result != nil {
					out = set(out, a.result, q.keys[i])
					continue
				}
				err = &fault{code: codeTransport, kind: "input", text: fmt.Sprintf("the host answered the server's %s with the error %q", q.methods[i],
					excerpt(memberText(a.raw, "error", "message"), 200))}
			case <-c.ctx.Done():
				err = context.Cause(c.ctx)
			}
		}
		b.mu.Lock()
		_, open := b.asked[idKey(ids[i])]
		delete(b.asked, idKey(ids[i]))
		b.mu.Unlock()
		if open {
			b.s.write(cancelNotice(ids[i], "the request that needed it has ended").raw)
		}
	}
	return out, err
}

// respond gives the host's answer to the call that asked.
func (b *bridge) respond(a message) {
	key := idKey(a.id)
	b.mu.Lock()
	asked := b.asked[key]
	delete(b.asked, key)
	b.mu.Unlock()
	if asked == nil {
		b.modern.respond(a)
		return
	}
	asked <- a
}

// notice: nothing that a legacy host notifies of means anything to a modern server, but initialized says that the host takes
// notifications from now on.
func (b *bridge) notice(n notice) {
	defer b.s.settle()
	if n.gate != nil {
		defer close(n.gate)
		b.mu.Lock()
		lists := len(b.lists) > 0
		b.mu.Unlock()
		if lists && !b.s.cfg.NoServerStream {
			b.turn <- struct{}{}
			settled := b.listen().settled
			<-b.turn
			b.standBy(settled)
		}
	}
}

// watch is resources/subscribe and resources/unsubscribe.
func (b *bridge) watch(c *call) error {
	raw := member(c.params, "uri")
	if len(raw) == 0 || raw[0] != '"' {
		return &fault{code: codeParams, kind: "invalid_request", text: "uri is no string"}
	}
	uri := text(raw)
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	b.mu.Lock()
	_, known := b.watched[uri]
	full := len(b.watched) >= maxWatched
	b.mu.Unlock()
	add := c.method == "resources/subscribe"
	switch {
	case add == known:
		b.result(c, []byte("{}"))
		return nil
	case add && full:
		return &fault{code: codeParams, kind: "busy", text: fmt.Sprintf("%d resources are subscribed to already", maxWatched)}
	}
	change := func(add bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if add {
			b.watched[uri] = bytes.Clone(raw)
		} else {
			delete(b.watched, uri)
		}
	}
	change(add)
	if stream := b.listen(); add {
		if err := wait(c.ctx, stream.settled); err != nil {
			change(false)
			return err
		}
		if !slices.Contains(stream.uris, uri) {
			change(false)
			return &fault{code: codeParams, kind: "no_subscription", text: "the server tells of no changes of this resource"}
		}
	}
	b.result(c, []byte("{}"))
	return nil
}

// listen asks for a subscription to all that the host wants now. Those before it end when the server has acknowledged it, so that nothing
// is missed between them. Whoever calls it has the turn.
func (b *bridge) listen() *subscription {
	ctx, end := context.WithCancel(b.s.ctx)
	stream := &subscription{end: end, settled: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	filter := []byte("{}")
	for _, field := range b.lists {
		filter = set(filter, []byte("true"), field)
	}
	if len(b.watched) > 0 {
		var uris [][]byte
		for _, uri := range slices.Sorted(maps.Keys(b.watched)) {
			uris = append(uris, b.watched[uri])
		}
		filter = set(filter, arrayOf(uris), "resourceSubscriptions")
	}
	b.streams = append(b.streams, stream)
	if string(filter) == "{}" {
		b.settleLocked(stream)
		end()
		b.streams = nil
		return stream
	}
	who := b.who
	req := b.request("subscriptions/listen", set([]byte("{}"), filter, "notifications"), who)
	// Ends with ctx: with the session, or when a later one is acknowledged.
	b.s.work.Go(func() {
		defer end()
		err := b.follow(ctx, b.s.cfg.Background, new(atomic.Int32), req, who, true, func(a message) {
			b.s.cfg.Log.Debug("subscription ended", "status", errorCode(a))
		}, func(n message) {
			if n.method != methodAck {
				b.s.toHost(n)
				return
			}
			stream.uris = texts(member(n.params, "notifications", "resourceSubscriptions"))
			b.mu.Lock()
			b.settleLocked(stream)
			b.mu.Unlock()
		})
		if err != nil && ctx.Err() == nil {
			b.s.cfg.Log.Debug("no subscription", "err", b.s.cfg.Mask(err.Error()))
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.streams = slices.DeleteFunc(b.streams, func(other *subscription) bool { return other == stream })
		if !stream.done {
			close(stream.settled)
		}
	})
	return stream
}

// settleLocked ends all subscriptions before stream, which the server has acknowledged.
func (b *bridge) settleLocked(stream *subscription) {
	stream.done = true
	close(stream.settled)
	for _, old := range b.streams {
		if old == stream {
			return
		}
		old.end()
	}
}

// texts decodes the strings of a raw array.
func texts(raw []byte) (out []string) {
	for _, v := range elements(raw) {
		if v[0] == '"' {
			out = append(out, text(v))
		}
	}
	return out
}
