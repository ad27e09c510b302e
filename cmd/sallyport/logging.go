package main

import (
	"cmp"
	"log/slog"
	"os"

	"gopkg.in/natefinch/lumberjack.v2"
)

// A log file rotates at logFileMegabytes and keeps logFileBackups old ones beside it.
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

// omitNil leaves out what is nil: err=<nil> only makes a reader wonder.
func omitNil(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindAny && a.Value.Any() == nil {
		return slog.Attr{}
	}
	return a
}

// openLog makes the loggers that flags ask for. The caller calls closeLog at the end.
func (a *app) openLog(flags commonFlags) (closeLog func(), err error) {
	options := &slog.HandlerOptions{Level: logLevels[cmp.Or(flags.LogLevel, "warn")], ReplaceAttr: omitNil}
	stderr := slog.NewTextHandler(a.err, options)
	if flags.LogFile == "" {
		a.log = slog.New(stderr)
		return func() {}, nil
	}
	// lumberjack would report an unwritable file at the first record, and to nobody.
	probe, err := os.OpenFile(flags.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, &usageError{text: "log file: " + err.Error(), hints: []string{"--log-file (SALLYPORT_LOG_FILE) must name a file in a directory that exists"}}
	}
	if err := probe.Close(); err != nil {
		return nil, &usageError{text: "log file: " + err.Error()}
	}
	file := &lumberjack.Logger{Filename: flags.LogFile, MaxSize: logFileMegabytes, MaxBackups: logFileBackups}
	fileHandler := slog.NewTextHandler(file, options)
	a.log, a.fileLog = slog.New(slog.NewMultiHandler(stderr, fileHandler)), slog.New(fileHandler)
	return func() { file.Close() }, nil
}
