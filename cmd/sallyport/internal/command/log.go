package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/audit"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/relay"

	"gopkg.in/natefinch/lumberjack.v2"
)

// A log file rotates at logFileMegabytes, and logFileBackups old ones stay beside it.
const (
	logFileMegabytes = 5
	logFileBackups   = 3
)

// Levels of --log-level that slog has no name for.
const (
	levelTrace = slog.LevelDebug - 4
	levelFatal = slog.LevelError + 4
)

// logLevels are the values of --log-level.
var logLevels = map[string]slog.Level{
	"trace": levelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warn": slog.LevelWarn, "error": slog.LevelError, "fatal": levelFatal,
}

// omitNil leaves out an attribute whose value is nil, because err=<nil> looks like an error.
func omitNil(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindAny && a.Value.Any() == nil {
		return slog.Attr{}
	}
	return a
}

// openLog replaces the loggers of a by those that the settings ask for. The caller calls closeLog
// when nothing logs any more. The error is a *cli.UsageError if the log file cannot be written.
//
// The argument forPerson says that a person has typed the command and reads stderr. At the default
// level a record is then a remark among the messages; other levels show records as they are.
func (a *app) openLog(settings cli.Common, forPerson bool) (closeLog func(), err error) {
	a.logSettings = settings
	// A command without settings has no level, so the default of --log-level stands here again.
	options := &slog.HandlerOptions{Level: logLevels[cmp.Or(settings.LogLevel, "warn")], ReplaceAttr: omitNil}
	stderr := slog.Handler(slog.NewTextHandler(a.std.Err, options))
	if options.Level == slog.LevelWarn && forPerson {
		stderr = remarks{messages: a.messages}
	}
	if settings.LogFile == "" {
		a.log = slog.New(stderr)
		return func() {}, nil
	}
	// lumberjack would report an unwritable file at the first record only, and to nobody. The mode
	// keeps other users out. Lumberjack gives the same mode to each new file.
	probe, err := os.OpenFile(settings.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, &cli.UsageError{
			Text:  "log file: " + err.Error(),
			Hints: []string{"--log-file (SALLYPORT_LOG_FILE) must name a file in a directory that exists"},
		}
	}
	if err := probe.Close(); err != nil {
		return nil, &cli.UsageError{Text: "log file: " + err.Error()}
	}
	file := &lumberjack.Logger{Filename: settings.LogFile, MaxSize: logFileMegabytes, MaxBackups: logFileBackups}
	fileHandler := slog.NewTextHandler(person.Gate(file), options)
	a.log, a.fileLog = slog.New(slog.NewMultiHandler(stderr, fileHandler)), slog.New(fileHandler)
	// Many MCP hosts show nobody the stderr of a server, so the file gets the messages too.
	a.messages = person.NewMessages(a.std.Err, a.fileLog)
	return func() { file.Close() }, nil
}

// openAudit opens the file of --audit-log. It is nil without one. The caller closes it when no call
// is under way any more. The error is a *cli.UsageError.
func openAudit(a *app, path string) (*audit.Log, error) {
	if path == "" {
		return nil, nil
	}
	log, err := audit.Open(path, a.log)
	if err != nil {
		return nil, &cli.UsageError{
			Text:  "audit log: " + err.Error(),
			Hints: []string{"--audit-log (SALLYPORT_AUDIT_LOG) must name a file in a directory that exists"},
		}
	}
	return log, nil
}

// auditTo returns what writes a line for each call of a session. It is nil without a log.
func auditTo(log *audit.Log, s *session.Session) func(relay.AuditEntry) {
	if log == nil {
		return nil
	}
	upstream, profile := session.PlainURL(s.Upstream), s.Realm.Profile
	return func(e relay.AuditEntry) {
		line := audit.Line{
			Time:     e.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
			Upstream: upstream, Profile: profile, Method: e.Method,
			Outcome: e.Outcome, Code: e.Code, Kind: e.Kind,
			Milliseconds: json.Number(strconv.FormatFloat(float64(e.Duration.Round(10*time.Microsecond))/float64(time.Millisecond), 'f', -1, 64)),
			Client:       e.Client, Process: os.Getpid(), Trace: e.TraceID,
		}
		// What a peer names may hold a secret in use all the same.
		name := s.Mask(e.Name)
		switch e.Method {
		case "tools/call":
			line.Tool = name
		case "resources/read":
			line.URI = name
		default:
			line.Name = name
		}
		log.Add(line)
	}
}

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
