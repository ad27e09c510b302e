package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/tailscale/hujson"
)

// jsonFormat is JSON with comments and trailing commas. Plain JSON stays plain, because the edits
// follow what is there.
type jsonFormat struct{}

// equal compares decoded values.
func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

const byteOrderMark = "\ufeff"

// parse parses text without its byte order mark. Text of nothing but white space is no document.
func (jsonFormat) parse(text []byte) (hujson.Value, error) {
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return hujson.Value{}, &SyntaxError{Text: "the file is UTF-16, and should be UTF-8"}
	}
	value, err := parseHuJSON(text)
	if err != nil {
		return value, &SyntaxError{Text: strings.TrimPrefix(err.Error(), "hujson: ")}
	}
	if _, ok := value.Value.(*hujson.Object); !ok {
		return value, &SyntaxError{Text: "the file holds no JSON object"}
	}
	return value, nil
}

// parseHuJSON parses a text whose last line may be a comment without a newline, which hujson takes
// for a comment that is cut off.
func parseHuJSON(text []byte) (hujson.Value, error) {
	value, err := hujson.Parse(text)
	if err == nil {
		return value, nil
	}
	ended, endedErr := hujson.Parse(append(bytes.Clone(text), '\n'))
	if endedErr != nil {
		return value, err
	}
	ended.AfterExtra = bytes.TrimSuffix(ended.AfterExtra, []byte("\n"))
	ended.UpdateOffsets()
	return ended, nil
}

// decode returns the value of a node as encoding/json does.
func decode(value hujson.Value) (any, error) {
	value = value.Clone()
	value.Standardize()
	decoder := json.NewDecoder(bytes.NewReader(value.Pack()))
	decoder.UseNumber()
	var decoded any
	err := decoder.Decode(&decoded)
	return decoded, err
}

// servers implements format.
func (f jsonFormat) servers(text []byte, container []string) ([]Server, error) {
	text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	root, err := f.parse(text)
	if err != nil {
		return nil, err
	}
	at, rest, err := walk(text, &root, container)
	if err != nil || len(rest) > 0 {
		return nil, err
	}
	var servers []Server
	for _, m := range at.Value.(*hujson.Object).Members {
		decoded, err := decode(m.Value)
		if err != nil {
			return nil, err
		}
		value, _ := decoded.(map[string]any)
		servers = append(servers, newServer(keyOf(m), value))
	}
	return servers, nil
}

// keyOf returns the key of a member.
func keyOf(m hujson.ObjectMember) string { return m.Name.Value.(hujson.Literal).String() }

// find returns the place of key among the members, or -1. A key that is there twice is an error:
// which of them counts depends on who reads.
func find(text []byte, members []hujson.ObjectMember, key string) (int, error) {
	found := -1
	for i, m := range members {
		if keyOf(m) != key {
			continue
		}
		if found >= 0 {
			return -1, &SyntaxError{Text: fmt.Sprintf("%q is there twice, in line %d and in line %d",
				key, lineOf(text, members[found].Name.StartOffset), lineOf(text, m.Name.StartOffset))}
		}
		found = i
	}
	return found, nil
}

// lineOf returns the number of the line at an offset.
func lineOf(text []byte, offset int) int { return 1 + bytes.Count(text[:offset], []byte("\n")) }

// walk follows path from an object to the innermost object that is there, and returns the part of
// the path that is missing. A null counts as missing.
func walk(text []byte, value *hujson.Value, path []string) (*hujson.Value, []string, error) {
	for i, key := range path {
		members := value.Value.(*hujson.Object).Members
		at, err := find(text, members, key)
		if err != nil {
			return nil, nil, err
		}
		if at < 0 || members[at].Value.Value.Kind() == 'n' {
			return value, path[i:], nil
		}
		value = &members[at].Value
		if _, ok := value.Value.(*hujson.Object); !ok {
			return nil, nil, &SyntaxError{Text: fmt.Sprintf("line %d: %q should be an object", lineOf(text, value.StartOffset), key)}
		}
	}
	return value, nil, nil
}

// put implements format.
func (f jsonFormat) put(old []byte, container []string, name string, value object) (Change, error) {
	mark, text := cutMark(old)
	change := Change{}
	if len(bytes.TrimSpace(text)) == 0 {
		change.Made = append(change.Made, Made{Was: string(old), Missing: old == nil})
		text = []byte("{}")
		if len(old) == 0 || bytes.HasSuffix(old, []byte("\n")) {
			text = []byte("{}\n")
		}
	}
	root, err := f.parse(text)
	if err != nil {
		return Change{}, err
	}
	if change.Made, err = f.noteContainers(text, root, container, change.Made); err != nil {
		return Change{}, err
	}
	if text, err = f.merge(text, append(container[:len(container):len(container)], name), value); err != nil {
		return Change{}, err
	}
	change.New = append([]byte(mark), text...)
	return change, nil
}

// cutMark cuts the byte order mark off.
func cutMark(text []byte) (mark string, rest []byte) {
	rest, found := bytes.CutPrefix(text, []byte(byteOrderMark))
	if found {
		mark = byteOrderMark
	}
	return mark, rest
}

// noteContainers adds to made what put is about to make: containers that are missing, and how those
// are written that are empty.
func (f jsonFormat) noteContainers(text []byte, root hujson.Value, container []string, made []Made) ([]Made, error) {
	at, rest, err := walk(text, &root, container)
	if err != nil {
		return nil, err
	}
	there := len(container) - len(rest)
	if at.Value.(*hujson.Object).Members == nil && (there > 0 || len(made) == 0) {
		made = append(made, Made{Path: container[:there], Was: string(text[at.StartOffset:at.EndOffset])})
	}
	for i := range rest {
		was := ""
		if i == 0 {
			if at, _ := find(text, at.Value.(*hujson.Object).Members, rest[0]); at >= 0 {
				was = "null"
			}
		}
		made = append(made, Made{Path: container[:there+i+1], Was: was})
	}
	return made, nil
}

// merge sets the value at path. Members of an object that is there already are kept, unless value
// has them too.
func (f jsonFormat) merge(text []byte, path []string, value any) ([]byte, error) {
	root, err := f.parse(text)
	if err != nil {
		return nil, err
	}
	at, rest, err := walk(text, &root, path)
	if inner, ok := value.(object); ok && err == nil && len(rest) == 0 {
		for _, m := range inner {
			if text, err = f.merge(text, append(path[:len(path):len(path)], m.key), m.value); err != nil {
				return nil, err
			}
		}
		return text, nil
	}
	if err != nil { // something other than an object is in the way
		if at, rest, err = walk(text, &root, path[:len(path)-1]); err != nil {
			return nil, err
		}
		rest = append(rest, path[len(path)-1])
	}
	return f.set(text, at, rest, value)
}

// set writes value at rest, a path below the object at.
func (f jsonFormat) set(text []byte, at *hujson.Value, rest []string, value any) ([]byte, error) {
	for i := len(rest) - 1; i > 0; i-- {
		value = object{{rest[i], value}}
	}
	obj := at.Value.(*hujson.Object)
	i, err := find(text, obj.Members, rest[0])
	if err != nil {
		return nil, err
	}
	layout := layoutOf(text, at)
	if i < 0 {
		return layout.insert(text, at, member{rest[0], value}), nil
	}
	there := obj.Members[i].Value
	if decoded, err := decode(there); err == nil && equal(decoded, plain(value)) {
		return text, nil
	}
	return splice(text, there.StartOffset, there.EndOffset, layout.render(value, layout.indent)), nil
}

// splice replaces text[from:to].
func splice(text []byte, from, to int, by string) []byte {
	return append(append(append([]byte(nil), text[:from]...), by...), text[to:]...)
}

// remove implements format.
func (f jsonFormat) remove(old []byte, container []string, name string, made []Made) ([]byte, error) {
	mark, text := cutMark(old)
	text, err := f.cut(text, container, name)
	if err != nil {
		return nil, err
	}
	// What has become empty is left as it was before.
	for depth := len(container); depth >= 0; depth-- {
		root, err := f.parse(text)
		if err != nil {
			return nil, err
		}
		at, rest, err := walk(text, &root, container[:depth])
		if err != nil || len(rest) > 0 {
			return nil, err
		}
		obj := at.Value.(*hujson.Object)
		if len(obj.Members) > 0 {
			break
		}
		was, ok := lookUpMade(made, container[:depth])
		if now := text[at.StartOffset:at.EndOffset]; len(bytes.TrimSpace(obj.AfterExtra)) > 0 { // a comment
			if ok && withoutSpace(was.Was) == withoutSpace(string(now)) {
				text = splice(text, at.StartOffset, at.EndOffset, was.Was)
			}
			break
		}
		switch {
		case !ok:
			return append([]byte(mark), splice(text, at.StartOffset, at.EndOffset, "{}")...), nil
		case depth == 0 && was.Missing:
			return nil, nil
		case depth == 0 && strings.TrimSpace(strings.TrimPrefix(was.Was, byteOrderMark)) == "":
			return []byte(was.Was), nil
		case was.Was != "":
			return append([]byte(mark), splice(text, at.StartOffset, at.EndOffset, was.Was)...), nil
		}
		if text, err = f.cut(text, container[:depth-1], container[depth-1]); err != nil {
			return nil, err
		}
	}
	return append([]byte(mark), text...), nil
}

// withoutSpace takes white space out of a text.
func withoutSpace(text string) string { return strings.Join(strings.Fields(text), "") }

// cut takes a member out of the object at path. Comments stay.
func (f jsonFormat) cut(text []byte, path []string, key string) ([]byte, error) {
	root, err := f.parse(text)
	if err != nil {
		return nil, err
	}
	at, rest, err := walk(text, &root, path)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return text, nil
	}
	members := at.Value.(*hujson.Object).Members
	i, err := find(text, members, key)
	if err != nil || i < 0 {
		return text, err
	}
	m, isLast := members[i], i == len(members)-1
	hasComma := !isLast || m.Value.AfterExtra != nil
	before := bytes.TrimRight(m.Name.BeforeExtra, " \t\r\n")
	from, to := m.Name.StartOffset-len(m.Name.BeforeExtra)+len(before), m.Value.EndOffset
	after := text[to:]
	if hasComma {
		after = append(append([]byte(nil), m.Value.AfterExtra...), text[to+len(m.Value.AfterExtra)+1:]...)
	}
	head := text[:from]
	if isLast && !hasComma && i > 0 {
		comma := members[i-1].Value.EndOffset + len(members[i-1].Value.AfterExtra)
		head = append(append([]byte(nil), text[:comma]...), text[comma+1:from]...)
	}
	// A comment to the end of the line must not swallow what comes next.
	between := ""
	if lines := strings.Split(string(before), "\n"); strings.Contains(lines[len(lines)-1], "//") && !startsLine(after) {
		between = layoutOf(text, at).newline
	}
	return append(append(append([]byte(nil), head...), between...), after...), nil
}

// startsLine reports whether text begins with the end of a line.
func startsLine(text []byte) bool {
	trimmed := bytes.TrimLeft(text, " \t\r")
	return len(trimmed) > 0 && trimmed[0] == '\n'
}
