package install

import (
	"os"
	"path/filepath"
)

// isDir reports whether a directory is there.
func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// editorHosts are those with a window.
func editorHosts() []Host {
	return []Host{
		code("vscode", "VS Code", "Code", ".vscode-server", "code", "vs-code"),
		code("vscode-insiders", "VS Code Insiders", "Code - Insiders", ".vscode-server-insiders", "code-insiders"),
		code("vscodium", "VSCodium", "VSCodium", ".vscodium-server", "codium"),
		{
			Name: "cursor", Title: "Cursor", Programs: []string{"cursor", "cursor-agent"},
			Scopes: []Scope{User, Project},
			file: userOrProject(func(p Place) string { return p.home(".cursor", "mcp.json") },
				".cursor", "mcp.json"),
			container: fixed("mcpServers"), format: jsonFormat{}, form: typed("stdio"),
			next: lines("restart Cursor, and see that the server is switched on: Customize, MCPs (older ones: Settings, MCP)"),
		},
		{
			Name: "windsurf", Aliases: []string{"codeium", "cascade"}, Title: "Windsurf", Programs: []string{"windsurf"},
			Scopes:    []Scope{User},
			file:      func(p Place, _ Scope) string { return p.home(".codeium", "windsurf", "mcp_config.json") },
			container: fixed("mcpServers"), format: jsonFormat{}, form: commandAndArgs,
			next: lines("press Refresh in Cascade's list of MCP servers, or restart Windsurf"),
		},
		{
			Name: "zed", Title: "Zed", Programs: []string{"zed", "zeditor"},
			Scopes: []Scope{User, Project},
			file: userOrProject(func(p Place) string {
				if p.GOOS == "windows" {
					return p.application("Zed", "settings.json")
				}
				return p.xdg("zed", "settings.json")
			}, ".zed", "settings.json"),
			container: fixed("context_servers"), format: jsonFormat{}, form: commandAndArgs,
			next: func(scope Scope, _ string) []string {
				next := []string{"Zed starts it at once: its dot in the Agent Panel's settings turns green"}
				if scope == Project {
					next = append(next, "Zed starts no server of a folder that you do not trust: it asks when it opens the folder")
				}
				return next
			},
		},
		{
			Name: "jetbrains", Aliases: []string{"intellij", "idea", "pycharm", "webstorm", "goland"}, Title: "JetBrains AI Assistant",
			Programs: []string{"idea", "pycharm", "webstorm", "goland", "phpstorm", "clion", "rubymine", "rider"},
			Scopes:   []Scope{User},
			Paste:    "Settings, Tools, AI Assistant, Model Context Protocol (MCP), Add, As JSON",
			file:     func(Place, Scope) string { return "" },
			// The form is shown in the container in which it is pasted.
			container: fixed("mcpServers"), format: jsonFormat{}, form: commandAndArgs,
			next: lines("press Apply; the Status column shows whether the server was started"),
		},
	}
}

// code is a host of the family of VS Code. Its settings are in folder, and those of its server, on
// a machine that it works on by SSH, in the directory server of the home directory. Its program and
// further names come last.
func code(name, title, folder, server string, names ...string) Host {
	return Host{
		Name: name, Aliases: names, Title: title, Programs: names[:1],
		Scopes: []Scope{User, Project},
		file: userOrProject(func(p Place) string {
			if dir := p.home(server, "data"); isDir(dir) && !isDir(p.application(folder)) {
				return filepath.Join(dir, "User", "mcp.json")
			}
			return p.application(folder, "User", "mcp.json")
		}, ".vscode", "mcp.json"),
		container: fixed("servers"), format: jsonFormat{}, form: typed("stdio"),
		next: lines("press Start above the entry, or type \"MCP: List Servers\" in the Command Palette; " + title + " asks whether you trust it"),
	}
}
