package install

// openHosts are opencode, which writes program and arguments as one list, and Continue, whose file
// is YAML.
func openHosts() []Host {
	return []Host{{
		Name: "opencode", Title: "opencode", Programs: []string{"opencode"},
		Scopes: []Scope{User, Project},
		file: func(p Place, scope Scope) string {
			if scope == Project {
				return firstOf(p.project("opencode.jsonc"), p.project("opencode.json"), p.project("opencode.jsonc"))
			}
			if path := p.Env.Getenv("OPENCODE_CONFIG"); path != "" {
				return path
			}
			return firstOf(p.xdg("opencode", "opencode.jsonc"), p.xdg("opencode", "opencode.json"), p.xdg("opencode", "opencode.jsonc"))
		},
		container: fixed("mcp"), format: jsonFormat{},
		form: func(e Entry) object {
			value := object{{"type", "local"}, {"command", append([]string{e.Command}, e.Args...)}, {"enabled", true}}
			if len(e.Env) > 0 {
				value = append(value, member{"environment", e.Env})
			}
			return value
		},
		next:  lines("start opencode again"),
		check: func(string) []string { return []string{"mcp", "list"} },
	}, {
		Name: "continue", Aliases: []string{"cn", "continue-dev"}, Title: "Continue", Programs: []string{"cn"},
		Scopes: []Scope{User},
		file: func(p Place, _ Scope) string {
			return p.under("CONTINUE_GLOBAL_DIR", p.home(".continue"), "config.yaml")
		},
		container: fixed("mcpServers"),
		format:    yamlFormat{head: "name: Local Config\nversion: 1.0.0\nschema: v1\n"},
		form:      commandAndArgs,
		next: lines("the extension reads the file at once; cn reads it when it starts",
			"Continue uses tools only in agent mode, and lists them once: after a sign-in start a new session"),
	}}
}
