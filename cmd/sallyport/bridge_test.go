package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/command"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/hostio"
)

// The names that this package's tests know. This file goes when those tests have moved to stories.

const (
	statusDone        = explain.StatusDone
	statusFailed      = explain.StatusFailed
	statusUsage       = explain.StatusUsage
	statusHostKey     = explain.StatusHostKey
	statusSSHAuth     = explain.StatusSSHAuth
	statusSignIn      = explain.StatusSignIn
	statusUnreachable = explain.StatusUnreachable
	statusInterrupted = explain.StatusInterrupted

	kindHostKey     = explain.KindHostKey
	kindSSHAuth     = explain.KindSSHAuth
	kindRefused     = explain.KindRefused
	kindUnreachable = explain.KindUnreachable
	kindTLS         = explain.KindTLS
	kindPort        = explain.KindPort
)

type stdio struct {
	in       io.Reader
	out, err io.Writer
}

func run(ctx context.Context, args []string, std stdio, env environment.Environment) int {
	return command.Run(ctx, args, command.Stdio{In: std.in, Out: std.out, Err: std.err}, env)
}

func tuneGC() { hostio.TuneGC() }

func testEnvironment(t *testing.T, variables map[string]string) environment.Environment {
	t.Helper()
	return environment.Fixed(variables, t.TempDir())
}

// listener is who listens on a port, of the text of /proc/net/tcp.
type listener struct{ uid string }

func listeningSockets(table string, port int) []listener {
	var found []listener
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) >= 10 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			found = append(found, listener{f[7]})
		}
	}
	return found
}

// As in internal/command.
const (
	logFileMegabytes = 5
	logFileBackups   = 3
)
