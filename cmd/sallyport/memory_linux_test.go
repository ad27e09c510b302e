package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The pages of the program go, and come again when they are used.
func TestDropProgram(t *testing.T) {
	resident := func() (kib int) {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := bytes.Cut(status, []byte("RssFile:"))
		if _, err := fmt.Sscan(string(rest), &kib); err != nil {
			t.Fatal(err)
		}
		return kib
	}
	before := resident()
	dropProgram()
	if after := resident(); after > before/2 {
		t.Errorf("%d KiB of files are resident, %d before", after, before)
	}
	if err := run(t.Context(), []string{"ssh-config", "-F", "none", "h"}, stdio{nil, io.Discard, io.Discard}, environment{Getenv: func(string) string { return "" }, Hide: func(string) {}}); err != statusDone {
		t.Errorf("then a command ends with %d", err)
	}
}

// The pipe to the host grows with the first message that is larger than it.
func TestHostOut(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	out := hostOut(w)
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
