package relay

import (
	"fmt"
	"slices"
	"strings"

	"sallyport/relay/rawjson"
)

// toolFilter hides tools. It holds the patterns of Config.IgnoreTools in lower case.
type toolFilter []string

func newToolFilter(patterns []string) toolFilter {
	var f toolFilter
	for _, p := range patterns {
		f = append(f, strings.ToLower(p))
	}
	return f
}

// hides reports whether a tool of that name is hidden.
func (f toolFilter) hides(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(f, func(pattern string) bool { return matches(pattern, name) })
}

// matches reports whether the pattern fits name. In a pattern * stands for any run of characters.
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

// refuse returns the answer to m if that calls a hidden tool. Otherwise it returns nil.
func (f toolFilter) refuse(m rawjson.Message) *fault {
	if len(f) == 0 || m.Method != "tools/call" || !f.hidesNamed(m.Params) {
		return nil
	}
	name := excerpt(rawjson.MemberText(m.Params, "name"), 64)
	return newFault(codeParams, "ignored_tool", fmt.Sprintf("tool %q is hidden here", name),
		"--ignore-tool in the settings of this proxy hides it")
}

// hidesNamed reports whether the name in the raw object is hidden. If the key repeats, one hidden
// name is enough, because readers differ in which one counts.
func (f toolFilter) hidesNamed(object []byte) bool {
	for key, val := range rawjson.Members(object) {
		if key == "name" && val[0] == '"' && f.hides(rawjson.Text(val)) {
			return true
		}
	}
	return false
}

// list returns the answer to a tools/list without the hidden tools. All other bytes stay as they
// are.
func (f toolFilter) list(answer []byte) []byte {
	if len(f) == 0 {
		return answer
	}
	edited := rawjson.Edit(answer, "result", func(result []byte) []byte {
		return rawjson.Edit(result, "tools", f.tools)
	})
	if edited == nil {
		return answer
	}
	return edited
}

// tools returns the raw array without the hidden tools. It returns nil if none is hidden.
func (f toolFilter) tools(array []byte) []byte {
	all := rawjson.Elements(array)
	shown := slices.DeleteFunc(slices.Clone(all), f.hidesNamed)
	if len(shown) == len(all) {
		return nil
	}
	return rawjson.ArrayOf(shown)
}
