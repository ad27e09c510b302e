package install

import (
	"context"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/lazyregexp"
)

var (
	// escapeSequence matches what colours a terminal.
	escapeSequence = lazyregexp.New("\x1b\\[[0-9;?]*[A-Za-z]")
	// badHealth matches the words with which hosts say that a server does not work.
	badHealth = lazyregexp.New(`(?i)fail|error|✗|✘|not connected|disconnected|disabled|pending|not found`)
	// statusLine matches a line that tells the state of the server named above it.
	statusLine = lazyregexp.New(`(?i)^\W*((status|enabled)\s*:|\d+ tools?\b)`)
)

// Health is what a host's own health check says about a server.
type Health struct {
	// Said are the host's words. It is empty if it says nothing of the server.
	Said string
	// Bad says that these are the words for a server that does not work.
	Bad bool
	// Err says that the check ended with an error.
	Err error
}

// Ask runs the command of a health check (see Host.Check) until ctx ends.
func Ask(ctx context.Context, p Place, command []string, name string) Health {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	// A child of the host may keep the pipe open.
	cmd.Dir, cmd.Env, cmd.WaitDelay = p.Dir, p.Env.Environ(), time.Second
	out, err := cmd.CombinedOutput()
	said := healthOf(string(out), name)
	return Health{Said: said, Bad: badHealth().MatchString(said), Err: err}
}

// healthOf finds what the output of a health check says about a server: the line with its name, and
// that of its state.
func healthOf(output, name string) string {
	word := regexp.MustCompile(`(?:^|[^\w-])` + regexp.QuoteMeta(name) + `(?:[^\w-]|$)`)
	var said []string
	for line := range strings.Lines(escapeSequence().ReplaceAllString(output, "")) {
		line = strings.TrimSpace(line)
		if len(said) == 0 && word.MatchString(line) || len(said) == 1 && statusLine().MatchString(line) {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}
