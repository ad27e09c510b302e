package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"sallyport/sshtunnel/sshconfig"
)

// skippedConfig is what sshconfig has said of the parts of ssh_config that it skips. Its methods
// may be called concurrently.
type skippedConfig struct {
	mu sync.Mutex // guards what follows
	// lines has one line for each part.
	lines []string
	// unknown is the first of those whose keyword OpenSSH does not know either. It is empty if
	// there is none.
	unknown string
}

// add notes a part of a file that is skipped.
func (s *skippedConfig) add(line string, isUnknown bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.lines, line) {
		return
	}
	s.lines = append(s.lines, line)
	if isUnknown && s.unknown == "" {
		s.unknown = line
	}
}

// told returns the lines, and the first with an unknown keyword.
func (s *skippedConfig) told() (lines []string, unknown string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines), s.unknown
}

// configLog keeps what sshconfig logs of parts that it skips, so that a row can tell it. Everything
// else goes on to the handler in it.
type configLog struct {
	slog.Handler
	skipped *skippedConfig
	attrs   []slog.Attr
}

func (l configLog) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || l.Handler.Enabled(ctx, level)
}

func (l configLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return configLog{l.Handler.WithAttrs(attrs), l.skipped, slices.Concat(l.attrs, attrs)}
}

func (l configLog) WithGroup(name string) slog.Handler { return l.Handler.WithGroup(name) }

func (l configLog) Handle(ctx context.Context, r slog.Record) error {
	facts := map[string]slog.Value{}
	for _, a := range l.attrs {
		facts[a.Key] = a.Value
	}
	keyword, ok := facts["keyword"] // only sshconfig speaks of keywords
	switch {
	case ok:
		place := "-o"
		if file, ok := facts["file"]; ok {
			place = fmt.Sprintf("%s:%s", file, facts["line"])
		}
		reason, _ := facts["err"].Any().(error)
		l.skipped.add(fmt.Sprintf("%s: %s is skipped: %v", place, keyword, reason), errors.Is(reason, sshconfig.ErrUnknownKeyword))
	case l.Handler.Enabled(ctx, r.Level):
		return l.Handler.Handle(ctx, r)
	}
	return nil
}
