package callback

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

// Limits of logins. HOST may be hostile.
const (
	// maxLogins is how many logins there may be at once, and maxLoginsOfHost how many of one HOST.
	maxLogins, maxLoginsOfHost = 256, 64
	// minID is the fewest characters of the name of a login.
	minID = 22
	// holdTime is how long a login may take from its port to its login page: it may have to find
	// its login server and to register there.
	holdTime = 5 * time.Minute
	// keepPage is how long the page of a login that is over can still be looked at.
	keepPage = 2 * time.Minute
	// maxRestarts is how many times one login may begin again with another login page.
	maxRestarts = 5
)

// Config describes a Desk. The functions may be called concurrently.
type Config struct {
	// Open starts the person's browser at a link of ours. The context is that of the desk.
	Open func(ctx context.Context, link string) error
	// Far opens a login page in a window of ours if only HOST reaches it. It returns when the
	// window is up, which lasts until ctx ends. If it is nil, every login page is opened as any
	// other.
	Far func(ctx context.Context, p FarPage) FarResult
	// Notify tells the person that a page of HOST has opened, besides the page. If it is nil, only
	// the page does.
	Notify func(host string)
	// Say tells the person something on the terminal.
	Say func(format string, args ...any)
	// Trust remembers what the person agreed to.
	Trust Trust
	// Kept keeps the callbacks that HOST may not have got.
	Kept Kept
	// TrustHosts are the HOSTs, as the person typed them, that are not asked for.
	TrustHosts []string
	// SocketDirs are the directories of helper sockets, where the desk makes its own and finds
	// those of other helpers of this machine. If there are none, it does neither.
	SocketDirs []string
	// Log must not be nil.
	Log *slog.Logger

	// askTime replaces the constant in tests.
	askTime time.Duration
}

// Origin says where a connection comes from.
type Origin struct {
	// Host is HOST as the person typed it. It is empty for a connection of this machine.
	Host string
	// Local says that a process of this user on this machine has connected. Such a process may say
	// that it hands on the login of a HOST. If it does not, the login is one of this machine.
	Local bool
	// Dial makes a connection through HOST. It is nil if there is none.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Since says since when connections come from HOST. It is zero while HOST is away. It is nil if
	// that is not known.
	Since func() time.Time
}

// Desk lends this machine's browser and loopback ports to logins on other machines. Its methods may
// be called concurrently.
type Desk struct {
	cfg     Config
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	ports   portTable
	pages   *pageServer

	// mu guards what follows, and the logins.
	mu sync.Mutex
	// carried answers, by the port, requests that belong to no login, and carrying are those ports.
	carried  map[int]http.Handler
	carrying []*port
	// logins are those that last, by their name.
	logins map[string]*login
	// shown are the logins by the names of their pages, those that are over too.
	shown map[string]*login
	// brakes bound the pages of each HOST, and opened those of all.
	brakes map[string]*brake
	opened times
	// socket is the path of our own helper socket. It is empty without one.
	socket string
	// joining are the names of the logins that are being handed to another helper.
	joining map[string]bool
}

// New returns a desk, which serves our pages from now on. The caller must Close it.
func New(cfg Config) (*Desk, error) {
	d := &Desk{
		cfg: cfg, carried: map[int]http.Handler{}, logins: map[string]*login{}, shown: map[string]*login{},
		brakes: map[string]*brake{}, joining: map[string]bool{},
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.ports = portTable{handler: func(number int) http.Handler { return front{d, number} }, ports: map[int]*port{}}
	var err error
	if d.pages, err = servePages(d); err != nil {
		d.cancel()
		return nil, fmt.Errorf("no port for our own pages: %w", err)
	}
	return d, nil
}

// Close ends all logins and connections, and frees the ports. It waits until nothing runs any more.
func (d *Desk) Close() error {
	d.mu.Lock()
	d.cancel()
	for _, l := range d.logins {
		l.stopLocked()
	}
	for _, p := range d.carrying {
		d.ports.release(p)
	}
	d.carrying = nil
	d.mu.Unlock()
	d.pages.close()
	d.running.Wait()
	d.ports.closing.Wait()
	return nil
}

// Serve serves one connection of the protocol of package helper, until it ends, ctx ends or the
// desk is closed. It closes the connection. The error says why the login came to nothing here, and
// is nil if the connection just ended.
func (d *Desk) Serve(ctx context.Context, conn net.Conn, from Origin) error {
	if !d.enter() {
		conn.Close()
		return net.ErrClosed
	}
	defer d.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	c := startConversation(ctx, conn)
	defer c.end()
	c.conn.SetDeadline(time.Now().Add(greetTimeout))
	if err := c.conn.Greet(); err != nil {
		return err
	}
	m, err := c.conn.Receive()
	if err != nil {
		return err
	}
	c.conn.SetDeadline(time.Time{})
	if m.Type != helper.TypeHold || len(m.Login) < minID {
		return c.refuse(helper.KindInvalid, errors.New("a login begins with hold, and has a long name"))
	}
	src := d.sourceOf(m, from)
	if m.Dials && !src.local { // one of this machine opens such pages itself
		c.dials = helper.NewDialer(c.conn)
	}
	l, err := d.hold(ctx, c, m, src)
	if busy, ok := errors.AsType[*PortError](err); ok {
		if d.join(ctx, c, m, src) {
			return nil
		}
		l, err = d.holdAnother(ctx, c, m, src, busy)
	}
	if err != nil {
		return err
	}
	defer d.detach(l, c)
	return d.converse(l, c)
}

// enter counts a connection, unless the desk is closed.
func (d *Desk) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return false
	}
	d.running.Add(1)
	return true
}

// converse takes the messages of a login until its connection ends.
func (d *Desk) converse(l *login, c *conversation) error {
	for {
		m, err := c.conn.Receive()
		if err != nil {
			return nil // whatever it was, the login may come again
		}
		switch m.Type {
		case helper.TypeLogin:
			d.take(l, c, m)
		case helper.TypeBytes:
			if c.dials != nil {
				c.dials.Take(m.Bytes)
			}
		case helper.TypeOutcome:
			d.conclude(l, c, m)
		case helper.TypeEnd:
			d.finish(l, c)
			return nil
		}
	}
}

// source is where a login comes from.
type source struct {
	// host is HOST as the person typed it. It is empty for this machine.
	host string
	// local says that the login is one of this machine.
	local bool
	// trusted says that the person has typed --trust for HOST.
	trusted bool
	// dial makes a connection through HOST. It may be nil.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// since says since when HOST is there. It may be nil.
	since func() time.Time
}

// name returns the name of HOST for people.
func (s source) name() string {
	if s.local {
		return "this machine"
	}
	return cmp.Or(s.host, "another machine")
}

// sourceOf returns where a login comes from. Only a process of this machine is believed if it says
// that the login is another's.
func (d *Desk) sourceOf(m helper.Message, from Origin) source {
	s := source{host: from.Host, dial: from.Dial, since: from.Since}
	if from.Local {
		s.host, s.trusted = shown(m.From), m.Trusted && m.From != ""
	}
	if s.local = from.Local && s.host == ""; s.local {
		s.since = alwaysThere
	}
	for _, host := range d.cfg.TrustHosts {
		s.trusted = s.trusted || host == s.host && host != ""
	}
	return s
}

// hold holds the port of a login, and answers with "held". A login that has the port already goes
// on where it was. The error is a *PortError, of which the login was not told, or another one, of
// which it was.
func (d *Desk) hold(ctx context.Context, c *conversation, m helper.Message, from source) (*login, error) {
	redirect, err := checkRedirect(m.RedirectURI)
	if err != nil {
		return nil, c.refuse(helper.KindInvalid, err)
	}
	if l, err := d.resume(c, m, from); l != nil || err != nil {
		return l, err
	}
	w := wantedBy(redirect, m.Fixed)
	if probes(d, from, w.number) {
		return nil, c.refuse(helper.KindTooMany, errors.New("this host has asked for too many ports that are taken on the workstation"))
	}
	p, err := d.ports.hold(ctx, w)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		d.ports.release(p)
		return nil, net.ErrClosed
	}
	if l := d.logins[m.Login]; l != nil { // it came over another connection at the same time
		d.ports.release(p)
		l.joinLocked(c, from)
		return l, nil
	}
	c.proven, redirect.Host = true, hostPort(redirect.Hostname(), p.number)
	l := &login{desk: d, id: m.Login, from: from, upstream: shown(m.Upstream), redirect: redirect, port: p,
		conversations: map[*conversation]bool{c: true}, changed: make(chan struct{})}
	l.expireAtLocked(time.Now().Add(holdTime))
	d.logins[l.id] = l
	c.post(l.heldLocked())
	return l, nil
}

// probes reports whether a HOST tries out which ports of this machine are taken.
func probes(d *Desk, from source, number int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !from.local && number != 0 && d.brakeLocked(from.host).probes(number, time.Now())
}

// noteBusy notes that a HOST has found a port taken, and reports whether that is new.
func (d *Desk) noteBusy(from source, redirect *url.URL) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.brakeLocked(from.host)
	if b.busy == nil {
		b.busy = map[int]time.Time{}
	}
	number := wantedBy(redirect, true).number
	before := b.busy[number]
	b.busy[number] = time.Now()
	return before.IsZero()
}

// busyWords tells HOST that a port cannot be had here.
func busyWords(busy *PortError) error {
	if errors.Is(busy, fs.ErrPermission) {
		return fmt.Errorf("a helper may not listen on %s: a port below 1024 takes rights that it does not have", busy.Addr)
	}
	return fmt.Errorf("another program of the workstation holds %s", busy.Addr)
}

// holdAnother holds another port than the one that is busy, if the login allows that.
func (d *Desk) holdAnother(ctx context.Context, c *conversation, m helper.Message, from source, busy *PortError) (*login, error) {
	u, err := checkRedirect(m.RedirectURI)
	if err != nil {
		return nil, c.refuse(helper.KindInvalid, err)
	}
	if d.noteBusy(from, u) { // a login asks again and again
		next := "end that program, and the login goes on by itself, or give it another port there (--callback-port)"
		if m.More || !m.Fixed {
			next = "another port is tried"
		}
		d.tell(from.host, "%s wants to sign in to %s: %v; %s", from.name(), shown(m.Upstream), busy, next)
	}
	if m.Fixed {
		// HOST learns nothing of what runs here.
		c.refuse(helper.KindPortBusy, busyWords(busy))
		return nil, busy
	}
	u.Host = hostPort(u.Hostname(), 0)
	m.RedirectURI = u.String()
	l, err := d.hold(ctx, c, m, from)
	if _, ok := errors.AsType[*PortError](err); ok {
		return nil, c.refuse(helper.KindPortBusy, errors.New("no port of the workstation is free on both of its loopback addresses"))
	}
	return l, err
}

// resume adds a connection to the login that has its name, if there is one, and checks that there
// is room for another login if there is none.
func (d *Desk) resume(c *conversation, m helper.Message, from source) (*login, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.logins[m.Login]; l != nil {
		l.joinLocked(c, from)
		return l, nil
	}
	ofHost := 0
	for _, l := range d.logins {
		if l.from.host == from.host {
			ofHost++
		}
	}
	if len(d.logins) >= maxLogins || ofHost >= maxLoginsOfHost {
		return nil, c.refuse(helper.KindTooMany, errors.New("too many logins wait on the workstation"))
	}
	return nil, nil
}

// joinLocked adds a connection to a login, and answers with "held". The name of the login is a
// secret. Yet another HOST must know the state, too.
func (l *login) joinLocked(c *conversation, from source) {
	c.proven = l.from.host == from.host
	l.conversations[c] = true
	c.post(l.heldLocked())
	l.wakeLocked()
}

// take takes a login page, the first one of a login or another.
func (d *Desk) take(l *login, c *conversation, m helper.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.phase.over() {
		return
	}
	r, err := checkLogin(m, l.redirect, time.Now())
	if err == nil && d.stateTakenLocked(l, r.state) {
		err = errors.New("another login has the same state")
	}
	if err == nil && !c.proven && r.state != l.state {
		err = errors.New("another login has the same name")
	}
	if err != nil {
		c.refuse(helper.KindInvalid, err)
		if c.proven {
			d.running.Go(func() { d.tell(l.from.host, "a login of %s is not shown: %v", l.from.name(), err) }) // ends with the line
			l.overLocked(refused)
		}
		return
	}
	c.proven = true
	// A page elsewhere is not the one that the person reads about, or has agreed to.
	first, again := l.phase == held, l.state != "" && (l.state != r.state || !l.asks(r))
	l.page.visited = l.page.visited && l.link == r.link
	l.request, l.page.relinked = r, false
	l.expireAtLocked(r.expires)
	l.wakeLocked()
	if l.page.heir != nil { // it was taken for one that had ended
		l.page.heir = nil
		if l.phase == asking || l.phase == opened {
			first = true
		}
	}
	switch {
	case first && restoreLocked(l):
	case first:
		l.admitLocked()
	case again:
		againLocked(l)
	default: // a connection that was lost is back, or a link that has expired is replaced
		c.post(helper.Message{Type: helper.TypeShown, How: l.how})
		if l.query != "" && l.phase == returned {
			c.post(helper.Message{Type: helper.TypeCallback, Query: l.query})
		}
	}
}

// conclude takes the outcome of the code exchange.
func (d *Desk) conclude(l *login, c *conversation, m helper.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !c.proven || l.phase.over() {
		return
	}
	if l.phase == held { // the callback came to a process before this one
		adoptLocked(l)
	}
	l.outcome = &m
	l.phase = finished
	unkeepLocked(l)
	l.wakeLocked()
}

// finish takes the end of a login.
func (d *Desk) finish(l *login, c *conversation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !c.proven || l.phase.over() {
		return
	}
	end := ended
	if l.phase == finished {
		end = concluded
		c.post(helper.Message{Type: helper.TypeEnd}) // the person is told
	}
	l.overLocked(end)
}

// detach takes a connection that has ended off its login, which goes on.
func (d *Desk) detach(l *login, c *conversation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(l.conversations, c)
	switch {
	case !l.awayLocked():
	case l.phase == finished:
		l.overLocked(concluded)
	default:
		d.leaveLocked(l)
	}
	l.wakeLocked()
}

// tell tells the person something about HOST, unless there was too much of that already. It is
// called without the lock.
func (d *Desk) tell(host, format string, args ...any) {
	d.mu.Lock()
	b, now := d.brakeLocked(host), time.Now()
	silent := b.told.within(pagesTime, now) >= maxTold
	if !silent {
		b.told = append(b.told, now)
	}
	d.mu.Unlock()
	if !silent {
		d.cfg.Say(format, args...)
	}
}

// newName returns a name that nobody can guess.
func newName() string { return rand.Text() }
