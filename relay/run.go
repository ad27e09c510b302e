package relay

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// run is what the parts of one Run, or of one Probe, share: the settings, the end, and the
// goroutines.
type run struct {
	// cfg has all defaults filled in.
	cfg Config
	// ctx is the lifetime. Its cause says what ended it.
	ctx context.Context
	// end ends ctx with a cause. Only the first cause counts.
	end context.CancelCauseFunc
	// work counts the goroutines that have to end before Run returns.
	work sync.WaitGroup
	idle idleTimer
	// held bounds the bytes of the server's messages that are held at once.
	held *budget
}

func newRun(ctx context.Context, cfg Config) *run {
	cfg.setDefaults()
	r := &run{cfg: cfg, held: newBudget(maxHeld)}
	r.ctx, r.end = context.WithCancelCause(ctx)
	return r
}

// sessionSender returns what carries the requests of ctx that belong to a session, or that ask for
// the era. A 401 in answer to one of them does not judge the token: a server may send it for
// another reason.
func (r *run) sessionSender(ctx context.Context) http.RoundTripper {
	if r.cfg.InSession == nil || ctx.Value(inBackground{}) != nil {
		return r.sender(ctx)
	}
	return r.cfg.InSession
}

// inBackground is the key of a context whose requests nobody waits for, so that no person is asked
// to sign in for them.
type inBackground struct{}

// withoutPerson returns ctx in the background.
func withoutPerson(ctx context.Context) context.Context {
	return context.WithValue(ctx, inBackground{}, true)
}

// sender returns what carries the requests of ctx.
func (r *run) sender(ctx context.Context) http.RoundTripper {
	if ctx.Value(inBackground{}) != nil {
		return r.cfg.Background
	}
	return r.cfg.Send
}

// lifetime returns r.ctx for work that is begun under ctx and may outlast it. It is in the
// background if ctx is.
func (r *run) lifetime(ctx context.Context) context.Context {
	return context.WithValue(r.ctx, inBackground{}, ctx.Value(inBackground{}))
}

// logFailure logs an error of something that nobody waits for.
func (r *run) logFailure(what string, err error) {
	r.cfg.Log.Debug(what, "err", r.cfg.Mask(err.Error()))
}

const (
	idleLoad  = 1 << 20                // bytes carried after which there may be memory to give back
	idleEach  = 2 << 10                // bytes that each message counts besides its own
	idleAfter = 500 * time.Millisecond // between the last of these bytes and Config.Idle
)

// idleTimer calls Config.Idle. A call leaves some 9 KB of garbage, however small its messages are,
// and so each counts idleEach: when it is calm after 700 small calls, the proportional set size of
// a proxy is 4.4 MiB, where it would stay at 7.4 (cmd/sallyport/internal/bench).
type idleTimer struct {
	// timer is nil where Config.Idle is never called.
	timer *time.Timer
	// load is how many bytes were carried since the last call.
	load atomic.Int64
}

// startIdle lets Config.Idle be called from now on, for the first time after idleAfter.
func (r *run) startIdle() {
	r.idle.timer = time.AfterFunc(idleAfter, func() {
		r.idle.load.Store(0)
		r.cfg.Idle()
	})
}

// carried notes that a message of n bytes has come or gone, and is not kept any more.
func (r *run) carried(n int) {
	if r.idle.load.Add(int64(n)+idleEach) >= idleLoad && r.idle.timer != nil {
		r.idle.timer.Reset(idleAfter)
	}
}
