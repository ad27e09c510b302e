package helper

import (
	"encoding/binary"
	"errors"
	"io"
	"time"
)

// Parts of a frame of yamux.
const (
	frameHeader = 12 // bytes
	frameData   = 0  // the type of a frame that bytes follow
	framePing   = 2  // the type of a ping and its answer
	flagSYN     = 1  // a ping, and not an answer
)

// maxPings is how many pings may come within pingTime. A far end sends one each pingInterval.
const maxPings, pingTime = 100, 10 * time.Second

// errPings says that the other end sends too many pings.
var errPings = errors.New("the other end sends too many pings")

// frames reads frames of yamux, and fails at too many pings: yamux starts a goroutine for each, and
// HOST may read no answer. Its zero value with a Reader is ready.
type frames struct {
	io.Reader
	header [frameHeader]byte
	// have is how many bytes of the header have come, and skip how many of a frame's body will.
	have int
	skip uint32
	// pings is how many pings came since the time from.
	pings int
	from  time.Time
}

// Read reads bytes of frames. The error is errPings, or that of the Reader.
func (f *frames) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if !f.take(b[:n]) {
		return 0, errPings
	}
	return n, err
}

// take looks at bytes that were read. It reports false after too many pings.
func (f *frames) take(b []byte) bool {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(uint32(len(b)), f.skip)
			f.skip, b = f.skip-n, b[n:]
			continue
		}
		n := copy(f.header[f.have:], b)
		f.have, b = f.have+n, b[n:]
		if f.have < frameHeader {
			return true
		}
		f.have = 0
		switch f.header[1] {
		case frameData:
			f.skip = binary.BigEndian.Uint32(f.header[8:])
		case framePing:
			if binary.BigEndian.Uint16(f.header[2:])&flagSYN != 0 && !f.count() {
				return false
			}
		}
	}
	return true
}

// count counts a ping. It reports false if it is one too many.
func (f *frames) count() bool {
	if now := time.Now(); now.Sub(f.from) > pingTime {
		f.from, f.pings = now, 0
	}
	f.pings++
	return f.pings <= maxPings
}
