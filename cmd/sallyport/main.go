package main

import (
	"cmp"
	"context"
	"io"
	"os"
	"os/signal"
	"os/user"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

func main() {
	tuneGC()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A host that stops reading shows as an error of the write: unasked, the runtime would end this
	// process by the signal, and the upstream would never be told. Not signal.Ignore, which children inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends us at once
	in, restore := openStdin()
	status := run(ctx, os.Args[1:], stdio{in, os.Stdout, os.Stderr}, osEnvironment())
	restore()
	stop()
	os.Exit(status)
}

// tuneGC lets the heap grow to five times what is in use, up to a limit. Little is in use mostly, but each packet of SSH is
// new memory, so that bulk would be a tenth to a fifth slower. Hundreds of calls with large answers would make that hundreds of MiB.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(128 << 20)
	}
}

// shrink returns what makes a proxy small that has started, or has carried something large.
//
// It stays with one processor, for it waits more than it works: with several, each hand-over between goroutines wakes a thread that mostly
// finds nothing to do, and a call takes longer. One is enough for tens of thousands of calls a second. The start, with its key exchanges,
// has them all, and so has a proxy whose in the poller cannot watch: a thread that sits in a read would keep the one to itself.
func shrink(in io.Reader) func() {
	file, ok := in.(*os.File)
	watched := ok && file.SetReadDeadline(time.Time{}) == nil
	return func() {
		if watched && os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) > 1 {
			runtime.GOMAXPROCS(1)
		}
		freeMemory()
	}
}

// freeMemory gives back what is not in use. A sync.Pool, and the relay keeps the memory of large messages in one, is empty after
// the second collection.
func freeMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}

// osEnvironment is the environment of this process. What the user database says of the user goes
// before USER, as in ssh, and stands in for a HOME that is not set: services and MCP hosts may leave
// both out. Only a missing home directory needs a word: the settings that need one say so themselves.
func osEnvironment() environment {
	env := environment{User: os.Getenv("USER")}
	env.Getenv, env.Hide = variablesWithoutSecrets()
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

// secretVariables never reach a child process: browser, SSH_ASKPASS, ProxyCommand, Match exec.
var secretVariables = []string{"OAUTH2_CLIENT_SECRET", "OAUTH2_REFRESH_TOKEN", "OAUTH2_AUTHORIZATION_CODE", "OAUTH2_CODE_VERIFIER", "OAUTH2_EXTRA_PARAMS", "SALLYPORT_HEADER"}

// variablesWithoutSecrets takes the secret variables out of what children inherit. get looks up any
// variable all the same; hide makes one more a secret one, before anything else runs.
func variablesWithoutSecrets() (get func(string) string, hide func(string)) {
	secrets := map[string]string{}
	hide = func(name string) {
		if value, ok := os.LookupEnv(name); ok {
			secrets[name] = value
			os.Unsetenv(name)
		}
	}
	for _, name := range secretVariables {
		hide(name)
	}
	return func(name string) string { return cmp.Or(secrets[name], os.Getenv(name)) }, hide
}
