package relay

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
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

// writes counts what a lineWriter makes of its lines, and keeps the first one waiting.
type writes struct {
	begun, let chan struct{}

	mu  sync.Mutex
	all [][]byte
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all = append(w.all, bytes.Clone(p)); len(w.all) == 1 {
		close(w.begun)
		<-w.let
	}
	return len(p), nil
}

// Lines that are written while another one is on its way go together, whole and in order; a large
// one goes by itself.
func TestLinesGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &writes{begun: make(chan struct{}), let: make(chan struct{})}
		w := newLineWriter(out)
		var wg sync.WaitGroup
		write := func(line string, gather bool) {
			wg.Go(func() {
				if err := w.line([]byte(line), gather); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		write("first", false)
		<-out.begun
		var want []string
		for i := range 100 {
			line := fmt.Sprint(i)
			if i%10 == 9 {
				line += strings.Repeat("x", gatherSize)
			}
			want = append(want, line)
			write(line, true)
		}
		close(out.let)
		wg.Wait()
		var got []string
		for _, b := range out.all[1:] {
			if b[len(b)-1] != '\n' {
				t.Errorf("a write ends within a line: %.20q", b[max(0, len(b)-20):])
			}
			got = append(got, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("got %.100q, want %.100q", got, want)
		}
		if n := len(out.all); n >= 100 {
			t.Errorf("%d writes of 101 lines: nothing was gathered", n)
		}
	})
}

// A line that waits behind a host that has stopped reading gives up at the end, gathered or not.
func TestLinesGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &writes{begun: make(chan struct{}), let: make(chan struct{})}
		w := newLineWriter(out)
		errs := make(chan error, 3)
		go func() { errs <- w.line([]byte("stuck"), false) }()
		<-out.begun
		go func() { errs <- w.line([]byte("a"), true) }()
		go func() { errs <- w.line([]byte("b"), false) }()
		synctest.Wait()
		close(w.quit)
		if a, b := <-errs, <-errs; a != errClosing || b != errClosing {
			t.Errorf("got %v and %v, want %v", a, b, errClosing)
		}
		close(out.let)
		<-errs
	})
}
