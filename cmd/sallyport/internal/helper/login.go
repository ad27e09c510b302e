package helper

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"
)

// login is one login: from Logins.Listen to the Close of the listener, and a little longer if a
// helper waits for the outcome.
type login struct {
	logins   *Logins
	want     Want
	id       string
	listener *listener
	// ctx ends when no helper is to be told anything any more.
	ctx    context.Context
	cancel context.CancelFunc
	// before names the token that was stored when the login began.
	before string
	// agreeing is held while a helper is asked for a port that it may choose.
	agreeing chan struct{}

	// mu guards what follows.
	mu sync.Mutex
	// addr is host:port that is agreed on. It is empty until then.
	addr string
	// prompt is nil while nothing waits for the person.
	prompt *Prompt
	helpers
	outcomes
	// over says that the listener is closed.
	over bool
	// changed is closed and replaced at each change.
	changed chan struct{}
}

// helpers is what a login knows of the helpers.
type helpers struct {
	// talks are those under way, by the name of the helper.
	talks map[string]*talk
	// retry is when a helper may be asked again, by its name.
	retry map[string]time.Time
	// trouble is the last reason why a helper does not show the login.
	trouble string
	// refused says that the person refused the login at a helper.
	refused bool
	// open are the sockets that others may connect to, which are not used. Their helpers were told.
	open []string
	// openSocket is one of them behind which a helper is. It is empty if there is none.
	openSocket string
}

// outcomes is what a login knows of the callbacks that came from helpers.
type outcomes struct {
	// delivering counts the callbacks whose outcome is awaited.
	delivering int
	// outcome is that of the login. It is nil until it is known.
	outcome *Message
	// owed says that a callback came from a helper that was not told the outcome yet.
	owed bool
}

// newLogin returns a login that has no helper yet.
func newLogin(l *Logins, w Want) (*login, error) {
	host, port, err := net.SplitHostPort(w.Addr)
	if err != nil {
		return nil, err
	}
	g := &login{
		logins: l, want: w, id: rand.Text(), agreeing: make(chan struct{}, 1),
		helpers: helpers{talks: map[string]*talk{}, retry: map[string]time.Time{}}, changed: make(chan struct{}),
	}
	g.ctx, g.cancel = context.WithCancel(l.ctx)
	g.listener = newListener(net.JoinHostPort(host, port), g.end)
	return g, nil
}

// changeLocked tells everybody who waits for a change. The caller holds mu.
func (g *login) changeLocked() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// change runs f under the lock, and tells everybody.
func (g *login) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	g.changeLocked()
}

// look starts a talk with each helper that has none.
func (g *login) look() {
	names := Sockets(g.logins.cfg.Dirs)
	talkTo := func(name string) *talk {
		if other := g.logins.cfg.Others[name]; other != nil {
			return &talk{login: g, name: name, dial: other, patience: elsewhereTimeout}
		}
		dial := func(ctx context.Context) (net.Conn, error) { return Dial(ctx, name) }
		return &talk{login: g, name: name, dial: dial, patience: hereTimeout}
	}
	for name := range g.logins.cfg.Others {
		names = append(names, name)
	}
	_, open := forwardedSockets()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, path := range open {
		if slices.Contains(g.open, path) {
			continue
		}
		g.open = append(g.open, path)
		g.logins.running.Go(func() { // ends with the answer or a timeout
			if err := complain(g.ctx, path); err != nil {
				g.logins.cfg.Log.Debug("a socket that is open to others leads nowhere", "err", err)
				return
			}
			g.change(func() { g.openSocket = path })
		})
	}
	for _, name := range names {
		if g.talks[name] != nil || time.Now().Before(g.retry[name]) {
			continue
		}
		t := talkTo(name)
		g.talks[name] = t
		g.logins.running.Go(t.run) // ends with the login
	}
}

// watch looks for helpers until the login is over and no outcome is owed.
func (g *login) watch() {
	defer g.cancel()
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	var alone, over time.Time
	for {
		g.mu.Lock()
		changed, isOver, owed := g.changed, g.over, g.owed || g.delivering > 0
		talking, holding, bound := len(g.talks), g.holdingLocked(), g.addr == "" || g.listener.isBound()
		g.mu.Unlock()
		if isOver && over.IsZero() {
			over = time.Now()
		}
		switch {
		case isOver && (!owed && talking == 0 || time.Since(over) > outcomeTimeout):
			return
		case isOver || holding > 0 || bound:
			alone = time.Time{}
		case alone.IsZero():
			alone = time.Now()
		case time.Since(alone) > holdTimeout:
			g.bindLate()
			alone = time.Time{}
		}
		if !isOver || owed {
			g.look()
		}
		select {
		case <-ticker.C:
		case <-changed:
		case <-g.ctx.Done():
			return
		}
	}
}

// holdingLocked counts the helpers that hold the port. The caller holds mu.
func (g *login) holdingLocked() int {
	n := 0
	for _, t := range g.talks {
		if t.held {
			n++
		}
	}
	return n
}

// awaitHeld waits until a helper holds the port, and reports whether one does. It returns false as
// soon as all that are there have failed.
func (g *login) awaitHeld(ctx context.Context) bool {
	wait := holdTimeout
	if len(g.logins.cfg.Others) > 0 {
		wait = holdElsewhereTimeout
	}
	ctx, cancel := runningTimeout(ctx, wait)
	defer cancel()
	g.look()
	for {
		g.mu.Lock()
		changed, talking, holding := g.changed, len(g.talks), g.holdingLocked()
		g.mu.Unlock()
		if holding > 0 || talking == 0 {
			return holding > 0
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// agree settles host:port of the redirect URI, unless that was done. It reports whether addr is it.
func (g *login) agree(addr string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.addr == "" {
		g.addr = addr
		g.listener.setAddr(addr)
		g.changeLocked()
	}
	return g.addr == addr
}

// bind listens on this machine, as without a helper.
func (g *login) bind(ctx context.Context) error {
	// A helper that answers now must not choose another port.
	select {
	case g.agreeing <- struct{}{}:
		defer func() { <-g.agreeing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g.mu.Lock()
	addr, more := g.addr, []string(nil)
	if addr == "" {
		addr, more = g.want.Addr, g.want.More
	}
	g.mu.Unlock()
	l, err := g.want.Listen(ctx, addr, more)
	if err != nil {
		return err
	}
	if !g.listener.feed(l) {
		return net.ErrClosed
	}
	g.agree(boundAddr(addr, l))
	g.change(func() {}) // Shown.Here may be news
	return nil
}

// bindLate binds the port here, because the last helper has gone. A port that is taken is no
// matter: the helper may come back.
func (g *login) bindLate() {
	if err := g.bind(g.ctx); err != nil {
		g.logins.cfg.Log.Debug("no port for a login without a helper", "err", err)
	}
}

// boundAddr returns addr with the port that was bound.
func boundAddr(addr string, l net.Listener) string {
	host, port, _ := net.SplitHostPort(addr)
	if _, bound, err := net.SplitHostPort(l.Addr().String()); err == nil {
		port = bound
	}
	return net.JoinHostPort(host, port)
}

// offer sets what the helpers show.
func (g *login) offer(p *Prompt) {
	g.change(func() { g.prompt, g.outcome, g.refused = p, nil, false })
}

// withdraw takes the prompt back, unless there is another one already.
func (g *login) withdraw(p *Prompt) {
	g.change(func() {
		if g.prompt == p {
			g.prompt = nil
		}
	})
}

// end marks the login as over. The talks say goodbye. Helpers that the person did not use are told
// if the login was finished all the same: in the browser of this machine, with a code that was
// typed or pasted, or by another process.
func (g *login) end() {
	token := g.logins.token()
	g.change(func() {
		if !g.over && g.outcome == nil && g.delivering == 0 && token != "" && token != g.before {
			g.outcome = &Message{Type: TypeOutcome, OK: true}
		}
		g.over = true
	})
}

// hurry ends what waits for a helper that is not there.
func (g *login) hurry() {
	g.change(func() { g.owed = false })
}

// shown returns what the helpers show, and a channel that is closed at the next change.
func (g *login) shown() (Shown, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Shown{Here: g.listener.isBound(), Trouble: g.trouble, Refused: g.refused, OpenSocket: g.openSocket}
	for _, t := range g.talks {
		if !t.held {
			continue
		}
		s.Holding++
		if t.host != "" && !slices.Contains(s.Hosts, t.host) {
			s.Hosts = append(s.Hosts, t.host)
		}
		if slices.Index(furthest, t.how) > slices.Index(furthest, s.How) {
			s.How = t.how
		}
	}
	slices.Sort(s.Hosts)
	return s, g.changed
}

// furthest orders what a helper can show.
var furthest = []string{"", HowNowhere, HowUnreached, HowWaiting, HowConfirm, HowByHand, HowOpened}

// deliver hands in the query of a callback that came from a helper, and notes the outcome for all
// helpers. It returns what this one is told if the query was none of the login's.
func (g *login) deliver(prompt *Prompt, query string) *Message {
	u, err := url.Parse(prompt.RedirectURI)
	if err != nil {
		return &Message{Type: TypeOutcome, Text: "the redirect URI cannot be read"}
	}
	u.RawQuery = query
	g.change(func() { g.delivering++ })
	err = g.logins.cfg.Deliver(g.ctx, u)
	done := Message{Type: TypeOutcome, OK: err == nil}
	if err != nil {
		done.Text = g.logins.cfg.Explain(err)
	}
	belongs := err == nil || g.logins.cfg.Belongs(err)
	g.change(func() {
		g.delivering--
		if belongs && g.prompt == nil { // otherwise the login has begun again
			g.outcome = &done
		}
	})
	if belongs {
		return nil
	}
	return &done
}

// refuse ends the login as a login server would whose page the person has refused, unless another
// helper still shows it. A link that hides its state cannot be refused so; then the login waits.
func (g *login) refuse(prompt *Prompt, by *talk) {
	g.mu.Lock()
	g.refused = true
	others := 0
	for _, t := range g.talks {
		if t != by && t.held {
			others++
		}
	}
	g.changeLocked()
	g.mu.Unlock()
	if others > 0 || prompt == nil || prompt.State == "" {
		return
	}
	q := url.Values{"error": {"access_denied"}, "error_description": {"refused on the workstation"}, "state": {prompt.State}}
	if prompt.Issuer != "" {
		q.Set("iss", prompt.Issuer)
	}
	g.deliver(prompt, q.Encode())
}

// holdURI returns the redirect URI for a hold. The login's path is not known yet. All addresses of
// a container stand for its loopback, as in the redirect URI of the login.
func holdURI(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return (&url.URL{Scheme: "http", Host: net.JoinHostPort(host, port), Path: "/"}).String()
}

// heldAddr returns addr with the port of the redirect URI that a helper holds.
func heldAddr(addr, uri string) (string, error) {
	host, _, _ := net.SplitHostPort(addr)
	u, err := url.Parse(uri)
	if err != nil || u.Port() == "" || u.Port() == "0" {
		return "", errors.New("the helper holds no port")
	}
	return net.JoinHostPort(host, u.Port()), nil
}

// describe words what a helper could not do. The text is the peer's.
func describe(m Message) string {
	text := m.Text
	if text == "" {
		text = m.Kind
	}
	text = fmt.Sprintf("%.200s", text)
	if m.Kind == KindPortBusy {
		text += "; end that program, and this goes on by itself, or use a port that is free there (--callback-port)"
	}
	return text
}
