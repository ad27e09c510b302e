package relay

import (
	"slices"

	"sallyport/relay/rawjson"
)

// listing is a method that lists what an early answer promises.
type listing struct {
	// method asks for the list, which is the given member of the result.
	method, member string
	// capability is what the list belongs to.
	capability string
}

// listings are in the order in which their changes are announced.
var listings = []listing{
	{"tools/list", "tools", "tools"},
	{"prompts/list", "prompts", "prompts"},
	{"resources/list", "resources", "resources"},
	{"resources/templates/list", "resourceTemplates", "resources"},
}

// answerInPlace answers m, of a host that was answered early, if the server is not there for it: as
// long as it is not reached, and where it lacks what the host was promised. It reports whether it
// did.
func (e *early) answerInPlace(h *opening, m rawjson.Message, b *batchAnswers) bool {
	s := e.session
	if !s.calls.takes() {
		return false
	}
	h.lists.Lock()
	defer h.lists.Unlock()
	e.mu.Lock()
	result := h.resultInPlaceLocked(m.Method)
	e.mu.Unlock()
	if result == nil {
		return false
	}
	line := s.hidden.ownList(resultLine(m.ID, result))
	s.reply(line, b)
	if m.Method == "tools/list" && isClosed(h.reached) { // the server has no tools
		e.listBegins()
		e.listed(line)
	}
	return true
}

// answerWaiting answers the lists that the host asked for before it had the answer to initialize.
func (e *early) answerWaiting(h *opening) {
	s := e.session
	waiting := s.calls.selected(func(c *call) bool {
		return c.own == nil && slices.ContainsFunc(listings, func(l listing) bool { return l.method == c.Method })
	})
	for _, c := range waiting {
		h.lists.Lock()
		e.mu.Lock()
		result := h.resultInPlaceLocked(c.Method)
		e.mu.Unlock()
		if result != nil && c.claim() {
			s.calls.remove(c)
			s.reply(s.hidden.ownList(resultLine(c.ID, result)), c.batch)
			s.calls.release(c)
			c.cancel(errUnwanted)
		}
		h.lists.Unlock()
	}
}

// resultInPlaceLocked returns the result of a request with the given method. It is nil if the
// server is to answer.
func (h *opening) resultInPlaceLocked(method string) []byte {
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
			// If no sign-in is known to be in the way of a server whose tools we know, nobody has
			// to sign in, and the host has the tools.
			list := h.tools
			h.toolNotListed = !h.person && longerThan(list, 0)
			if !h.toolNotListed {
				list = rawjson.Append(rawjson.Append(list, signInToolEntry()), callToolEntry())
			}
			return rawjson.ObjectOf("tools", list)
		}
	}
	return nil
}

// hostReady notes that the host has sent notifications/initialized. The server has accepted that
// when gate is closed.
func (e *early) hostReady(gate <-chan struct{}) {
	e.signIn.hostReady()
	if h := e.answered.Load(); h != nil {
		e.session.calls.start(func() { e.announce(h, gate) })
	}
	e.session.watcher.lookAgain()
}

// announce waits until the server is reached and takes requests, and then tells the host that the
// lists that it was promised are there.
func (e *early) announce(h *opening, ready <-chan struct{}) {
	s := e.session
	if wait(s.ctx, h.reached) != nil || wait(s.ctx, ready) != nil {
		return
	}
	h.lists.Lock()
	defer h.lists.Unlock()
	announced := ""
	for _, l := range listings {
		// The list of what the server lacks was empty and stays so. But of the tools at least the
		// sign-in tool goes.
		lacking := rawjson.Member(h.result, "capabilities", l.capability) == nil && l.capability != "tools"
		promised := string(rawjson.Member(h.earlyResult, "capabilities", l.capability, "listChanged")) == "true"
		if !lacking && promised && l.capability != announced {
			announced = l.capability
			s.write(listChanged(l.capability))
		}
	}
	h.relisting.announced.close()
}

// notePending reports whether the host was answered early, and the server is not yet reached. If so
// it notes whether the obstacle o is a sign-in, and tells the host of the sign-in tool if its list
// lacks that.
func (e *early) notePending(o *Obstacle) bool {
	e.mu.Lock()
	h := e.current
	pending := h.pendingLocked()
	if pending && o != nil && o.Kind == KindSignIn {
		h.person = true
	}
	e.mu.Unlock()
	if pending {
		e.offerSignIn(h)
	}
	return pending
}

// offerSignIn tells the host that its list of tools has changed, if that lacks the sign-in tool and
// the tool is wanted now.
func (e *early) offerSignIn(h *opening) {
	h.lists.Lock()
	defer h.lists.Unlock()
	e.mu.Lock()
	wanted := h.pendingLocked() && h.toolNotListed && h.person
	h.toolNotListed = h.toolNotListed && !wanted
	e.mu.Unlock()
	if wanted {
		e.session.write(listChanged("tools"))
	}
}
