package relay

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"

	"sallyport/relay/rawjson"
)

// wire is how the session reaches the upstream. Each form of the protocol is one, and so is the
// router, which chooses between them. All methods may be called concurrently.
type wire interface {
	// call carries one request and returns when nothing more can come of it. The error says why
	// there is no answer.
	call(c *call) error
	// notify carries one notification and returns when the next one may go. When nothing more comes
	// of n it calls n.done, once.
	notify(n notification)
	// respond carries the host's answer to a request of the server.
	respond(m rawjson.Message)
	// giveUp tells the server that nobody waits any more for the request that the notification
	// names.
	giveUp(cancelled rawjson.Message)
	// goodbye ends the session upstream.
	goodbye(ctx context.Context)
}

// hostSide is how a wire reaches the session. All methods may be called concurrently.
type hostSide interface {
	// answer gives the host the line that answers c, unless c is answered or cancelled. It reports
	// whether it did.
	answer(c *call, line []byte) bool
	// toHost gives the host a request or a notification of the server.
	toHost(m rawjson.Message)
	// outOfStream takes a message that came otherwise than on the stream of a call. It may be the
	// answer to a call all the same, or the progress of one.
	outOfStream(m rawjson.Message)
	// keepAlive gives c its full time again, because the server has shown that it works on c.
	keepAlive(c *call)
	// lastsForever frees c of the time limit, and lets the session end without waiting for c.
	lastsForever(c *call)
}

// notification is a notification of the host on its way upstream.
type notification struct {
	rawjson.Message
	// after and opened are gates that the notification waits for. opened is open when initialize
	// was answered, after when the server has accepted notifications/initialized, too.
	after, opened <-chan struct{}
	// gate belongs to notifications/initialized, which waits for opened only. It is closed when
	// calls may follow. It is nil for all other notifications.
	gate chan struct{}
	// done is called when the notification has been dealt with. The end of the session waits for
	// that.
	done func()
}

// router finds out which wire the server and the host need, and gives each message to that.
type router struct {
	*run
	host   hostSide
	eras   *eras
	legacy *legacy
	modern *modern
	bridge *bridge

	mu sync.Mutex
	// opened is what carries the session that the host has opened with initialize. It is nil before
	// that.
	opened wire
}

func newRouter(r *run, host hostSide, o *obstacles) *router {
	cl := &client{run: r, host: host, obstacles: o}
	m := &modern{client: cl}
	return &router{run: r, host: host, eras: &eras{client: cl, modern: m},
		legacy: newLegacy(cl), modern: m, bridge: newBridge(m)}
}

// wire returns what carries the messages of the host's own session.
func (r *router) wire() wire {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened != nil {
		return r.opened
	}
	if known, _ := r.eras.known(); known == modernEra {
		return r.modern
	}
	return r.legacy
}

func (r *router) call(c *call) error {
	switch {
	case c.isInit():
		return r.initialize(c)
	case c.after == nil && isModern(c.Message):
		return r.callModern(c)
	}
	if err := c.line.pass(c.ctx, c.after); err != nil {
		return err
	}
	return r.wire().call(c)
}

func (r *router) notify(n notification) { r.wire().notify(n) }

func (r *router) respond(m rawjson.Message) { r.wire().respond(m) }

func (r *router) giveUp(cancelled rawjson.Message) { r.wire().giveUp(cancelled) }

func (r *router) goodbye(ctx context.Context) { r.wire().goodbye(ctx) }

// initialize opens a session for a legacy host: upstream if the server speaks that, otherwise in
// the bridge alone.
func (r *router) initialize(c *call) error {
	who := identity{
		capabilities: rawjson.Member(c.Params, "capabilities"),
		info:         rawjson.Member(c.Params, "clientInfo"),
	}
	if known, _ := r.eras.recall(); known != legacyEra && r.cfg.Transport != TransportSSE {
		// Whether a token is good is judged by initialize, which every legacy server knows.
		d, err := r.eras.discover(c.ctx, who, true, r.sessionSender)
		switch {
		case err == nil && d.era == modernEra && d.result != nil:
			r.open(r.bridge)
			return r.bridge.open(c, d.result)
		case err != nil && !d.allowsInitialize():
			return err
		}
	}
	r.open(r.legacy)
	err := r.legacy.call(c)
	refusal, refused := errors.AsType[*eraError](err)
	if !refused {
		if err == nil && r.legacy.session().version != "" {
			r.eras.remember(legacyEra)
		}
		return err
	}
	// The server has changed its era since we remembered it.
	d, err := r.eras.discover(c.ctx, who, true, r.sessionSender)
	switch {
	case err != nil:
		return err
	case d.era == modernEra:
		r.open(r.bridge)
		return r.bridge.open(c, d.result)
	case isAnswer(refusal.answer, c.key):
		r.host.answer(c, refusal.answer.Raw)
		return nil
	}
	return refusal.fault
}

// open lets w carry the host's session.
func (r *router) open(w wire) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = w
}

// callModern carries a request of a modern host, if the server is modern too.
func (r *router) callModern(c *call) error {
	known, found := r.eras.recall()
	if known == legacyEra && !found && c.Method != "server/discover" {
		known = unknownEra // This host has no other way, so we do not trust what we remember.
	}
	for range 2 {
		if known == unknownEra {
			d, err := r.eras.discover(c.ctx, identityIn(c.Params), false, r.sender)
			if err != nil {
				return err
			}
			known, found = d.era, true
		}
		if known != modernEra {
			break
		}
		err := r.modern.call(c)
		if contradicts(err) {
			known = unknownEra
			r.eras.note(known)
		}
		if found || known == modernEra {
			return err
		}
	}
	// Any error that is not a modern server's sends a host that knows both wires to initialize
	// (basic/transports/stdio, "Backward Compatibility").
	return newFault(codeNoMethod, "no_method", excerpt(c.Method, 64)+": the server speaks the protocol up to "+legacyVersion,
		"open the session with initialize")
}

// contradicts reports whether err, of a request on the modern wire, is the refusal of a server that
// is not modern.
func contradicts(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && f.kind == "status" && slices.Contains(
		[]int{http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed}, f.status)
}
