package cli

import (
	"cmp"
	"io"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/environment"

	"github.com/alecthomas/kong"
)

// Completion says what may stand at the end of a command line that is being typed.
type Completion struct {
	// Candidates are the words that fit, each with what it means. They are nil if none is known.
	Candidates []Candidate
	// Files says that names of files fit, Hosts that those of hosts do, and Topics that those of
	// `sallyport help` do. Clients says that those of MCP hosts do.
	Files, Hosts, Topics, Clients bool
}

// Candidate is one word that fits.
type Candidate struct {
	// Word is the whole word.
	Word string
	// Meaning says what it is, in one line. It may be empty.
	Meaning string
}

// Complete completes the last of words, the arguments of a command line without the program's name.
// A shell may hand on "--flag=value" as three words.
func Complete(words []string) (Completion, error) {
	k, err := newKong(new(grammar), &sources{getenv: environment.Fixed(nil, "").Getenv}, kong.Writers(io.Discard, io.Discard))
	if err != nil {
		return Completion{}, err
	}
	l := typedLine{model: k.Model}
	last := ""
	if n := len(words); n > 0 {
		words, last = words[:n-1], words[n-1]
	}
	for _, word := range words {
		l.take(word)
	}
	return l.complete(last), nil
}

// typedLine is what the words of a command line have said so far.
type typedLine struct {
	// model is the grammar.
	model *kong.Application
	// command was chosen. It is nil as long as none was.
	command *kong.Node
	// waiting is the flag whose value comes next. It is nil if none does.
	waiting *kong.Flag
	// arguments counts the words that are neither flags, nor their values, nor the command.
	arguments int
	// onlyArguments says that "--" ended the flags.
	onlyArguments bool
}

// take takes one whole word.
func (l *typedLine) take(word string) {
	switch {
	case word == "=" && l.waiting != nil: // the value is still to come
	case l.waiting != nil:
		l.waiting = nil
	case word == "--":
		l.onlyArguments = true
	case strings.HasPrefix(word, "-") && !l.onlyArguments:
		if f := l.flag(word); f != nil && !f.IsBool() {
			l.waiting = f
		}
	default:
		if l.command == nil && l.arguments == 0 {
			if l.command = l.named(word); l.command != nil {
				return
			}
		}
		l.arguments++
	}
}

// complete completes a word.
func (l *typedLine) complete(word string) Completion {
	if word == "=" && l.waiting != nil {
		word = ""
	}
	name, value, hasValue := strings.Cut(word, "=")
	var c Completion
	switch {
	case l.waiting != nil:
		c = valuesOf(l.waiting.Value)
	case strings.HasPrefix(word, "-") && hasValue && !l.onlyArguments:
		f := l.flag(name)
		if f == nil {
			return c
		}
		c, word = valuesOf(f.Value), value
	case strings.HasPrefix(word, "-") && !l.onlyArguments:
		c = l.flags()
	default:
		c = l.argument()
	}
	c.Candidates = slices.DeleteFunc(c.Candidates, func(c Candidate) bool { return !strings.HasPrefix(c.Word, word) })
	if hasValue && word == value {
		for i := range c.Candidates {
			c.Candidates[i].Word = name + "=" + c.Candidates[i].Word
		}
	}
	return c
}

// argument says what may stand where no flag does.
func (l *typedLine) argument() Completion {
	var c Completion
	if l.command == nil && l.arguments == 0 {
		for _, node := range l.model.Leaves(true) {
			c.Candidates = append(c.Candidates, Candidate{Word: node.Name, Meaning: node.Help})
		}
		return c
	}
	node := cmp.Or(l.command, l.named("proxy"))
	if n := len(node.Positional); n > 0 {
		return valuesOf(node.Positional[min(l.arguments, n-1)])
	}
	return c
}

// flags lists the flags of the command.
func (l *typedLine) flags() Completion {
	var c Completion
	for _, f := range slices.Concat(cmp.Or(l.command, l.named("proxy")).AllFlags(true)...) {
		c.Candidates = append(c.Candidates, Candidate{Word: "--" + f.Name, Meaning: f.Help})
	}
	return c
}

// valuesOf says what the value of a flag or an argument may be. The placeholder tells.
func valuesOf(v *kong.Value) Completion {
	var c Completion
	kind := v.Tag.PlaceHolder
	if v.Enum != "" {
		for word := range strings.SplitSeq(v.Enum, ",") {
			if word != "" {
				c.Candidates = append(c.Candidates, Candidate{Word: word})
			}
		}
		return c
	}
	c.Files = kind == "FILE" || kind == "DIR"
	c.Hosts = kind == "HOST" || kind == "HOSTS" || v.Name == "host"
	c.Topics = v.Name == "topic"
	c.Clients = kind == "CLIENT" || v.Name == "client"
	if v.Name == "client-scope" {
		c.Candidates = []Candidate{{Word: "user"}, {Word: "local"}, {Word: "project"}}
	}
	return c
}

// flag returns the flag of a word that begins with a hyphen. It returns nil for "--flag=value",
// which needs no other word, and for an unknown one.
func (l *typedLine) flag(word string) *kong.Flag {
	for _, f := range slices.Concat(cmp.Or(l.command, l.named("proxy")).AllFlags(false)...) {
		if word == "--"+f.Name || f.Short != 0 && word == "-"+string(f.Short) {
			return f
		}
	}
	return nil
}

// named returns the command of a name, or nil.
func (l *typedLine) named(name string) *kong.Node {
	for _, node := range l.model.Leaves(false) {
		if node.Name == name {
			return node
		}
	}
	return nil
}
