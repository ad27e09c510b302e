package share

import (
	"cmp"
	"runtime"
	"slices"
	"strings"

	"sallyport/sshtunnel/sshconfig"
)

// agentVariable leads to the agent where ssh_config names none.
const agentVariable = "SSH_AUTH_SOCK"

// kept are the variables that a share has in any case: what it needs to find its way about the
// machine. None of them decides how a host is reached or trusted, so none is in the key. A name
// that ends in * stands for all that begin so.
var kept = []string{
	"HOME", "USER", "LOGNAME", "PATH", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "XDG_*",
	"SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS",
	"SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "PROGRAMDATA", "PROGRAMFILES*", "USERPROFILE", "USERNAME",
	"USERDOMAIN", "HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA", "TEMP", "TMP", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"GORACE", // of a build for tests
}

// noise are variables that differ from one terminal, editor or MCP host to the next and that no
// command in a connection's way depends on. A share does not have them.
var noise = []string{
	"_", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES", "TERM*", "COLORTERM", "COLORFGBG", "WINDOWID", "WINDOWPATH", "PS1", "PS2", "PS4",
	"PROMPT_COMMAND", "LS_COLORS", "LSCOLORS", "CLICOLOR*", "HIST*", "EDITOR", "VISUAL", "PAGER", "LESS*", "MAIL", "MOTD_SHOWN",
	"TMUX*", "STY", "WINDOW", "VTE_VERSION", "KITTY_*", "WEZTERM_*", "ITERM_*", "LC_TERMINAL*", "KONSOLE_*", "GNOME_TERMINAL_*",
	"ALACRITTY_*", "GHOSTTY_*", "WT_SESSION", "WT_PROFILE_ID", "ZELLIJ*", "SSH_TTY", "SSH_CLIENT", "SSH_CONNECTION",
	"XDG_SESSION_*", "XDG_ACTIVATION_TOKEN", "XDG_VTNR", "XDG_SEAT", "DESKTOP_STARTUP_ID", "GIO_LAUNCHED_*", "CHROME_DESKTOP",
	"ORIGINAL_XDG_*", "BAMF_*", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "MEMORY_PRESSURE_*", "MANAGERPID*",
	"NOTIFY_SOCKET", "LISTEN_*", "WATCHDOG_*", "__CF_*", "XPC_*", "COMMAND_MODE", "NPM_*", "NODE_CHANNEL_*", "INIT_CWD", "VSCODE_*",
	"ELECTRON_*", "CLAUDE*", "CURSOR_*", "MCP_*", "GOMEMLIMIT", "GOGC", "GOMAXPROCS", "GODEBUG", "GOTRACEBACK",
	"PROMPT", "SESSIONNAME", "CLIENTNAME",
}

// environOf returns the part of an environment that a share of the chain gets, sorted, and which of
// its variables are in the key.
//
// A ProxyCommand or a KnownHostsCommand inherits the environment, and may depend on anything in it.
// So a share with one has all of it but noise, and all of that counts. Other shares have what they
// need, and secrets that an MCP host gave to one server do not get there.
func environOf(chain []*sshconfig.Host, environ []string) (out []string, counts func(name string) bool) {
	runsCommands := slices.ContainsFunc(chain, func(h *sshconfig.Host) bool {
		return h.ProxyCommand != "" || h.KnownHostsCommand != ""
	})
	named := namedVariables(chain)
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		switch {
		case name == "": // on Windows, the working directory on some drive
		case variable == agentVariable+"=": // there is no agent, as without the variable
		case slices.Contains(named, name), !runsCommands && matches(kept, name), runsCommands && !matches(noise, name):
			out = append(out, variable)
		}
	}
	slices.SortFunc(out, compareVariables)
	return out, func(name string) bool {
		return slices.Contains(named, name) || runsCommands && name != "GORACE"
	}
}

// compareVariables is the order of the variables in the key.
func compareVariables(a, b string) int {
	return cmp.Or(cmp.Compare(foldName(a), foldName(b)), cmp.Compare(a, b))
}

// namedVariables are those that keywords of the chain name, or that stand for a keyword that is not
// set.
func namedVariables(chain []*sshconfig.Host) []string {
	names := []string{"SSH_SK_HELPER"}
	for _, h := range chain {
		if h.IdentityAgent == "" || h.IdentityAgent == agentVariable {
			names = append(names, agentVariable)
		}
		if name, ok := strings.CutPrefix(h.SecurityKeyProvider, "$"); ok {
			names = append(names, name)
		} else if h.SecurityKeyProvider == "" {
			names = append(names, "SSH_SK_PROVIDER")
		}
	}
	return names
}

// foldName returns a name as the key has it: on Windows, Path and PATH are one variable.
func foldName(name string) string {
	if runtime.GOOS == "windows" {
		return strings.ToUpper(name)
	}
	return name
}

// matches reports whether a list has the name of a variable, in whatever case.
func matches(list []string, name string) bool {
	name = strings.ToUpper(name)
	return slices.ContainsFunc(list, func(pattern string) bool {
		prefix, isPrefix := strings.CutSuffix(pattern, "*")
		return name == pattern || isPrefix && strings.HasPrefix(name, prefix)
	})
}
