package install

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
)

// claudeHosts are Claude Code and Claude Desktop.
//
// Claude Code's file is edited and not its command `claude mcp add`: that cannot replace an entry,
// shows no difference, and needs the program in PATH. Claude Code writes the file often, and reads
// it again under a lock before it does. We take the same lock.
func claudeHosts() []Host {
	return []Host{{
		Name: "claude-code", Aliases: []string{"claude", "claudecode"}, Title: "Claude Code", Programs: []string{"claude"},
		Scopes: []Scope{User, Local, Project},
		file: func(p Place, scope Scope) string {
			if scope == Project {
				return p.project(".mcp.json")
			}
			// The older name of the file counts wherever it exists.
			return firstOf(p.under("CLAUDE_CONFIG_DIR", p.home(".claude"), ".config.json"), p.under("CLAUDE_CONFIG_DIR", p.Env.Home, ".claude.json"))
		},
		container: func(p Place, scope Scope) []string {
			if scope == Local {
				return []string{"projects", claudeProject(p.Dir), "mcpServers"}
			}
			return []string{"mcpServers"}
		},
		format: jsonFormat{}, form: typed("stdio"), lock: ".lock",
		next: func(scope Scope, name string) []string {
			if scope == Project {
				return []string{"start claude in this folder and approve the server; until then it says \"Pending approval\""}
			}
			return []string{"a session that runs already does not see it: start claude again"}
		},
		check: func(name string) []string { return []string{"mcp", "get", name} },
	}, {
		Name: "claude-desktop", Aliases: []string{"claudedesktop", "desktop"}, Title: "Claude Desktop", Programs: []string{"claude-desktop"},
		Scopes: []Scope{User},
		file: func(p Place, _ Scope) string {
			const name = "claude_desktop_config.json"
			usual := p.application("Claude", name)
			if p.GOOS != "windows" {
				return usual
			}
			// From the Microsoft Store, it has a directory of its own for what it takes for
			// APPDATA.
			store := p.under("LOCALAPPDATA", p.home("AppData", "Local"), "Packages", "Claude_pzs8sxrjxfjjc", "LocalCache", "Roaming", "Claude")
			if _, err := os.Stat(store); err == nil {
				return filepath.Join(store, name)
			}
			return usual
		},
		container: fixed("mcpServers"), format: jsonFormat{}, form: commandAndArgs,
		next: lines("quit Claude Desktop, also from the menu bar or tray, and start it again"),
	}}
}

// claudeProject returns the key of a folder in projects: the root of its git repository, that of
// the main one for a further worktree, or else the folder itself.
func claudeProject(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		git := filepath.Join(at, ".git")
		if fi, err := os.Stat(git); err == nil && fi.IsDir() {
			return slashed(at)
		} else if err == nil {
			text, _ := os.ReadFile(git)
			link := strings.TrimSpace(strings.TrimPrefix(string(text), "gitdir:"))
			if main, _, ok := strings.Cut(filepath.ToSlash(link), "/.git/worktrees/"); ok {
				return slashed(cmp.Or(main, at))
			}
			return slashed(at)
		}
		if at == filepath.Dir(at) {
			return slashed(dir)
		}
	}
}

// slashed writes a path as Claude Code does on every system.
func slashed(path string) string { return filepath.ToSlash(path) }
