package sshtunnel

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/sshtunnel/mux"
)

const (
	// lineLimit is how long an attached client may take for a line when its buffer is full.
	lineLimit = 5 * time.Second
	// leaveLimit is how long a server that drains waits for its clients to leave.
	leaveLimit = 2 * time.Second
	// maxNotices bounds how many notices are repeated to a client that comes later.
	maxNotices = 32
)

// attachment is a client that is attached.
type attachment struct {
	mux.Attach
	conn  *mux.Conn
	since time.Time
	// gone ends when the client has gone.
	gone  context.Context
	leave context.CancelCauseFunc
	// waits is set as long as the client waits for the hops.
	waits atomic.Bool
	// asked is set when a question was put to the client.
	asked atomic.Bool

	mu sync.Mutex
	// answers are for the questions that the client has not answered, by their id. Each has room
	// for its answer.
	answers map[string]chan mux.Answer
}

// send sends a line. A client that does not read is dropped.
func (a *attachment) send(r mux.Reply) {
	a.conn.SetWriteDeadline(time.Now().Add(lineLimit))
	if a.conn.WriteLine(r) != nil {
		a.conn.Close()
	}
}

// read takes the client's lines until it goes.
func (a *attachment) read() {
	for {
		var line mux.Line
		if err := a.conn.ReadLine(&line); err != nil {
			a.leave(errClientGone)
			return
		}
		if line.Ping != 0 {
			a.send(mux.Reply{Pong: line.Ping})
		}
		if line.Answer != nil {
			a.mu.Lock()
			answer := a.answers[line.Answer.ID]
			delete(a.answers, line.Answer.ID)
			a.mu.Unlock()
			if answer != nil {
				answer <- *line.Answer
			}
		}
	}
}

// put puts a question to the client. The error is errClientGone if it goes, or the cause of ctx.
func (a *attachment) put(ctx context.Context, q mux.Question) (mux.Answer, error) {
	a.asked.Store(true)
	answer := make(chan mux.Answer, 1)
	a.mu.Lock()
	a.answers[q.ID] = answer
	a.mu.Unlock()
	a.send(mux.Reply{Question: &q})
	select {
	case given := <-answer:
		return given, nil
	case <-a.gone.Done():
		return mux.Answer{}, errClientGone
	case <-ctx.Done():
	}
	a.mu.Lock()
	delete(a.answers, q.ID)
	a.mu.Unlock()
	a.send(mux.Reply{Withdrawn: &mux.Withdrawn{ID: q.ID}})
	return mux.Answer{}, context.Cause(ctx)
}

// people are the clients that are attached. Its methods may be called concurrently.
type people struct {
	// turn is held while a question is open. It has room for one.
	turn chan struct{}
	// left gets a value when a client leaves. It has room for one.
	left chan struct{}

	mu sync.Mutex
	// list is in the order in which they came.
	list []*attachment
	// notices are those of the attempt that is under way.
	notices []mux.Notice
	// questions counts them, for their ids.
	questions int
	// atTerminal is closed and replaced when a client with a terminal comes.
	atTerminal chan struct{}
}

func (p *people) init() {
	p.turn, p.left, p.atTerminal = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})
}

// await returns when all clients have left, because they know that the server drains, or at stop.
// It does not wait long.
func (p *people) await(stop <-chan struct{}) {
	timer := time.NewTimer(leaveLimit)
	defer timer.Stop()
	for p.attached() {
		select {
		case <-p.left:
		case <-timer.C:
			return
		case <-stop:
			return
		}
	}
}

// enter attaches a client. It returns the notices that the client has missed.
func (p *people) enter(c *mux.Conn, who mux.Attach) (*attachment, []mux.Notice) {
	a := &attachment{Attach: who, conn: c, since: time.Now(), answers: map[string]chan mux.Answer{}}
	a.gone, a.leave = context.WithCancelCause(context.Background())
	a.waits.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, a)
	if who.Terminal && who.Ask {
		close(p.atTerminal)
		p.atTerminal = make(chan struct{})
	}
	return a, slices.Clone(p.notices)
}

func (p *people) leave(a *attachment) {
	a.leave(errClientGone)
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.list, a); i >= 0 {
		p.list = slices.Delete(p.list, i, i+1)
	}
	select {
	case p.left <- struct{}{}:
	default:
	}
}

// some returns the clients for which f is true.
func (p *people) some(f func(*attachment) bool) []*attachment {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []*attachment
	for _, a := range p.list {
		if f(a) {
			found = append(found, a)
		}
	}
	return found
}

func (p *people) attached() bool {
	return len(p.some(func(*attachment) bool { return true })) > 0
}

func (p *people) waiting() bool {
	return len(p.some(func(a *attachment) bool { return a.waits.Load() })) > 0
}

func (p *people) canAsk() bool {
	return len(p.some(func(a *attachment) bool { return a.Ask })) > 0
}

// users describes the clients.
func (p *people) users() (users []mux.User) {
	for _, a := range p.some(func(*attachment) bool { return true }) {
		users = append(users, mux.User{PID: a.PID, Purpose: a.Purpose, Hops: a.Hops, Since: a.since, Waiting: a.waits.Load()})
	}
	return users
}

// next returns the client to put a question to: one with a terminal, or the one that came first. It
// returns nil if none is left that is not in tried.
func (p *people) next(tried map[*attachment]bool) *attachment {
	left := p.some(func(a *attachment) bool { return a.Ask && !tried[a] && a.gone.Err() == nil })
	if i := slices.IndexFunc(left, func(a *attachment) bool { return a.Terminal }); i >= 0 {
		return left[i]
	}
	if len(left) > 0 {
		return left[0]
	}
	return nil
}

// begin forgets what was said in the attempt before.
func (p *people) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notices = nil
}

// tell tells all that wait for the hops, and those that come later in this attempt.
func (p *people) tell(n mux.Notice) {
	p.mu.Lock()
	if p.notices = append(p.notices, n); len(p.notices) > maxNotices {
		p.notices = p.notices[1:]
	}
	all := slices.Clone(p.list)
	p.mu.Unlock()
	for _, a := range all {
		if a.waits.Load() {
			a.send(mux.Reply{Notice: &n})
		}
	}
}

// errAtTerminal is why a question is taken back from a client that has no terminal: a person sits
// at that of another one, and may not see a window of the first.
var errAtTerminal = errors.New("a person at a terminal is asked instead")

// awaitTerminal returns a channel that is closed when a client with a terminal comes.
func (p *people) awaitTerminal() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.atTerminal
}

// ask puts a question to one client at a time until one answers. The error is ErrNoPerson if none
// can.
func (p *people) ask(ctx context.Context, q mux.Question) (mux.Answer, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return mux.Answer{}, context.Cause(ctx)
	}
	for tried := map[*attachment]bool{}; ; {
		better := p.awaitTerminal()
		a := p.next(tried)
		if a == nil {
			return mux.Answer{}, ErrNoPerson
		}
		tried[a] = true
		p.mu.Lock()
		p.questions++
		q.ID = strconv.Itoa(p.questions)
		p.mu.Unlock()
		asking, done := context.WithCancelCause(ctx)
		if !a.Terminal {
			go func() { // ends with the question
				select {
				case <-better:
					done(errAtTerminal)
				case <-asking.Done():
				}
			}()
		}
		answer, err := a.put(asking, q)
		done(nil)
		if ctx.Err() != nil {
			return mux.Answer{}, context.Cause(ctx)
		}
		if errors.Is(err, errAtTerminal) {
			delete(tried, a) // it may be asked again
		}
		if err == nil && !errors.Is(DecodeError(answer.Error, nil), ErrNoPerson) {
			return answer, nil
		}
	}
}

// ask is Config.Ask of the server's tunnel.
func (s *Server) ask(ctx context.Context, q Question) (string, error) {
	answer, err := s.people.ask(ctx, mux.Question{Hop: s.hops.index(q.Hop), Kind: q.Kind, Prompt: q.Prompt, Echo: q.Echo})
	if err != nil {
		return "", err
	}
	return answer.Text, DecodeError(answer.Error, s.hops)
}

// notice is Config.Notice of the server's tunnel.
func (s *Server) notice(n Notice) { s.people.tell(*s.hops.notice(n)) }

// aliases are the hops of a Server, by which messages name them.
type aliases []string

// index returns the index of a hop; nil for none.
func (a aliases) index(alias string) *int {
	if i := slices.Index(a, alias); i >= 0 {
		return &i
	}
	return nil
}

// notice returns a Notice as it travels; nil for none.
func (a aliases) notice(n Notice) *mux.Notice {
	if n == (Notice{}) {
		return nil
	}
	return &mux.Notice{Hop: a.index(n.Hop), Text: n.Text, URL: n.URL}
}

// dismiss tells all clients that have the hops that the server drains.
func (p *people) dismiss(why string) {
	for _, a := range p.some(func(a *attachment) bool { return !a.waits.Load() }) {
		a.send(mux.Reply{Draining: &mux.Draining{Why: why}})
	}
}

// attach serves OpAttach.
func (s *Server) attach(c *mux.Conn, who mux.Attach) {
	a, missed := s.people.enter(c, who)
	defer s.people.leave(a)
	s.tasks.Go(a.read) // ends with the connection
	l, err := s.join(a, missed)
	a.waits.Store(false)
	s.streams.Touch()
	switch {
	case a.gone.Err() != nil:
		return
	case err != nil && !isDone(s.drained):
		s.refuseFor(c, err)
		return
	case err == nil:
		a.send(mux.Reply{Up: &mux.Up{Since: s.tunnel.current.Load().since}})
		if s.roundTrip.Load() == 0 {
			if b := l.last().heartbeat(); b != nil {
				b.ping(&s.tasks) // ends with the answer, or with the link
			}
		}
	}
	var lost <-chan struct{}
	if l != nil {
		lost = l.life.Done()
	}
	select {
	case <-a.gone.Done():
		return
	case <-lost:
		a.send(mux.Reply{Lost: &mux.Lost{Error: EncodeError(context.Cause(l.life), s.hops)}})
		return
	case <-s.drained:
		a.send(mux.Reply{Draining: &mux.Draining{Why: s.why}})
	}
	select { // the client leaves when it has understood
	case <-a.gone.Done():
	case <-s.stopped:
	}
}

// join waits for the hops, and tells the client meanwhile how far the chain is dialed.
func (s *Server) join(a *attachment, missed []mux.Notice) (*link, error) {
	ctx, _, done := s.opening(a.gone)
	defer done()
	var states sync.WaitGroup
	defer states.Wait()
	told, stop := context.WithCancel(ctx)
	defer stop()
	states.Go(func() { s.tellStates(told, a, missed) }) // ends with told
	return s.tunnel.await(ctx, &call{once: true, waits: a.Wait, insist: a.Insist, again: func(err error) bool {
		auth, refused := errors.AsType[*AuthError](err)
		switch {
		case a.Insist && refused && !auth.MetAt.IsZero():
			return true // the attempt did not try, because nobody insisted
		case a.Ask && !a.asked.Load() && phaseOf(err) == NeedsPerson:
			return true // the attempt may have asked before this client came
		}
		return false
	}})
}

// state returns a state as it travels.
func (a aliases) state(p *published) *mux.State {
	return &mux.State{
		Phase: p.Phase, Hop: a.index(p.Hop), Notice: a.notice(p.Notice), Patient: p.patient, Error: EncodeError(p.Err, a),
	}
}

// tellStates sends each state until ctx ends.
func (s *Server) tellStates(ctx context.Context, a *attachment, missed []mux.Notice) {
	for first := true; ; first = false {
		now := s.tunnel.current.Load()
		if ctx.Err() != nil || now.Phase == Up {
			return
		}
		a.send(mux.Reply{State: s.hops.state(now)})
		if first && now.Phase == Dialing {
			for _, n := range missed {
				a.send(mux.Reply{Notice: &n})
			}
		}
		select {
		case <-now.changed:
		case <-ctx.Done():
			return
		}
	}
}
