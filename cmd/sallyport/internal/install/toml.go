package install

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlFormat is TOML. An entry is a table of its own, with a header, as Codex writes it.
type tomlFormat struct{}

// decodeTOML decodes a document.
func decodeTOML(text []byte) (map[string]any, error) {
	decoded := map[string]any{}
	err := toml.Unmarshal(bytes.TrimPrefix(text, []byte(byteOrderMark)), &decoded)
	if syntax, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := syntax.Position()
		return nil, &SyntaxError{Text: fmt.Sprintf("line %d, column %d: %s", line, column, strings.TrimPrefix(syntax.Error(), "toml: "))}
	} else if err != nil {
		return nil, &SyntaxError{Text: err.Error()}
	}
	return decoded, nil
}

// servers implements format.
func (tomlFormat) servers(text []byte, container []string) ([]Server, error) {
	decoded, err := decodeTOML(text)
	if err != nil {
		return nil, err
	}
	for _, key := range container {
		if decoded[key] == nil {
			return nil, nil
		}
		inner, ok := decoded[key].(map[string]any)
		if !ok {
			return nil, &SyntaxError{Text: fmt.Sprintf("%q should be a table", key)}
		}
		decoded = inner
	}
	var servers []Server
	for _, name := range slices.Sorted(maps.Keys(decoded)) {
		value, _ := decoded[name].(map[string]any)
		servers = append(servers, newServer(name, value))
	}
	return servers, nil
}

// tomlPart is a header or a line of the document.
type tomlPart struct {
	// path is that of the table, or of the key with its table.
	path []string
	// isHeader tells a header from a key.
	isHeader bool
	// from is the offset of its first character, and to that behind its value.
	from, to int
}

// tomlParts lists headers and keys in their order.
func tomlParts(text []byte) []tomlPart {
	var parts []tomlPart
	var table []string
	var parser unstable.Parser
	parser.Reset(text)
	for parser.NextExpression() {
		node := parser.Expression()
		part := tomlPart{isHeader: node.Kind != unstable.KeyValue, from: -1}
		for keys := node.Key(); keys.Next(); {
			if part.from < 0 {
				part.from = int(keys.Node().Raw.Offset)
			}
			part.path = append(part.path, string(keys.Node().Data))
		}
		if part.isHeader {
			table = part.path
			part.from = bytes.LastIndexByte(text[:part.from], '\n') + 1
			part.to = lineEnd(text, part.from)
		} else {
			part.path = append(table[:len(table):len(table)], part.path...)
		}
		parts = append(parts, part)
	}
	for i := range parts {
		if parts[i].isHeader {
			continue
		}
		next := len(text)
		if i+1 < len(parts) {
			next = parts[i+1].from
		}
		parts[i].to = parts[i].from + shortestTOML(text[parts[i].from:next])
	}
	return parts
}

// lineEnd returns the offset behind the line break of the line at offset.
func lineEnd(text []byte, offset int) int {
	if i := bytes.IndexByte(text[offset:], '\n'); i >= 0 {
		return offset + i + 1
	}
	return len(text)
}

// shortestTOML returns the length of the key and value that text begins with. The parser does not
// tell where a value ends, and a comment may follow. So the shortest part that parses is looked
// for: to the end of a line, or to a # in it.
func shortestTOML(text []byte) int {
	for i, c := range text {
		if c != '#' && c != '\n' {
			continue
		}
		if _, err := decodeTOML(text[:i]); err == nil {
			return len(bytes.TrimRight(text[:i], " \t\r\n"))
		}
	}
	return len(bytes.TrimRight(text, " \t\r\n"))
}

// errOtherForm says that an entry is written as nobody but a person can have written it.
func errOtherForm(path []string) error {
	return &SyntaxError{Text: fmt.Sprintf("%s is not written as a table of its own, [%s], and is left alone", path[len(path)-1], tomlKey(path))}
}

// put implements format.
func (f tomlFormat) put(old []byte, container []string, name string, value object) (Change, error) {
	decoded, err := decodeTOML(old)
	if err != nil {
		return Change{}, err
	}
	path := append(container[:len(container):len(container)], name)
	there, err := f.servers(old, container)
	if err != nil {
		return Change{}, err
	}
	text, newline := slices.Clone(old), newlineOf(old)
	if i := slices.IndexFunc(there, func(s Server) bool { return s.Name == name }); i >= 0 {
		text, err = f.update(text, path, there[i].value, value)
	} else {
		text = appendBlock(text, "["+tomlKey(path)+"]"+newline+tomlLines(value, newline))
	}
	if err != nil {
		return Change{}, err
	}
	// The text was edited, so what it means now is compared with what it should mean.
	got, err := f.servers(text, container)
	if err != nil || !slices.ContainsFunc(got, func(s Server) bool { return s.Name == name && has(s.value, value) }) {
		return Change{}, errOtherForm(path)
	}
	change := Change{New: text}
	if len(decoded) == 0 && len(bytes.TrimSpace(old)) == 0 {
		change.Made = []Made{{Was: string(old), Missing: old == nil}}
	}
	return change, nil
}

// tomlKey writes a path of keys with dots.
func tomlKey(path []string) string {
	keys := make([]string, len(path))
	for i, key := range path {
		isBare := key != "" && !strings.ContainsFunc(key, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
		})
		if keys[i] = key; !isBare {
			keys[i] = quote(key)
		}
	}
	return strings.Join(keys, ".")
}

// tomlLines writes the members of a table.
func tomlLines(value object, newline string) string {
	var b strings.Builder
	for _, m := range value {
		b.WriteString(tomlKey([]string{m.key}) + " = " + tomlValue(m.value) + newline)
	}
	return b.String()
}

// tomlValue writes a value on one line.
func tomlValue(value any) string {
	inner, ok := value.(object)
	if !ok {
		return layout{newline: "\n"}.render(value, "")
	}
	members := make([]string, len(inner))
	for i, m := range inner {
		members[i] = tomlKey([]string{m.key}) + " = " + tomlValue(m.value)
	}
	return "{ " + strings.Join(members, ", ") + " }"
}

// tomlPlace finds a key in the table at path. If the table has no such key, both offsets are that
// behind the table's last line. They are -1 if there is no such table.
func tomlPlace(text []byte, path []string, key string) (from, to int, found bool) {
	end, inside := -1, false
	for _, part := range tomlParts(text) {
		switch {
		case part.isHeader:
			if inside = slices.Equal(part.path, path); inside {
				end = part.to
			}
		case inside && slices.Equal(part.path, append(path[:len(path):len(path)], key)):
			return part.from, part.to, true
		case inside:
			end = lineEnd(text, part.to)
		}
	}
	return end, end, false
}

// update sets the members of value in the table at path. Its other lines and comments stay.
func (tomlFormat) update(text []byte, path []string, was map[string]any, value object) ([]byte, error) {
	newline := newlineOf(text)
	for _, m := range value {
		if equal(was[m.key], plain(m.value)) {
			continue
		}
		line := strings.TrimSuffix(tomlLines(object{m}, newline), newline)
		from, to, found := tomlPlace(text, path, m.key)
		switch {
		case from < 0:
			return nil, errOtherForm(path)
		case !found && from == len(text) && !bytes.HasSuffix(text, []byte("\n")):
			line = newline + line
		case !found:
			line += newline
		}
		text = splice(text, from, to, line)
	}
	return text, nil
}

// tomlRange finds the lines of the first table at path or below it, or of the key at path. The
// offsets are -1 if there is none.
func tomlRange(text []byte, path []string) (from, to int) {
	from, to = -1, -1
	for _, part := range tomlParts(text) {
		isOurs := len(part.path) >= len(path) && slices.Equal(part.path[:len(path)], path)
		switch {
		case from >= 0 && (!isOurs || part.isHeader):
			return from, to
		case !isOurs, from < 0 && !part.isHeader && len(part.path) > len(path): // a dotted key
			continue
		case from < 0:
			from = bytes.LastIndexByte(text[:part.from], '\n') + 1
		}
		to = lineEnd(text, max(part.to-1, part.from))
	}
	return from, to
}

// remove implements format.
func (f tomlFormat) remove(old []byte, container []string, name string, made []Made) ([]byte, error) {
	text, path := slices.Clone(old), append(container[:len(container):len(container)], name)
	for from, to := tomlRange(text, path); from >= 0; from, to = tomlRange(text, path) {
		text = cutBlock(text, from, to)
	}
	left, err := f.servers(text, container)
	if err != nil || slices.ContainsFunc(left, func(s Server) bool { return s.Name == name }) {
		return nil, errOtherForm(path)
	}
	if was, ok := lookUpMade(made, nil); ok && len(bytes.TrimSpace(text)) == 0 {
		if was.Missing {
			return nil, nil
		}
		return []byte(was.Was), nil
	}
	return text, nil
}
