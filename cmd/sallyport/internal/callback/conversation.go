package callback

import (
	"context"
	"net"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

const (
	greetTimeout = 10 * time.Second // for the first messages of a connection
	lastWords    = 5 * time.Second  // for what is sent before a connection is closed
	maxQueued    = 32               // messages that HOST has not read
)

// conversation is one connection of a login. It never makes its sender wait: HOST may read nothing.
type conversation struct {
	conn *helper.Conn
	// dials makes connections from where the login is. It is nil if the login makes none.
	dials *helper.Dialer
	// proven says that the other end is the login whose name it said. The desk's lock guards it.
	proven bool

	out       chan helper.Message
	quit      chan struct{}
	written   chan struct{}
	stopAfter func() bool
}

// startConversation starts to send. The connection is closed when ctx ends. The caller must call
// end.
func startConversation(ctx context.Context, conn net.Conn) *conversation {
	c := &conversation{conn: helper.NewConn(conn), out: make(chan helper.Message, maxQueued), quit: make(chan struct{}), written: make(chan struct{})}
	c.stopAfter = context.AfterFunc(ctx, func() { c.conn.Close() })
	go c.write() // ends with end
	return c
}

// end sends what is left, and closes the connection.
func (c *conversation) end() {
	c.conn.SetDeadline(time.Now().Add(lastWords))
	close(c.quit)
	<-c.written
	c.stopAfter()
	c.conn.Close()
	if c.dials != nil {
		c.dials.Close()
	}
}

// write sends the messages until end.
func (c *conversation) write() {
	defer close(c.written)
	for {
		select {
		case m := <-c.out:
			c.conn.Send(m) // an error is that of the connection, which Receive has too
			continue
		default:
		}
		select {
		case m := <-c.out:
			c.conn.Send(m)
		case <-c.quit:
			if len(c.out) == 0 {
				return
			}
		}
	}
}

// post sends a message some time soon. It closes the connection if too many wait already.
func (c *conversation) post(m helper.Message) {
	select {
	case c.out <- m:
	default:
		c.conn.Close()
	}
}

// refuse tells the login an error, and returns it.
func (c *conversation) refuse(kind string, err error) error {
	c.post(helper.Message{Type: helper.TypeError, Kind: kind, Text: err.Error()})
	return err
}
