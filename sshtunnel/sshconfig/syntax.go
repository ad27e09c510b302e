package sshconfig

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/kevinburke/ssh_config"
)

// blanks separate a keyword from its arguments (WHITESPACE in OpenSSH's misc.c).
const blanks = " \t\r\n"

// directive is one line that says something: neither blank nor a comment.
type directive struct {
	file    string // "" the command line
	line    int
	keyword string   // lower case
	rest    string   // what follows the keyword, for the keywords that take the line as it is
	args    []string // rest, split; the keyword's setter takes them from the front
}

// errorf makes the error of this line.
func (d *directive) errorf(format string, args ...any) error {
	return &Error{File: d.file, Line: d.line, Msg: fmt.Sprintf(format, args...)}
}

// next takes the next argument. It is false where there is none, or an empty one.
func (d *directive) next() (string, bool) {
	if len(d.args) == 0 {
		return "", false
	}
	arg := d.args[0]
	d.args = d.args[1:]
	return arg, arg != ""
}

// placeholder stands for a line that the library must not interpret.
const placeholder = "Placeholder"

// plainLine is what the library's lexer reads as OpenSSH does: a bare keyword, a separator.
var plainLine = regexp.MustCompile(`^[ \t]*[A-Za-z][A-Za-z0-9]*[ \t=][^\r\f]*$`)

// maxPlainLine keeps long lines from the library, whose lexer takes quadratic time for one.
const maxPlainLine = 1024

// parseConfig reads the text of one file.
//
// The library gives the tree of lines and their positions. Its meaning of Host, Match and Include
// differs from OpenSSH's, and its parser refuses whole files for them, so each such line is
// replaced by a placeholder, one line for one line, and its arguments, like those of all
// others, are split again from the source: the library cuts a value at a '#' inside a word.
func parseConfig(file, text string) ([]*directive, error) {
	lines := strings.Split(text, "\n")
	masked := make([]string, len(lines))
	parsed := make(map[int]*directive)
	for i, line := range lines {
		d, err := parseLine(file, i+1, line)
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
			if len(line) <= maxPlainLine && plainLine.MatchString(line) {
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

// parseLine reads one line as process_config_line of OpenSSH does; nil where it says nothing.
func parseLine(file string, number int, line string) (*directive, error) {
	d := &directive{file: file, line: number}
	line, _, _ = strings.Cut(line, "\x00")
	if line == "" {
		return nil, nil
	}
	if number == 1 && strings.HasPrefix(line, "\ufeff") {
		return nil, d.errorf("begins with a byte order mark")
	}
	line = line[:1] + strings.TrimRight(line[1:], blanks+"\f") // a form feed counts at the end only
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
		return nil, d.errorf("no argument after keyword %q", cut(d.keyword))
	}
	var err error
	if d.args, err = splitArguments(d.rest); err != nil {
		return nil, d.errorf("%v", err)
	}
	return d, nil
}

// cutKeyword cuts the first word of s: strdelim of OpenSSH. Blanks, one '=' or quotes end it.
// It is false where a quote is left open.
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

var errOpenQuote = errors.New("a quote is not closed")

// SplitCommand splits the value of a keyword such as KnownHostsCommand into words, as OpenSSH does. The error says
// that a quote is not closed.
func SplitCommand(command string) ([]string, error) { return splitArguments(command) }

// splitArguments splits s into words: argv_split of OpenSSH. Words end at blanks outside of quotes; a '#' that
// starts a word ends the line; a backslash escapes quotes, itself, and a blank outside of quotes.
func splitArguments(s string) ([]string, error) {
	var args []string
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
		args = append(args, word.String())
	}
	return args, nil
}

// cut shortens foreign text for an error.
func cut(s string) string {
	const limit = 100
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}
