package agents

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// ways say how a host passes the variable on. The word is one of its command line.
var ways = []struct{ word, way string }{
	{"codex", `in ~/.codex/config.toml, under [mcp_servers.NAME]: env_vars = ["SSH_AUTH_SOCK"]`},
	{"gemini", `in the server's entry in Gemini's settings.json: "env": {"SSH_AUTH_SOCK": "$SSH_AUTH_SOCK"}`},
	{"qwen", `in the server's entry in ~/.qwen/settings.json: "env": {"SSH_AUTH_SOCK": "$SSH_AUTH_SOCK"}`},
}

// anyHost is the way for all other hosts.
const anyHost = "in the server's entry in the MCP host's configuration, name SSH_AUTH_SOCK among the variables (env), " +
	"with the value that echo $SSH_AUTH_SOCK shows in a terminal"

// maxAncestors is how many processes above this one may be the host: a wrapper or a shell may stand
// between.
const maxAncestors = 4

// Way says how the MCP host that has started this process passes Variable on. It looks at the
// command lines of the processes above this one.
func Way(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	pid := os.Getppid()
	for range maxAncestors {
		if pid <= 1 {
			break
		}
		line, parent := process(ctx, pid)
		if way := wayOf(line); way != "" {
			return way
		}
		pid = parent
	}
	return anyHost
}

// wayOf returns the way of the host with this command line. It is empty if it is not known. The
// program and, for an interpreter, its script decide.
func wayOf(line []string) string {
	for _, word := range line[:min(len(line), 2)] {
		for _, w := range ways {
			if strings.Contains(strings.ToLower(filepath.Base(word)), w.word) || strings.Contains(word, "/"+w.word+"-cli/") {
				return w.way
			}
		}
	}
	return ""
}

// process returns the command line of a process and the number of its parent. They are empty if
// they are not known.
func process(ctx context.Context, pid int) (line []string, parent int) {
	switch runtime.GOOS {
	case "windows":
		return nil, 0
	case "linux":
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		text, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
		// The name of the program, in parentheses, may have any character.
		if _, rest, ok := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), ") "); ok {
			if fields := strings.Fields(rest); len(fields) > 1 {
				parent, _ = strconv.Atoi(fields[1])
			}
		}
		return strings.Split(strings.TrimRight(string(text), "\x00"), "\x00"), parent
	}
	out, err := exec.CommandContext(ctx, "ps", "-o", "ppid=,args=", "-p", strconv.Itoa(pid)).Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 2 {
		return nil, 0
	}
	parent, _ = strconv.Atoi(fields[0])
	return fields[1:], parent
}
