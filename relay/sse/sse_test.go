package sse

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestEvents(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"one", "data: a\n\n", "a"},
		{"name, id, retry", "event: message\nid: 1\nretry: 5\ndata: a\n\n", "message,1,5ms:a"},
		{"id stays", "id: 1\ndata: a\n\ndata: b\n\n", ",1:a|,1:b"},
		{"lines joined", "data: a\ndata: b\ndata\n\n", "a\nb\n"},
		{"CR and CRLF", "data: a\r\rdata: b\r\n\r\ndata: c\n\n", "a|b|c"},
		{"comments and unknown fields", ": hi\nfoo: bar\ndata:a\n\n", "a"},
		{"only one space goes", "data:  a\n\n", " a"},
		{"BOM", "\ufeffdata: a\n\n", "a"},
		{"cut off", "data: a\n\ndata: b\n", "a"},
		{"id alone", "id: 7\n\n", ",7:"},
		{"id with NUL, bad retry", "id: a\x00\nretry: 5s\ndata: a\n\n", "a"},
		{"nothing", "\n\n: x\n\n", ""},
	}
	for _, tt := range tests {
		for _, r := range []io.Reader{strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in))} {
			if got, err := readEvents(r, 100); strings.Join(got, "|") != tt.want || err != io.EOF {
				t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
			}
		}
	}
	for _, in := range []string{"data: " + strings.Repeat("x", 101) + "\n\n", strings.Repeat("data: xxxxxxxxx\n", 11), strings.Repeat("x", 200)} {
		if _, err := readEvents(strings.NewReader(in), 100); err != ErrTooLong {
			t.Errorf("%.20q: %v", in, err)
		}
	}
}

// readEvents writes each event as "data" or "name,id,retry:data".
func readEvents(r io.Reader, limit int) (list []string, err error) {
	for e, err := range Events(r, limit, nil) {
		if err != nil {
			return list, err
		}
		head := e.Name + "," + e.ID
		if e.Retry >= 0 {
			head += "," + e.Retry.String()
		}
		if head += ":"; head == ",:" {
			head = ""
		}
		list = append(list, head+string(e.Data))
	}
	return list, nil
}

// How the stream is cut into reads changes nothing, and data that was put in comes out.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("id: 1\r\ndata: a\r\n\r\n: c\rretry: 9\ndata: b\ndata\n\n"), "x\ny")
	f.Add([]byte("\r\n\r"), "")
	f.Fuzz(func(t *testing.T, in []byte, data string) {
		whole, err1 := readEvents(bytes.NewReader(in), 64)
		bytewise, err2 := readEvents(iotest.OneByteReader(bytes.NewReader(in)), 64)
		if !slices.Equal(whole, bytewise) || err1 != err2 {
			t.Errorf("got %q, %v and %q, %v", whole, err1, bytewise, err2)
		}
		if strings.ContainsRune(data, '\r') {
			return
		}
		stream := "data: " + strings.ReplaceAll(data, "\n", "\ndata: ") + "\n\n"
		for e, err := range Events(strings.NewReader(stream), 1<<20, nil) {
			if err != nil || string(e.Data) != data {
				t.Errorf("got %q, %v, want %q", e.Data, err, data)
			}
			break
		}
	})
}

// What is held of an event is told before more of it is read, and that it is not any more.
func TestHold(t *testing.T) {
	full := errors.New("full")
	hold := func(n int) error {
		if n > 50 {
			return full
		}
		return nil
	}
	stream := "data: " + strings.Repeat("x", 40) + "\n\ndata: " + strings.Repeat("x", 30) + "\ndata: " + strings.Repeat("x", 30) + "\n\n"
	events := 0
	for _, err := range Events(iotest.OneByteReader(strings.NewReader(stream)), 1000, hold) {
		if err != nil {
			if err != full || events != 1 {
				t.Errorf("after %d events: %v", events, err)
			}
			return
		}
		events++
	}
}
