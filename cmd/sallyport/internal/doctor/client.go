package doctor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/environment"
)

// Stage is the variable that tells a doctor, which another one has started with the environment of
// an MCP host, what that host leaves out.
const Stage = "SALLYPORT_DOCTOR_STAGE"

// Client is an MCP host, as its servers see it.
type Client struct {
	// Name is that of --client.
	Name string `json:"name"`
	// Dropped are the variables that count for sallyport, are set in the terminal, and that the
	// host does not pass on.
	Dropped []string `json:"dropped,omitempty"`
	// PathChanged says that the PATH is another one than the terminal's.
	PathChanged bool `json:"path_changed,omitempty"`
	// Words say how the host is known to do this.
	Words string `json:"words"`
	// Restore says how a variable is passed on nevertheless. %s stands for its name.
	Restore string `json:"restore,omitempty"`
	// Folder is the folder of the process.
	Folder string `json:"folder"`
}

// habit is what an MCP host does with the environment of its servers.
type habit struct {
	// keeps lists the variables that are passed on. Nil means all.
	keeps []string
	// drops lists variables that are not passed on, beside those that keeps leaves out.
	drops []string
	// shortPath says that the host is a desktop program, whose PATH is that of the session and not
	// of a shell.
	shortPath bool
	// home says that servers start in the home directory, and not in the project.
	home bool
	// restore says how a variable is passed on.
	restore string
}

// sdkKeeps are the variables that the MCP SDK for TypeScript passes on by default.
var sdkKeeps = []string{"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"}

// envMember is how most hosts are given a variable.
const envMember = `in the host's entry: "env": {"%s": "VALUE"}`

// habits are those of the hosts that were tried on 2026-11-28. For the desktop programs they are
// what their documentation says.
var habits = map[string]habit{
	"claude-code":    {restore: envMember},
	"opencode":       {restore: `in the host's entry: "environment": {"%s": "VALUE"}`},
	"droid":          {restore: envMember},
	"qwen":           {restore: envMember},
	"mcporter":       {restore: envMember},
	"inspector":      {restore: "mcp-inspector -e %s=VALUE"},
	"copilot":        {restore: envMember},
	"continue":       {restore: "in the host's entry, below env: %s: VALUE"},
	"gemini":         {drops: []string{"SSH_AUTH_SOCK"}, restore: `in the host's entry: "env": {"%[1]s": "$%[1]s"}`},
	"codex":          {keeps: []string{"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "USER"}, restore: `in the host's entry: env_vars = ["%s"]`},
	"mcp-cli":        {keeps: sdkKeeps, restore: envMember},
	"claude-desktop": {keeps: sdkKeeps, shortPath: true, home: true, restore: envMember},
	"vscode":         {shortPath: true, restore: envMember},
	"cursor":         {shortPath: true, restore: envMember},
	"windsurf":       {keeps: sdkKeeps, shortPath: true, home: true, restore: envMember},
	"cline":          {keeps: sdkKeeps, shortPath: true, restore: envMember},
	"zed":            {shortPath: true, restore: `in the host's entry: "env": {"%s": "VALUE"}`},
	"jetbrains":      {shortPath: true, home: true, restore: envMember},
}

// Clients are the names of the hosts that are known.
func Clients() []string {
	var names []string
	for name := range habits {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// counts reports whether it matters to sallyport that a variable is there.
func counts(name string, isOwn func(string) bool) bool {
	return isOwn(name) || slices.Contains([]string{
		"SSH_AUTH_SOCK", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "XDG_RUNTIME_DIR",
		"XDG_CONFIG_HOME", "XDG_STATE_HOME", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "SSH_ASKPASS", "BROWSER", "SSL_CERT_FILE", "SSL_CERT_DIR",
	}, name)
}

// Environ returns the environment and the folder of a server that the host named name starts, for a
// doctor that is run with them. The function isOwn reports which variables are settings of this
// program. ok is false for a host that is not known.
func Environ(env environment.Environment, name string, isOwn func(string) bool) (environ []string, folder string, ok bool) {
	h, ok := habits[name]
	if !ok {
		return nil, "", false
	}
	folder, _ = os.Getwd()
	if h.home && env.Home != "" {
		folder = env.Home
	}
	c := Client{Name: name, Folder: folder, Restore: h.restore, Words: "as this host was seen to do it on 2026-11-28"}
	if h.shortPath {
		c.Words = "as a desktop program that a shell has not started does it"
	}
	inherited := slices.Clone(env.Environ())
	for _, secret := range environment.SecretVariables() { // which the doctor, as the proxy, may have
		if value := env.Getenv(secret); value != "" {
			inherited = append(inherited, secret+"="+value)
		}
	}
	for _, entry := range inherited {
		variable, value, _ := strings.Cut(entry, "=")
		if h.keeps != nil && !slices.Contains(h.keeps, variable) || slices.Contains(h.drops, variable) {
			if value != "" && counts(variable, isOwn) {
				c.Dropped = append(c.Dropped, variable)
			}
			continue
		}
		if variable == "PATH" && h.shortPath {
			c.PathChanged = value != shortPath()
			entry = "PATH=" + shortPath()
		}
		environ = append(environ, entry)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, "", false
	}
	return append(environ, Stage+"="+string(text)), folder, true
}

// shortPath is the PATH of a program that the desktop has started.
func shortPath() string {
	switch runtime.GOOS {
	case "darwin":
		return "/usr/bin:/bin:/usr/sbin:/sbin"
	case "windows":
		return os.Getenv("PATH")
	}
	return "/usr/local/bin:/usr/bin:/bin"
}

// ClientOf returns what Environ has told this process, or nil.
func ClientOf(env environment.Environment) *Client {
	var c Client
	if text := env.Getenv(Stage); text == "" || json.Unmarshal([]byte(text), &c) != nil {
		return nil
	}
	return &c
}

// client makes the row of the MCP host whose environment the process has.
func (w *walk) client() {
	c := w.Client
	if c == nil {
		return
	}
	w.begin(idClient)
	evidence := []string{"folder " + c.Folder, "PATH " + w.Env.Getenv("PATH"), c.Words}
	summary := c.Name + " passes on every variable that counts here"
	row := Check{ID: idClient, Result: OK, Evidence: evidence}
	if len(c.Dropped) > 0 {
		row.Result = Warn
		summary = fmt.Sprintf("%s does not pass on %s", c.Name, strings.Join(c.Dropped, ", "))
		for _, name := range c.Dropped {
			row.Next = append(row.Next, "to pass it on, "+fmt.Sprintf(c.Restore, name))
		}
	}
	if c.PathChanged {
		summary += "; its PATH is not your shell's"
	}
	if program := filepath.Base(w.Env.Executable); !inPath(w.Env.Getenv("PATH"), program) {
		row.Evidence = append(row.Evidence, "its PATH has no "+program+": the entry has to name the full path, "+w.Env.Executable)
	}
	row.Summary = summary
	w.add(row)
}

// inPath reports whether a program is in one of the directories of a PATH.
func inPath(path, program string) bool {
	return slices.ContainsFunc(filepath.SplitList(path), func(dir string) bool {
		fi, err := os.Stat(filepath.Join(dir, program))
		return err == nil && !fi.IsDir()
	})
}
