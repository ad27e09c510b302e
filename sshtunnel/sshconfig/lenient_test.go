//go:build linux

package sshconfig

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// refusedLine finds the place that ssh names when it refuses a file.
var refusedLine = regexp.MustCompile(`(?m)^(/\S+?):? line (\d+):`)

// runWithout runs `ssh -G` on files that ssh refuses and we do not. It takes out one line after the
// other that ssh names, until ssh is content. The answer must be ours for the files as they were.
// With each line it makes sure that we had the right to skip it.
func (o *oracle) runWithout(t *testing.T, s sandbox, args, env []string) (settingsByKeyword, error) {
	t.Helper()
	for range 40 {
		out, err := o.run(args, env)
		if err == nil {
			return out, nil
		}
		place := refusedLine.FindStringSubmatch(err.Error())
		if place == nil {
			return nil, err
		}
		n, _ := strconv.Atoi(place[2])
		text, readErr := os.ReadFile(place[1])
		if readErr != nil {
			t.Fatal(readErr)
		}
		lines := strings.Split(string(text), "\n")
		write := func(line string) {
			changed := append(append([]string(nil), lines[:n-1]...), line)
			text := strings.Join(append(changed, lines[n:]...), "\n")
			if err := os.WriteFile(place[1], []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		d, _ := parseLine(Origin{}, lines[n-1])
		_, isList := o.release.known[d.keyword]
		switch {
		case isList:
			// Whatever the line asks for beyond the default is unknown. It is still the first.
			write(d.keyword + " -nope")
		case withoutEffect[d.keyword] || setters[d.keyword] == nil:
			write("")
		case o.modern():
			write("RefuseConnection here")
			if _, err := o.run(args, env); err != nil && strings.Contains(err.Error(), "RefuseConnection") {
				t.Errorf("%s:%d applies, and we skip it: %q", place[1], n, lines[n-1])
			}
			write("")
		default:
			write("")
		}
	}
	t.Fatal("ssh refuses the files after 40 corrections")
	return nil, nil
}
