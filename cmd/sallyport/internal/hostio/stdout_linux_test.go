package hostio

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The pipe to the host grows with the first message that is larger than it.
func TestStdout(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	out := Stdout(w)
	for _, tt := range []struct{ message, pipe int }{{100, pipeSize}, {pipeSize + 1, largePipe}} {
		go out.Write(make([]byte, tt.message)) // ends when it is read
		if _, err := io.ReadFull(r, make([]byte, tt.message)); err != nil {
			t.Fatal(err)
		}
		if size, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0); size != tt.pipe || err != nil {
			t.Errorf("after %d bytes the pipe holds %d, %v, want %d", tt.message, size, err, tt.pipe)
		}
	}
}
