package relay

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	"sallyport/relay/rawjson"
)

// toolFilter hides tools: those of Config.IgnoreTools, those that have a name of ours, and with
// Config.PinTools those that nobody has accepted.
type toolFilter struct {
	// pins knows what was accepted. It is nil without Config.PinTools.
	pins *toolPins
	// patterns are those of Config.IgnoreTools in lower case.
	patterns []string
	// foreign is called with the name of a tool of the upstream that looks like one of ours. It is
	// called once in a session.
	foreign func(name string)
}

func newToolFilter(patterns []string, foreign func(name string)) *toolFilter {
	var once sync.Once
	f := &toolFilter{foreign: func(name string) { once.Do(func() { foreign(name) }) }}
	for _, p := range patterns {
		f.patterns = append(f.patterns, strings.ToLower(p))
	}
	return f
}

// hides reports whether Config.IgnoreTools hides a tool of that name.
func (f *toolFilter) hides(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(f.patterns, func(pattern string) bool { return matches(pattern, name) })
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

// refuse returns the answer to m if that calls a hidden tool. Otherwise it returns nil. A call of
// the sign-in tool passes, because we answer that.
func (f *toolFilter) refuse(m rawjson.Message) *fault {
	if m.Method != "tools/call" || callsSignIn(m) {
		return nil
	}
	switch hidden, ours := f.hidesNamed(m.Params); {
	case ours != "":
		return f.refuseName(ours)
	case hidden:
		name := excerpt(rawjson.MemberText(m.Params, "name"), 64)
		return newFault(codeParams, "ignored_tool", fmt.Sprintf("tool %q is hidden here", name),
			"--ignore-tool in the settings of this proxy hides it")
	}
	if f.pins == nil {
		return nil
	}
	return f.pins.refusesNamed(m.Params)
}

// refuseName returns the answer to a call of a name that looks like one of ours.
func (f *toolFilter) refuseName(name string) *fault {
	return newFault(codeParams, "reserved_tool", fmt.Sprintf("this proxy has no tool %q", excerpt(name, 64)),
		"names of tools that begin with "+ourPrefix+" are those of the proxy itself, and are never sent to a server")
}

// callsSignIn reports whether m calls the sign-in tool.
func callsSignIn(m rawjson.Message) bool { return callsNamed(m, signInTool) }

// callsNamed reports whether m calls our tool of the given name. If the key name repeats, all its
// values have to name that.
func callsNamed(m rawjson.Message, tool string) bool {
	is := false
	if m.Method == "tools/call" {
		for val := range rawjson.Values(m.Params, "name") {
			if is = shortText(val) == tool; !is {
				break
			}
		}
	}
	return is
}

// hidesNamed reports whether Config.IgnoreTools hides the name in the raw object. ours is that name
// if it looks like one of ours. If the key repeats, one such name is enough, because readers differ
// in which one counts.
func (f *toolFilter) hidesNamed(object []byte) (hidden bool, ours string) {
	for val := range rawjson.Values(object, "name") {
		if val[0] != '"' {
			continue
		}
		if name := shortText(val); looksLikeOurs(name) {
			return true, name
		}
		hidden = hidden || len(f.patterns) > 0 && f.hides(rawjson.Text(val))
	}
	return hidden, ""
}

// list returns the upstream's answer to a tools/list without the hidden tools. All other bytes stay
// as they are.
func (f *toolFilter) list(answer []byte) []byte {
	answer = edited(answer, f.shown)
	if f.pins != nil {
		answer = f.pins.list(answer)
	}
	return answer
}

// ownList is list for an answer of ours, in which our tools may be. A person who hides the tool
// that calls others has no use for it.
func (f *toolFilter) ownList(answer []byte) []byte {
	return edited(answer, func(tool []byte) bool {
		switch {
		case bytes.Equal(tool, signInToolEntry()):
			return true
		case bytes.Equal(tool, callToolEntry()):
			return !f.hides(callTool)
		}
		return f.shown(tool) && (f.pins == nil || f.pins.shown(tool))
	})
}

// edited returns the answer to a tools/list with those tools for which shown returns true.
func edited(answer []byte, shown func(tool []byte) bool) []byte {
	edited := rawjson.Edit(answer, "result", func(result []byte) []byte {
		return rawjson.Edit(result, "tools", func(array []byte) []byte { return rawjson.Filter(array, shown) })
	})
	if edited == nil {
		return answer
	}
	return edited
}

// shown reports whether the host sees the upstream's raw tool.
func (f *toolFilter) shown(tool []byte) bool {
	hidden, ours := f.hidesNamed(tool)
	if ours != "" {
		f.foreign(ours)
	}
	return !hidden
}
