package sshtunnel

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"time"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/refusals"
)

// Notice is what a server, an agent or a ProxyCommand says while a hop is dialed. The person should
// read it, because the login may wait for something that the person has to do elsewhere.
type Notice struct {
	// Hop is the alias of the hop that is being dialed.
	Hop string
	// Text is printable. It may have several lines, and has at most 2 KiB.
	Text string
	// URL is the first http or https link in Text. It is empty if there is none.
	URL string
}

const (
	// maxNotice bounds the text of a Notice, in bytes. The bytes of all that one hop says are
	// bounded as well: what comes after maxSaid is dropped.
	maxNotice = 2 << 10
	maxSaid   = 16 << 10
	// maxPatience is how long a login may wait for a person, who has to open a link, confirm a
	// push or touch a key. sshd gives up after LoginGraceTime, which is 2 min by default.
	maxPatience = 10 * time.Minute
	// askedSilently is how long a question may be open before the state shows it. Nobody is there
	// for most, and they are answered at once.
	askedSilently = time.Second
	// signingAlone and loginAlone are how long a signature and a login may take, from its first
	// signature on, if no person has a hand in it. An agent does not tell whether it asks.
	signingAlone, loginAlone = 500 * time.Millisecond, 3 * time.Second
)

// link finds links. It leaves out the punctuation behind one.
var linkPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`https?://[^\s<>"'` + "`" + `]*[^\s<>"'` + "`" + `.,;:!?)\]}]`)
})

// newNotice makes a Notice of a peer's text.
func newNotice(hop, text string) Notice {
	text = strings.TrimSpace(display.Printable(strings.ToValidUTF8(text, "?")))
	if len(text) > maxNotice {
		text = strings.ToValidUTF8(text[:maxNotice-3], "") + "..."
	}
	return Notice{Hop: hop, Text: text, URL: linkPattern().FindString(text)}
}

// progress is how far an attempt has come.
type progress struct {
	// hop is the alias of the hop that is being dialed.
	hop string
	// notice is all that was said at this hop. It is zero if nothing was.
	notice Notice
	// patient says that a person may be at work on this login. The attempt then goes on even if
	// nobody waits for the tunnel any more: to dial anew would ask the person again.
	patient bool
	// failed is why the process that shares the connection could not dial. It will dial again while
	// we wait. It is nil if that dials now, or if we dial by ourselves.
	failed error
}

// patience stops the clock of ConnectTimeout for one login, because a person may be at work on it,
// and keeps what the person should read. Its methods may be called concurrently.
type patience struct {
	// clock is that of ConnectTimeout.
	clock *clock
	// limit is maxPatience but for tests, and expire is called when it has run out.
	limit  time.Duration
	expire func()
	// report is told of each change. show gets each new Notice, and say tells other processes of
	// it. None is nil.
	report func(progress)
	show   func(Notice)
	say    func(text string)
	// needed notes that the login cannot go on without a person.
	needed func()

	mu  sync.Mutex // guards what follows
	now progress
	// since is when a person was first waited for.
	since time.Time
	// said counts the bytes that were kept.
	said int
	// person is set when a person had a hand in the login, or seems to have had.
	person bool
	// timer ends the login. It is nil until waitForPerson.
	timer   *time.Timer
	stopped bool
}

// tell shows a text to the person, and lets the login take as long as a person may need.
func (p *patience) tell(text string) {
	p.mu.Lock()
	text = text[:min(len(text), maxSaid-p.said)]
	p.said += len(text)
	n := newNotice(p.now.hop, text)
	if n.Text == "" || p.stopped {
		p.mu.Unlock()
		return
	}
	all := newNotice(n.Hop, p.now.notice.Text+"\n"+n.Text)
	if n.URL != "" {
		all.URL = n.URL // the latest link counts
	}
	p.now.notice = all
	p.mu.Unlock()
	p.say(all.Text)
	p.show(n)
	p.waitForPerson()
}

// waitForPerson lets the login take as long as a person may need.
func (p *patience) waitForPerson() {
	p.mu.Lock()
	if !p.stopped && p.timer == nil {
		p.clock.pause() // it stands still until the login has ended
		p.timer = time.AfterFunc(p.limit, p.expire)
	}
	p.beginPatienceLocked()
	now := p.now
	p.mu.Unlock()
	p.report(now)
}

// inVain reports whether a failed login has waited for a person who did nothing.
func (p *patience) inVain() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now.patient && time.Since(p.since) >= personPause
}

// hold stops the clock of ConnectTimeout until resume is called, while a key signs that a person
// may have to touch or to confirm.
func (p *patience) hold() (resume func()) {
	goOn := p.clock.pause()
	timer := time.AfterFunc(p.limit, p.expire)
	p.mu.Lock()
	p.beginPatienceLocked()
	now := p.now
	p.mu.Unlock()
	p.report(now)
	return func() {
		timer.Stop()
		goOn()
	}
}

// ask stops the clock of ConnectTimeout until over is called, while a question is put to the
// person. If the answer does not come soon, the state shows the question: the one that waits may
// not see where it was asked.
func (p *patience) ask(question string) (over func()) {
	goOn := p.clock.pause()
	timer := time.AfterFunc(askedSilently, func() {
		p.mu.Lock()
		p.beginPatienceLocked()
		shown := p.now
		shown.notice = newNotice(p.now.hop, p.now.notice.Text+"\n"+question)
		p.mu.Unlock()
		p.say(shown.notice.Text)
		p.report(shown)
	})
	return func() {
		if !timer.Stop() {
			p.mu.Lock()
			now := p.now
			p.mu.Unlock()
			p.report(now)
		}
		goOn()
	}
}

// beginPatienceLocked notes that a person is waited for.
func (p *patience) beginPatienceLocked() {
	if !p.now.patient {
		p.now.patient, p.since = true, time.Now()
	}
}

// tookPart notes that a person has a hand in the login.
func (p *patience) tookPart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.person = true
}

// signing is called before a signature and returns what is to be called after it. A signature that
// takes long may be one that the person confirms.
func (p *patience) signing() (over func()) {
	began := time.Now()
	return func() {
		if time.Since(began) > signingAlone {
			p.tookPart()
		}
	}
}

// attended reports whether a person has had a hand in the login that has just ended, or it took as
// long as if one had.
func (p *patience) attended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.person || p.now.patient && time.Since(p.since) > loginAlone
}

// text returns all that was said.
func (p *patience) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now.notice.Text
}

// end is called when the login has ended.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.clock.stop()
	if p.timer != nil {
		p.timer.Stop()
	}
}

// newPatience returns that of d, without its clock. Other processes that wait for try are told what
// is said. cancel ends the login.
func newPatience(d *dialer, try *refusals.Try, cancel context.CancelCauseFunc) *patience {
	return &patience{
		limit:  d.cfg.patience,
		expire: func() { cancel(&TimeoutError{After: d.cfg.patience.String(), Person: true}) },
		report: d.report,
		show:   d.cfg.Notice,
		say:    try.Say,
		needed: try.NeedsPerson,
		now:    progress{hop: d.host.Alias},
	}
}
