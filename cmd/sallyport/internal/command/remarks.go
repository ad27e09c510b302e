package command

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"sallyport/cmd/sallyport/internal/person"
)

// remarks is a slog.Handler that tells records of the level warn and above to the person, in the
// form of all other messages.
type remarks struct {
	messages *person.Messages
	// attrs are those of With.
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (r remarks) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle implements slog.Handler. The error of a record follows its text, and the other attributes
// stand behind in brackets.
func (r remarks) Handle(_ context.Context, record slog.Record) error {
	text, facts := record.Message, []string(nil)
	add := func(a slog.Attr) bool {
		a = omitNil(nil, a)
		switch value := strings.TrimSpace(a.Value.Resolve().String()); {
		case a.Equal(slog.Attr{}) || value == "":
		case a.Key == "err":
			text += ": " + value
		default:
			facts = append(facts, fmt.Sprintf("%s %s", a.Key, value))
		}
		return true
	}
	for _, a := range r.attrs {
		add(a)
	}
	record.Attrs(add)
	if len(facts) > 0 {
		text += " (" + strings.Join(facts, ", ") + ")"
	}
	r.messages.Say("note: %s", person.OneLine(text))
	return nil
}

// WithAttrs implements slog.Handler.
func (r remarks) WithAttrs(attrs []slog.Attr) slog.Handler {
	r.attrs = append(r.attrs[:len(r.attrs):len(r.attrs)], attrs...)
	return r
}

// WithGroup implements slog.Handler. The names of groups mean nothing to a person.
func (r remarks) WithGroup(string) slog.Handler { return r }
