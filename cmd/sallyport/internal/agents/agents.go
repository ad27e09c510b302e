// Package agents finds the SSH agent of the person's session for a process that was started without
// SSH_AUTH_SOCK. Many MCP hosts do not pass that variable on to their servers.
//
// The places are asked in this order, and the first agent with a key counts. If none has one, the
// first that answers does:
//
//  1. the variable as the session has it: systemd's user manager, or launchd on macOS
//  2. the sockets of agents that belong to a session: gcr, gnome-keyring, ssh-agent as a unit of
//     systemd
//  3. those of password managers: 1Password, Secretive, Bitwarden. KeePassXC uses the session's
//     agent.
//  4. ~/.ssh/agent, where ssh-agent of OpenSSH 10.1 and later puts its sockets, the newest first
//  5. gpg-agent
//
// A socket counts only if it and the process behind it are this user's, and if it answers within
// answerPatience. All are asked at the same time, so a search takes no longer than searchPatience.
// On Windows there is nothing to find: the agent is at a pipe of a fixed name.
package agents

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/localsock"
)

// Variable is the name of the variable that leads to the agent.
const Variable = "SSH_AUTH_SOCK"

const (
	// searchPatience is how long a search may take, and answerPatience how long one agent may take
	// to answer.
	searchPatience = 1500 * time.Millisecond
	answerPatience = 500 * time.Millisecond
	// maxInDir is how many sockets of one directory are asked.
	maxInDir = 8
)

// IsSet reports whether the environment has Variable. An empty value is one, too: it says that
// there is to be no agent.
func IsSet(env environment.Environment) bool {
	return slices.ContainsFunc(env.Environ(), func(variable string) bool { return strings.HasPrefix(variable, Variable+"=") })
}

// Find returns the path of an agent's socket. It is empty if no agent of this user answers.
func Find(ctx context.Context, env environment.Environment) string {
	if runtime.GOOS == "windows" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, searchPatience)
	defer cancel()
	var paths []string
	if path := sessionVariable(ctx, env); filepath.IsAbs(path) {
		paths = append(paths, path)
	}
	paths = append(paths, known(env)...)
	keys := make([]int, len(paths))
	var asked sync.WaitGroup
	for i, path := range paths {
		asked.Go(func() { // ends with ctx at the latest
			var err error
			if keys[i], err = Keys(ctx, path); err != nil {
				keys[i] = -1
			}
		})
	}
	asked.Wait()
	if i := slices.IndexFunc(keys, func(n int) bool { return n > 0 }); i >= 0 {
		return paths[i]
	}
	if i := slices.Index(keys, 0); i >= 0 {
		return paths[i]
	}
	return ""
}

// known returns the paths where agents have their sockets.
func known(env environment.Environment) []string {
	run, home := env.RuntimeDir(), env.AccountHome
	paths := []string{
		environment.Under(run, "gcr", "ssh"), environment.Under(run, "keyring", "ssh"),
		environment.Under(run, "ssh-agent.socket"), environment.Under(run, "openssh_agent"), environment.Under(run, "ssh-agent"),
		environment.Under(home, ".1password", "agent.sock"), environment.Under(home, ".bitwarden-ssh-agent.sock"),
	}
	if runtime.GOOS == "darwin" {
		paths = append(paths,
			environment.Under(home, "Library", "Group Containers", "2BUA8C4S2C.com.1password", "t", "agent.sock"),
			environment.Under(home, "Library", "Containers", "com.maxgoedjen.Secretive.SecretAgent", "Data", "socket.ssh"))
	}
	paths = append(paths, newestIn(environment.Under(home, ".ssh", "agent"))...)
	paths = append(paths, environment.Under(run, "gnupg", "S.gpg-agent.ssh"), environment.Under(home, ".gnupg", "S.gpg-agent.ssh"))
	return slices.DeleteFunc(paths, func(path string) bool { return path == "" })
}

// newestIn returns the paths of the files in a directory, the newest first, and not more than
// maxInDir.
func newestIn(dir string) []string {
	if dir == "" {
		return nil
	}
	entries, _ := os.ReadDir(dir)
	made := map[string]time.Time{}
	var paths []string
	for _, entry := range entries {
		if fi, err := entry.Info(); err == nil && fi.Mode()&os.ModeSocket != 0 {
			path := filepath.Join(dir, entry.Name())
			made[path] = fi.ModTime()
			paths = append(paths, path)
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return made[b].Compare(made[a]) })
	return paths[:min(len(paths), maxInDir)]
}

// sessionVariable returns the value that Variable has in the person's session. It is empty if it
// has none, or if nobody tells within the time of ctx.
func sessionVariable(ctx context.Context, env environment.Environment) string {
	var args []string
	switch run := env.RuntimeDir(); {
	case runtime.GOOS == "darwin":
		args = []string{"launchctl", "getenv", Variable}
	case run == "":
		return ""
	default:
		if _, err := os.Stat(filepath.Join(run, "systemd")); err != nil {
			return "" // the user has no manager
		}
		args = []string{"systemctl", "--user", "show-environment"}
	}
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.WaitDelay = append(env.Environ(), "XDG_RUNTIME_DIR="+env.RuntimeDir()), answerPatience
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	if runtime.GOOS == "darwin" {
		return strings.TrimSpace(string(out))
	}
	for line := range strings.Lines(string(out)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), Variable+"="); ok {
			return value
		}
	}
	return ""
}

// errNotAgent says that what answers is no agent.
var errNotAgent = errors.New("it does not answer as an agent does")

// Keys returns how many keys the agent at a path holds. The error says why it cannot be used: the
// socket or the process behind it is not this user's, nobody listens there, or it does not answer
// as an agent does within answerPatience.
func Keys(ctx context.Context, path string) (int, error) {
	if err := localsock.CheckSocket(path); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	conn, err := localsock.Dial(ctx, path)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// The request and the answer of RFC 9987, sections 3.5 and 4.1.
	const requestIdentities, identitiesAnswer = 11, 12
	if _, err := conn.Write([]byte{0, 0, 0, 1, requestIdentities}); err != nil {
		return 0, err
	}
	var head [9]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return 0, err
	}
	if head[4] != identitiesAnswer {
		return 0, errNotAgent
	}
	return int(binary.BigEndian.Uint32(head[5:])), nil
}
