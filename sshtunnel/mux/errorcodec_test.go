package mux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// travel returns what becomes of an error on its way through a line of JSON.
func travel(t *testing.T, c *Codec, err error) error {
	t.Helper()
	line, jsonErr := json.Marshal(c.Encode(err, nil))
	if jsonErr != nil {
		t.Fatal(jsonErr)
	}
	var e Error
	if err := json.Unmarshal(line, &e); err != nil {
		t.Fatal(err)
	}
	got := c.Decode(&e, nil)
	if got == nil || got.Error() != err.Error() {
		t.Errorf("got  %v\nwant %v\nline %s", got, err, line)
	}
	return got
}

func TestStandardErrorsTravel(t *testing.T) {
	tcp := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[fe80::1%eth0]:22"))
	udp := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:53"))
	unix := &net.UnixAddr{Net: "unix", Name: "/run/a"}
	refused, denied := syscall.ECONNREFUSED, syscall.EACCES
	if runtime.GOOS == "windows" { // where package syscall makes these up, and the system says
		refused, denied = 10061, 5
	}
	errs := []error{
		&net.DNSError{UnwrapErr: context.Canceled, Err: "a", Name: "b", Server: "c", IsTimeout: true, IsTemporary: true, IsNotFound: true},
		&net.OpError{Op: "dial", Net: "tcp", Source: tcp, Addr: tcp, Err: os.NewSyscallError("connect", refused)},
		&net.OpError{Op: "read", Net: "udp", Source: udp, Addr: udp, Err: io.EOF},
		&net.OpError{Op: "dial", Net: "unix", Addr: unix, Err: &fs.PathError{Op: "stat", Path: "/run/a", Err: syscall.ENOENT}},
		&net.AddrError{Err: "missing port", Addr: "a"},
		&net.ParseError{Type: "IP address", Text: "a"},
		&fs.PathError{Op: "open", Path: "/a", Err: fs.ErrPermission},
		&os.LinkError{Op: "rename", Old: "/a", New: "/b", Err: denied},
		&exec.Error{Name: "a", Err: exec.ErrNotFound},
	}
	for _, s := range standardSentinels {
		errs = append(errs, s)
	}
	for _, err := range errs {
		if got := travel(t, &Codec{}, err); !reflect.DeepEqual(got, err) {
			t.Errorf("got  %#v\nwant %#v", got, err)
		}
	}
}

// What errors.Is, errors.As and net.Error say of the errors that the system and package net really
// return must not change.
func TestRealErrorsTravel(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Unix(1, 0))
	_, late := conn.Read(make([]byte, 1))
	conn.Close()
	_, closed := conn.Read(make([]byte, 1))
	ln.Close()
	_, refused := net.Dial("tcp", ln.Addr().String())
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, left := (&net.Dialer{}).DialContext(canceled, "tcp", ln.Addr().String())
	_, overdue := (&net.Dialer{Deadline: time.Unix(1, 0)}).Dial("tcp", ln.Addr().String())
	_, missing := os.Open(filepath.Join(t.TempDir(), "a"))
	_, unknown := net.Dial("pigeon", "a")
	noProgram := exec.Command("sallyport-no-such-program").Run()
	targets := []error{syscall.ECONNREFUSED, syscall.ENOENT, syscall.EPIPE}
	for _, s := range standardSentinels {
		targets = append(targets, s)
	}
	for _, err := range []error{
		late, closed, refused, left, overdue, missing, unknown, noProgram,
		errors.Join(refused, missing),
		fmt.Errorf("one: %w, two: %w", left, fmt.Errorf("deep: %w", late)),
	} {
		got := travel(t, &Codec{}, err)
		for _, target := range targets {
			if errors.Is(got, target) != errors.Is(err, target) {
				t.Errorf("%v: is %v: %v", err, target, errors.Is(got, target))
			}
		}
		ours, ok := errors.AsType[net.Error](got)
		theirs, want := errors.AsType[net.Error](err)
		if ok != want || ok && ours.Timeout() != theirs.Timeout() {
			t.Errorf("%v: a net.Error: %v, want %v", err, ok, want)
		}
		_, ok = errors.AsType[*net.OpError](got)
		if _, want := errors.AsType[*net.OpError](err); ok != want {
			t.Errorf("%v: an OpError: %v, want %v", err, ok, want)
		}
	}
}

// An errno travels by its name. One that this system does not know is words.
func TestErrno(t *testing.T) {
	for _, e := range []syscall.Errno{syscall.ECONNREFUSED, syscall.ENOENT, syscall.EAGAIN, syscall.EPIPE} {
		if errnoName(e) == "" {
			t.Skip("this system has no names for them")
		}
		if got := travel(t, &Codec{}, e); got != e {
			t.Errorf("got %v, want %v", got, e)
		}
	}
	for _, name := range []string{"ENOTHERE", "", "0", "111"} {
		got := (&Codec{}).Decode(&Error{Type: "errno", Text: "words", Fields: fmt.Appendf(nil, `{"name":%q}`, name)}, nil)
		if _, ok := got.(syscall.Errno); ok || got.Error() != "words" {
			t.Errorf("%q: got %#v", name, got)
		}
	}
	if got := travel(t, &Codec{}, syscall.Errno(3999)); got == syscall.Errno(3999) {
		t.Error("a number without a name has travelled")
	}
}

// hopError is an error with an alias.
type hopError struct {
	Hop string `json:"hop"`
	// List is long.
	List []string `json:"list,omitempty"`
	Err  error    `json:"-"`
}

func (e *hopError) Error() string { return fmt.Sprintf("hop %s: %v", e.Hop, e.Err) }
func (e *hopError) Unwrap() error { return e.Err }

func hopCodec() *Codec {
	return &Codec{Types: []Type{TypeOf("hop", func(e *hopError) Parts {
		return Parts{Fields: e, Hop: &e.Hop, Causes: []*error{&e.Err}}
	})}}
}

// The client's aliases stand for the server's, also in the words of an error that wraps another.
func TestAliasesOfTheClient(t *testing.T) {
	c := hopCodec()
	err := fmt.Errorf("waiting: %w", &hopError{Hop: "inner", Err: &hopError{Hop: "elsewhere", Err: io.EOF}})
	got := c.Decode(c.Encode(err, []string{"outer", "inner"}), []string{"a", "b"})
	if want := "waiting: hop b: hop elsewhere: EOF"; got.Error() != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// A client of a shorter chain, or a server that is wrong, changes no alias.
	one, minus := 1, -1
	for _, index := range []*int{&one, &minus} {
		e := &Error{Type: "hop", Hop: index, Fields: json.RawMessage(`{"hop":"inner"}`)}
		if got := c.Decode(e, []string{"a"}).(*hopError); got.Hop != "inner" {
			t.Errorf("got %q", got.Hop)
		}
	}
}

func TestBoundsOfErrors(t *testing.T) {
	c := hopCodec()
	deep := error(io.EOF)
	for range 200 {
		deep = &hopError{Hop: "a", Err: fmt.Errorf("b: %w", deep)}
	}
	var wide []error
	for range 1000 {
		wide = append(wide, errors.New(strings.Repeat("\x00", 500)))
	}
	long := &hopError{Hop: strings.Repeat("é", 1<<16), List: slices.Repeat([]string{strings.Repeat("<", 100)}, 2000)}
	for name, err := range map[string]error{"deep": deep, "wide": errors.Join(wide...), "long": long} {
		e := c.Encode(err, nil)
		line, jsonErr := json.Marshal(e)
		if jsonErr != nil || len(line) > maxErrorSize {
			t.Errorf("%s: %d bytes, %v", name, len(line), jsonErr)
		}
		if got := c.Decode(e, nil); got == nil || got.Error() == "" {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if got, ok := c.Decode(c.Encode(long, nil), nil).(*hopError); !ok || len(got.List) == 0 || got.Hop == "" {
		t.Errorf("a long error has lost its type: %#v", got)
	}
	// A hostile server's error is deeper and wider than one that Encode makes.
	e := &Error{Type: "hop"}
	for range 10000 {
		e = &Error{Type: "hop", Text: "a", Causes: []*Error{nil, e, e}}
	}
	if got := c.Decode(e, nil); len(got.Error()) > 1<<20 {
		t.Errorf("%d bytes", len(got.Error()))
	}
}

// Nothing that a server may send makes an error that cannot be used.
func TestGarbledErrors(t *testing.T) {
	for _, e := range []*Error{
		{},
		{Type: "hop", Text: "words", Fields: json.RawMessage(`{"hop":3}`)},
		{Type: "net_op", Text: "words"},
		{Type: "net_op", Text: "words", Fields: json.RawMessage(`{"source":{},"addr":3}`)},
		{Type: "path", Text: "words", Causes: []*Error{nil, {Text: "b"}}},
		{Type: "tomorrow", Text: "words", Causes: []*Error{{Type: "eof"}}},
		{Type: "errno", Text: "words", Fields: json.RawMessage(`3`)},
	} {
		got := hopCodec().Decode(e, nil)
		if _, ok := got.(*wireError); !ok || got.Error() != e.Text {
			t.Errorf("got %#v of %+v", got, e)
		}
	}
	if got := (&Codec{}).Decode(&Error{Type: "tomorrow", Causes: []*Error{{Type: "eof"}}}, nil); !errors.Is(got, io.EOF) {
		t.Errorf("the cause of an unknown type is lost: %v", got)
	}
	if c := (&Codec{}); c.Encode(nil, nil) != nil || c.Encode((*fs.PathError)(nil), nil) != nil || c.Decode(nil, nil) != nil {
		t.Error("nil is no error")
	}
}

func TestErrorsOfTheProtocol(t *testing.T) {
	want := &Error{Type: TypeUnknownVersion, Text: "words", Versions: []int{1}}
	if got := (&Codec{}).Decode(want, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v", got)
	}
}
