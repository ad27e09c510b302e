package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sallyport/sshtunnel/netwatch"
	"sallyport/sshtunnel/sshconfig"
)

const (
	// defaultAliveInterval and defaultAliveCount hold for a chain whose user sets neither. A dead
	// link is then found within 45 s.
	defaultAliveInterval = 15 * time.Second
	defaultAliveCount    = 3

	// watchInterval is the time between two looks at the clocks and the local address.
	watchInterval = time.Second
	// knockInterval is the time between two knocks.
	knockInterval = time.Second
	// answerLimit is how long a link that is doubted may take to answer once the network is there.
	// It leaves time for two repetitions of a lost packet, and for a new login, so that the first
	// answer comes within 5 s of the network.
	answerLimit = 1500 * time.Millisecond
	// blindLimit is that of a link that cannot tell a dead peer from a missing network.
	blindLimit = 3 * time.Second
	// attendedLimit is that of a link whose login has needed a person. To give it up by mistake
	// costs the person more than it does to wait.
	attendedLimit = 5 * time.Second
	// strandedLimit is how long a link without its local address waits for a network.
	strandedLimit = 5 * time.Second

	// doubtAfter is how long nothing may come, although something was sent, before the server is
	// asked whether it lives. doubtInterval is the time between two looks from then on.
	doubtAfter, doubtInterval = 700 * time.Millisecond, 250 * time.Millisecond
	// silenceLimit is how long nothing may come from when something was sent. echoLimit is how long
	// the answer to a question may take that has arrived at the server. Together with the interval
	// of watch they make up less than 5 s.
	silenceLimit, echoLimit = 4 * time.Second, 2250 * time.Millisecond
	// maxDoubt is how long a link is looked at so often. Then only keepalive is left.
	maxDoubt = 15 * time.Second
	// busyFlow is how many bytes within a second or two may keep an answer waiting.
	busyFlow = 64 << 10
)

// heartbeat asks the server of one hop for signs of life. Any byte that arrives is a sign of life.
type heartbeat struct {
	// conn counts the bytes that arrive.
	conn *netwatch.Conn
	// request asks the server for an answer. It returns when the answer has come, or an error when
	// the connection has ended.
	request func() error
	// nudge sends the server something that wants no answer. It may be nil.
	nudge func() error
	// answered is told how long an answer took. It may be nil.
	answered func(time.Duration)
	// heldBy returns the address of a connection that the server may be opening since then, before
	// it does anything else; "" for none. It may be nil.
	heldBy func(since time.Time) string
	// answers says that the server is known to answer requests before it has done so.
	answers bool

	// heard is set when the server has answered a request.
	heard atomic.Bool
	// took is how long the latest answer took, and best how long the fastest one did, in
	// nanoseconds. They are 0 before the first answer.
	took, best atomic.Int64
	// mute is set when the server is taken for one that answers no requests.
	mute atomic.Bool

	mu sync.Mutex
	// pending is closed when the latest request is answered. It is nil before the first one.
	pending chan struct{}
	// pendingSince is when that was made.
	pendingSince time.Time
	// nudging is closed when the latest nudge is sent. It is nil before the first one.
	nudging chan struct{}
}

// ping requests an answer, unless an earlier request is not answered yet: requests to a dead server
// must not pile up. The returned channel is closed at the answer, or when the connection ends. ping
// may start a goroutine in tasks, which ends at the same time.
func (b *heartbeat) ping(tasks *sync.WaitGroup) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending == nil || isDone(b.pending) {
		done := make(chan struct{})
		b.pending, b.pendingSince = done, time.Now()
		tasks.Go(func() { // ends with the answer, or with the connection
			defer close(done)
			sent := time.Now()
			b.conn.Question()
			if err := b.request(); err != nil {
				return
			}
			b.heard.Store(true)
			b.mute.Store(false)
			took := time.Since(sent)
			b.took.Store(int64(took))
			if best := b.best.Load(); best == 0 || int64(took) < best {
				b.best.Store(int64(took)) // there is one request at a time
			}
			if b.answered != nil {
				b.answered(took)
			}
		})
	}
	return b.pending
}

// unanswered returns for how long the latest request has waited for its answer.
func (b *heartbeat) unanswered() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending == nil || isDone(b.pending) {
		return 0
	}
	return time.Since(b.pendingSince)
}

// push sends a nudge, unless an earlier one is not sent yet. It may start a goroutine in tasks,
// which ends when the nudge is sent or the connection has ended.
func (b *heartbeat) push(tasks *sync.WaitGroup) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.nudge == nil || b.nudging != nil && !isDone(b.nudging) {
		return
	}
	done := make(chan struct{})
	b.nudging = done
	tasks.Go(func() { // ends when the nudge is sent, or with the connection
		defer close(done)
		b.conn.Question()
		b.nudge()
	})
}

// localIP returns the address that the connection leaves the machine by. It is nil if the
// connection is not TCP or does not leave the machine.
func (b *heartbeat) localIP() net.IP {
	local, ok := b.conn.LocalAddr().(*net.TCPAddr)
	if !ok || local.IP.IsLoopback() {
		return nil
	}
	return local.IP
}

// alive says how a hop is watched. After each silent interval it is asked for a sign of life, and
// after count silent intervals it is given up. These are ServerAliveInterval and
// ServerAliveCountMax of ssh_config(5). An interval of 0 turns this off.
type alive struct {
	interval time.Duration
	count    int
	// ours says that the user has set nothing.
	ours bool
}

// aliveOf returns how each hop of a chain is watched. A request to an inner hop passes all hops
// before it, so if the user sets nothing, only the last hop is asked, each interval unset.
func aliveOf(chain []*sshconfig.Host, unset time.Duration) []alive {
	all := make([]alive, len(chain))
	watched := false // this hop or a later one is asked
	for i := len(chain) - 1; i >= 0; i-- {
		switch h := chain[i]; {
		case h.ServerAliveSet && h.ServerAliveInterval > 0:
			all[i] = alive{h.ServerAliveInterval, max(1, h.ServerAliveCountMax), false}
		case !h.ServerAliveSet && !watched:
			all[i] = alive{unset, defaultAliveCount, true}
		}
		watched = watched || all[i].interval > 0
	}
	return all
}

// keepalive ends the link when nothing has arrived from hop i for interval x count. It returns when
// the link ends.
//
// Some servers answer no global request, against RFC 4254 section 4. ssh can use them, because its
// keepalive is off unless the user sets it. So if the user has set nothing, a server that has never
// answered is not given up, as long as TCP confirms what we send. See muteServer.
func (l *link) keepalive(i int, a alive) {
	b := l.hops[i].heartbeat()
	limit, interval := a.interval*time.Duration(a.count), a.interval
	if a.count == 1 {
		interval /= 2 // ask once before giving up
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	unconfirmed := 0 // looks in a row at which TCP had not confirmed what a mute server was sent
	for received, since := b.conn.Received.Load(), time.Now(); ; {
		select {
		case <-timer.C:
		case <-l.life.Done():
			return
		}
		if now := b.conn.Received.Load(); now != received {
			received, since = now, b.conn.Last()
		}
		silent := time.Since(since)
		switch {
		case silent < limit:
		case a.ours && !b.heard.Load() && l.muteServer(i, a):
			unconfirmed = 0
		case b.mute.Load() && unconfirmed+1 < a.count:
			unconfirmed++
		default:
			l.fail(l.hops[i].place().error(StageLink, &SilentError{After: silent.Round(time.Millisecond)}))
			return
		}
		timer.Reset(interval - silent%interval) // look again when one more interval of silence is over
		if silent >= interval {
			b.ping(&l.tasks)
		}
	}
}

// muteServer reports whether hop i, which has never answered a request, may live all the same. The
// first time it says so, the hop before is asked for signs of life in its place. The nudge of each
// call gives TCP something to confirm until the next call.
func (l *link) muteServer(i int, a alive) bool {
	b := l.hops[i].heartbeat()
	if b.conn.Delivered().Unconfirmed > 0 {
		return false
	}
	if !b.mute.Swap(true) && i > 0 {
		if before := l.hops[i-1].heartbeat(); before != nil {
			l.tasks.Go(func() { l.keepalive(i-1, a) }) // ends with the link
		}
	}
	b.push(&l.tasks)
	return true
}

// watch probes the link at once when the machine has slept, or has lost the address that the
// outermost connection leaves by. If doubts is set, it also asks a server that owes an answer. It
// returns when the link ends.
func (l *link) watch(m netwatch.Machine, doubts bool) {
	local := l.localIP()
	if local != nil && !m.Has(local) {
		local = nil // the system does not list it, so its absence means nothing
	}
	stranded := func() bool { return local != nil && !m.Has(local) }
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	b, doubted := l.last().heartbeat(), int64(-1) // what had been received when the link was doubted
	for clocks := m.Clocks(); ; {
		select {
		case <-ticker.C:
		case <-l.life.Done():
			return
		}
		switch slept := clocks.Slept(); {
		case slept > 0:
			l.probe(fmt.Sprintf("after a sleep of %v", slept.Round(time.Second)), stranded)
		case stranded():
			l.probe(fmt.Sprintf("after the local address %v was lost", local), stranded)
		case doubts && b.owes() >= doubtAfter && b.conn.Received.Load() != doubted:
			doubted = b.conn.Received.Load()
			l.doubt(stranded)
		}
	}
}

// owes returns for how long the server has owed a sign of life.
func (b *heartbeat) owes() time.Duration {
	if since := b.conn.Asked(); !since.IsZero() {
		return time.Since(since)
	}
	return 0
}

// doubt asks the last hop whether it lives, because something was sent and nothing came. It ends
// the link unless something arrives soon. To be silent is not enough for that: a slow network still
// confirms to TCP what arrives, bit by bit, and the answer comes behind all that is on its way.
//
// If the login has needed a person, the link is not ended while the network is away: a new login
// would ask the person again.
func (l *link) doubt(stranded func() bool) {
	b := l.last().heartbeat()
	outer := b.conn
	if first := l.hops[0].heartbeat(); first != nil {
		outer = first.conn
	}
	received := b.conn.Received.Load()
	limit := max(silenceLimit, 4*time.Duration(b.best.Load()))
	b.ping(&l.tasks)
	ticker := time.NewTicker(doubtInterval)
	defer ticker.Stop()
	question, arrived := int64(0), time.Duration(0)
	// The time is counted in looks, too: after a pause of this process there is first much to read.
	for looked := time.Duration(0); looked < maxDoubt; looked += doubtInterval {
		select {
		case <-ticker.C:
		case <-l.life.Done():
			return
		}
		if b.conn.Received.Load() != received || stranded() {
			return
		}
		if looked == 0 {
			question = outer.Written.Load() // it is sent by now, or waits behind a full buffer
			continue
		}
		sent := outer.Delivered()
		delivered := !sent.Known || sent.Bytes >= question
		if delivered {
			arrived += doubtInterval
		}
		lost := !delivered && sent.Since >= limit-2*doubtInterval
		mute := arrived >= max(echoLimit, 2*time.Duration(b.best.Load())) && b.mustAnswer() && outer.Flow.Recent() < busyFlow
		switch silence := b.owes(); {
		case silence < limit || !lost && !mute:
		case l.attended:
			l.probe(fmt.Sprintf("after a silence of %v", silence.Round(time.Second)), stranded)
			return
		default:
			l.fail(l.last().place().error(StageLink, &SilentError{After: silence.Round(time.Millisecond)}))
			return
		}
	}
}

// mustAnswer reports whether the server would answer a question now if it could.
func (b *heartbeat) mustAnswer() bool {
	return b.answersAtAll() && b.held() == ""
}

// answersAtAll reports whether the server is known to answer requests.
func (b *heartbeat) answersAtAll() bool { return (b.heard.Load() || b.answers) && !b.mute.Load() }

// held returns the address of the connection that the server may owe an answer for the sake of; ""
// for none.
func (b *heartbeat) held() string {
	if asked := b.conn.Asked(); b.heldBy != nil && !asked.IsZero() {
		return b.heldBy(asked)
	}
	return ""
}

// probe ends the link unless something arrives from its last hop soon after the network is there.
//
// A machine that wakes may be without a network for a while, and the link may live all the same. So
// probe first knocks at the first server, and asks the link itself only when that is reached. A
// question that was sent before would be lost, and TCP would repeat it after ever longer pauses.
// Nothing of this dials anew, because a login beside a link that lives could ask a person.
func (l *link) probe(why string, stranded func() bool) {
	b := l.last().heartbeat()
	received := b.conn.Received.Load()
	silent := func() bool { return b.conn.Received.Load() == received }
	if !l.awaitNetwork(silent, stranded) {
		return
	}
	limit := l.answerLimit()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-b.ping(&l.tasks):
	case <-timer.C:
		if silent() && !b.mute.Load() {
			l.fail(l.last().place().error(StageLink, &SilentError{After: limit, Why: why}))
		}
	case <-l.life.Done():
	}
}

// answerLimit returns how long the link may take to answer.
func (l *link) answerLimit() time.Duration {
	limit := answerLimit
	switch {
	case l.attended:
		limit = attendedLimit
	case l.doorstep() == "":
		limit = blindLimit
	}
	return max(limit, 4*time.Duration(l.last().heartbeat().best.Load()))
}

// doorstep returns the address that the first hop was reached at. It is empty if the link does not
// begin with a TCP connection of ours.
func (l *link) doorstep() string {
	first := l.hops[0]
	if first.heartbeat() == nil || first.place().addr == "" {
		return ""
	}
	if tcp, ok := first.heartbeat().conn.Raw.(*net.TCPConn); ok {
		return tcp.RemoteAddr().String()
	}
	return ""
}

// awaitNetwork returns when the server of the first hop is reached by a new TCP connection, or when
// the link has been stranded for strandedLimit. It returns false if there is nothing to wait for
// any more: the link was heard or has ended. Without a doorstep it returns at once.
func (l *link) awaitNetwork(silent, stranded func() bool) bool {
	address := l.doorstep()
	if address == "" {
		return true
	}
	since := time.Now() // of being stranded
	for {
		next := time.NewTimer(knockInterval)
		reached := l.knock(address)
		if !stranded() {
			since = time.Now()
		}
		switch {
		case l.life.Err() != nil || !silent():
			next.Stop()
			return false
		case reached || time.Since(since) >= strandedLimit:
			next.Stop()
			return true
		}
		select {
		case <-next.C:
		case <-l.life.Done():
			next.Stop()
		}
	}
}

// knock reports whether the host of an address answers. A refusal is an answer.
func (l *link) knock(address string) bool {
	ctx, cancel := context.WithTimeout(l.life, max(knockInterval, 2*time.Duration(l.last().heartbeat().best.Load())))
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	return err == nil || errors.Is(err, syscall.ECONNREFUSED)
}

// start is the base of monotonic times.
var start = time.Now()
