package sshtunnel

import (
	"context"
	"errors"
	"net"
	"sync"

	"sallyport/sshtunnel/sshconfig"
)

// link is a chain of hops to which we are logged in, the last one at the far end. It ends as a
// whole.
type link struct {
	hops []hop

	// life ends with the link. Its cause says why.
	life context.Context
	end  context.CancelCauseFunc

	// tasks counts the goroutines of the link and of its hops.
	tasks sync.WaitGroup

	// closed is closed when the link has ended and none of these goroutines is left.
	closed chan struct{}
}

func newLink() *link {
	l := &link{closed: make(chan struct{})}
	l.life, l.end = context.WithCancelCause(context.Background())
	return l
}

// dialLink dials all hosts of a chain in turn. It calls report before each one, and when a person
// may be at work. What needs no server is done for all hops from the start.
func dialLink(ctx context.Context, cfg *Config, chain []*sshconfig.Host, report func(progress)) (*link, error) {
	if len(chain) == 0 {
		return nil, errors.New("no host to dial")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	prepared := make([]*preparation, len(chain))
	for i, h := range chain {
		prepared[i] = prepare(ctx, cfg, h)
		defer prepared[i].end()
	}
	l := newLink()
	reached := 0 // hosts
	if cfg.ControlMaster {
		if i, m := findMaster(ctx, chain, cfg.Log, &l.tasks); m != nil {
			report(progress{hop: chain[i].Alias})
			cfg.Trace.connected(ConnectedInfo{chain[i].Alias, ByControlMaster, chain[i].ControlPath})
			l.hops = append(l.hops, m)
			reached = i + 1
		}
	}
	for i, h := range chain[reached:] {
		report(progress{hop: h.Alias})
		d := &dialer{cfg: cfg, host: h, prepared: prepared[reached+i], link: l, report: report}
		if len(l.hops) > 0 {
			d.via = l.last()
		}
		hp, err := d.dial(ctx)
		if err != nil {
			cancel() // frees preparations that hang
			l.close(err)
			return nil, err
		}
		l.hops = append(l.hops, hp)
	}
	l.attend(cfg, chain[len(chain)-len(l.hops):])
	context.AfterFunc(l.life, func() {
		l.close(nil)
		close(l.closed)
	})
	return l, nil
}

// attend makes the link end when one of its hops does, and starts to watch the hops. The hosts are
// those of the hops.
func (l *link) attend(cfg *Config, hosts []*sshconfig.Host) {
	for _, hp := range l.hops {
		context.AfterFunc(hp.ended(), func() { l.fail(context.Cause(hp.ended())) })
	}
	for i, a := range aliveOf(hosts, cfg.aliveInterval) {
		if b := l.hops[i].heartbeat(); b != nil && a.interval > 0 {
			l.tasks.Go(func() { l.keepalive(l.hops[i].place(), b, a) }) // ends with the link
		}
	}
	if l.last().heartbeat() != nil {
		l.tasks.Go(func() { l.watch(cfg.machine) }) // ends with the link
	}
}

func (l *link) last() hop { return l.hops[len(l.hops)-1] }

// fail ends the link for a reason. The reason of the first call counts. It does not wait.
//
// Only the outermost hop is closed. All others run inside it and end with it. To close an inner one
// first would mean to wait for a peer that may be gone.
func (l *link) fail(cause error) {
	l.end(cause)
	if len(l.hops) > 0 {
		l.hops[0].close(context.Cause(l.life))
	}
}

// close ends the link and waits for its goroutines.
func (l *link) close(cause error) {
	l.fail(cause)
	l.tasks.Wait()
}

// localIP returns the address that the outermost connection leaves the machine by; nil if it is not
// known.
func (l *link) localIP() net.IP {
	if b := l.hops[0].heartbeat(); b != nil {
		return b.localIP()
	}
	return nil
}
