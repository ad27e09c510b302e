package install

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// yamlFormat is YAML with a list of servers, each with its name: Continue's. The list is edited as
// text, line by line, because a document that is written anew from its nodes loses its blank lines
// and its indentation.
type yamlFormat struct {
	// head are the lines of a new file, above the list.
	head string
}

// yamlList is the list in a document.
type yamlList struct {
	// root is the mapping that the document consists of. It is nil in an empty document.
	root *yaml.Node
	// key and items are those of the list. They are nil if it is missing.
	key, items *yaml.Node
}

// parse finds the list.
func (yamlFormat) parse(text []byte, key string) (yamlList, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return yamlList{}, &SyntaxError{Text: strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if document.Kind == 0 || len(document.Content) == 0 || document.Content[0].Tag == "!!null" {
		return yamlList{}, nil
	}
	list := yamlList{root: document.Content[0]}
	if list.root.Kind != yaml.MappingNode {
		return list, &SyntaxError{Text: "the file holds no mapping of keys"}
	}
	for i := 0; i+1 < len(list.root.Content); i += 2 {
		if list.root.Content[i].Value == key {
			list.key, list.items = list.root.Content[i], list.root.Content[i+1]
		}
	}
	if list.items != nil && list.items.Kind != yaml.SequenceNode && list.items.Tag != "!!null" {
		return list, &SyntaxError{Text: fmt.Sprintf("line %d: %q should be a list", list.key.Line, key)}
	}
	return list, nil
}

// servers implements format.
func (f yamlFormat) servers(text []byte, container []string) ([]Server, error) {
	list, err := f.parse(text, container[0])
	if err != nil || list.items == nil {
		return nil, err
	}
	var servers []Server
	for _, item := range list.items.Content {
		var value map[string]any
		if err := item.Decode(&value); err != nil {
			return nil, &SyntaxError{Text: fmt.Sprintf("line %d: %v", item.Line, err)}
		}
		name, _ := value["name"].(string)
		servers = append(servers, newServer(name, value))
	}
	return servers, nil
}

// isEmptyList reports whether a node is [], or nothing.
func isEmptyList(items *yaml.Node) bool { return items != nil && len(items.Content) == 0 }

// put implements format.
func (f yamlFormat) put(old []byte, container []string, name string, value object) (Change, error) {
	key := container[0]
	list, err := f.parse(old, key)
	if err != nil {
		return Change{}, err
	}
	newline := newlineOf(old)
	value = append(object{{"name", name}}, value...)
	var change Change
	switch {
	case list.root == nil && len(bytes.TrimSpace(old)) == 0:
		change.Made = []Made{{Was: string(old), Missing: old == nil}}
		change.New = []byte(strings.ReplaceAll(f.head+key+":\n"+yamlItem(value, "  ", "\n"), "\n", newline))
	case list.items == nil:
		change.Made = []Made{{Path: container}}
		change.New = appendBlock(old, key+":"+newline+yamlItem(value, "  ", newline))
	case isEmptyList(list.items):
		from, to := yamlLine(old, list.key.Line), yamlLine(old, list.key.Line+1)
		if list.items.Style&yaml.FlowStyle != 0 && list.items.Line != list.key.Line {
			return Change{}, errFlow(list.items)
		}
		change.Made = []Made{{Path: container, Was: string(old[from:to])}}
		line := openList(string(old[from:to]), newline)
		change.New = splice(old, from, to, line+yamlItem(value, "  ", newline))
	case list.items.Style&yaml.FlowStyle != 0:
		return Change{}, errFlow(list.items)
	default:
		change.New, err = f.merge(old, list, name, value)
	}
	if err != nil {
		return Change{}, err
	}
	got, err := f.servers(change.New, container)
	if err != nil || !slices.ContainsFunc(got, func(s Server) bool { return s.Name == name && has(s.value, value) }) {
		return Change{}, &SyntaxError{Text: fmt.Sprintf("%q is written in a way that is not edited here", key)}
	}
	return change, nil
}

// openList takes the [] out of the line of an empty list. A comment behind it stays.
func openList(line, newline string) string {
	if key, comment, ok := strings.Cut(line, "[]"); ok && !strings.Contains(key, "#") {
		line = strings.TrimRight(key, " ") + comment
	}
	return strings.TrimSuffix(line, newline) + newline
}

// errFlow says that a list is written in brackets.
func errFlow(node *yaml.Node) error {
	return &SyntaxError{Text: fmt.Sprintf("line %d: a list in brackets is not edited here", node.Line)}
}

// yamlLine returns the offset of a line. The first one has the number 1.
func yamlLine(text []byte, line int) int {
	offset := 0
	for ; line > 1; line-- {
		offset = lineEnd(text, offset)
	}
	return offset
}

// yamlItem writes an item of a list, whose dash stands behind indent.
func yamlItem(value object, indent, newline string) string {
	return indent + "- " + strings.TrimPrefix(yamlMembers(value, indent+"  ", newline), indent+"  ")
}

// yamlMembers writes the members of a mapping.
func yamlMembers(value object, indent, newline string) string {
	var b strings.Builder
	for _, m := range value {
		b.WriteString(indent + m.key + ":")
		switch v := m.value.(type) {
		case object:
			b.WriteString(newline + yamlMembers(v, indent+"  ", newline))
			continue
		case []string:
			b.WriteString(newline)
			for _, text := range v {
				b.WriteString(indent + "  - " + quote(text) + newline)
			}
			continue
		}
		b.WriteString(" " + layout{}.render(m.value, "") + newline)
	}
	return b.String()
}

// end returns the offset at which the lines of an item or a member end that begin in line from.
// Those that begin in line next, 0 for the end of the document, do not belong to it, nor do the
// blank lines and comments above them.
func (yamlFormat) end(text []byte, from, next int) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	if next == 0 {
		next = len(lines) + 1
	}
	for next > from+1 {
		line := bytes.TrimSpace(lines[next-2])
		if len(line) > 0 && line[0] != '#' {
			break
		}
		next--
	}
	return yamlLine(text, next)
}

// after returns the line of what follows the list in the document, or 0.
func (l yamlList) after() int {
	for i, node := range l.root.Content {
		if node == l.key && i+2 < len(l.root.Content) {
			return l.root.Content[i+2].Line
		}
	}
	return 0
}

// item finds a server in the list, and the line of the next one.
func (l yamlList) item(name string) (item *yaml.Node, next int) {
	for i, node := range l.items.Content {
		for j := 0; node.Kind == yaml.MappingNode && j+1 < len(node.Content); j += 2 {
			if node.Content[j].Value != "name" || node.Content[j+1].Value != name {
				continue
			}
			if i+1 < len(l.items.Content) {
				return node, l.items.Content[i+1].Line
			}
			return node, l.after()
		}
	}
	return nil, 0
}

// merge adds an item to the list, or updates it.
func (f yamlFormat) merge(old []byte, list yamlList, name string, value object) ([]byte, error) {
	newline := newlineOf(old)
	item, next := list.item(name)
	if item == nil {
		last := list.items.Content[len(list.items.Content)-1]
		end := f.end(old, last.Line, list.after())
		line := old[yamlLine(old, last.Line):]
		added := yamlItem(value, string(line[:len(line)-len(bytes.TrimLeft(line, " "))]), newline)
		if end == len(old) && !bytes.HasSuffix(old, []byte("\n")) {
			added = newline + strings.TrimSuffix(added, newline)
		}
		return splice(old, end, end, added), nil
	}
	if item.Style&yaml.FlowStyle != 0 {
		return nil, errFlow(item)
	}
	var was map[string]any
	if err := item.Decode(&was); err != nil {
		return nil, err
	}
	indent := strings.Repeat(" ", item.Column-1)
	end := f.end(old, item.Line, next)
	text := old
	// From the last member to the first one, so that the lines above keep their numbers.
	for i := len(item.Content) - 2; i >= 0; i -= 2 {
		at := slices.IndexFunc(value, func(m member) bool { return m.key == item.Content[i].Value })
		if at < 0 || has(was, object{value[at]}) {
			continue
		}
		from, following := item.Content[i].Line, next
		if i+2 < len(item.Content) {
			following = item.Content[i+2].Line
		}
		start := yamlLine(text, from) + item.Content[i].Column - 1
		stop := f.end(text, from, following)
		by := strings.TrimPrefix(yamlMembers(object{value[at]}, indent, newline), indent)
		if comment := item.Content[i+1].LineComment; comment != "" && strings.Count(by, newline) == 1 {
			by = strings.TrimSuffix(by, newline) + " " + comment + newline
		}
		text, end = splice(text, start, stop, by), end+len(by)-(stop-start)
	}
	for _, m := range value {
		if _, ok := was[m.key]; !ok {
			by := yamlMembers(object{m}, indent, newline)
			text, end = splice(text, end, end, by), end+len(by)
		}
	}
	return text, nil
}

// remove implements format.
func (f yamlFormat) remove(old []byte, container []string, name string, made []Made) ([]byte, error) {
	list, err := f.parse(old, container[0])
	if err != nil || list.items == nil {
		return old, err
	}
	item, next := list.item(name)
	switch {
	case item == nil:
		return old, nil
	case list.items.Style&yaml.FlowStyle != 0:
		return nil, errFlow(list.items)
	case len(list.items.Content) > 1:
		from, to := yamlLine(old, item.Line), f.end(old, item.Line, next)
		if to == len(old) && !bytes.HasSuffix(old, []byte("\n")) {
			from -= len(newlineOf(old))
		}
		return splice(old, from, to, ""), nil
	}
	from, to := yamlLine(old, list.key.Line), f.end(old, item.Line, next)
	if was, ok := lookUpMade(made, nil); ok && string(bytes.ReplaceAll(old[:from], []byte("\r"), nil)) == f.head && to == len(old) {
		if was.Missing {
			return nil, nil
		}
		return []byte(was.Was), nil
	}
	if was, ok := lookUpMade(made, container); ok && was.Was == "" {
		return cutBlock(old, from, to), nil
	} else if ok {
		return splice(old, from, to, was.Was), nil
	}
	return splice(old, from, to, container[0]+": []"+newlineOf(old)), nil
}
