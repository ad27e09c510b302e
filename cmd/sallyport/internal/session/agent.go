package session

import (
	"context"
	"log/slog"
	"runtime"
	"sync"

	"sallyport/cmd/sallyport/internal/agents"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/share"
	"sallyport/sshtunnel/sshconfig"
)

// forgottenAgent is the agent of a process whose starter has not passed SSH_AUTH_SOCK on. Its
// methods may be called concurrently.
type forgottenAgent struct {
	// env is the environment of the process.
	env environment.Environment
	// shares finds shared connections. It is nil if none are used.
	shares *share.Client
	log    *slog.Logger

	// searching is held by the search that is under way.
	searching sync.Mutex

	mu sync.Mutex // guards what follows
	// chain is the one that an agent was looked for last. It is nil if none was.
	chain []*sshconfig.Host
	// path is the agent that was found. It is empty if there is none, or if none was looked for.
	path string
	// missing says that an agent was looked for and none was found.
	missing bool
}

// look looks for an agent for the chain if one is wanted and the environment names none. It is
// called before each attempt to dial, because an agent may come and go.
func (f *forgottenAgent) look(ctx context.Context, chain []*sshconfig.Host) {
	if runtime.GOOS == "windows" || agents.IsSet(f.env) || !share.UsesAgent(chain) {
		return
	}
	f.searching.Lock()
	defer f.searching.Unlock()
	path := f.search(ctx, chain)
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if path != "" && path != f.path {
		f.log.Info("SSH_AUTH_SOCK is not set, and the agent that was found is used", "path", path)
	}
	f.chain, f.path, f.missing = chain, path, path == ""
}

// elsewhere reports whether a connection through the chain has come up by an agent that was not
// found before, as when a person has typed `sallyport login` at a terminal. It serves as
// sshtunnel.Config.SharedElsewhere.
func (f *forgottenAgent) elsewhere(ctx context.Context) bool {
	f.mu.Lock()
	chain, before := f.chain, f.path
	f.mu.Unlock()
	if chain == nil || f.shares == nil {
		return false
	}
	path, up := f.shares.Agent(ctx, chain)
	return up && path != before
}

// search returns the first agent of: the one whose connection is up, that of other processes that
// go the same way, the one that was found before, the session's.
func (f *forgottenAgent) search(ctx context.Context, chain []*sshconfig.Host) string {
	before := f.current()
	if f.shares != nil {
		if before != "" && f.shares.IsUp(ctx, chain, before) {
			return before
		}
		if path, up := f.shares.Agent(ctx, chain); up || path != "" && answers(ctx, path) {
			return path
		}
	}
	if before != "" && answers(ctx, before) {
		return before
	}
	return agents.Find(ctx, f.env)
}

// answers reports whether the agent at a path may be used.
func answers(ctx context.Context, path string) bool {
	_, err := agents.Keys(ctx, path)
	return err == nil
}

// current returns the path of the agent that was found last.
func (f *forgottenAgent) current() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.path
}

// isMissing reports whether an agent was looked for in vain.
func (f *forgottenAgent) isMissing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.missing
}

// environment returns the environment of the process with the agent that was found last.
func (f *forgottenAgent) environment() environment.Environment {
	env := f.env
	env.Getenv = func(name string) string {
		if path := f.current(); name == agents.Variable && path != "" {
			return path
		}
		return f.env.Getenv(name)
	}
	env.Environ = func() []string {
		environ := f.env.Environ()
		if path := f.current(); path != "" {
			environ = append(environ, agents.Variable+"="+path)
		}
		return environ
	}
	return env
}
