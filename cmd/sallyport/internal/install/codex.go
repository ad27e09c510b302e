package install

import "slices"

// codexHosts is Codex. Its file is edited and not its command `codex mcp add`, which has no flag
// for env_vars.
func codexHosts() []Host {
	return []Host{{
		Name: "codex", Aliases: []string{"codex-cli", "openai"}, Title: "Codex", Programs: []string{"codex"},
		Scopes: []Scope{User, Project},
		file: userOrProject(func(p Place) string {
			return p.under("CODEX_HOME", p.home(".codex"), "config.toml")
		}, ".codex", "config.toml"),
		container: fixed("mcp_servers"), format: tomlFormat{},
		form: func(e Entry) object {
			value := commandAndArgs(e)
			if len(e.Pass) > 0 {
				value = append(value, member{"env_vars", e.Pass})
			}
			return value
		},
		drops: func(variable string) bool { return !slices.Contains(codexPasses, variable) },
		next: func(scope Scope, _ string) []string {
			next := []string{"start a new session of codex; one that runs already does not see it"}
			if scope == Project {
				next = append(next, "codex reads the file of a folder only if you trust the folder: it asks when it starts there")
			}
			return next
		},
		OnlyReads: true,
		check:     func(name string) []string { return []string{"mcp", "get", name} },
	}}
}

// codexPasses are the variables that Codex passes on to its servers by itself.
var codexPasses = []string{
	"HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
	"APPDATA", "COMSPEC", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATHEXT", "PROGRAMDATA", "PROGRAMFILES",
	"SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP", "USERDOMAIN", "USERNAME", "USERPROFILE", "WINDIR",
}
