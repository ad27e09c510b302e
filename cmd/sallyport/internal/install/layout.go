package install

import (
	"bytes"
	"encoding/json"
	"strings"

	"sallyport/cmd/sallyport/internal/lazyregexp"

	"github.com/tailscale/hujson"
)

// layout is how an object of a JSON document is written, so that what is added looks the same.
type layout struct {
	// newline ends a line. It is empty if the object stands on one line.
	newline string
	// indent stands before each member, and unit is one step of it.
	indent, unit string
	// comma and colon stand after a value and after a key: ", " or ",", and ": " or ":".
	comma, colon string
}

// firstIndent finds the indentation of the first line that has some.
var firstIndent = lazyregexp.New(`(?m)^([ \t]+)["}\]]`)

// layoutOf looks at the object at and at the document around it.
func layoutOf(text []byte, at *hujson.Value) layout {
	l := layout{newline: "\n", unit: "  ", comma: ",", colon: ": "}
	if bytes.Contains(text, []byte("\r\n")) {
		l.newline = "\r\n"
	}
	if match := firstIndent().FindSubmatch(text); match != nil {
		l.unit = string(match[1])
	}
	obj := at.Value.(*hujson.Object)
	switch body := bytes.TrimSpace(text); {
	case len(obj.Members) > 0 && ownLines(obj):
		before := obj.Members[0].Name.BeforeExtra
		if nl := bytes.LastIndexByte(before, '\n'); nl >= 0 {
			l.indent = string(before[nl+1:])
			return l
		}
	case len(obj.Members) > 0, !bytes.Contains(body, []byte("\n")) && len(body) > len("{}"):
		l.newline, l.unit = "", ""
		l.comma = ", "
		if !bytes.Contains(text, []byte(`": `)) {
			l.comma, l.colon = ",", ":"
		}
		return l
	}
	line := text[bytes.LastIndexByte(text[:at.StartOffset], '\n')+1 : at.StartOffset]
	l.indent = string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))]) + l.unit
	return l
}

// ownLines reports whether an object has line breaks of its own, besides those of its values.
func ownLines(obj *hujson.Object) bool {
	extras := [][]byte{obj.AfterExtra}
	for _, m := range obj.Members {
		extras = append(extras, m.Name.BeforeExtra, m.Value.AfterExtra)
	}
	return bytes.Contains(bytes.Join(extras, nil), []byte("\n"))
}

// insert adds a member at the end of the object at. Comments keep their place, and a trailing comma
// stays one.
func (l layout) insert(text []byte, at *hujson.Value, m member) []byte {
	obj := at.Value.(*hujson.Object)
	added := quote(m.key) + l.colon + l.render(m.value, l.indent)
	end := at.EndOffset - 1 // the closing brace
	tail := len(obj.AfterExtra) - len(bytes.TrimRight(obj.AfterExtra, " \t\r\n"))
	if len(obj.Members) == 0 {
		if !bytes.Contains(obj.AfterExtra, []byte("\n")) && l.newline != "" {
			tail, added = 0, added+l.newline+strings.TrimSuffix(l.indent, l.unit)
		}
		return splice(text, end-tail, end-tail, l.lead("")+added)
	}
	last := obj.Members[len(obj.Members)-1].Value
	if last.AfterExtra != nil {
		return splice(text, end-tail, end-tail, l.lead(strings.TrimPrefix(l.comma, ","))+added+",")
	}
	text = splice(text, end-tail, end-tail, l.lead(strings.TrimPrefix(l.comma, ","))+added)
	return splice(text, last.EndOffset, last.EndOffset, ",")
}

// lead is what stands before a member: a new line, or the space of a document of one line.
func (l layout) lead(space string) string {
	if l.newline == "" {
		return space
	}
	return l.newline + l.indent
}

// maxList is how long a list on one line may be, in bytes.
const maxList = 80

// render writes a value. An object takes a line for each member, and so does a long list.
func (l layout) render(value any, indent string) string {
	switch value := value.(type) {
	case []string:
		texts := make([]string, len(value))
		for i := range value {
			texts[i] = quote(value[i])
		}
		comma := l.comma
		if l.newline != "" {
			comma = ", "
		}
		line := "[" + strings.Join(texts, comma) + "]"
		if inner := indent + l.unit; l.unit != "" && l.newline != "" && len(line) > maxList {
			return "[" + l.newline + inner + strings.Join(texts, ","+l.newline+inner) + l.newline + indent + "]"
		}
		return line
	case object:
		if len(value) == 0 {
			return "{}"
		}
		inner, members := indent+l.unit, make([]string, len(value))
		for i, m := range value {
			members[i] = quote(m.key) + l.colon + l.render(m.value, inner)
		}
		if l.newline == "" {
			return "{" + strings.Join(members, l.comma) + "}"
		}
		return "{" + l.newline + inner + strings.Join(members, ","+l.newline+inner) + l.newline + indent + "}"
	case bool:
		if value {
			return "true"
		}
		return "false"
	}
	text, _ := value.(string)
	return quote(text)
}

// quote writes a string for JSON, and for TOML and YAML, whose quoted strings hold the same
// escapes. Characters that only HTML minds stay as they are.
func quote(text string) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.Encode(text) // a string cannot fail
	return strings.TrimSuffix(b.String(), "\n")
}
