package cli

import (
	"fmt"
	"slices"

	"sallyport/cmd/sallyport/internal/lazyregexp"

	"github.com/agnivade/levenshtein"
)

// bareWord is what a command's name looks like, and no URL.
var bareWord = lazyregexp.New(`^[A-Za-z][A-Za-z0-9_-]*$`)

// checkCommand returns an error if the upstream's URL on the command line is a single word: the
// person meant a command that does not exist.
func checkCommand(command any) error {
	switch c := command.(type) {
	case *ProxyCommand:
		return checkWord(c.URL)
	case *LoginCommand:
		if !c.Paste && len(c.More) > 0 {
			return &UsageError{Text: fmt.Sprintf("unexpected argument %s", c.More[0])}
		}
	case *CallbackCommand:
		switch {
		case c.Remove && !c.Service:
			return &UsageError{Text: "--remove belongs to --service", Hints: []string{"to take the service away: sallyport callback --service --remove"}}
		case len(c.Host) == 0 && (c.Install || len(c.Port) > 0):
			return &UsageError{Text: "callback needs HOST for --install and --port, the machine where you sign in", Hints: []string{"sallyport callback [flags] HOST..."}}
		}
	}
	return nil
}

// checkWord returns an error if word is no URL, but looks like the name of a command.
func checkWord(word string) error {
	if !bareWord().MatchString(word) || word == "localhost" {
		return nil
	}
	e := &UsageError{Text: fmt.Sprintf("unknown command %q", word)}
	if name := Nearest(word, CommandNames()); name != "" {
		e.Hints = append(e.Hints, "did you mean: sallyport "+name)
	}
	e.Hints = append(e.Hints, "sallyport --help lists commands and flags", "an upstream is named by its URL: sallyport [flags] https://HOST/PATH")
	return e
}

// CommandNames lists the names of all commands.
func CommandNames() []string {
	var names []string
	for _, field := range commandFields() {
		names = append(names, field.Tag.Get("name"))
	}
	return append(names, "proxy")
}

// Nearest returns the name that is most like word, or "" if none is like it.
func Nearest(word string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	distance := func(name string) int { return levenshtein.ComputeDistance(word, name) }
	best := slices.MinFunc(names, func(a, b string) int { return distance(a) - distance(b) })
	if distance(best) > max(1, len(word)/2) {
		return ""
	}
	return best
}
