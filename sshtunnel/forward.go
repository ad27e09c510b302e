package sshtunnel

import (
	"context"
	"io"
	"net"
	"sync"
)

// Forward carries each connection that ln accepts to an address, as ssh's -L does. For network and
// addr see [Tunnel.DialContext]. Connections wait for a link while the tunnel is down.
//
// Forward returns when ctx ends, ln fails or the tunnel is closed. It has then closed ln and all
// connections. The error is the cause of ctx, that of ln, or ErrClosed.
func (t *Tunnel) Forward(ctx context.Context, ln net.Listener, network, addr string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel(nil)
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	defer context.AfterFunc(t.ctx, func() { cancel(ErrClosed) })()
	// So many connections may wait for the far side. More wait in the system's backlog.
	waiting := make(chan struct{}, maxUnaccepted)
	for {
		select {
		case waiting <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		near, err := ln.Accept()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			if near != nil {
				near.Close()
			}
			return err
		}
		conns.Go(func() { // ends with the connections, which ctx bounds
			far, err := t.DialContext(ctx, network, addr)
			<-waiting
			if err != nil {
				t.cfg.Log.Warn("connection not forwarded", "addr", addr, "err", err)
				near.Close()
				return
			}
			join(ctx, near, far)
		})
	}
}

// farConn is a connection of DialContext.
type farConn interface {
	net.Conn
	CloseWrite() error
	// Ended returns a channel that is closed when nothing can be sent any more, nor come.
	Ended() <-chan struct{}
}

// join copies in both directions, and closes both connections in the end. It returns when both
// directions have ended, one has failed or ctx ends. The end of one direction is passed on.
func join(ctx context.Context, near, far net.Conn) {
	closeBoth := func() {
		near.Close()
		far.Close()
	}
	defer closeBoth()
	defer context.AfterFunc(ctx, closeBoth)()
	var directions sync.WaitGroup
	copyTo := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if half, ok := dst.(interface{ CloseWrite() error }); err == nil && ok {
			err = half.CloseWrite()
		}
		if err != nil {
			closeBoth()
		}
	}
	directions.Go(func() { copyTo(far, near) })
	directions.Go(func() {
		copyTo(near, far)
		// A lost link looks like the end of one direction. The other would wait for near for ever.
		<-far.(farConn).Ended()
		near.Close()
	})
	directions.Wait()
}
