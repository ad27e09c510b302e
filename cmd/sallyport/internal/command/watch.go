package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/person"
)

// watchInterval is how often the status is collected again.
const watchInterval = time.Second

// Colors of a terminal (ECMA-48, SGR). Only watchStatus writes them.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// watchStatus shows the status again whenever it changes, until ctx ends. On a terminal the new one
// takes the place of the old one. Elsewhere each is printed below the one before, after a line with
// the time, and as JSON each is one line.
func watchStatus(ctx context.Context, a *app, c *cli.StatusCommand) error {
	live := person.IsTerminal(a.toHost) && a.env.Getenv("TERM") != "dumb"
	screen := statusScreen{out: a.toHost, asJSON: c.JSON, live: live && !c.JSON, colored: live && a.env.Getenv("NO_COLOR") == ""}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		report, err := newStatusReport(ctx, a, c.Store)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if err := screen.show(report, time.Now()); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// statusScreen is where watchStatus shows the status.
type statusScreen struct {
	// out is stdout, to which escape sequences may go.
	out io.Writer
	// asJSON says that each status is a line of JSON.
	asJSON bool
	// live says that it is a terminal. colored says that colors may be used there.
	live, colored bool
	// shown is the JSON of what is shown at present.
	shown string
}

// show shows a report. Where it would stay to be read, it shows only what has changed. The time now
// tells how long something lasts, which changes by itself.
func (s *statusScreen) show(report statusReport, now time.Time) error {
	var asJSON, text strings.Builder
	if err := errors.Join(person.WriteJSONLine(&asJSON, report), report.write(&text, now)); err != nil {
		return err
	}
	if !s.live && asJSON.String() == s.shown {
		return nil
	}
	s.shown = asJSON.String()
	var b strings.Builder
	switch {
	case s.asJSON:
		b.WriteString(s.shown)
	case !s.live:
		fmt.Fprintf(&b, "%s\n%s", now.Format(time.DateTime), person.Lines(text.String()))
	default:
		b.WriteString("\x1b[H") // the upper left corner
		for line := range strings.Lines(person.Lines(text.String())) {
			fmt.Fprintf(&b, "%s\x1b[K\n", s.paint(strings.TrimSuffix(line, "\n")))
		}
		b.WriteString("\x1b[J") // and nothing below
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}

// paint colors one line of the report by what it says.
func (s *statusScreen) paint(line string) string {
	if !s.colored {
		return line
	}
	row, _, isRow := strings.Cut(strings.TrimPrefix(line, "  "), " ")
	color := ""
	switch {
	case !strings.HasPrefix(line, "  "):
		color = bold
	case !isRow:
	case row == "problem":
		color = red
	case row == "sign-in" || row == "link" || row == "says":
		color = yellow
	case row == "hint" || row == "sign":
		color = dim
	case row == "tunnel" || row == "callback" || row == "state":
		color = red
		if strings.Contains(line, ": up") || strings.Contains(line, " up for ") {
			color = green
		} else if strings.Contains(line, "dialing") || strings.Contains(line, "idle") {
			color = yellow
		}
	}
	if color == "" {
		return line
	}
	return "\x1b[" + color + "m" + line + "\x1b[0m"
}
