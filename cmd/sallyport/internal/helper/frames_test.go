package helper

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hashicorp/yamux"
)

// A rogue HOST that sends pings without end, and reads no answer, loses its session.
func TestAFloodOfPingsEndsTheSession(t *testing.T) {
	near, far := net.Pipe()
	session, err := yamux.Server(&pipes{&frames{Reader: near}, near}, sessionConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ping := bytes.Repeat([]byte{0, framePing, 0, flagSYN, 0, 0, 0, 0, 0, 0, 0, 1}, 50)
	go func() { // ends with the session
		for err := error(nil); err == nil; {
			_, err = far.Write(ping)
		}
	}()
	select {
	case <-session.CloseChan():
	case <-time.After(patience):
		t.Error("the session goes on")
	}
	far.Close()
}

// Frames come through as they are, wherever the reads divide them, and no byte of a connection is
// taken for a ping.
func TestFramesComeThrough(t *testing.T) {
	pings := bytes.Repeat([]byte{0, framePing, 0, flagSYN, 0, 0, 0, 0, 0, 0, 0, 1}, 2*maxPings)
	text := append([]byte{0, frameData, 0, 0, 0, 0, 0, 1, 0, 0, byte(len(pings) >> 8), byte(len(pings))}, pings...)
	text = append(text, pings[:frameHeader]...)
	for name, r := range map[string]io.Reader{"at once": bytes.NewReader(text), "by bytes": iotest.OneByteReader(bytes.NewReader(text))} {
		if got, err := io.ReadAll(&frames{Reader: r}); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: got %d bytes, %v, want %d", name, len(got), err, len(text))
		}
	}
	if _, err := io.ReadAll(&frames{Reader: bytes.NewReader(pings)}); err != errPings {
		t.Errorf("a flood: got %v", err)
	}
}
