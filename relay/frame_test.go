package relay

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"sallyport/relay/rawjson"
)

func TestLines(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"two", "a\nb\n", "a|b|EOF"},
		{"no newline at the end", "a\nb", "a|b|EOF"},
		{"empty lines", "\n\na\n", "||a|EOF"},
		{"at the limit", strings.Repeat("x", 100) + "\na\n", strings.Repeat("x", 100) + "|a|EOF"},
		{"above the limit", strings.Repeat("x", 101) + "\na\n", "too long|a|EOF"},
		{"above the limit, with an id", `{"id":"q\"","p":"` + strings.Repeat("x", 101) + "\"}\na\n", `too long "q\""|a|EOF`},
		{"above the limit at the end", strings.Repeat("x", 101), "too long|EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLineReader(iotest.OneByteReader(strings.NewReader(tt.in)), 100)
			var got []string
			for {
				line, err := l.next()
				if err == io.EOF {
					got = append(got, "EOF")
					break
				}
				if err == errTooLong {
					got = append(got, strings.TrimSpace("too long "+string(line)))
					continue
				}
				got = append(got, string(line))
			}
			if got := strings.Join(got, "|"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\n\nb"))
	f.Add([]byte(`{"x":[{"id":2}],"id":1,"y":"` + strings.Repeat("z", 200) + `"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		l := newLineReader(bytes.NewReader(in), 1<<20)
		var lines [][]byte
		for {
			line, err := l.next()
			if err != nil {
				break
			}
			lines = append(lines, line)
		}
		want := bytes.Split(in, []byte("\n"))
		if len(want[len(want)-1]) == 0 {
			want = want[:len(want)-1]
		}
		if !slices.EqualFunc(lines, want, bytes.Equal) {
			t.Errorf("got %q, want %q", lines, want)
		}
		// Under a small limit nothing may panic, and the id of a request too long to keep is the
		// one that parse sees.
		small := newLineReader(bytes.NewReader(in), 16)
		for _, full := range want {
			id, err := small.next()
			if err != errTooLong {
				continue
			}
			m, err := rawjson.Parse(bytes.Clone(full))
			if err == nil && m.Kind == rawjson.Request && len(m.ID) < rawjson.MaxID && !bytes.Equal(id, m.ID) {
				t.Errorf("id %q, want %q in %q", id, m.ID, full)
			}
		}
	})
}

// A line that waits behind a host that has stopped reading gives up at the end.
func TestLinesGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unread, host := io.Pipe()
		defer unread.Close()
		w := newLineWriter(host)
		errs := make(chan error)
		go w.line([]byte("stuck"))
		synctest.Wait()
		go func() { errs <- w.line([]byte("a")) }()
		synctest.Wait()
		close(w.quit)
		if err := <-errs; err != errClosing {
			t.Errorf("got %v, want %v", err, errClosing)
		}
	})
}
