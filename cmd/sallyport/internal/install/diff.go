package install

import (
	"bytes"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/lazyregexp"

	"github.com/rogpeppe/go-internal/diff"
)

// Diff shows what has changed in a file, for people: a unified diff whose secrets are masked and
// whose long lines are cut to the part that differs. It is empty if nothing has changed.
func Diff(path string, old, new []byte) string {
	text := string(diff.Diff(path, printed(old), path, printed(new)))
	_, text, _ = strings.Cut(text, "\n") // "diff PATH PATH" says nothing
	var b strings.Builder
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	// That a file has no line break at its end is not worth a line: it stays so.
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, `\ `) })
	for i, line := range lines {
		if i < 2 && text != "" || line == "" {
			b.WriteString(line + "\n") // the names of the file
			continue
		}
		if other := counterpart(lines, i); len(line) > maxNewLine || len(line) > maxDiffLine && (other != "" || line[0] == ' ') {
			line = cutLine(line, other)
		}
		b.WriteString(mask(line) + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// printed returns a text whose lines end with \n alone.
func printed(text []byte) []byte {
	return bytes.ReplaceAll(bytes.TrimPrefix(text, []byte(byteOrderMark)), []byte("\r\n"), []byte("\n"))
}

const (
	// maxDiffLine is the longest line, in bytes, that is shown as a whole if there is something to
	// compare it with, or if it has not changed. A minified file is one line.
	maxDiffLine = 200
	// maxNewLine is the same for a line that is new, or gone.
	maxNewLine = 2000
	// aroundDiff is how much is shown of a longer line before and behind what differs.
	aroundDiff = 60
)

// counterpart finds the line that line i was, or has become. It is empty if there is none.
func counterpart(lines []string, i int) string {
	for _, j := range []int{i - 1, i + 1} {
		if j >= 0 && j < len(lines) && lines[j] != "" && (lines[i][0] == '-' && lines[j][0] == '+' || lines[i][0] == '+' && lines[j][0] == '-') {
			return lines[j]
		}
	}
	return ""
}

// cutLine cuts the sign and text of a line of the diff to what differs from another.
func cutLine(line, other string) string {
	sign, text := line[:1], line[1:]
	if other == "" {
		return sign + text[:aroundDiff] + " ..."
	}
	other = other[1:]
	from := 0
	for from < min(len(text), len(other)) && text[from] == other[from] {
		from++
	}
	to, end := len(text), len(other)
	for to > from && end > from && text[to-1] == other[end-1] {
		to, end = to-1, end-1
	}
	from, to = max(0, from-aroundDiff), min(len(text), to+aroundDiff)
	before, after := "... ", " ..."
	if from == 0 {
		before = ""
	}
	if to == len(text) {
		after = ""
	}
	return sign + before + strings.ToValidUTF8(text[from:to], "") + after
}

var (
	// secretValue matches a key or variable whose name is that of a secret, and its value. The
	// value is no reference to a variable.
	secretValue = lazyregexp.New(`(?i)([\w.-]*(?:auth|cookie|token|secret|password|passwd|apikey|api[_-]key|credential|bearer)[\w.-]*["']?\s*[:=]\s*)("[^"$][^"]*"|'[^'$][^']*'|[^\s"'$\[{,}]+)`)
	// secretWord matches a secret that stands by itself: that of a header, and in the
	// query of a URL.
	secretWord = lazyregexp.New(`(?i)((?:bearer|basic)\s+|[?&][\w.-]+=)[^\s"'&$]+`)
	// urlPassword matches the password in a URL.
	urlPassword = lazyregexp.New(`(://[^/\s:@"']*:)[^/\s@"']+@`)
	// secretFlag matches a flag whose value is a secret, and the value in the next text of a list.
	secretFlag = lazyregexp.New(`(?i)("--[\w-]*(?:secret|token|password|header)",\s*")[^"]*`)
)

// mask replaces secrets by stars.
func mask(line string) string {
	line = secretFlag().ReplaceAllString(line, "${1}***")
	line = urlPassword().ReplaceAllString(line, "${1}***@")
	line = secretWord().ReplaceAllString(line, "${1}***")
	return secretValue().ReplaceAllStringFunc(line, func(found string) string {
		parts := secretValue().FindStringSubmatch(found)
		if value := strings.Trim(parts[2], `"'`); value == "true" || value == "false" || value == "null" || value == "***" {
			return found
		}
		return parts[1] + `"***"`
	})
}
