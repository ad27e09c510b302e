// Package pins remembers the tools that a person has accepted, and tells which tools of a server
// are still those.
//
// A tool is compared by its form: a canonical text of all that a model may read of it. The order of
// keys, white space and the way that characters are escaped do not count. Of the members of a tool
// all count, also those that nobody knows yet, except the few in unread. Where a key repeats, all
// its values count, because readers differ in which one they take. Numbers are compared as they are
// written.
//
// A [Record] has a name and a hash for each tool, and the form itself where there is room, so that
// a person can be shown what has changed. A name may have several forms, as some servers list a
// tool twice.
package pins

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"
	"unicode/utf8"

	"sallyport/relay/rawjson"
)

// Bounds of what is remembered. A tool beyond them is never shown.
const (
	maxTool  = 1 << 20   // bytes of a tool
	maxName  = 1 << 10   // bytes of its name
	maxDepth = 64        // depth of the values in it
	maxForm  = 256 << 10 // bytes of a form that is kept besides its hash
	maxForms = 4 << 20   // bytes of all forms that are kept
	maxNames = 2 << 20   // bytes of all that is kept besides forms, roughly
	perEntry = 96        // bytes of an entry besides its name and its form, roughly
)

// unread are the members of a tool that no model reads: data for programs, and pictures.
var unread = []string{"_meta", "icons", "execution"}

// Tool is a tool of a server as it is compared.
type Tool struct {
	// Name is empty if the tool cannot be remembered: it is no object, has no name or several, or
	// is too large.
	Name string
	// Form is the canonical text.
	Form []byte
	// hash is that of Form.
	hash [sha256.Size]byte
}

// Of returns the raw tool as it is compared.
func Of(raw []byte) Tool {
	name, ok := nameOf(raw)
	if !ok || len(raw) > maxTool {
		return Tool{}
	}
	w := writer{}
	if w.members(raw, unread, 0); w.tooDeep {
		return Tool{}
	}
	form := w.b.Bytes()
	return Tool{Name: name, Form: form, hash: sha256.Sum256(form)}
}

// List returns the tools in a raw array.
func List(array []byte) []Tool {
	var list []Tool
	for raw := range rawjson.Elements(array) {
		list = append(list, Of(raw))
	}
	return list
}

// nameOf returns the one name of the raw tool.
func nameOf(raw []byte) (name string, ok bool) {
	n := 0
	for val := range rawjson.Values(raw, "name") {
		if n++; n > 1 || val[0] != '"' || len(val) > maxName {
			return "", false
		}
		name = rawjson.Text(val)
	}
	return name, name != "" && utf8.ValidString(name)
}

// writer writes the canonical text of a value.
type writer struct {
	b       bytes.Buffer
	tooDeep bool
}

// value writes any value, which is depth values deep.
func (w *writer) value(raw []byte, depth int) {
	switch {
	case depth > maxDepth:
		w.tooDeep = true
	case len(raw) == 0:
	case raw[0] == '{':
		w.members(raw, nil, depth)
	case raw[0] == '[':
		w.b.WriteByte('[')
		first := true
		for element := range rawjson.Elements(raw) {
			if !first {
				w.b.WriteByte(',')
			}
			first = false
			if w.value(element, depth+1); w.tooDeep {
				return
			}
		}
		w.b.WriteByte(']')
	case raw[0] == '"':
		text := rawjson.Text(raw)
		if strings.ContainsRune(text, utf8.RuneError) || text == "" {
			w.b.Write(raw) // it may stand for more than one text
			return
		}
		w.b.Write(rawjson.Quote(text))
	default:
		w.b.Write(raw)
	}
}

// members writes an object without the given members. Its keys are sorted; the values of one that
// repeats stay in their order.
func (w *writer) members(raw []byte, without []string, depth int) {
	type member struct {
		key string
		val []byte
	}
	var all []member
	for key, val := range rawjson.Members(raw) {
		if !slices.Contains(without, key) {
			all = append(all, member{key, val})
		}
	}
	slices.SortStableFunc(all, func(a, b member) int { return cmp.Compare(a.key, b.key) })
	w.b.WriteByte('{')
	for i, m := range all {
		if i > 0 {
			w.b.WriteByte(',')
		}
		w.b.Write(rawjson.Quote(m.key))
		w.b.WriteByte(':')
		if w.value(m.val, depth+1); w.tooDeep {
			return
		}
	}
	w.b.WriteByte('}')
}
