package command

import (
	"cmp"
	"log/slog"
	"os"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/person"

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

var logLevels = map[string]slog.Level{
	"trace": levelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warn": slog.LevelWarn, "error": slog.LevelError, "fatal": levelFatal,
}

// omitNil leaves out an attribute without a value: err=<nil> only makes a reader wonder.
func omitNil(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindAny && a.Value.Any() == nil {
		return slog.Attr{}
	}
	return a
}

// openLog makes the loggers that the settings ask for. The caller calls closeLog at the end.
func (a *app) openLog(settings cli.Common) (closeLog func(), err error) {
	options := &slog.HandlerOptions{Level: logLevels[cmp.Or(settings.LogLevel, "warn")], ReplaceAttr: omitNil}
	stderr := slog.NewTextHandler(a.std.Err, options)
	if settings.LogFile == "" {
		a.log = slog.New(stderr)
		return func() {}, nil
	}
	// lumberjack would report an unwritable file at the first record only, and to nobody.
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
	fileHandler := slog.NewTextHandler(file, options)
	a.log, a.fileLog = slog.New(slog.NewMultiHandler(stderr, fileHandler)), slog.New(fileHandler)
	a.messages = person.NewMessages(a.std.Err, a.fileLog)
	return func() { file.Close() }, nil
}
