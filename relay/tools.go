package relay

import (
	"fmt"
	"slices"
	"strings"

	"sallyport/relay/rawjson"
)

// toolFilter hides tools. In its patterns, which are in lower case, * stands for any run of characters; the case of a name does
// not count.
type toolFilter []string

func newToolFilter(patterns []string) toolFilter {
	var f toolFilter
	for _, p := range patterns {
		f = append(f, strings.ToLower(p))
	}
	return f
}

func (f toolFilter) hides(name string) bool {
	name = strings.ToLower(name)
	for _, p := range f {
		if matches(p, name) {
			return true
		}
	}
	return false
}

func matches(pattern, name string) bool {
	head, rest, wild := strings.Cut(pattern, "*")
	name, ok := strings.CutPrefix(name, head)
	if !ok || !wild {
		return ok && name == ""
	}
	for {
		part, more, wild := strings.Cut(rest, "*")
		if !wild {
			return strings.HasSuffix(name, part)
		}
		_, after, ok := strings.Cut(name, part)
		if !ok {
			return false
		}
		name, rest = after, more
	}
}

// refuse is the answer to m if it calls a hidden tool, else nil.
func (f toolFilter) refuse(m rawjson.Message) *fault {
	if len(f) == 0 || m.Method != "tools/call" || !f.names(m.Params) {
		return nil
	}
	return &fault{code: codeParams, kind: "ignored_tool", text: fmt.Sprintf("tool %q is hidden here", excerpt(rawjson.MemberText(m.Params, "name"), 64)),
		hints: []string{"--ignore-tool in the settings of this proxy hides it"}}
}

// names reports whether the object has a name that is hidden: any of them, where the key repeats, for readers differ in which counts.
func (f toolFilter) names(object []byte) (hidden bool) {
	rawjson.Edit(object, "name", func(name []byte) []byte {
		hidden = hidden || name[0] == '"' && f.hides(rawjson.Text(name))
		return nil
	})
	return hidden
}

// list returns the answer to a tools/list without the hidden tools. All other bytes stay as they are.
func (f toolFilter) list(answer []byte) []byte {
	if len(f) == 0 {
		return answer
	}
	edited := rawjson.Edit(answer, "result", func(result []byte) []byte { return rawjson.Edit(result, "tools", f.tools) })
	if edited == nil {
		return answer
	}
	return edited
}

// tools returns the array without the hidden tools; nil: none is.
func (f toolFilter) tools(array []byte) []byte {
	all := rawjson.Elements(array)
	shown := slices.DeleteFunc(slices.Clone(all), f.names)
	if len(shown) == len(all) {
		return nil
	}
	return rawjson.ArrayOf(shown)
}
