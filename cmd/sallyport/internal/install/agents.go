package install

// agentHosts are further agents of the terminal. Each has a form that it wrote itself.
func agentHosts() []Host {
	return []Host{{
		Name: "copilot", Aliases: []string{"copilot-cli", "github-copilot"}, Title: "GitHub Copilot CLI", Programs: []string{"copilot"},
		Scopes: []Scope{User, Project},
		file: userOrProject(func(p Place) string {
			return p.under("COPILOT_HOME", p.home(".copilot"), "mcp-config.json")
		}, ".mcp.json"),
		container: fixed("mcpServers"), format: jsonFormat{},
		form: func(e Entry) object {
			return append(typed("local")(e), member{"tools", []string{"*"}})
		},
		next: func(scope Scope, name string) []string {
			next := []string{"start copilot again"}
			if scope == Project {
				next = append(next, "copilot asks whether you trust the folder when it starts there")
			}
			return next
		},
		OnlyReads: true,
		check:     func(name string) []string { return []string{"mcp", "get", name} },
	}, {
		Name: "cline", Aliases: []string{"cline-cli"}, Title: "Cline CLI", Programs: []string{"cline"},
		Scopes: []Scope{User},
		file: func(p Place, _ Scope) string {
			if path := p.Env.Getenv("CLINE_MCP_SETTINGS_PATH"); path != "" {
				return path
			}
			return p.under("CLINE_DIR", p.home(".cline"), "data", "settings", "cline_mcp_settings.json")
		},
		container: fixed("mcpServers"), format: jsonFormat{},
		form: func(e Entry) object { return object{{"transport", typed("stdio")(e)}} },
		next: lines("start cline again"),
	}, {
		Name: "cline-vscode", Aliases: []string{"claude-dev"}, Title: "Cline in VS Code",
		Scopes: []Scope{User},
		file: func(p Place, _ Scope) string {
			return p.application("Code", "User", "globalStorage", "saoudrizwan.claude-dev", "settings", "cline_mcp_settings.json")
		},
		container: fixed("mcpServers"), format: jsonFormat{}, form: commandAndArgs,
		next: lines("Cline reads the file at once; its list of MCP servers shows the server with a green dot"),
	}}
}

// moreAgentHosts are further ones of them.
func moreAgentHosts() []Host {
	return []Host{{
		Name: "droid", Aliases: []string{"factory"}, Title: "Factory droid", Programs: []string{"droid"},
		Scopes: []Scope{User, Project},
		file: userOrProject(func(p Place) string { return p.home(".factory", "mcp.json") },
			".factory", "mcp.json"),
		container: fixed("mcpServers"), format: jsonFormat{},
		form:  func(e Entry) object { return append(typed("stdio")(e), member{"disabled", false}) },
		next:  lines("droid reads the file at once; /mcp in it shows the server"),
		check: func(string) []string { return []string{"mcp", "list"} },
	}, {
		Name: "auggie", Aliases: []string{"augment"}, Title: "Auggie", Programs: []string{"auggie"},
		Scopes:    []Scope{User},
		file:      func(p Place, _ Scope) string { return p.home(".augment", "settings.json") },
		container: fixed("mcpServers"), format: jsonFormat{}, form: commandAndArgs,
		next: lines("start auggie again"),
	}, {
		Name: "mcporter", Title: "mcporter", Programs: []string{"mcporter"},
		Scopes: []Scope{User, Project},
		file: func(p Place, scope Scope) string {
			if path := p.Env.Getenv("MCPORTER_CONFIG"); path != "" {
				return path
			}
			if scope == Project {
				return p.project("config", "mcporter.json")
			}
			return firstOf(p.home(".mcporter", "mcporter.json"), p.home(".mcporter", "mcporter.jsonc"), p.home(".mcporter", "mcporter.json"))
		},
		container: fixed("mcpServers"), format: jsonFormat{}, form: commandAndArgs,
		next:  lines("nothing: mcporter reads the file each time"),
		check: func(name string) []string { return []string{"list", name} },
	}}
}
