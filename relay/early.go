package relay

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"sallyport/relay/rawjson"
)

// listings are the methods whose answers an early answer promises, in the order that their changes are announced.
var listings = []struct{ method, capability, member string }{
	{"tools/list", "tools", "tools"},
	{"prompts/list", "prompts", "prompts"},
	{"resources/list", "resources", "resources"},
	{"resources/templates/list", "resources", "resourceTemplates"},
}

// answerEarly answers h in the server's place when the time has come: as the last session was answered, or, without one, with
// all that can be announced later. It ends with the session or with the server's answer.
func (s *session) answerEarly(h *opening) {
	s.mu.Lock()
	since := h.c.arrived
	if d := s.discovered; !d.IsZero() && since.Sub(d) < 2*s.cfg.InitPatience {
		since = d // the host waits since then
	}
	s.mu.Unlock()
	if _, err := sleep(h.c.ctx, time.Until(since.Add(s.cfg.InitPatience)), h.done); err != nil {
		return
	}
	remembered := s.recall(memoryInitialize)
	result := minimalResult(h.c.Params, s.cfg.Version)
	var tools [][]byte
	if remembered != nil {
		result, tools = rememberedResult(remembered, h.c.Params), rawjson.Elements(s.recall(memoryTools))
	}
	s.mu.Lock()
	if h.c.done || h.result != nil || s.opening != h {
		s.mu.Unlock()
		return
	}
	h.early, h.tools = result, tools
	h.c.done = true
	delete(s.calls, h.c.key)
	s.early.Store(h)
	s.mu.Unlock()
	s.cfg.Log.Info("initialize is answered before the upstream", "remembered", remembered != nil)
	s.write(resultLine(h.c.ID, result))
	s.wakeUp()
}

// discoverEarly answers the server/discover c in the server's place when the time has come. Without a last session the host is
// given an error, which is none of a modern server: a host that knows both wires goes on to initialize (basic/transports/stdio,
// "Backward Compatibility"). The request goes on upstream, and with it a sign-in.
func (s *session) discoverEarly(c *call) {
	if _, err := sleep(c.ctx, s.cfg.InitPatience, nil); err != nil {
		return
	}
	if result := s.recall(memoryDiscover); result != nil {
		s.answer(c, resultLine(c.ID, result))
		return
	}
	o, _ := s.cfg.Obstacle()
	if o == nil {
		o = s.silent()
	}
	s.answer(c, obstacleFault(o).line(c.ID, s.cfg.Mask))
}

// minimalResult is the answer to an initialize with params when nothing is known of the server.
func minimalResult(params []byte, version string) []byte {
	type changes struct {
		ListChanged bool `json:"listChanged"`
	}
	yes := changes{true}
	asked := rawjson.MemberText(params, "protocolVersion")
	if !slices.Contains(legacyVersions, asked) {
		asked = legacyVersion
	}
	return encode(map[string]any{
		"protocolVersion": asked,
		"capabilities":    map[string]changes{"tools": yes, "prompts": yes, "resources": yes},
		"serverInfo":      map[string]string{"name": "sallyport", "version": version},
		"instructions": "The server is not connected yet. While " + signInTool + " is among the tools, call it and show the person what it says; " +
			"the server's own tools, prompts and resources follow.",
	})
}

// rememberedResult is the last session's answer to initialize for a host that sends params now: no newer version than it
// asks for, and tools that change, at least by the one to sign in.
func rememberedResult(result, params []byte) []byte {
	if asked := rawjson.MemberText(params, "protocolVersion"); asked != "" && asked < rawjson.MemberText(result, "protocolVersion") {
		result = rawjson.Set(result, rawjson.Quote(asked), "protocolVersion")
	}
	return rawjson.Set(result, []byte("true"), "capabilities", "tools", "listChanged")
}

// inPlace answers m itself if there is no server for it: while that is not reached, and where it lacks what was promised.
func (s *session) inPlace(h *opening, m rawjson.Message, b *batchAnswers) bool {
	h.lists.Lock()
	defer h.lists.Unlock()
	s.mu.Lock()
	var result []byte
	if s.final == nil && !s.closed {
		result = h.inPlaceLocked(m.Method)
	}
	s.mu.Unlock()
	if result == nil {
		return false
	}
	line := s.hide.list(resultLine(m.ID, result))
	if b != nil {
		s.batched(b, line)
	} else {
		s.write(line)
	}
	return true
}

// inPlaceLocked returns the result of such a request, nil for one that the server is to answer.
func (h *opening) inPlaceLocked(method string) []byte {
	if h.result == nil && method == "ping" {
		return []byte("{}")
	}
	for _, l := range listings {
		switch {
		case l.method != method:
		case h.result != nil && rawjson.Member(h.result, "capabilities", l.capability) != nil:
			return nil
		case h.result != nil || method != "tools/list":
			return rawjson.ObjectOf(l.member, rawjson.ArrayOf(nil))
		default:
			// Where only the link is in the way of a known server, nobody has to sign in as far as is known.
			list := h.tools
			if h.unoffered = !h.person && len(list) > 0; !h.unoffered {
				list = append(slices.Clip(list), signInToolEntry)
			}
			return rawjson.ObjectOf("tools", rawjson.ArrayOf(list))
		}
	}
	return nil
}

// hostReady notes that the host has sent notifications/initialized, which the server will have accepted when gate is closed.
func (s *session) hostReady(gate <-chan struct{}) {
	s.mu.Lock()
	s.initialized = true
	if h := s.early.Load(); h != nil && !s.closed {
		s.work.Go(func() { s.announce(h, gate) }) // ends with s.ctx
	}
	s.mu.Unlock()
	s.wakeUp()
}

// announce tells the host, when the server takes requests, that the lists it was promised are here.
func (s *session) announce(h *opening, ready <-chan struct{}) {
	if wait(s.ctx, h.done) != nil || wait(s.ctx, ready) != nil {
		return
	}
	h.lists.Lock()
	defer h.lists.Unlock()
	told := ""
	for _, l := range listings {
		// The list of what the server lacks was empty and stays so; but of the tools at least ours goes.
		lacking := rawjson.Member(h.result, "capabilities", l.capability) == nil && l.capability != "tools"
		if !lacking && l.capability != told && string(rawjson.Member(h.early, "capabilities", l.capability, "listChanged")) == "true" {
			told = l.capability
			s.write(listChanged(told))
		}
	}
}

// offer tells the host of the tool to sign in, if its list lacks that and it is wanted now.
func (s *session) offer(h *opening) {
	h.lists.Lock()
	defer h.lists.Unlock()
	s.mu.Lock()
	wanted := h.pendingLocked() && h.unoffered && h.person
	h.unoffered = h.unoffered && !wanted
	s.mu.Unlock()
	if wanted {
		s.write(listChanged("tools"))
	}
}

func listChanged(capability string) []byte {
	return []byte(`{"jsonrpc":"2.0","method":"notifications/` + capability + `/list_changed"}`)
}

// resultLine is the JSON-RPC answer to id with a result of ours.
func resultLine(id, result []byte) []byte {
	return slices.Concat([]byte(`{"jsonrpc":"2.0","id":`), id, []byte(`,"result":`), result, []byte("}"))
}

// encode is v as JSON. What it is given here cannot fail.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // links stay readable
	enc.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n")
}
