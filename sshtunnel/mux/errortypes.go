package mux

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"syscall"
)

// standardSentinels are the errors of the standard library that travel by name.
var standardSentinels = map[string]error{
	"canceled":          context.Canceled,
	"deadline_exceeded": context.DeadlineExceeded,
	"eof":               io.EOF,
	"unexpected_eof":    io.ErrUnexpectedEOF,
	"closed_pipe":       io.ErrClosedPipe,
	"short_write":       io.ErrShortWrite,
	"net_closed":        net.ErrClosed,
	"io_timeout":        os.ErrDeadlineExceeded,
	"process_done":      os.ErrProcessDone,
	"not_exist":         fs.ErrNotExist,
	"exist":             fs.ErrExist,
	"permission":        fs.ErrPermission,
	"invalid":           fs.ErrInvalid,
	"file_closed":       fs.ErrClosed,
	"not_found":         exec.ErrNotFound,
	"wait_delay":        exec.ErrWaitDelay,
	"unsupported":       errors.ErrUnsupported,
}

// The types below are those of the standard library with tags. The compiler sees to it that their
// fields are the same.
type (
	dnsFields struct {
		UnwrapErr   error  `json:"-"`
		Err         string `json:"err,omitempty"`
		Name        string `json:"name,omitempty"`
		Server      string `json:"server,omitempty"`
		IsTimeout   bool   `json:"is_timeout,omitempty"`
		IsTemporary bool   `json:"is_temporary,omitempty"`
		IsNotFound  bool   `json:"is_not_found,omitempty"`
	}
	addrFields struct {
		Err  string `json:"err,omitempty"`
		Addr string `json:"addr,omitempty"`
	}
	parseFields struct {
		Type string `json:"type,omitempty"`
		Text string `json:"text,omitempty"`
	}
	pathFields struct {
		Op   string `json:"op,omitempty"`
		Path string `json:"path,omitempty"`
		Err  error  `json:"-"`
	}
	linkFields struct {
		Op  string `json:"op,omitempty"`
		Old string `json:"old,omitempty"`
		New string `json:"new,omitempty"`
		Err error  `json:"-"`
	}
	syscallFields struct {
		Syscall string `json:"syscall,omitempty"`
		Err     error  `json:"-"`
	}
	execFields struct {
		Name string `json:"name,omitempty"`
		Err  error  `json:"-"`
	}
)

// standardTypes are the types of the standard library that are rebuilt.
var standardTypes = []Type{
	errnoType,
	TypeOf("dns", func(e *net.DNSError) Parts {
		return Parts{Fields: (*dnsFields)(e), Causes: []*error{&e.UnwrapErr}}
	}),
	TypeOf("net_op", func(e *net.OpError) Parts {
		return Parts{Fields: (*opFields)(e), Causes: []*error{&e.Err}, NeedsCause: true}
	}),
	TypeOf("net_addr", func(e *net.AddrError) Parts { return Parts{Fields: (*addrFields)(e)} }),
	TypeOf("net_parse", func(e *net.ParseError) Parts { return Parts{Fields: (*parseFields)(e)} }),
	TypeOf("path", func(e *fs.PathError) Parts {
		return Parts{Fields: (*pathFields)(e), Causes: []*error{&e.Err}, NeedsCause: true}
	}),
	TypeOf("link", func(e *os.LinkError) Parts {
		return Parts{Fields: (*linkFields)(e), Causes: []*error{&e.Err}, NeedsCause: true}
	}),
	TypeOf("syscall", func(e *os.SyscallError) Parts {
		return Parts{Fields: (*syscallFields)(e), Causes: []*error{&e.Err}, NeedsCause: true}
	}),
	TypeOf("exec", func(e *exec.Error) Parts {
		return Parts{Fields: (*execFields)(e), Causes: []*error{&e.Err}, NeedsCause: true}
	}),
}

// errnoFields is an errno by its name, such as ECONNREFUSED: the numbers differ between systems.
type errnoFields struct {
	Name string `json:"name"`
}

var errnoType = Type{
	name: "errno",
	of:   reflect.TypeFor[syscall.Errno](),
	take: func(err error) (Parts, bool) {
		name := errnoName(err.(syscall.Errno))
		return Parts{Fields: errnoFields{name}}, name != ""
	},
	make: func(fields json.RawMessage) (Parts, error) {
		var f errnoFields
		if json.Unmarshal(fields, &f) != nil {
			return Parts{}, nil
		}
		if number, ok := errnoOf(f.Name); ok {
			return Parts{}, number
		}
		return Parts{}, nil
	},
}

// opFields is a net.OpError, whose addresses are interfaces.
type opFields net.OpError

// wireOp is the JSON of opFields.
type wireOp struct {
	Op     string    `json:"op,omitempty"`
	Net    string    `json:"net,omitempty"`
	Source *wireAddr `json:"source,omitempty"`
	Addr   *wireAddr `json:"addr,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (f *opFields) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireOp{f.Op, f.Net, wireAddrOf(f.Source), wireAddrOf(f.Addr)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *opFields) UnmarshalJSON(text []byte) error {
	var w wireOp
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	f.Op, f.Net, f.Source, f.Addr = w.Op, w.Net, w.Source.netAddr(), w.Addr.netAddr()
	return nil
}

// wireAddr is a net.Addr.
type wireAddr struct {
	Net  string `json:"net"`
	Text string `json:"text"`
}

func wireAddrOf(a net.Addr) *wireAddr {
	if v := reflect.ValueOf(a); a == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil
	}
	return &wireAddr{a.Network(), a.String()}
}

// netAddr returns an address of the type that package net has for its network, if it can.
func (w *wireAddr) netAddr() net.Addr {
	if w == nil {
		return nil
	}
	ap, err := netip.ParseAddrPort(w.Text)
	switch w.Net {
	case "tcp":
		if err == nil {
			return net.TCPAddrFromAddrPort(ap)
		}
	case "udp":
		if err == nil {
			return net.UDPAddrFromAddrPort(ap)
		}
	case "unix", "unixgram", "unixpacket":
		return &net.UnixAddr{Net: w.Net, Name: w.Text}
	}
	return plainAddr(*w)
}

// plainAddr is an address of another kind.
type plainAddr wireAddr

// Network implements net.Addr.
func (a plainAddr) Network() string { return a.Net }

// String implements net.Addr.
func (a plainAddr) String() string { return a.Text }
