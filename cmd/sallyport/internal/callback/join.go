package callback

import (
	"context"
	"net"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/localsock"
)

const (
	joinDial = 2 * time.Second  // to reach another helper of this machine
	joinHold = 10 * time.Second // for that helper to hold a port
)

// ServeLocal serves the connections of this machine on a helper socket, until ctx ends: those of
// other helpers, which find the port taken, and of logins here. It calls ready once connections are
// accepted. The error says why there is no socket.
func (d *Desk) ServeLocal(ctx context.Context, ready func()) error {
	l, err := helper.Listen(d.cfg.SocketDirs)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.socket = l.Path()
	d.mu.Unlock()
	ready()
	d.ServeAll(ctx, l, Origin{Local: true})
	return nil
}

// ServeAll serves each connection of a listener, until ctx ends or the listener fails. It closes
// the listener.
func (d *Desk) ServeAll(ctx context.Context, l net.Listener, from Origin) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	slots := make(chan struct{}, 2*maxLoginsOfHost)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default: // HOST opens more than it may have logins
			conn.Close()
			continue
		}
		go func() { // ends with the connection, ctx, or the desk, which waits for it
			defer func() { <-slots }()
			if err := d.Serve(ctx, conn, from); err != nil {
				d.cfg.Log.Info("a login came to nothing here", "host", from.Host, "err", err)
			}
		}()
	}
}

// join hands a login, whose port is taken, on to another helper of this machine that may have taken
// it. It reports whether there was one; then the login is over, or its connection has ended.
func (d *Desk) join(ctx context.Context, c *conversation, m helper.Message, from source) bool {
	if !d.startJoining(m.Login) {
		return false // it has come back to us: the other helper hands it on, too
	}
	other, held := d.findHelper(ctx, m, from)
	d.mu.Lock()
	delete(d.joining, m.Login)
	d.mu.Unlock()
	if other == nil {
		return false
	}
	defer other.Close()
	defer context.AfterFunc(ctx, func() { other.Close() })()
	d.cfg.Log.Info("another helper of this machine has the port and takes the login", "host", from.host)
	c.post(held)
	go func() { // ends with the other connection
		defer c.conn.Close()
		for {
			m, err := other.Receive()
			if err != nil {
				return
			}
			if m.Type != helper.TypeBytes {
				c.post(m)
			} else if c.conn.Send(m) != nil { // there may be many, and the login reads them
				return
			}
		}
	}()
	for {
		m, err := c.conn.Receive()
		if err != nil || other.Send(m) != nil {
			return true
		}
	}
}

// startJoining notes that a login is being handed on. It reports false if it already is.
func (d *Desk) startJoining(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.joining[id] {
		return false
	}
	d.joining[id] = true
	return true
}

// findHelper returns a connection to another helper of this machine that holds the port of a login,
// and its answer. It returns nil if there is none. In the same directories lie sockets that lead to
// another machine. A helper there calls the login by another HOST, because it does not believe
// ours.
func (d *Desk) findHelper(ctx context.Context, m helper.Message, from source) (*helper.Conn, helper.Message) {
	d.mu.Lock()
	own := d.socket
	d.mu.Unlock()
	m.From, m.Trusted = from.host, from.trusted
	for _, path := range d.localSockets() {
		if path == own {
			continue
		}
		dialing, cancel := context.WithTimeout(ctx, joinDial)
		conn, err := helper.Dial(dialing, path)
		cancel()
		if err != nil {
			continue
		}
		other := helper.NewConn(conn)
		held, err := ask(other, m)
		if err == nil && held.Type == helper.TypeHeld && held.Host == from.host {
			return other, held
		}
		other.Send(helper.Message{Type: helper.TypeEnd})
		other.Close()
	}
	return nil, helper.Message{}
}

// localSockets returns the paths of the helper sockets in our directories.
func (d *Desk) localSockets() (paths []string) {
	for _, dir := range d.cfg.SocketDirs {
		found, _ := localsock.List(dir) // a directory that is somebody else's has none of ours
		paths = append(paths, found...)
	}
	return paths
}

// ask says hold to another helper.
func ask(other *helper.Conn, hold helper.Message) (held helper.Message, err error) {
	other.SetDeadline(time.Now().Add(joinHold))
	if err := other.Greet(); err != nil {
		return held, err
	}
	if err := other.Send(hold); err != nil {
		return held, err
	}
	if held, err = other.Receive(); err != nil {
		return held, err
	}
	return held, other.SetDeadline(time.Time{})
}
