package mux

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// textConn is a connection from which a text can be read.
type textConn struct {
	net.Conn
	io.Reader
}

func (c textConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// Bytes that come right behind a line are not lost, however they are cut.
func TestBytesBehindALine(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 7, 1 << 10, 1 << 20} {
		raw := strings.Repeat("bytes ", 1000)
		text := `{"ok":{"port":7}}` + "\n" + raw
		c := NewConn(textConn{Reader: &cutReader{strings.NewReader(text), size}})
		var r Reply
		if err := c.ReadLine(&r); err != nil || r.OK == nil || r.OK.Port != 7 {
			t.Fatalf("%+v, %v", r, err)
		}
		if got, err := io.ReadAll(c); string(got) != raw || err != nil {
			t.Errorf("cut at %d: %d bytes, %v", size, len(got), err)
		}
	}
}

// cutReader returns at most size bytes at a time.
type cutReader struct {
	io.Reader
	size int
}

func (r *cutReader) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), r.size)]) }

func TestLongestLine(t *testing.T) {
	t.Parallel()
	line := `"` + strings.Repeat("x", MaxLine-3) + `"` + "\n"
	var s string
	if err := NewConn(textConn{Reader: strings.NewReader(line)}).ReadLine(&s); err != nil || len(s) != MaxLine-3 {
		t.Errorf("the longest line: %d bytes, %v", len(s), err)
	}
	if err := NewConn(textConn{Reader: strings.NewReader("x" + line)}).ReadLine(&s); !errors.Is(err, ErrLineTooLong) {
		t.Errorf("a longer line: %v", err)
	}
	if err := NewConn(textConn{Reader: strings.NewReader(line[:100])}).ReadLine(&s); err != io.ErrUnexpectedEOF {
		t.Errorf("a line that is cut off: %v", err)
	}
}

// FuzzRequest reads whatever a client may send as its request. A line is JSON or an error, no line
// is longer than MaxLine, and what is read can be written and read again.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"mux":1,"op":"attach","attach":{"pid":1,"ask":true}}` + "\nrest"))
	f.Add([]byte(`{"mux":1,"op":"dial","network":"tcp","address":"a:1"}` + "\n\x00\xff"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(bytes.Repeat([]byte("["), MaxLine+1))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := NewConn(textConn{Reader: bytes.NewReader(data)})
		var req Request
		if err := c.ReadLine(&req); err != nil {
			return
		}
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		if len(line) >= MaxLine {
			t.Fatalf("a line of %d bytes was read", len(line)+1)
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, rest) {
			t.Fatalf("behind the line: %q, %v", got, err)
		}
		text, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		var again Request
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
	})
}
