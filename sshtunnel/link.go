package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// Keepalive where the user sets none: a dead link is found within 45 s.
	defaultAliveInterval = 15 * time.Second
	defaultAliveCount    = 3
)

// link is a chain of logged-in hops. It ends as a whole.
type link struct {
	hops []*hop
	done chan struct{} // closed when the link is no more
	err  error         // why; to be read after done

	once sync.Once
	wg   sync.WaitGroup

	forwards forwardTable
}

// dialChain dials all hosts in turn. at is told of each before it is dialed.
func dialChain(ctx context.Context, cfg *Config, chain []*Host, at func(*Host)) (*link, error) {
	if len(chain) == 0 {
		return nil, errors.New("no host to dial")
	}
	l := &link{done: make(chan struct{})}
	for i, h := range chain {
		at(h)
		var via *hop
		if i > 0 {
			via = l.hops[i-1]
		}
		hp, err := dialHop(ctx, cfg, h, via)
		if err != nil {
			l.close(err)
			return nil, err
		}
		l.hops = append(l.hops, hp)
	}
	for _, hp := range l.hops {
		l.wg.Go(func() { // ends when the connection does, at the latest by close
			err := hp.client.Wait()
			if err == io.EOF {
				err = errors.New("the server closed the connection")
			}
			l.fail(hp.error(StageLink, err))
		})
	}
	l.wg.Go(l.keepalive) // ends with the link
	l.forwards.serve(l)
	return l, nil
}

func (l *link) last() *hop { return l.hops[len(l.hops)-1] }

// fail ends the link for a reason; the first one counts.
//
// Only the outermost connection is closed: all others run inside it and end with it. Closing an
// inner one first would wait for a peer that may be gone.
func (l *link) fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.done)
		if len(l.hops) > 0 {
			l.hops[0].conn.Close()
		}
	})
}

// close ends the link and waits for its goroutines.
func (l *link) close(err error) {
	l.fail(err)
	l.wg.Wait()
}

// keepalive ends the link when nothing has arrived from the last hop for interval x count. It asks
// for a sign of life after each silent interval. What it sends passes all hops, so one sender
// serves for the chain.
func (l *link) keepalive() {
	hp := l.last()
	interval, count := defaultAliveInterval, defaultAliveCount
	if hp.host.ServerAliveSet {
		if interval = hp.host.ServerAliveInterval; interval <= 0 {
			return
		}
		count = max(1, hp.host.ServerAliveCountMax)
	}
	limit := interval * time.Duration(count)
	if count == 1 {
		interval /= 2 // ask before giving up
	}
	var probe sync.WaitGroup
	defer probe.Wait()
	probing := make(chan struct{}, 1) // one probe at a time: SendRequest waits for its answer
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for received, since := hp.conn.received.Load(), time.Now(); ; {
		select {
		case <-timer.C:
		case <-l.done:
			return
		}
		if now := hp.conn.received.Load(); now != received {
			received, since = now, hp.conn.last()
		}
		silent := time.Since(since)
		if silent >= limit {
			l.fail(hp.error(StageLink, fmt.Errorf("no sign of life for %v", silent.Round(time.Millisecond))))
			return
		}
		// Look again when this silence is another interval old.
		timer.Reset(interval - silent%interval)
		if silent < interval {
			continue
		}
		select {
		case probing <- struct{}{}:
			probe.Go(func() { // ends with the answer, or with the link
				hp.client.SendRequest("keepalive@openssh.com", true, nil)
				<-probing
			})
		default:
		}
	}
}
