package relay

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"sallyport/relay/rawjson"
)

const (
	// legacyVersion is the newest version of the legacy wire. It is offered to a host that names
	// one we do not know.
	legacyVersion = "2025-11-25"
	// maxRounds is how often a server may ask for input before it answers a call.
	maxRounds = 16
	// maxQuestions is how many questions a server may ask in one round.
	maxQuestions = 64
	// maxWatched is how many resources a host may subscribe to.
	maxWatched = 1024
)

// legacyVersions are the revisions that a host may open its session with.
var legacyVersions = []string{"2024-11-05", "2025-03-26", "2025-06-18", legacyVersion}

// bridge is the wire of a legacy host to a modern server. It plays the session that the host
// believes in, and of which the server knows nothing: what the host said in initialize and
// logging/setLevel goes along with each request, and a subscription of ours brings what a legacy
// server would send by itself. If a modern server answers a call with a question, the question
// becomes a request to the host, and the call is sent again with the answer.
type bridge struct {
	*modern
	subscriptions *subscriptions
	questions     *questions

	mu sync.Mutex
	// who is what the host said of itself.
	who identity
	// logLevel is raw. It is nil if the host has set none.
	logLevel []byte
}

func newBridge(m *modern) *bridge {
	return &bridge{modern: m,
		subscriptions: &subscriptions{modern: m, changing: make(chan struct{}, 1), watched: map[string][]byte{}},
		questions:     &questions{modern: m, asked: map[string]chan rawjson.Message{}}}
}

// open answers the host's initialize from a raw DiscoverResult, which is nil if the server gave
// none.
func (b *bridge) open(c *call, discovered []byte) error {
	version := rawjson.MemberText(c.Params, "protocolVersion")
	if !slices.Contains(legacyVersions, version) {
		version = legacyVersion
	}
	capabilities := rawjson.Member(discovered, "capabilities")
	if capabilities == nil {
		// We do not know what the server has. If it lacks some of this, it refuses the requests,
		// and that does no harm.
		capabilities = []byte(`{"tools":{},"resources":{},"prompts":{},"completions":{}}`)
	}
	server := rawjson.Member(discovered, "_meta", metaPrefix+"serverInfo")
	if server == nil {
		server = rawjson.Member(discovered, "serverInfo")
	}
	if server == nil {
		server = rawjson.Set([]byte(`{"version":""}`), rawjson.Quote(b.cfg.URL.Host), "name")
	}
	result := rawjson.Set([]byte("{}"), rawjson.Quote(version), "protocolVersion")
	result = rawjson.Set(result, capabilities, "capabilities")
	result = rawjson.Set(result, server, "serverInfo")
	if instructions := rawjson.Member(discovered, "instructions"); instructions != nil {
		result = rawjson.Set(result, instructions, "instructions")
	}
	who := identity{
		version:      modernVersions[0],
		capabilities: bytes.Clone(rawjson.Member(c.Params, "capabilities")),
		info:         bytes.Clone(rawjson.Member(c.Params, "clientInfo")),
	}
	b.mu.Lock()
	b.who = who
	b.mu.Unlock()
	b.subscriptions.reset(who, capabilities)
	b.result(c, result)
	return nil
}

// result answers c with a raw result of our own.
func (b *bridge) result(c *call, raw []byte) {
	b.host.answer(c, resultLine(c.ID, raw))
}

func (b *bridge) call(c *call) error {
	if len(c.Params) > 0 && c.Params[0] != '{' && string(c.Params) != "null" {
		return invalidParams("params is no object")
	}
	switch c.Method {
	case "ping":
		b.result(c, []byte("{}"))
		return nil
	case "logging/setLevel":
		level := rawjson.Member(c.Params, "level")
		if len(level) == 0 || level[0] != '"' {
			return invalidParams("level is no string")
		}
		b.mu.Lock()
		b.logLevel = bytes.Clone(level)
		b.mu.Unlock()
		b.result(c, []byte("{}"))
		return nil
	case "resources/subscribe", "resources/unsubscribe":
		if err := b.subscriptions.watch(c); err != nil {
			return err
		}
		b.result(c, []byte("{}"))
		return nil
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
	msg := c.Message
	msg.Raw = rawjson.Set(c.Raw, meta, "params", "_meta")
	for round := 1; round <= maxRounds; round++ {
		wanted, err := b.round(c, msg, who)
		if err != nil || wanted == nil {
			return err
		}
		b.host.keepAlive(c)
		// Until the next round nothing of c runs on the server. But c waits for the host, and not
		// for an obstacle.
		c.phase.Store(asking)
		answers, err := b.questions.ask(c, wanted)
		if err == nil && len(wanted.keys) == 0 {
			_, err = pause(c.ctx, backoff(round), nil) // the server only wants to be asked again later
		}
		if err != nil {
			return err
		}
		params := rawjson.Set(orEmpty(c.Params), meta, "_meta")
		if answers != nil {
			params = rawjson.Set(params, answers, "inputResponses")
		}
		if wanted.state != nil {
			params = rawjson.Set(params, wanted.state, "requestState")
		}
		msg.ID = b.newID()
		msg.Raw = rawjson.Set(rawjson.Set(c.Raw, msg.ID, "id"), params, "params")
	}
	return noAnswer(fmt.Sprintf("the server has asked for input %d times and still gives no answer", maxRounds))
}

// round carries one round of c as msg. It returns the input that the server asks for, or nil if the
// server has answered c.
func (b *bridge) round(c *call, msg rawjson.Message, who identity) (wanted *wantedInput, err error) {
	failed := b.ask(c.ctx, modernRequest{
		Message: msg, who: who, send: b.cfg.Send, phase: &c.phase,
		answer: func(a rawjson.Message) {
			wanted, err = wantedInputIn(a, who.capabilities)
			if wanted == nil && err == nil {
				b.host.answer(c, b.forHost(c, a))
			}
		},
		aside: func(n rawjson.Message) {
			b.host.keepAlive(c)
			b.host.toHost(n)
		},
	})
	if failed != nil {
		return nil, failed
	}
	return wanted, err
}

// respond gives the host's answer to the call that asked.
func (b *bridge) respond(a rawjson.Message) {
	if !b.questions.answer(a) {
		b.modern.respond(a)
	}
}

// notify takes a notification of the host. The notifications of extensions are sent on. Those that
// the legacy revisions define mean nothing to a modern server, so they are dropped. But initialized
// also says that the host takes notifications from now on.
func (b *bridge) notify(n notification) {
	switch {
	case n.gate != nil:
	case isLegacyNotification(n.Method):
		n.done()
		return
	default:
		b.mu.Lock()
		n.Params = rawjson.Set(orEmpty(n.Params), b.who.inNewestVersion().meta(rawjson.Member(n.Params, "_meta")), "_meta")
		b.mu.Unlock()
		n.Raw = rawjson.Set(n.Raw, n.Params, "params")
		b.modern.notify(n)
		return
	}
	defer n.done()
	defer close(n.gate)
	if !b.cfg.NoServerStream {
		b.subscriptions.open()
	}
}

// isLegacyNotification reports whether a legacy revision defines this notification of the host.
func isLegacyNotification(method string) bool {
	switch method {
	case methodInitialized, "notifications/cancelled", "notifications/progress", "notifications/roots/list_changed",
		"notifications/tasks/status":
		return true
	}
	return false
}
