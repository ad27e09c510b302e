package helper

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// talk is the connection of a login with one helper.
type talk struct {
	login *login
	// name is that of the helper: its socket, or a name of LoginsConfig.Others.
	name string
	dial func(context.Context) (net.Conn, error)
	// patience bounds the dial, and the answers to a hello and a hold.
	patience time.Duration

	// The login's lock guards what follows.
	// taken counts the ports that the login wants and that are taken there.
	taken int
	// held says that the helper holds the port.
	held bool
	// host is this machine as the person there typed it.
	host string
	// how is what the helper shows last.
	how string
}

// Values of talk.patience: for a helper that has a socket here, and for another, which is dialed by
// SSH.
const hereTimeout, elsewhereTimeout = 2500 * time.Millisecond, time.Minute

// run talks until the login is over or the connection has ended. Then the login looks for the
// helper again.
func (t *talk) run() {
	g := t.login
	pause := retryInterval
	err := t.converse()
	for errors.Is(err, errPortBusy) && t.another() {
		err = t.converse()
	}
	switch {
	case errors.Is(err, errRefused):
		pause = 24 * time.Hour // longer than any login
	case t.held || errors.Is(err, errPortBusy):
		pause = lookInterval
	}
	if err != nil {
		g.logins.cfg.Log.Debug("helper left", "helper", t.name, "err", err)
	}
	g.change(func() {
		delete(g.talks, t.name)
		g.retry[t.name] = time.Now().Add(pause)
	})
}

// another reports whether the login may have another port than the one that is taken.
func (t *talk) another() bool {
	t.login.mu.Lock()
	defer t.login.mu.Unlock()
	if want := t.login.want; t.login.addr != "" || !want.Fixed || t.taken >= len(want.More) {
		return false
	}
	t.taken++
	return true
}

// errRefused says that this helper does not want the login.
var errRefused = errors.New("the helper does not take the login")

// converse is run without what comes before and after.
func (t *talk) converse() error {
	g := t.login
	ctx, cancel := runningTimeout(g.ctx, t.patience)
	defer cancel()
	raw, err := t.dial(ctx)
	if err != nil {
		return err
	}
	conn := NewConn(raw)
	defer conn.Close()
	defer context.AfterFunc(g.ctx, func() { conn.Close() })()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	if err := conn.Greet(); err != nil {
		return err
	}
	if err := t.hold(ctx, conn); err != nil {
		return err
	}
	if !stop() {
		return context.Cause(ctx)
	}
	received, left := make(chan Message), make(chan struct{})
	go func() { // ends with the connection
		defer close(received)
		ways := newDialed(g, conn)
		defer ways.close()
		defer conn.Close()
		for {
			m, err := conn.Receive()
			if err != nil {
				return
			}
			if m.Type == TypeBytes {
				ways.take(m.Bytes)
				continue
			}
			select {
			case received <- m:
			case <-left:
				return
			}
		}
	}()
	defer func() {
		close(left)
		conn.Close()
		for range received {
		}
	}()
	return (&exchange{talk: t, conn: conn, told: make(chan *Message, 1)}).run(received)
}

// hold has the helper hold the port. The first helper may choose another one if the login allows
// it.
func (t *talk) hold(ctx context.Context, conn *Conn) error {
	g := t.login
	select { // while one helper chooses, the others wait
	case g.agreeing <- struct{}{}:
		defer func() { <-g.agreeing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g.mu.Lock()
	addr, fixed, more := g.addr, true, false
	if addr == "" {
		addr, fixed, more = append([]string{g.want.Addr}, g.want.More...)[t.taken], g.want.Fixed, t.taken < len(g.want.More)
	}
	g.mu.Unlock()
	m := Message{Type: TypeHold, Login: g.id, Upstream: g.logins.cfg.Upstream, RedirectURI: holdURI(addr), Fixed: fixed,
		More: fixed && more, Dials: g.logins.cfg.Dial != nil}
	if err := conn.Send(m); err != nil {
		return err
	}
	answer, err := conn.Receive()
	for err == nil && answer.Type != TypeHeld && answer.Type != TypeError {
		answer, err = conn.Receive() // a reader ignores what it does not know
	}
	if err != nil {
		return err
	}
	if answer.Type == TypeError {
		g.change(func() { g.trouble = describe(answer) })
		if answer.Kind == KindPortBusy {
			return errPortBusy
		}
		return errRefused
	}
	held, err := heldAddr(addr, answer.RedirectURI)
	if err != nil {
		return err
	}
	if !g.agree(held) {
		return errPortBusy
	}
	g.change(func() {
		t.held, g.trouble = true, ""
		if g.logins.cfg.Others[t.name] == nil { // nobody has typed how that one calls us
			t.host = answer.Host
		}
	})
	return nil
}

// exchange is what follows a hold.
type exchange struct {
	*talk
	conn *Conn
	// sent is the prompt that the helper has, or had last.
	sent *Prompt
	// asked says that the helper has sent a callback, and was not told the outcome.
	asked bool
	// relinking says that a new link is under way.
	relinking atomic.Bool
	// told gets the outcome of a callback that is this helper's alone.
	told chan *Message
}

// run sends what is new, and answers the helper, until either has had enough.
func (x *exchange) run(received <-chan Message) error {
	g := x.login
	for {
		g.mu.Lock()
		changed, prompt, outcome, over := g.changed, g.prompt, g.outcome, g.over
		owed, waits := g.owed, g.delivering > 0
		g.mu.Unlock()
		if over && outcome != nil && (x.sent != nil || owed) {
			return x.finish(*outcome, received)
		}
		if over && !waits {
			return x.conn.Send(Message{Type: TypeEnd})
		}
		if prompt != nil && prompt != x.sent {
			if err := x.show(prompt); err != nil {
				return err
			}
		}
		select {
		case m, ok := <-received:
			if !ok {
				return net.ErrClosed
			}
			if err := x.take(m); err != nil {
				return err
			}
		case m := <-x.told:
			x.asked = false
			g.change(func() { g.owed = false })
			if err := x.conn.Send(*m); err != nil {
				return err
			}
		case <-changed:
		case <-g.ctx.Done():
			return context.Cause(g.ctx)
		}
	}
}

// goodbyePatience bounds the wait for the goodbye of a helper that was told the outcome.
const goodbyePatience = 10 * time.Second

// finish tells the outcome and says goodbye. What was sent into a connection that is dead is owed
// as before, and the helper is told when it comes again.
func (x *exchange) finish(outcome Message, received <-chan Message) error {
	err := x.conn.Send(outcome)
	if err == nil {
		err = x.conn.Send(Message{Type: TypeEnd})
	}
	if err != nil {
		return err
	}
	owes := x.asked || x.sent == nil // otherwise another helper has brought the callback
	late := time.NewTimer(goodbyePatience)
	defer late.Stop()
	for {
		select {
		case m, ok := <-received:
			if !ok {
				return net.ErrClosed
			}
			if m.Type == TypeEnd {
				x.login.change(func() { x.login.owed = x.login.owed && !owes })
				return nil
			}
		case <-late.C:
			return errNoGoodbye
		case <-x.login.ctx.Done():
			return context.Cause(x.login.ctx)
		}
	}
}

// errNoGoodbye says that a helper may not have heard the outcome.
var errNoGoodbye = errors.New("the helper does not say goodbye")

// show sends the prompt.
func (x *exchange) show(p *Prompt) error {
	if x.asked {
		x.asked = false
		again := Message{Type: TypeOutcome, Text: "the login server wants another try: the login begins again on a new page"}
		if err := x.conn.Send(again); err != nil {
			return err
		}
	}
	x.sent = p
	return x.conn.Send(p.message(p.AuthorizeURL, p.LinkExpires))
}

// message returns the prompt with a link.
func (p *Prompt) message(link string, expires time.Time) Message {
	return Message{
		Type: TypeLogin, AuthorizeURL: link, LinkExpires: expires, State: p.State,
		RedirectURI: p.RedirectURI, StartURL: p.StartURL, Issuer: p.Issuer, Expires: p.Expires, Now: time.Now(),
	}
}

// take answers a message of the helper.
func (x *exchange) take(m Message) error {
	g, prompt := x.login, x.sent
	switch m.Type {
	case TypeShown:
		g.change(func() { x.how = m.How })
	case TypeRelink:
		if prompt != nil && prompt.StartURL != "" && x.relinking.CompareAndSwap(false, true) {
			g.logins.running.Go(func() { x.relink(prompt) }) // ends with the login
		}
	case TypeCallback:
		if prompt == nil || x.asked {
			return nil // the outcome is under way
		}
		x.asked = true
		g.change(func() { g.owed = true })
		g.logins.running.Go(func() { // ends with the outcome, or with the login
			if own := g.deliver(prompt, m.Query); own != nil {
				select {
				case x.told <- own:
				default:
				}
			}
		})
	case TypeError:
		g.change(func() { g.trouble = describe(m) })
		if m.Kind == KindRefused {
			g.refuse(prompt, x.talk)
		}
		if m.Kind == KindRefused || m.Kind == KindInvalid {
			return errRefused
		}
	}
	return nil
}

// relink sends a new link, if there is one. The first visit of our page may lead to the link that
// the helper has already.
func (x *exchange) relink(p *Prompt) {
	link, err := x.login.listener.follow(x.login.ctx, p.StartURL)
	if err == nil && link == p.AuthorizeURL {
		link, err = x.login.listener.follow(x.login.ctx, p.StartURL)
	}
	x.relinking.Store(false) // before the answer, for the helper may ask again at once
	if err != nil {
		x.login.logins.cfg.Log.Warn("no new link for the helper", "helper", x.name, "err", err)
		return
	}
	x.conn.Send(p.message(link, time.Time{}))
}
