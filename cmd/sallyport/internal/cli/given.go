package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Given is a setting that the person has made, and where.
type Given struct {
	// Name is the flag with its hyphens, or URL for the argument.
	Name string
	// Value is the value for people. A secret is hidden, and so is the query of a URL.
	Value string
	// From is "command line", the name of a variable, or FILE: FIELD.
	From string
}

// hidden stands for the value of a secret.
const hidden = "(hidden)"

// note remembers where the value of a flag was found.
func (s *sources) note(flag, from string) {
	if s.found == nil {
		s.found = map[string]string{}
	}
	s.found[flag] = from
}

// given lists the settings that are not defaults, by their names.
func (s *sources) given(kctx *kong.Context) []Given {
	made := map[string]Given{}
	for _, flag := range kctx.Flags() {
		from, found := s.found[flag.Name]
		if found {
			made[flag.Name] = Given{Name: "--" + flag.Name, Value: shown(flag), From: from}
		}
	}
	for _, path := range kctx.Path {
		switch {
		case path.Flag != nil && path.Flag.Tag.Get("from") == "-": // says what the doctor does
		case path.Flag != nil && !path.Resolved:
			made[path.Flag.Name] = Given{Name: "--" + path.Flag.Name, Value: shown(path.Flag), From: "command line"}
		case path.Positional != nil:
			made[""] = Given{Name: "URL", Value: beforeQuery(fmt.Sprint(path.Positional.Target.Interface())), From: "command line"}
		}
	}
	var list []Given
	for _, g := range made {
		if g.Name == "--upstream-url" { // the flag itself is hidden: the name is that of the argument
			if _, argument := made[""]; argument {
				continue
			}
			g.Name = "URL"
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b Given) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// secretFlags are the flags whose values are secrets, wherever they stand.
var secretFlags = []string{"client-secret", "idp-client-secret", "authorization-code", "code-verifier", "refresh-token", "extra-params", "authorize-param"}

// shown words the value of a flag.
func shown(flag *kong.Flag) string {
	if slices.Contains(secretFlags, flag.Name) {
		return hidden
	}
	switch value := flag.Target.Interface().(type) {
	case []string:
		texts := slices.Clone(value)
		for i, text := range texts {
			if name, _, ok := strings.Cut(text, ":"); ok && flag.Name == "header" {
				texts[i] = strings.TrimSpace(name) + ": " + hidden
			}
		}
		return strings.Join(texts, ", ")
	case Ports:
		return strings.Join(strings.Fields(strings.Trim(fmt.Sprint([]int(value)), "[]")), ",")
	case Seconds:
		return time.Duration(value).String()
	case Milliseconds:
		return time.Duration(value).String()
	case Interval:
		return time.Duration(value).String()
	case string:
		return beforeQuery(value)
	default:
		return fmt.Sprint(value)
	}
}

// beforeQuery cuts the query of a URL, which may hold a secret.
func beforeQuery(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	before, _, _ := strings.Cut(text, "?")
	return before
}
