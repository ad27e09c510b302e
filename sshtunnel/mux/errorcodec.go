package mux

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
)

const (
	// maxErrorDepth and maxErrorCount bound an error in both directions: how deep causes may lie,
	// and how many errors there may be in all. What is beyond is left out.
	maxErrorDepth = 24
	maxErrorCount = 128
	// maxErrorSize is how long the JSON of an error may be, in bytes. The line that it goes into
	// may be 64 KiB.
	maxErrorSize = 48 << 10
	// maxErrorText bounds a text that is read, in bytes.
	maxErrorText = 16 << 10
)

// trims are tried one after the other until an error is short enough: the most bytes of a text, and
// the most elements of a list. A list of what was offered to a server can be long.
var trims = []trim{{maxErrorText, 1024}, {1024, 128}, {256, 32}, {64, 4}}

type trim struct{ text, list int }

// Codec turns errors into their form of the protocol, and back. Types and Sentinels must not change
// once it is used. It may be used concurrently.
//
// The errors of the standard library are always known. So are joined errors and all that wrap
// others: what errors.Is and errors.As find in an error, they find in the one that is rebuilt, if
// it is known.
type Codec struct {
	// Types are the types of errors that are rebuilt, besides those of the standard library.
	Types []Type
	// Sentinels are errors that travel by name, besides those of the standard library.
	Sentinels map[string]error
}

// A Type is a type of errors that can be rebuilt. TypeOf makes one.
type Type struct {
	// name is that of Error.Type.
	name string
	// of is the Go type.
	of reflect.Type
	// take returns the parts of an error of this type; false if it cannot be rebuilt.
	take func(err error) (Parts, bool)
	// make returns an error from its fields, with its parts that are still to be set. The error is
	// nil if the fields are no error's.
	make func(fields json.RawMessage) (Parts, error)
}

// Parts are what an error is made of.
type Parts struct {
	// Fields points to what is written as JSON. It may be the error itself.
	Fields any
	// Hop points to the alias of the hop that the error is about. It may be nil.
	Hop *string
	// Causes point to the errors that the error holds.
	Causes []*error
	// NeedsCause says that the error is not to be used without its first cause.
	NeedsCause bool
}

// TypeOf returns the Type of the errors *T under a name. The function parts returns those of an
// error. It is called to read them and to set them. The Causes are asked for again when Fields are
// set, because some may lie in there.
func TypeOf[T any, E interface {
	*T
	error
}](name string, parts func(e E) Parts) Type {
	return Type{
		name: name,
		of:   reflect.TypeFor[E](),
		take: func(err error) (Parts, bool) { return parts(err.(E)), true },
		make: func(fields json.RawMessage) (Parts, error) {
			e := E(new(T))
			if len(fields) > 0 && json.Unmarshal(fields, parts(e).Fields) != nil {
				return Parts{}, nil
			}
			return parts(e), e
		},
	}
}

// Encode returns an error as it travels, nil for nil. The hops are the aliases of the greeting. The
// result is short enough for a line.
func (c *Codec) Encode(err error, hops []string) *Error {
	if isNil(err) {
		return nil
	}
	for _, t := range trims {
		e := (&encoder{codec: c, hops: hops, trim: t}).encode(err, 0)
		if text, jsonErr := json.Marshal(e); jsonErr == nil && len(text) <= maxErrorSize {
			return e
		}
	}
	return &Error{Text: cut(err.Error(), maxErrorText/8)} // JSON makes six bytes of some
}

// encoder encodes one error.
type encoder struct {
	codec *Codec
	hops  []string
	trim  trim
	// count is how many errors there are so far.
	count int
}

// encode returns nil where the bounds are reached.
func (x *encoder) encode(err error, depth int) *Error {
	if isNil(err) || depth >= maxErrorDepth || x.count >= maxErrorCount {
		return nil
	}
	x.count++
	e := &Error{Text: cut(err.Error(), x.trim.text)}
	if e.Type = x.codec.sentinelName(err); e.Type != "" {
		return e
	}
	if t, ok := x.codec.typeOf(func(t Type) bool { return t.of == reflect.TypeOf(err) }); ok {
		if p, ok := t.take(err); ok && x.fill(e, t.name, p, depth) {
			return e
		}
	}
	for _, cause := range x.wrapped(err) {
		if wire := x.encode(cause, depth+1); wire != nil {
			e.Causes = append(e.Causes, wire)
		}
	}
	timeout, ok := err.(interface{ Timeout() bool })
	e.Timeout = ok && timeout.Timeout()
	return e
}

// fill puts the parts of an error of a known type into e. It returns false if they have no JSON.
func (x *encoder) fill(e *Error, name string, p Parts, depth int) bool {
	fields, err := json.Marshal(p.Fields)
	if err != nil {
		return false
	}
	e.Type, e.Fields = name, fields
	if len(fields) > x.trim.text { // a text or a list may be too long
		e.Fields = x.trim.fields(fields)
	}
	if string(e.Fields) == "{}" {
		e.Fields = nil
	}
	if p.Hop != nil {
		if i := slices.Index(x.hops, *p.Hop); i >= 0 {
			e.Hop = &i
		}
	}
	for _, cause := range p.Causes {
		e.Causes = append(e.Causes, x.encode(*cause, depth+1))
	}
	for n := len(e.Causes); n > 0 && e.Causes[n-1] == nil; n-- {
		e.Causes = e.Causes[:n-1]
	}
	return true
}

// wrapped returns the errors that err wraps, and the sentinels that it says it is without wrapping
// them. The time-outs of package net do that.
func (x *encoder) wrapped(err error) []error {
	var causes []error
	switch w := err.(type) {
	case interface{ Unwrap() error }:
		causes = []error{w.Unwrap()}
	case interface{ Unwrap() []error }:
		causes = slices.Clone(w.Unwrap())
	}
	if is, ok := err.(interface{ Is(error) bool }); ok {
		for _, name := range x.codec.sentinelNames() {
			if s := x.codec.sentinel(name); is.Is(s) && !errors.Is(errors.Join(causes...), s) {
				causes = append(causes, s)
			}
		}
	}
	return causes
}

// Decode rebuilds an error. It returns nil for nil. The hops are the client's own aliases. Whatever
// e holds, the error can be used.
func (c *Codec) Decode(e *Error, hops []string) error {
	if e == nil {
		return nil
	}
	return (&decoder{codec: c, hops: hops}).decode(e, 0)
}

// decoder decodes one error.
type decoder struct {
	codec *Codec
	hops  []string
	// count is how many errors there are so far.
	count int
}

// decode returns nil where the bounds are reached.
func (d *decoder) decode(e *Error, depth int) error {
	if e == nil || depth >= maxErrorDepth || d.count >= maxErrorCount {
		return nil
	}
	d.count++
	switch e.Type {
	case TypeUnknownOp, TypeUnknownVersion:
		return &Error{Type: e.Type, Text: cut(e.Text, maxErrorText), Versions: e.Versions}
	}
	if s := d.codec.sentinel(e.Type); s != nil {
		return s
	}
	causes := make([]error, len(e.Causes))
	for i, cause := range e.Causes {
		causes[i] = d.decode(cause, depth+1)
	}
	if t, ok := d.codec.typeOf(func(t Type) bool { return t.name == e.Type }); ok && e.Type != "" {
		if p, err := t.make(e.Fields); err != nil && p.set(e, causes, d.hops) {
			return err
		}
	}
	return d.words(e, causes)
}

// set sets hop and causes. It returns false if the error is not whole then.
func (p Parts) set(e *Error, causes []error, hops []string) bool {
	for i, place := range p.Causes {
		if i < len(causes) {
			*place = causes[i]
		}
	}
	if p.Hop != nil && e.Hop != nil && *e.Hop >= 0 && *e.Hop < len(hops) {
		*p.Hop = hops[*e.Hop]
	}
	return !p.NeedsCause || *p.Causes[0] != nil
}

// words returns an error of which only words and causes are known. The client's aliases replace the
// server's where the words of a cause stand in them.
func (d *decoder) words(e *Error, causes []error) error {
	text, left := cut(e.Text, maxErrorText), causes[:0:0]
	for i, cause := range causes {
		if cause == nil {
			continue
		}
		left = append(left, cause)
		if before := e.Causes[i].Text; before != "" && before != cause.Error() {
			text = cut(strings.Replace(text, before, cause.Error(), 1), maxErrorText)
		}
	}
	w := wireError{text, left}
	if e.Timeout {
		return &wireTimeout{w}
	}
	return &w
}

// wireError is an error of which only words and causes are known.
type wireError struct {
	text   string
	causes []error
}

func (e *wireError) Error() string   { return e.text }
func (e *wireError) Unwrap() []error { return e.causes }

// wireTimeout is a wireError that is a net.Error.
type wireTimeout struct{ wireError }

// Timeout returns true.
func (e *wireTimeout) Timeout() bool { return true }

// Temporary is a part of net.Error. It returns true.
func (e *wireTimeout) Temporary() bool { return true }

// typeOf returns the first type that is wanted.
func (c *Codec) typeOf(wanted func(Type) bool) (Type, bool) {
	for _, list := range [][]Type{c.Types, standardTypes} {
		if i := slices.IndexFunc(list, wanted); i >= 0 {
			return list[i], true
		}
	}
	return Type{}, false
}

// sentinel returns the error that travels by a name; nil if there is none.
func (c *Codec) sentinel(name string) error {
	if s := c.Sentinels[name]; s != nil {
		return s
	}
	return standardSentinels[name]
}

// sentinelNames returns all names in order.
func (c *Codec) sentinelNames() []string {
	var names []string
	for _, table := range []map[string]error{c.Sentinels, standardSentinels} {
		for name := range table {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// sentinelName returns the name of an error that travels by name; "" if it does not.
func (c *Codec) sentinelName(err error) string {
	if !reflect.TypeOf(err).Comparable() {
		return ""
	}
	for _, table := range []map[string]error{c.Sentinels, standardSentinels} {
		for name, s := range table {
			if s == err {
				return name
			}
		}
	}
	return ""
}

// isNil reports whether there is no error, or a nil pointer in its place.
func isNil(err error) bool {
	if err == nil {
		return true
	}
	v := reflect.ValueOf(err)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// fields shortens the texts and lists of an object.
func (t trim) fields(object json.RawMessage) json.RawMessage {
	var v any
	d := json.NewDecoder(strings.NewReader(string(object)))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil
	}
	short, _ := json.Marshal(t.value(v))
	return short
}

func (t trim) value(v any) any {
	switch v := v.(type) {
	case string:
		return cut(v, t.text)
	case []any:
		v = v[:min(len(v), t.list)]
		for i := range v {
			v[i] = t.value(v[i])
		}
		return v
	case map[string]any:
		for name := range v {
			v[name] = t.value(v[name])
		}
	}
	return v
}

// cut shortens a text to a number of bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const mark = "..."
	return strings.ToValidUTF8(text[:most-len(mark)], "") + mark
}
