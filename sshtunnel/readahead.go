package sshtunnel

import "net"

const (
	// readAheadMin is a Read that lets us expect more: x/crypto's buffer holds so many bytes.
	readAheadMin = 4 << 10
	// readAheadMax is the most that is read at once, in bytes: a few of the largest packets.
	readAheadMax = 4 * chunkSize
)

// readAheadConn takes several packets at once from the system while there is much to read. x/crypto
// alone needs two reads for each packet. Read must not be called concurrently.
type readAheadConn struct {
	net.Conn
	buf   []byte // nil while little comes
	ahead []byte // what is left in buf
}

func (c *readAheadConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		if c.buf == nil {
			n, err := c.Conn.Read(p)
			if n >= readAheadMin && n == len(p) {
				c.buf = make([]byte, readAheadMax)
			}
			return n, err
		}
		n, err := c.Conn.Read(c.buf)
		if c.ahead = c.buf[:n]; n < readAheadMin {
			c.buf = nil // an idle connection holds none
		}
		if n == 0 {
			return 0, err
		}
		// An error that came with data comes again.
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}
