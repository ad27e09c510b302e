package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/install"
	"sallyport/cmd/sallyport/internal/lazyregexp"
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
	// Entry is the entry in the host's file that the settings are those of. It is empty if they are
	// those of the command line.
	Entry string `json:"entry,omitempty"`
}

// habit is what an MCP host does with the environment of its servers, beside what package install
// knows of it.
type habit struct {
	// keeps lists the variables that are passed on. Nil means all that the host does not drop.
	keeps []string
	// desktop says that the host is a program of the desktop, whose PATH is not that of a shell.
	desktop bool
	// home says that servers start in the home directory, and not in the project.
	home bool
	// restore says how a variable is passed on. Empty is the member env of the entry.
	restore string
}

// sdkKeeps are the variables that the MCP SDK for TypeScript passes on by default.
var sdkKeeps = []string{"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"}

// envMember is how most hosts are given a variable.
const envMember = `in the host's entry: "env": {"%s": "VALUE"}`

// habits are those of the hosts that were tried on 2026-11-28. For the programs of the desktop they
// are what their documentation says. A host that is not here passes on everything.
var habits = map[string]habit{
	"codex":          {restore: `in the host's entry: env_vars = ["%s"]`},
	"gemini":         {restore: `in the host's entry: "env": {"%[1]s": "$%[1]s"}`},
	"opencode":       {restore: `in the host's entry: "environment": {"%s": "VALUE"}`},
	"continue":       {restore: "in the host's entry, below env: %s: VALUE"},
	"inspector":      {restore: "mcp-inspector -e %s=VALUE"},
	"mcp-cli":        {keeps: sdkKeeps},
	"claude-desktop": {keeps: sdkKeeps, desktop: true, home: true},
	"windsurf":       {keeps: sdkKeeps, desktop: true, home: true},
	"cline-vscode":   {keeps: sdkKeeps, desktop: true},
	"vscode":         {desktop: true},
	"cursor":         {desktop: true},
	"zed":            {desktop: true},
	"jetbrains":      {desktop: true, home: true},
}

// Clients are the names of the hosts that are known.
func Clients() []string {
	names := append(install.Names(), slices.Collect(maps.Keys(habits))...)
	slices.Sort(names)
	return slices.Compact(names)
}

// clientOf finds a host by its name or one of its other names. The host is nil for one that package
// install does not know.
func clientOf(name string) (canonical string, host *install.Host, ok bool) {
	if host, ok := install.Find(name); ok {
		return host.Name, host, true
	}
	_, ok = habits[strings.ToLower(name)]
	return strings.ToLower(name), nil, ok
}

// counts reports whether it matters to sallyport that a variable is there.
func counts(name string, isOwn func(string) bool) bool {
	return isOwn(name) || slices.Contains([]string{
		agentVariable, "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "XDG_RUNTIME_DIR",
		"XDG_CONFIG_HOME", "XDG_STATE_HOME", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "SSH_ASKPASS", "BROWSER", "SSL_CERT_FILE", "SSL_CERT_DIR",
	}, name)
}

// Environ returns the environment and the folder of a server that the host named name starts, for a
// doctor that is run with them. The entry is that of the host's file, or nil. The function isOwn
// reports which variables are settings of this program. ok is false for a host that is not known.
func Environ(env environment.Environment, name string, entry *Entry, isOwn func(string) bool) (environ []string, folder string, ok bool) {
	name, host, ok := clientOf(name)
	if !ok {
		return nil, "", false
	}
	h := habits[name]
	folder, _ = os.Getwd()
	if h.home && env.Home != "" {
		folder = env.Home
	}
	c := Client{Name: name, Folder: folder, Restore: cmp.Or(h.restore, envMember), Words: "as this host was seen to do it on 2026-11-28"}
	if h.desktop {
		c.Words = "as a program of the desktop does it that no shell has started"
	}
	passes := func(variable string) bool {
		switch {
		case entry != nil && slices.Contains(entry.Pass, variable):
			return true
		case h.keeps != nil:
			return slices.Contains(h.keeps, variable)
		}
		return host == nil || !host.Drops(variable)
	}
	var set map[string]string
	if entry != nil {
		c.Entry, set = entry.Name+" in "+entry.File, entry.Env
	}
	for variable, value := range inherited(env) {
		_, replaced := set[variable]
		switch {
		case replaced:
		case !passes(variable):
			if value != "" && counts(variable, isOwn) {
				c.Dropped = append(c.Dropped, variable)
			}
		case variable == "PATH" && h.desktop:
			c.PathChanged = value != shortPath(value)
			environ = append(environ, "PATH="+shortPath(value))
		default:
			environ = append(environ, variable+"="+value)
		}
	}
	for variable, value := range set {
		environ = append(environ, variable+"="+expand(value, env.Getenv))
	}
	slices.Sort(c.Dropped)
	slices.Sort(environ)
	text, err := json.Marshal(c)
	return append(environ, Stage+"="+string(text)), folder, err == nil
}

// inherited returns the variables of this process, those included that it keeps from the programs
// that it starts.
func inherited(env environment.Environment) map[string]string {
	variables := map[string]string{}
	for _, entry := range env.Environ() {
		variable, value, _ := strings.Cut(entry, "=")
		variables[variable] = value
	}
	for _, secret := range environment.SecretVariables() {
		if value := env.Getenv(secret); value != "" {
			variables[secret] = value
		}
	}
	return variables
}

// reference matches a variable in the value of an entry, in the forms of all hosts: $NAME, ${NAME},
// ${env:NAME}, ${NAME:-DEFAULT}.
var reference = lazyregexp.New(`\$(?:\{(?:env:)?(\w+)(?::-([^}]*))?\}|(\w+))`)

// expand replaces references to variables.
func expand(value string, getenv func(string) string) string {
	return reference().ReplaceAllStringFunc(value, func(text string) string {
		m := reference().FindStringSubmatch(text)
		return cmp.Or(getenv(cmp.Or(m[1], m[3])), m[2])
	})
}

// shortPath is the PATH of a program that the desktop has started, in place of that of a shell.
func shortPath(path string) string {
	switch runtime.GOOS {
	case "darwin":
		return "/usr/bin:/bin:/usr/sbin:/sbin"
	case "windows":
		return path
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

// agentVariable names the agent's socket.
const agentVariable = "SSH_AUTH_SOCK"

// restores says how the host is made to pass on a variable that it drops. It is empty if the host
// passes it on, or if there is no host.
func (c *Client) restores(variable string) string {
	if c == nil || !slices.Contains(c.Dropped, variable) {
		return ""
	}
	return fmt.Sprintf("%s does not pass on %s; to pass it on, ", c.Name, variable) + fmt.Sprintf(c.Restore, variable)
}

// client makes the row of the MCP host whose environment the process has.
func (w *walk) client() {
	c := w.Client
	if c == nil {
		return
	}
	w.begin(idClient)
	row := Check{ID: idClient, Result: OK}
	evidence := []string{"folder " + c.Folder, "PATH " + w.Env.Getenv("PATH"), c.Words}
	if c.Entry != "" {
		evidence = append(evidence, "the settings are those of its entry "+c.Entry)
	}
	summary := c.Name + " passes on every variable that counts here"
	if len(c.Dropped) > 0 {
		row.Result = Warn
		summary = fmt.Sprintf("%s does not pass on %s", c.Name, strings.Join(c.Dropped, ", "))
		for _, name := range c.Dropped {
			row.Next = append(row.Next, c.restores(name))
		}
	}
	if c.PathChanged {
		summary += "; its PATH is not your shell's"
	}
	if program := filepath.Base(w.Env.Executable); !inPath(w.Env.Getenv("PATH"), program) {
		row.Evidence = append(row.Evidence, "its PATH has no "+program+": the entry has to name the full path, "+w.Env.Executable)
	}
	row.Summary, row.Evidence = summary, append(evidence, row.Evidence...)
	w.add(row)
}

// inPath reports whether a program is in one of the directories of a PATH.
func inPath(path, program string) bool {
	return slices.ContainsFunc(filepath.SplitList(path), func(dir string) bool {
		fi, err := os.Stat(filepath.Join(dir, program))
		return err == nil && !fi.IsDir()
	})
}
