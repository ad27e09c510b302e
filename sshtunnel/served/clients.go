package served

import (
	"sync"

	"sallyport/sshtunnel/mux"
)

// Clients are the connections of clients. Its methods may be called concurrently.
type Clients struct {
	mu    sync.Mutex
	conns map[*mux.Conn]struct{}
	// closed is set by Close.
	closed bool
}

// Enter notes a connection. It reports false after Close.
func (l *Clients) Enter(c *mux.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return !l.closed
}

// Leave closes a connection.
func (l *Clients) Leave(c *mux.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// Close closes all connections.
func (l *Clients) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		c.Close()
	}
}

// NewClients returns a Clients without a connection.
func NewClients() *Clients { return &Clients{conns: map[*mux.Conn]struct{}{}} }

// Count returns how many connections there are.
func (l *Clients) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}
