package relay

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"sallyport/relay/rawjson"
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
	asked    map[string]chan rawjson.Message
}

// subscription is one subscriptions/listen.
type subscription struct {
	end     context.CancelFunc
	done    bool          // acknowledged; guarded by bridge.mu
	settled chan struct{} // closed when the server has acknowledged or refused it
	uris    []string      // resources that the server has agreed to tell about; set before settled is closed
}

func newBridge(m *modern) *bridge {
	return &bridge{modern: m, turn: make(chan struct{}, 1), watched: map[string][]byte{}, asked: map[string]chan rawjson.Message{}}
}

// open answers the host's initialize from a raw DiscoverResult; nil: the server gave none.
func (b *bridge) open(c *call, discovered []byte) error {
	version := rawjson.MemberText(c.Params, "protocolVersion")
	if !slices.Contains(legacyVersions, version) {
		version = legacyVersion
	}
	capabilities := rawjson.Member(discovered, "capabilities")
	if capabilities == nil {
		capabilities = []byte(`{"tools":{},"resources":{},"prompts":{},"completions":{}}`) // whatever it has: a refusal does no harm
	}
	server := rawjson.Member(discovered, "_meta", metaPrefix+"serverInfo")
	if server == nil {
		server = rawjson.Member(discovered, "serverInfo")
	}
	if server == nil {
		server = rawjson.Set([]byte(`{"version":""}`), rawjson.Quote(b.s.cfg.URL.Host), "name")
	}
	result := rawjson.Set([]byte("{}"), rawjson.Quote(version), "protocolVersion")
	result = rawjson.Set(result, capabilities, "capabilities")
	result = rawjson.Set(result, server, "serverInfo")
	if instructions := rawjson.Member(discovered, "instructions"); instructions != nil {
		result = rawjson.Set(result, instructions, "instructions")
	}
	b.mu.Lock()
	b.who = identity{version: modernVersions[0], capabilities: bytes.Clone(rawjson.Member(c.Params, "capabilities")), info: bytes.Clone(rawjson.Member(c.Params, "clientInfo"))}
	b.lists = nil
	for _, list := range []string{"tools", "prompts", "resources"} {
		if string(rawjson.Member(capabilities, list, "listChanged")) == "true" {
			b.lists = append(b.lists, list+"ListChanged")
		}
	}
	b.mu.Unlock()
	b.result(c, result)
	return nil
}

// result answers c with a raw result of our own.
func (b *bridge) result(c *call, raw []byte) {
	b.s.answer(c, resultLine(c.ID, raw))
}

func (b *bridge) call(c *call) error {
	if len(c.Params) > 0 && c.Params[0] != '{' && string(c.Params) != "null" {
		return &fault{code: codeParams, kind: "invalid_request", text: "params is no object"}
	}
	switch c.Method {
	case "ping":
		b.result(c, []byte("{}"))
		return nil
	case "logging/setLevel":
		level := rawjson.Member(c.Params, "level")
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
	meta := who.meta(rawjson.Member(c.Params, "_meta"))
	if level != nil {
		meta = rawjson.Set(meta, level, metaPrefix+"logLevel")
	}
	req := c.Message
	req.Raw = rawjson.Set(c.Raw, meta, "params", "_meta")
	for round := 1; round <= maxRounds; round++ {
		var asks *questions
		var err error
		failed := b.ask(c.ctx, b.s.cfg.Send, &c.phase, req, who, func(a rawjson.Message) {
			asks, err = questionsIn(a)
			if asks == nil && err == nil {
				b.s.answer(c, b.forHost(c, a))
			}
		}, func(n rawjson.Message) {
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
		req.ID = b.newID()
		params := rawjson.Set(orEmpty(c.Params), meta, "_meta")
		if answers != nil {
			params = rawjson.Set(params, answers, "inputResponses")
		}
		if asks.state != nil {
			params = rawjson.Set(params, asks.state, "requestState")
		}
		req.Raw = rawjson.Set(rawjson.Set(c.Raw, req.ID, "id"), params, "params")
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
func questionsIn(a rawjson.Message) (*questions, error) {
	switch kind := rawjson.Member(a.Result, "resultType"); {
	case len(kind) == 0:
		return nil, nil // complete
	case kind[0] == '"' && rawjson.Text(kind) == "complete":
		return nil, nil
	case kind[0] != '"' || rawjson.Text(kind) != "input_required":
		return nil, noAnswer(fmt.Sprintf("the answer is of a kind that the host does not know: %q", excerpt(string(kind), 80)))
	}
	q := &questions{state: bytes.Clone(rawjson.Member(a.Result, "requestState"))}
	requests := rawjson.Member(a.Result, "inputRequests")
	var err error
	if len(requests) > 0 && requests[0] == '{' {
		q.any = true
		for key, val := range rawjson.Members(requests) {
			method := rawjson.MemberText(val, "method")
			switch method {
			case "elicitation/create", "sampling/createMessage", "roots/list":
			default:
				err = noAnswer(fmt.Sprintf("the server asks for %q, which is no input", excerpt(method, 64)))
			}
			if len(q.keys) == maxQuestions {
				err = noAnswer(fmt.Sprintf("the server asks more than %d questions at once", maxQuestions))
				break
			}
			q.keys, q.methods, q.params = append(q.keys, key), append(q.methods, method), append(q.params, bytes.Clone(rawjson.Member(val, "params")))
		}
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
	ids, answers := make([][]byte, len(q.keys)), make([]chan rawjson.Message, len(q.keys))
	for i := range q.keys {
		ids[i], answers[i] = b.newID(), make(chan rawjson.Message, 1)
		b.mu.Lock()
		b.asked[rawjson.IDKey(ids[i])] = answers[i]
		b.mu.Unlock()
		line := slices.Concat([]byte(`{"jsonrpc":"2.0","id":`), ids[i], []byte(`,"method":`), rawjson.Quote(q.methods[i]))
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
				if a.Result != nil {
					out = rawjson.Set(out, a.Result, q.keys[i])
					continue
				}
				err = &fault{code: codeTransport, kind: "input", text: fmt.Sprintf("the host answered the server's %s with the error %q", q.methods[i],
					excerpt(rawjson.MemberText(a.Raw, "error", "message"), 200))}
			case <-c.ctx.Done():
				err = context.Cause(c.ctx)
			}
		}
		b.mu.Lock()
		_, open := b.asked[rawjson.IDKey(ids[i])]
		delete(b.asked, rawjson.IDKey(ids[i]))
		b.mu.Unlock()
		if open {
			b.s.write(cancelNotice(ids[i], "the request that needed it has ended").Raw)
		}
	}
	return out, err
}

// respond gives the host's answer to the call that asked.
func (b *bridge) respond(a rawjson.Message) {
	key := rawjson.IDKey(a.ID)
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
	raw := rawjson.Member(c.Params, "uri")
	if len(raw) == 0 || raw[0] != '"' {
		return &fault{code: codeParams, kind: "invalid_request", text: "uri is no string"}
	}
	uri := rawjson.Text(raw)
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
	add := c.Method == "resources/subscribe"
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
		filter = rawjson.Set(filter, []byte("true"), field)
	}
	if len(b.watched) > 0 {
		var uris [][]byte
		for _, uri := range slices.Sorted(maps.Keys(b.watched)) {
			uris = append(uris, b.watched[uri])
		}
		filter = rawjson.Set(filter, rawjson.ArrayOf(uris), "resourceSubscriptions")
	}
	b.streams = append(b.streams, stream)
	if string(filter) == "{}" {
		b.settleLocked(stream)
		end()
		b.streams = nil
		return stream
	}
	who := b.who
	req := b.request("subscriptions/listen", rawjson.Set([]byte("{}"), filter, "notifications"), who)
	// Ends with ctx: with the session, or when a later one is acknowledged.
	b.s.work.Go(func() {
		defer end()
		err := b.follow(ctx, b.s.cfg.Background, new(atomic.Int32), req, who, true, func(a rawjson.Message) {
			b.s.cfg.Log.Debug("subscription ended", "status", errorCode(a))
		}, func(n rawjson.Message) {
			if n.Method != methodAck {
				b.s.toHost(n)
				return
			}
			stream.uris = rawjson.Texts(rawjson.Member(n.Params, "notifications", "resourceSubscriptions"))
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
