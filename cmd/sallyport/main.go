package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	tuneGC()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}, osEnvironment())
	stop()
	os.Exit(status)
}

// tuneGC lets the heap grow to five times what is in use. Little is in use, but each packet of SSH is
// new memory, so that bulk would be a tenth to a fifth slower.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// osEnvironment is the environment of this process. Only a missing home directory needs a word: the
// settings that need one say so themselves when they meet "".
func osEnvironment() environment {
	home, _ := os.UserHomeDir()
	env := environment{Getenv: os.Getenv, Environ: os.Environ(), Home: home}
	if name, err := os.Hostname(); err == nil {
		env.Hostname = name
	}
	if env.User = os.Getenv("USER"); env.User == "" {
		env.User = fmt.Sprint(os.Getuid())
	}
	return env
}
