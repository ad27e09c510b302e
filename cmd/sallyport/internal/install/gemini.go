package install

import "sallyport/cmd/sallyport/internal/lazyregexp"

// geminiHosts are Gemini CLI and Qwen Code, which began as a copy of it. Their files are edited and
// not their commands `mcp add`, which write the whole file anew and lose its comments.
func geminiHosts() []Host {
	return []Host{{
		Name: "gemini", Aliases: []string{"gemini-cli"}, Title: "Gemini CLI", Programs: []string{"gemini"},
		Scopes: []Scope{User, Project},
		file: userOrProject(func(p Place) string {
			return p.under("GEMINI_CLI_HOME", p.Env.Home, ".gemini", "settings.json")
		}, ".gemini", "settings.json"),
		container: fixed("mcpServers"), format: jsonFormat{},
		form: func(e Entry) object {
			for _, name := range e.Pass {
				e.Env = append(e.Env, member{name, "$" + name})
			}
			return commandAndArgs(e)
		},
		drops: func(variable string) bool { return geminiDrops().MatchString(variable) },
		next: lines("start gemini again",
			"gemini disables servers in a folder that you do not trust: it asks when it starts there, and /permissions changes it"),
		check: func(string) []string { return []string{"mcp", "list"} },
	}, {
		Name: "qwen", Aliases: []string{"qwen-code"}, Title: "Qwen Code", Programs: []string{"qwen"},
		Scopes:    []Scope{User, Project},
		file:      userOrProject(func(p Place) string { return p.home(".qwen", "settings.json") }, ".qwen", "settings.json"),
		container: fixed("mcpServers"), format: jsonFormat{}, form: commandAndArgs,
		next:  lines("start qwen again"),
		check: func(string) []string { return []string{"mcp", "list"} },
	}}
}

// geminiDrops matches the variables that Gemini CLI takes out of a server's environment, because
// their names look like those of secrets.
var geminiDrops = lazyregexp.New(`(?i)TOKEN|SECRET|PASSWORD|PASSWD|KEY|AUTH|CREDENTIAL|CREDS|PRIVATE|CERT`)
