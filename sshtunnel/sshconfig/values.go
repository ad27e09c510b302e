package sshconfig

import (
	"strconv"
	"strings"
	"time"
)

// value is one value of a keyword, in the form that `ssh -G` prints, and where it was set.
type value struct {
	text   string
	origin Origin
}

// values holds what is set so far: the values of each keyword, by its name in lower case.
type values map[string][]value

// isSet reports whether a keyword has a value, be it only a default.
func (v values) isSet(keyword string) bool { return len(v[keyword]) > 0 }

// set gives a keyword its values, unless it has some already: the first ones win.
func (v values) set(keyword string, origin Origin, texts ...string) {
	if !v.isSet(keyword) {
		for _, text := range texts {
			v[keyword] = append(v[keyword], value{text, origin})
		}
	}
}

// setDefault gives a keyword that nobody has set the values that `ssh -G` prints for it.
func (v values) setDefault(keyword string, texts ...string) { v.set(keyword, Origin{}, texts...) }

// replace puts texts in the place of a keyword's values, one for one, and leaves their origins.
func (v values) replace(keyword string, texts ...string) {
	replaced := make([]value, len(texts))
	for i, text := range texts {
		replaced[i] = value{text, v.origin(keyword)}
		if i < len(v[keyword]) {
			replaced[i].origin = v[keyword][i].origin
		}
	}
	v[keyword] = replaced
}

// first returns a keyword's first value, and "" if it is unset.
func (v values) first(keyword string) string {
	if list := v[keyword]; len(list) > 0 {
		return list[0].text
	}
	return ""
}

// origin returns where a keyword's first value was set.
func (v values) origin(keyword string) Origin {
	if list := v[keyword]; len(list) > 0 {
		return list[0].origin
	}
	return Origin{}
}

// texts returns a keyword's values without their origins.
func (v values) texts(keyword string) []string {
	var out []string
	for _, value := range v[keyword] {
		out = append(out, value.text)
	}
	return out
}

// The following methods convert values that were checked when they were set, so nothing can fail
// any more.

// yes reports whether a flag is on.
func (v values) yes(keyword string) bool {
	return v.first(keyword) == "yes" || v.first(keyword) == "true"
}

// number returns an integer. It is 0 for an unset keyword.
func (v values) number(keyword string) int {
	n, _ := strconv.Atoi(v.first(keyword))
	return n
}

// seconds returns a duration. It is 0 for an unset keyword.
func (v values) seconds(keyword string) time.Duration {
	return time.Duration(v.number(keyword)) * time.Second
}

// list splits a value at its commas. It is nil for an unset keyword, and not nil for an empty
// value.
func (v values) list(keyword string) []string {
	switch {
	case !v.isSet(keyword):
		return nil
	case v.first(keyword) == "":
		return []string{}
	}
	return strings.Split(v.first(keyword), ",")
}

// paths returns file names, and nil for "none".
func (v values) paths(keyword string) []string {
	if strings.EqualFold(v.first(keyword), "none") {
		return nil
	}
	return v.texts(keyword)
}

// word returns a value with yes and no in the place of true and false: `ssh -G` prints some
// keywords with the first pair of words, and some with the second.
func (v values) word(keyword string) string {
	switch text := v.first(keyword); text {
	case "true":
		return "yes"
	case "false":
		return "no"
	default:
		return text
	}
}
