package person

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
)

// desktopVariables are those by which a program finds the desktop of its user, and the browser that
// is set there.
var desktopVariables = []string{
	"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "XDG_CURRENT_DESKTOP", "XDG_SESSION_TYPE",
	"XDG_SESSION_DESKTOP", "DESKTOP_SESSION", "KDE_FULL_SESSION", "KDE_SESSION_VERSION", "XDG_DATA_DIRS", "XDG_CONFIG_DIRS", "BROWSER",
}

const (
	// desktopTimeout bounds the question to systemd.
	desktopTimeout = 2 * time.Second
	// maxEnviron is the most bytes of the variables of one process that are read.
	maxEnviron = 1 << 20
)

// JoinDesktop lets this process, and those that it starts, use the desktop at which its user sits,
// if it has none of its own: a session of SSH has none, nor has a service that began before the
// desktop. It reports whether there is a desktop now. Other systems than those with X11 or Wayland
// need no such variables.
//
// The variables are those of the user's systemd, where a desktop puts them, or of another process
// of the same user. Such a process could do whatever this one does.
func JoinDesktop(ctx context.Context, env environment.Environment) bool {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" || len(systemBrowsers(env)) > 0 {
		return true
	}
	found := desktopOfSystemd(ctx, env)
	if found == nil {
		found = desktopOfProcesses(env, "/proc")
	}
	for _, name := range desktopVariables {
		if value := found[name]; value != "" && env.Getenv(name) == "" {
			env.Set(name, value)
		}
	}
	return found != nil
}

// desktopOfSystemd returns the variables of the user's systemd, if there is a desktop among them.
func desktopOfSystemd(ctx context.Context, env environment.Environment) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, desktopTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemctl", "--user", "show-environment")
	cmd.WaitDelay = desktopTimeout
	if dir := env.RuntimeDir(); dir != "" {
		cmd.Env = append(cmd.Environ(), "XDG_RUNTIME_DIR="+dir)
	}
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	variables := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !strings.HasPrefix(value, "$'") { // a value with characters that no shell takes as they are
			variables[name] = value
		}
	}
	if !isDesktop(variables, env.RuntimeDir()) {
		return nil
	}
	return variables
}

// desktopOfProcesses returns the variables of a process of this user that has a desktop. That of
// the oldest counts, which is nearest to the desktop itself. A process in a session of SSH may have
// the display of another machine.
func desktopOfProcesses(env environment.Environment, proc string) map[string]string {
	dirs, _ := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	slices.SortFunc(dirs, func(a, b string) int { // by number
		if d := len(a) - len(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, dir := range dirs {
		fi, err := os.Stat(dir)
		if err != nil || !isOfThisUser(fi) {
			continue
		}
		variables := environOf(filepath.Join(dir, "environ"))
		if variables["SSH_CONNECTION"] == "" && isDesktop(variables, env.RuntimeDir()) {
			return variables
		}
	}
	return nil
}

// environOf returns the variables in a file of proc(5).
func environOf(file string) map[string]string {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, maxEnviron)
	s.Split(func(data []byte, atEnd bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, 0); i >= 0 {
			return i + 1, data[:i], nil
		}
		if atEnd && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	variables := map[string]string{}
	for s.Scan() {
		name, value, _ := strings.Cut(s.Text(), "=")
		variables[name] = value
	}
	return variables
}

// isDesktop reports whether variables lead to a display of this machine that is there. The socket
// of Wayland is in the runtime directory.
func isDesktop(variables map[string]string, runtimeDir string) bool {
	if name := variables["WAYLAND_DISPLAY"]; name != "" {
		if dir := variables["XDG_RUNTIME_DIR"]; dir != "" {
			runtimeDir = dir
		}
		if !filepath.IsAbs(name) {
			name = environment.Under(runtimeDir, name)
		}
		if answers(name) {
			return true
		}
	}
	number, isHere := strings.CutPrefix(strings.TrimPrefix(variables["DISPLAY"], "unix"), ":")
	number, _, _ = strings.Cut(number, ".")
	socket := "/tmp/.X11-unix/X" + number
	return isHere && number != "" && strings.Trim(number, "0123456789") == "" && (answers(socket) || answers("@"+socket))
}

// answers reports whether somebody accepts connections at a Unix socket.
func answers(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
