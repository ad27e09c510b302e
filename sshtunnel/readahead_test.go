package sshtunnel

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
)

// pieces is a connection from which the pieces are read one by one, then err.
type pieces struct {
	net.Conn
	left [][]byte
	err  error
}

func (c *pieces) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		return 0, c.err
	}
	n := copy(p, c.left[0])
	if c.left[0] = c.left[0][n:]; len(c.left[0]) == 0 {
		c.left = c.left[1:]
	}
	return n, nil
}

func TestReadAheadChangesNothing(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	broken := errors.New("broken")
	for range 50 {
		from := &pieces{err: broken}
		var want []byte
		for range 30 {
			piece := make([]byte, 1+random.IntN(3*readAheadMin))
			for i := range piece {
				piece[i] = byte(random.Uint32())
			}
			from.left, want = append(from.left, piece), append(want, piece...)
		}
		conn := &readAheadConn{Conn: from}
		var got []byte
		var err error
		for err == nil {
			p := make([]byte, []int{1, 100, readAheadMin, readAheadMin + 1, readAheadMax + 1}[random.IntN(5)])
			var n int
			n, err = conn.Read(p)
			got = append(got, p[:n]...)
		}
		if err != broken {
			t.Fatalf("got the error %v, want the connection's own", err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("got %d bytes other than the %d that were sent", len(got), len(want))
		}
	}
}

// A connection on which little comes needs no buffer.
func TestReadAheadFreesItsBuffer(t *testing.T) {
	t.Parallel()
	conn := &readAheadConn{Conn: &pieces{left: [][]byte{make([]byte, readAheadMin), make([]byte, 2*readAheadMin), {1}}, err: io.EOF}}
	p := make([]byte, readAheadMin)
	var held []bool
	for {
		_, err := conn.Read(p)
		if err != nil {
			break
		}
		held = append(held, conn.buf != nil)
	}
	// The last read but one leaves the buffer empty, the last finds little.
	if want := []bool{true, true, true, false}; !slices.Equal(held, want) {
		t.Errorf("held a buffer after each read: %v, want %v", held, want)
	}
}
