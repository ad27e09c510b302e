package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"os/user"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A host that stops reading shows as an error of the write: unasked, the runtime would end this
	// process by the signal, and the upstream would never be told. Not signal.Ignore, which children inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	status := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}, osEnvironment())
	stop()
	os.Exit(status)
}

// osEnvironment is the environment of this process. What the user database says of the user goes
// before USER, as in ssh, and stands in for a HOME that is not set: services and MCP hosts may leave
// both out. Only a missing home directory needs a word: the settings that need one say so themselves.
func osEnvironment() environment {
	env := environment{Getenv: os.Getenv, Environ: os.Environ(), User: os.Getenv("USER")}
	env.Home, _ = os.UserHomeDir()
	if u, err := user.Current(); err == nil {
		_, name, domain := strings.Cut(u.Username, `\`) // Windows: DOMAIN\name
		if !domain {
			name = u.Username
		}
		env.User, env.Home = cmp.Or(name, env.User), cmp.Or(env.Home, u.HomeDir)
	}
	env.Hostname, _ = os.Hostname()
	return env
}
