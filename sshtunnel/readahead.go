package sshtunnel

import "net"

const (
	// chunkSize is the largest packet that x/crypto takes or gives at once, in bytes.
	chunkSize = 32 << 10
	// readAheadMin is the size of a Read from which on more is expected, in bytes. It is the size
	// of x/crypto's buffer.
	readAheadMin = 4 << 10
	// readAheadMax is the most that is read at once, in bytes: a few of the largest packets.
	readAheadMax = 4 * chunkSize
)

// readAheadConn reads several packets at once while there is much to read. x/crypto alone needs two
// reads for each packet. Read must not be called concurrently.
type readAheadConn struct {
	net.Conn
	// buf is nil while little comes.
	buf []byte
	// ahead is the part of buf that Read has not returned yet.
	ahead []byte
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
			c.buf = nil // an idle connection needs none
		}
		if n == 0 {
			return 0, err
		}
		// An error that came with data comes again at the next Read.
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}
