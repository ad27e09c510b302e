package main

import (
	"context"
	_ "embed"
	"os"
	"os/signal"
	"syscall"

	"sallyport/cmd/sallyport/internal/command"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/hostio"
)

// version is set by the linker. A plain go build leaves it as it is.
var version = "devel"

// manual is the source of this package's comment, whose chapters `sallyport help` prints.
//
//go:embed doc.go
var manual string

func main() {
	hostio.LimitMemory()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// If the MCP host stops reading, a write fails. Without this line the runtime would end the
	// process by SIGPIPE instead, before the session with the upstream is closed. signal.Ignore
	// would not do, because child processes inherit it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	env := environment.OfProcess()
	env.Version, env.Manual = version, manual
	in, restore := hostio.OpenStdin()
	status := command.Run(ctx, os.Args[1:], command.Stdio{In: in, Out: os.Stdout, Err: os.Stderr}, env)
	restore()
	stop()
	os.Exit(status)
}
