package command

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/install"
)

// checkTimeout is how long a host's health check may take. Hosts start all their servers for it.
const checkTimeout = 30 * time.Second

var (
	// escapeSequence matches what colours a terminal.
	escapeSequence = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")
	// badHealth matches the words with which hosts say that a server does not work.
	badHealth = regexp.MustCompile(`(?i)fail|error|✗|✘|not connected|disconnected|disabled|pending|not found`)
	// statusLine matches a line that tells the state of the server named above it.
	statusLine = regexp.MustCompile(`(?i)^\W*((status|enabled)\s*:|\d+ tools?\b)`)
)

// checkHost asks the host's own health check, if it has one and is here, and tells what it says. It
// is no error if the host is not content: the entry is there.
func checkHost(ctx context.Context, a *app, place install.Place, host *install.Host, result install.Result) error {
	name, scope := result.Name, result.Scope
	command := host.Check(place, name)
	if command == nil {
		return nil
	}
	shown := strings.Join(append([]string{host.Programs[0]}, command[1:]...), " ")
	a.messages.Say("asking %s (at most %s)", shown, checkTimeout)
	limited, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	cmd := exec.CommandContext(limited, command[0], command[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = place.Dir, a.env.Environ(), time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if limited.Err() != nil {
		a.messages.Report(fmt.Sprintf("%s gave no answer in %s", shown, checkTimeout), []string{"type it yourself"})
		return nil
	}
	said := healthOf(string(out), name)
	switch {
	case said == "" && err != nil:
		a.messages.Report(fmt.Sprintf("%s failed: %v", shown, err), []string{"type it yourself to see why"})
	case said == "":
		a.messages.Report(fmt.Sprintf("%s says nothing of %q", shown, name), host.Next(scope, name))
	case badHealth.MatchString(said):
		a.messages.Report(fmt.Sprintf("%s says: %s", shown, said), append(host.Next(scope, name), "sallyport doctor --client "+host.Name+" URL looks for the cause"))
	case host.OnlyReads:
		a.messages.Say("%s says: %s (it has read the entry; only a session starts the server)", shown, said)
	default:
		a.messages.Say("%s says: %s", shown, said)
	}
	return nil
}

// healthOf finds what the output of a health check says about a server: the line with its name, and
// that of its state.
func healthOf(output, name string) string {
	word := regexp.MustCompile(`(?:^|[^\w-])` + regexp.QuoteMeta(name) + `(?:[^\w-]|$)`)
	var said []string
	for line := range strings.Lines(escapeSequence.ReplaceAllString(output, "")) {
		line = strings.TrimSpace(line)
		if len(said) == 0 && word.MatchString(line) || len(said) == 1 && statusLine.MatchString(line) {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}
