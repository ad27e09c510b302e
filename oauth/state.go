package oauth

import (
	"context"
	"sync"
	"time"
)

// Prompt is what a person needs for a login. It is a value that can be compared.
type Prompt struct {
	// AuthorizeURL is where the person logs in.
	AuthorizeURL string
	// LinkExpires is when AuthorizeURL ends, if the server ends it before Expires. StartURL and
	// BrowserURL then lead to a new one. It is zero if AuthorizeURL lasts as long as the login.
	LinkExpires time.Time
	// StartURL is one of our pages, which leads to AuthorizeURL. It holds no secret, so it may
	// stand in logs and messages. It is empty if there is no such page.
	StartURL string
	// BrowserURL is like StartURL, but works once. It is for the arguments of a browser command,
	// which everybody on the machine can read. It is empty if there is no such page.
	BrowserURL string
	// RedirectURI is where the browser comes back to. It is empty in the device grant.
	RedirectURI string
	// State is the state parameter of the callback (RFC 6749 section 4.1.1). It is a secret of the
	// login, and AuthorizeURL usually holds it as well. It is empty in the device grant.
	State string
	// Issuer is the authorization server. It is empty for endpoints that the Config gives.
	Issuer string
	// UserCode is what the person types in at VerificationURI, on any machine (RFC 8628). Both are
	// empty if there is no such code. In the device grant AuthorizeURL holds the code already, if
	// the server offers such a URL. In the authorization code grant the code is another way beside
	// AuthorizeURL: see HasOtherWay.
	UserCode, VerificationURI string
	// Elsewhere says that another process of this user shows the prompt and has opened a browser.
	Elsewhere bool
	// Expires is when the login ends without an answer.
	Expires time.Time
}

// IsDevice reports whether p is that of the device grant, so that the code is the only way.
func (p Prompt) IsDevice() bool { return p.UserCode != "" && p.RedirectURI == "" }

// HasOtherWay reports whether the person may use the code of p in place of AuthorizeURL. Such a
// code may come, and go, while the prompt is shown: see Config.Offer.
func (p Prompt) HasOtherWay() bool { return p.UserCode != "" && p.RedirectURI != "" }

// State says where the sign-in of one upstream stands. It is a value: copies stay as they are.
type State struct {
	// Prompt is what waits for the person. It is zero if nothing does.
	Prompt Prompt
	// Busy says that a login is under way, from its discovery to the stored token. A refresh does
	// not count.
	Busy bool
	// NextPage is when the login under way may show its login page, if another one was shown a
	// short time ago. It is zero if no login page is held back.
	NextPage time.Time
	// LastFailure says how the login before the one under way failed, in this or in another
	// process. It is set while NextPage is. It is nil if that login led to a token, or if nobody
	// knows.
	LastFailure error
	// Err is the error of the last sign-in. It is nil after a success. An error that leaves the
	// token as good as it was is not reported here: that of a step-up, of a refresh ahead of
	// expiry, of a background request.
	Err error
}

// status holds the State and shows its prompt to the person. Its methods may be called
// concurrently.
type status struct {
	cfg  *Config
	life *lifespan

	mu      sync.Mutex
	state   State
	changed chan struct{}
	// withdraw ends the Offer of the prompt that is shown.
	withdraw context.CancelFunc
}

func newStatus(cfg *Config, life *lifespan) *status {
	return &status{cfg: cfg, life: life, changed: make(chan struct{}), withdraw: func() {}}
}

// get returns the State, and a channel that is closed at the next change.
func (s *status) get() (State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.changed
}

// update changes the State and tells everybody who waits for a change.
func (s *status) update(change func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
	close(s.changed)
	s.changed = make(chan struct{})
}

// amend changes the prompt that is shown to p, which has another code and is otherwise the same.
func (s *status) amend(p Prompt) {
	s.update(func(st *State) {
		p.Elsewhere = st.Prompt.Elsewhere
		st.Prompt = p
	})
}

// show replaces the prompt by p, which Config.Offer shows until the next call or the end of ctx. A
// zero p only withdraws. One flight at a time calls it.
func (s *status) show(ctx context.Context, p Prompt) {
	s.mu.Lock()
	s.withdraw()
	s.withdraw = func() {}
	if p != (Prompt{}) {
		ctx, s.withdraw = context.WithCancel(ctx)
	}
	s.mu.Unlock()
	s.update(func(st *State) { st.Prompt = p })
	if p != (Prompt{}) && s.cfg.Offer != nil {
		s.life.startWithin(func() { s.cfg.Offer(ctx, p) })
	}
}
