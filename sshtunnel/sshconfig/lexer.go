package sshconfig

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/kevinburke/ssh_config"

	"sallyport/sshtunnel/display"
)

// blanks separate a keyword from its arguments (WHITESPACE in OpenSSH's misc.c).
const blanks = " \t\r\n"

// directive is one line that says something: neither blank nor a comment.
type directive struct {
	// origin is the place of the line.
	origin Origin
	// keyword is in lower case.
	keyword string
	// rest is what follows the keyword. Some keywords take it as it is.
	rest string
	// args is rest, split into words. The keyword's setter takes them from the front.
	args []string
	// fault is why the line has no arguments. It matters only if the line applies.
	fault error
}

// errorf makes the error of this line. It names the file and the line.
func (d *directive) errorf(format string, args ...any) error { return d.origin.errorf(format, args...) }

// next takes the next argument. ok is false where there is none, and where it is empty.
func (d *directive) next() (arg string, ok bool) {
	if len(d.args) == 0 {
		return "", false
	}
	arg = d.args[0]
	d.args = d.args[1:]
	return arg, arg != ""
}

// placeholder stands for a line that the library must not interpret.
const placeholder = "Placeholder"

// plainLine is a line that the library's lexer reads as OpenSSH does: a bare keyword, a separator,
// a value.
var plainLine = regexp.MustCompile(`^[ \t]*[A-Za-z][A-Za-z0-9]*[ \t=][^\r\f]*$`)

// maxPlainLine keeps longer lines from the library, whose lexer takes quadratic time for one.
const maxPlainLine = 1024

// parseConfig reads the text of one file into its directives.
//
// kevinburke/ssh_config turns the text into a tree of lines with their positions. It reads Host,
// Match and Include differently from OpenSSH, refuses whole files because of them, and cuts a
// value at a '#' inside a word. So these lines are replaced by placeholders before the library sees
// them, one line for one line, and the arguments of all lines are split here. Any line about which
// the library and parseLine disagree is an error.
func parseConfig(file, text string) ([]*directive, error) {
	lines := strings.Split(text, "\n")
	masked := make([]string, len(lines))
	parsed := make(map[int]*directive)
	for i, line := range lines {
		d, err := parseLine(Origin{Kind: FromFile, File: file, Line: i + 1}, line)
		if err != nil {
			return nil, err
		}
		if d == nil {
			continue
		}
		parsed[i+1] = d
		masked[i] = placeholder + " x"
		switch d.keyword {
		case "host", "match", "include":
		default:
			if d.fault == nil && len(line) <= maxPlainLine && plainLine.MatchString(line) {
				masked[i] = line
			}
		}
	}
	tree, err := ssh_config.DecodeBytes([]byte(strings.Join(masked, "\n")))
	if err != nil {
		return nil, &Error{File: file, Msg: fmt.Sprintf("unreadable: %v", err)}
	}
	directives := make([]*directive, 0, len(parsed))
	for _, host := range tree.Hosts {
		for _, node := range host.Nodes {
			kv, ok := node.(*ssh_config.KV)
			if !ok {
				continue
			}
			line := kv.Pos().Line
			d := parsed[line]
			if d == nil || kv.Key != placeholder && !strings.EqualFold(kv.Key, d.keyword) {
				return nil, &Error{File: file, Line: line, Msg: "line is read in two ways"}
			}
			directives = append(directives, d)
		}
	}
	if len(directives) != len(parsed) {
		return nil, &Error{File: file, Msg: fmt.Sprintf("%d of %d lines were read", len(directives), len(parsed))}
	}
	return directives, nil
}

// parseLine reads one line as process_config_line of OpenSSH does. A line that says nothing gives
// nil.
func parseLine(origin Origin, line string) (*directive, error) {
	d := &directive{origin: origin}
	line, _, _ = strings.Cut(line, "\x00") // C ends the line there
	if line == "" {
		return nil, nil
	}
	if origin.Line == 1 && strings.HasPrefix(line, "\ufeff") {
		return nil, d.errorf("begins with a byte order mark")
	}
	line = line[:1] + strings.TrimRight(line[1:], blanks+"\f") // a form feed is a blank at the end only
	keyword, rest, ok := cutKeyword(line)
	if ok && keyword == "" { // the line began with a blank or with '='
		keyword, rest, ok = cutKeyword(rest)
	}
	if !ok || keyword == "" || keyword[0] == '#' {
		return nil, nil
	}
	d.keyword = strings.ToLower(keyword)
	d.rest = strings.TrimLeft(rest, blanks)
	if d.rest == "" {
		d.fault = d.errorf("no argument after keyword %q", display.Cut(d.keyword))
	}
	var err error
	if d.args, err = SplitCommand(d.rest); err != nil {
		d.fault = d.errorf("%v", err)
	}
	switch d.keyword {
	case "host", "match", "include": // the lines that follow depend on these
		return d, d.fault
	}
	return d, nil
}

// cutKeyword cuts the first word of s, like strdelim of OpenSSH. Blanks, one '=' or quotes end it.
// ok is false where a quote is left open.
func cutKeyword(s string) (word, rest string, ok bool) {
	i := strings.IndexAny(s, blanks+`"=`)
	if i < 0 {
		return s, "", true
	}
	if s[i] == '"' {
		quoted, rest, ok := strings.Cut(s[i+1:], `"`)
		return s[:i] + quoted, strings.TrimLeft(rest, blanks), ok
	}
	rest = strings.TrimLeft(s[i+1:], blanks)
	if s[i] != '=' && strings.HasPrefix(rest, "=") {
		rest = strings.TrimLeft(rest[1:], blanks)
	}
	return s[:i], rest, true
}

// errOpenQuote is the error of SplitCommand.
var errOpenQuote = errors.New("a quote is not closed")

// SplitCommand splits the arguments of a line, or the value of a keyword such as KnownHostsCommand,
// into words (argv_split of OpenSSH). Blanks outside of quotes end a word. A '#' that begins a word
// ends the line. A backslash escapes quotes, itself, and a blank outside of quotes. A quote that is
// left open is an error.
func SplitCommand(s string) ([]string, error) {
	var words []string
	for i := 0; i < len(s); i++ {
		if s[i] == ' ' || s[i] == '\t' {
			continue
		}
		if s[i] == '#' {
			break
		}
		var word strings.Builder
		var quote byte // 0 outside of quotes
	word:
		for ; i < len(s); i++ {
			switch c := s[i]; {
			case c == '\\':
				if i+1 < len(s) && (strings.IndexByte(`'"\`, s[i+1]) >= 0 || quote == 0 && s[i+1] == ' ') {
					i++
				}
				word.WriteByte(s[i])
			case quote == 0 && (c == ' ' || c == '\t'):
				break word
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case quote != 0 && c == quote:
				quote = 0
			default:
				word.WriteByte(c)
			}
		}
		if quote != 0 {
			return nil, errOpenQuote
		}
		words = append(words, word.String())
	}
	return words, nil
}
