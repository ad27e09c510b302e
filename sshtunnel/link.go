package sshtunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"sallyport/sshtunnel/sshconfig"
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

// dialChain dials all hosts in turn. at is told of each before it is dialed. What needs no server
// is done for all hops from the start.
func dialChain(ctx context.Context, cfg *Config, chain []*sshconfig.Host, at func(*sshconfig.Host)) (*link, error) {
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
	l := &link{done: make(chan struct{})}
	dialed := 0
	if cfg.ControlMaster {
		if i, m := liveMaster(ctx, cfg, chain); m != nil {
			at(chain[i])
			l.hops = append(l.hops, &hop{host: chain[i], master: m})
			dialed = i + 1
		}
	}
	for i, h := range chain[dialed:] {
		at(h)
		var via *hop
		if len(l.hops) > 0 {
			via = l.last()
		}
		hp, err := dialHop(ctx, cfg, h, prepared[dialed+i], via)
		if err != nil {
			cancel() // frees preparations that hang
			l.close(err)
			return nil, err
		}
		l.hops = append(l.hops, hp)
	}
	if l.last().master != nil {
		return l, nil // its keepalive is the user's; its end is noticed by the next call
	}
	for _, hp := range l.hops {
		if hp.master != nil {
			continue
		}
		l.wg.Go(func() { // ends when the connection does, at the latest by close
			err := hp.client.Wait()
			close(hp.ended)
			if err == io.EOF {
				err = errors.New("the server closed the connection")
			}
			l.fail(hp.error(StageLink, err))
		})
	}
	l.startKeepalive()
	l.wg.Go(func() { l.watch(cfg.machine) }) // ends with the link
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
			l.hops[0].close()
		}
	})
}

// close ends the link and waits for its goroutines.
func (l *link) close(err error) {
	l.fail(err)
	l.wg.Wait()
}

// localIP is the address that the outermost connection leaves by; nil where it has none, or leaves
// by loopback.
func (l *link) localIP() net.IP {
	if l.hops[0].master != nil {
		return nil
	}
	local, ok := l.hops[0].conn.LocalAddr().(*net.TCPAddr)
	if !ok || local.IP.IsLoopback() {
		return nil
	}
	return local.IP
}
