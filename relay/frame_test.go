package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"unicode/utf8"
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
		// Under a small limit nothing may panic, and the id of a request too long to keep is the one that parse sees.
		small := newLineReader(bytes.NewReader(in), 16)
		for _, full := range want {
			id, err := small.next()
			if err != errTooLong {
				continue
			}
			m, err := parse(bytes.Clone(full))
			if err == nil && m.kind == request && len(m.id) < maxID && !bytes.Equal(id, m.id) {
				t.Errorf("id %q, want %q in %q", id, m.id, full)
			}
		}
	})
}

func TestParse(t *testing.T) {
	tests := []struct {
		name, in string
		kind     kind
		id       string
		method   string
	}{
		{"request", `{"jsonrpc":"2.0","id":1,"method":"ping"}`, request, "1", "ping"},
		{"id last, nested ids", `{"method":"m","params":{"id":5,"method":"n"},"id":"a"}`, request, `"a"`, "m"},
		{"repeated id", `{"id":1,"method":"m","id":2}`, request, "2", "m"},
		{"escaped key", `{"\u0069d":1,"method":"m"}`, request, "1", "m"},
		{"notification", `{"method":"m"}`, notification, "", "m"},
		{"result", `{"id":1,"result":null}`, response, "1", ""},
		{"error", `{"id":null,"error":{}}`, response, "null", ""},
		{"null id", `{"id":null,"method":"m"}`, invalid, "null", "m"},
		{"method not a string", `{"id":1,"method":5}`, invalid, "1", ""},
		{"batch", `[{"id":1,"method":"m"}]`, batch, "", ""},
		{"space around", " \t{\"method\":\"m\"} \n", notification, "", "m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := parse([]byte(tt.in))
			if err != nil || m.kind != tt.kind || string(m.id) != tt.id || m.method != tt.method || string(m.raw) != strings.Trim(tt.in, " \t\n") {
				t.Errorf("got %+v, %v", m, err)
			}
		})
	}
}

func TestIDKey(t *testing.T) {
	for _, same := range [][2]string{{`"a"`, `"\u0061"`}, {`1`, `1.0`}, {`100`, `1e2`}, {`"é"`, `"\u00e9"`}} {
		if idKey([]byte(same[0])) != idKey([]byte(same[1])) {
			t.Errorf("%s and %s differ", same[0], same[1])
		}
	}
	for _, other := range [][2]string{{`1`, `"1"`}, {`9007199254740993`, `9007199254740992`}, {`"a"`, `"A"`}} {
		if idKey([]byte(other[0])) == idKey([]byte(other[1])) {
			t.Errorf("%s and %s are the same", other[0], other[1])
		}
	}
}

// parse agrees with encoding/json on what JSON is, changes nothing but line breaks and the space around, and finds the same members,
// however the text arrives.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":[1,2.5e-3,-0,true,false,null,"\ud800\n"]}}`,
		"{\r\n \"id\" : \"x\",\n\"result\":{}}", `[{"id":1},{}]`, "\ufeff{}", `{"id":01}`, `{"a":"` + "\x1f" + `"}`, `"\u00zz"`, `-`, `1.e5`, `{"a" 1}`, `[1,]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		plain := bytes.TrimPrefix(in, bom)
		m, err := parse(bytes.Clone(in))
		if (err == nil) != json.Valid(plain) {
			t.Fatalf("parse: %v, json.Valid %v: %q", err, json.Valid(plain), plain)
		}
		for _, size := range []int{1 + len(in)/50, 7 + len(in)/10} { // of a short text each byte by itself
			pm, perr := parseAll(&scanner{more: piecemeal(in, size)})
			if fmt.Sprint(perr) != fmt.Sprint(err) || fmt.Sprintf("%q", pm.raw) != fmt.Sprintf("%q", m.raw) || pm.kind != m.kind || !bytes.Equal(pm.id, m.id) ||
				pm.method != m.method || !bytes.Equal(pm.params, m.params) || !bytes.Equal(pm.result, m.result) {
				t.Errorf("in pieces of %d bytes: %+v, %v; at once %+v, %v", size, pm, perr, m, err)
			}
		}
		if err != nil {
			if !errors.As(err, new(*syntaxError)) {
				t.Errorf("error %T", err)
			}
			return
		}
		if want := dropBreaks(bytes.Trim(plain, " \t\r\n")); !bytes.Equal(m.raw, want) {
			t.Errorf("raw %q, want %q", m.raw, want)
		}
		var obj map[string]json.RawMessage
		if json.Unmarshal(m.raw, &obj) == nil && obj != nil && !bytes.Equal(obj["id"], m.id) {
			t.Errorf("id %q, want %q", m.id, obj["id"])
		}
		for key, want := range obj {
			if !utf8.Valid(in) {
				break // encoding/json replaces what it cannot read; we do not
			}
			if got := member(bytes.TrimSpace(m.raw), key); !bytes.Equal(got, want) {
				t.Errorf("member %q: %q, want %q", key, got, want)
			}
		}
	})
}

// piecemeal gives in as scanner.more does, in other memory each time.
func piecemeal(in []byte, size int) func([]byte) []byte {
	return func(b []byte) []byte {
		rest := in[len(b):]
		return append(bytes.Clone(b), rest[:min(size, len(rest))]...)
	}
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

// Lines that are written while another one is on its way go together, whole and in order; a large one goes by itself.
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
		if _, err := readEvents(strings.NewReader(in), 100); err != errTooLong {
			t.Errorf("%.20q: %v", in, err)
		}
	}
}

// readEvents writes each event as "data" or "name,id,retry:data".
func readEvents(r io.Reader, limit int) (list []string, err error) {
	for e, err := range events(r, limit) {
		if err != nil {
			return list, err
		}
		head := e.name + "," + e.id
		if e.retry >= 0 {
			head += "," + e.retry.String()
		}
		if head += ":"; head == ",:" {
			head = ""
		}
		list = append(list, head+string(e.data))
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
		for e, err := range events(strings.NewReader(stream), 1<<20) {
			if err != nil || string(e.data) != data {
				t.Errorf("got %q, %v, want %q", e.data, err, data)
			}
			break
		}
	})
}
