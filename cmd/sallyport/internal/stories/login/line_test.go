//go:build linux

package login_test

import (
	"regexp"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// again is what draws the live line again: it begins on the left, and nothing is left of the old
// one.
const again = `\r\x1b\[K`

// A person signs in through two hops at a terminal. The live line tells each stage, is taken away
// before each message, and leaves the terminal as it was.
func TestLiveLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		env      []string
		dim, end string // around the live line
	}{
		{"colored", nil, `\x1b\[2m`, `\x1b\[0m`},
		{"without color", []string{"NO_COLOR=1"}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := machines.NewSite(t, 2, machines.StartMCP)
			cmd := s.Command(t, t.TempDir(), append([]string{"login", "--callback-port", "0", "--no-browser"}, s.Via()...)...)
			cmd.Env = append(append(cmd.Env, "DISPLAY=:0", "LOG_LEVEL=warn"), tt.env...)
			term := machines.StartInTerminal(t, cmd)
			line := func(text string) string { return again + tt.dim + text + tt.end }
			term.Await(t, line(`hop 1 of 2: logging in to \S+`)+`(?s:.*)`+line(`hop 2 of 2: logging in to \S+`))
			link := term.Await(t, again+`sallyport: to sign in to https://mcp.internal/mcp within 5:00 minutes, open this link:\r\n  (http://127\.0\.0\.1:\d+/start/\S+)\r\n`)[1]
			term.Await(t, line(`waiting for the browser 0:0\d of 5:00`)+`(?s:.*)`+line(`waiting for the browser 0:0[1-9] of 5:00`))
			term.Type(t, `the terminal does not show it`, "neither address nor echo\n")
			term.Await(t, again+`sallyport: this is not the address of a page`)
			machines.Person{TrustsAll: true}.LogsIn(t, link)
			term.Await(t, line(`exchanging the code for a token`)+`(?s:.*)`+again+`sallyport: signed in to https://mcp.internal/mcp through \S+\r\n`+
				`  token until [0-9: -]+, then renewed without you; stored in /\S+\r\n$`)
			if got := term.Wait(t); got != machines.StatusDone {
				t.Errorf("status %d, want %d", got, machines.StatusDone)
			}
			if strings.Contains(term.String(), "nor echo") {
				t.Errorf("the terminal shows what was typed:\n%s", term)
			}
			checkLines(t, term.String())
		})
	}
}

// Where lines cannot be drawn again, no escape sequence is written.
func TestNoLiveLine(t *testing.T) {
	t.Parallel()
	s := machines.NewFakeSite(t)
	term := machines.StartInTerminal(t, s.Command([]string{"TERM=dumb", "DISPLAY=:0", "LOG_LEVEL=warn"}, "login", "--callback-port", "0", "--no-browser"))
	link := term.Await(t, `open this link:\r\n  (http://127\.0\.0\.1:\d+/start/\S+)\r\n`)[1]
	term.Type(t, `copy the address of that page, paste it here, and press Enter`, copyCallback(t, link)+"\n")
	term.Await(t, `signed in to `+s.Upstream)
	if got := term.Wait(t); got != machines.StatusDone {
		t.Errorf("status %d, want %d", got, machines.StatusDone)
	}
	if strings.Contains(term.String(), "\x1b") {
		t.Errorf("an escape sequence in %q", term)
	}
	checkLines(t, term.String())
}

// A login by a code shows the code, and for how long it is good.
func TestLiveLineOfADevice(t *testing.T) {
	t.Parallel()
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	cmd := s.Command(t, t.TempDir(), "login", "--grant", "device_code", "--no-browser", s.Gate.URL)
	cmd.Env = append(cmd.Env, "DISPLAY=:0", "LOG_LEVEL=warn")
	term := machines.StartInTerminal(t, cmd)
	shown := term.Await(t, `open this link:\r\n  (\S+)\r\n(?s:.*)enter the code (\S+)\r\n`)
	term.Await(t, again+`\x1b\[2menter the code `+shown[2]+` at \S+/device, waiting 0:0[1-9] of \d+:\d\d\x1b`)
	machines.Person{TrustsAll: true}.LogsIn(t, shown[1])
	term.Await(t, `exchanging the code for a token(?s:.*)`+again+`sallyport: signed in to `+s.Gate.URL+`\r\n  token until`)
	if got := term.Wait(t); got != machines.StatusDone {
		t.Errorf("status %d, want %d", got, machines.StatusDone)
	}
	checkLines(t, term.String())
}

// What is wrong on the way to a login page is told in the form of all other messages: here, that a
// refresh token has ended.
func TestRemarksOfALogin(t *testing.T) {
	t.Parallel()
	s := machines.NewFakeSite(t)
	env := []string{"DISPLAY=:0", "LOG_LEVEL=warn"}
	login := func(browser string) *machines.Terminal {
		return machines.StartInTerminal(t, s.Command(env, "login", "--callback-port", "0", "--browser", browser))
	}
	if got := login(s.Browser).Wait(t); got != machines.StatusDone {
		t.Fatalf("status %d", got)
	}
	machines.OpenRecord(t, s.Home, s.Upstream, "default direct").Expire(t)
	s.AS.RevokeAll()
	term := login(s.Browser)
	term.Await(t, again+`sallyport: note: refresh token is not accepted any more, a new sign-in is needed: [^\r\n]+\r\n(?s:.*)signed in to `)
	if got := term.Wait(t); got != machines.StatusDone {
		t.Errorf("status %d, want %d", got, machines.StatusDone)
	}
	checkLines(t, term.String())
}

// checkLines checks that every line on the screen is whole, and none is that of a log.
func checkLines(t *testing.T, screen string) {
	t.Helper()
	if strings.Contains(screen, "level=") {
		t.Errorf("a line of a log on the screen:\n%s", screen)
	}
	redrawn := regexp.MustCompile(`[^\r\n]*\r\x1b\[K`)
	for line := range strings.Lines(redrawn.ReplaceAllString(screen, "")) {
		line = strings.TrimRight(line, "\r\n")
		if i := strings.Index(line, "sallyport: "); i > 0 || strings.Contains(line, "waiting for the browser") {
			t.Errorf("a torn line: %q", line)
		}
	}
}
