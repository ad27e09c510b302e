package install

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
)

// placeOf is a machine of a system with these variables.
func placeOf(goos, home string, variables map[string]string) Place {
	return Place{Env: environment.Fixed(variables, home), Dir: "/src", GOOS: goos}
}

// TestFiles shows where the file of each host is.
func TestFiles(t *testing.T) {
	windows := map[string]string{"APPDATA": "/home/ada/AppData/Roaming"}
	for _, row := range []struct {
		host      string
		scope     Scope
		goos      string
		variables map[string]string
		want      string
	}{
		{"claude-code", User, "linux", nil, "/home/ada/.claude.json"},
		{"claude-code", Local, "windows", windows, "/home/ada/.claude.json"},
		{"claude-code", User, "linux", map[string]string{"CLAUDE_CONFIG_DIR": "/c"}, "/c/.claude.json"},
		{"claude-code", Project, "linux", nil, "/src/.mcp.json"},
		{"claude-desktop", User, "linux", nil, "/home/ada/.config/Claude/claude_desktop_config.json"},
		{"claude-desktop", User, "darwin", nil, "/home/ada/Library/Application Support/Claude/claude_desktop_config.json"},
		{"claude-desktop", User, "windows", windows, "/home/ada/AppData/Roaming/Claude/claude_desktop_config.json"},
		{"codex", User, "linux", nil, "/home/ada/.codex/config.toml"},
		{"codex", User, "linux", map[string]string{"CODEX_HOME": "/c"}, "/c/config.toml"},
		{"codex", Project, "linux", nil, "/src/.codex/config.toml"},
		{"gemini", User, "linux", nil, "/home/ada/.gemini/settings.json"},
		{"gemini", User, "linux", map[string]string{"GEMINI_CLI_HOME": "/g"}, "/g/.gemini/settings.json"},
		{"gemini", Project, "linux", nil, "/src/.gemini/settings.json"},
		{"qwen", User, "darwin", nil, "/home/ada/.qwen/settings.json"},
		{"opencode", User, "linux", nil, "/home/ada/.config/opencode/opencode.jsonc"},
		{"opencode", User, "darwin", map[string]string{"XDG_CONFIG_HOME": "/x"}, "/x/opencode/opencode.jsonc"},
		{"opencode", User, "linux", map[string]string{"OPENCODE_CONFIG": "/o.json"}, "/o.json"},
		{"opencode", Project, "linux", nil, "/src/opencode.jsonc"},
		{"copilot", User, "linux", nil, "/home/ada/.copilot/mcp-config.json"},
		{"copilot", User, "linux", map[string]string{"COPILOT_HOME": "/c"}, "/c/mcp-config.json"},
		{"copilot", Project, "linux", nil, "/src/.mcp.json"},
		{"vscode", User, "linux", nil, "/home/ada/.config/Code/User/mcp.json"},
		{"vscode", User, "darwin", nil, "/home/ada/Library/Application Support/Code/User/mcp.json"},
		{"vscode", User, "windows", windows, "/home/ada/AppData/Roaming/Code/User/mcp.json"},
		{"vscode", Project, "windows", windows, "/src/.vscode/mcp.json"},
		{"vscode-insiders", User, "linux", nil, "/home/ada/.config/Code - Insiders/User/mcp.json"},
		{"cursor", User, "linux", nil, "/home/ada/.cursor/mcp.json"},
		{"cursor", Project, "linux", nil, "/src/.cursor/mcp.json"},
		{"zed", User, "darwin", nil, "/home/ada/.config/zed/settings.json"},
		{"zed", User, "windows", windows, "/home/ada/AppData/Roaming/Zed/settings.json"},
		{"windsurf", User, "linux", nil, "/home/ada/.codeium/windsurf/mcp_config.json"},
		{"cline", User, "linux", nil, "/home/ada/.cline/data/settings/cline_mcp_settings.json"},
		{"cline-vscode", User, "linux", nil, "/home/ada/.config/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"},
		{"continue", User, "linux", nil, "/home/ada/.continue/config.yaml"},
		{"droid", User, "linux", nil, "/home/ada/.factory/mcp.json"},
		{"auggie", User, "linux", nil, "/home/ada/.augment/settings.json"},
		{"mcporter", User, "linux", nil, "/home/ada/.mcporter/mcporter.json"},
		{"mcporter", Project, "linux", nil, "/src/config/mcporter.json"},
		{"jetbrains", User, "linux", nil, ""},
	} {
		host, ok := Find(row.host)
		if !ok || !slices.Contains(host.Scopes, row.scope) {
			t.Errorf("%s has no scope %s", row.host, row.scope)
			continue
		}
		if got := filepath.ToSlash(host.File(placeOf(row.goos, "/home/ada", row.variables), row.scope)); got != row.want {
			t.Errorf("%s, %s, %s: %s, want %s", row.host, row.scope, row.goos, got, row.want)
		}
	}
}

// On a machine that VS Code works on by SSH, the file is that of its server.
func TestFileOfVSCodeServer(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".vscode-server", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	host, _ := Find("vscode")
	if got, want := host.File(placeOf("linux", home, nil), User), filepath.Join(home, ".vscode-server", "data", "User", "mcp.json"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestForms shows what comes into a file that is not there yet, for each host.
func TestForms(t *testing.T) {
	const wide = `"command": "/opt/sallyport",` + "\n      " + `"args": ["--via", "bastion", "https://mcp.internal/mcp"]`
	entry := Entry{Name: "internal", Command: "/opt/sallyport", Args: []string{"--via", "bastion", "https://mcp.internal/mcp"}, Pass: []string{"SSH_AUTH_SOCK", "DISPLAY"}}
	jsonOf := func(container, members string) string {
		return "{\n  \"" + container + "\": {\n    \"internal\": {\n      " + members + "\n    }\n  }\n}\n"
	}
	stdio := jsonOf("mcpServers", `"type": "stdio",`+"\n      "+wide)
	plain := jsonOf("mcpServers", wide)
	want := map[string]string{
		"claude-code": stdio, "cursor": stdio, "claude-desktop": plain, "windsurf": plain, "qwen": plain, "cline-vscode": plain,
		"auggie": plain, "mcporter": plain, "jetbrains": plain,
		"gemini":   jsonOf("mcpServers", wide+",\n      \"env\": {\n        \"SSH_AUTH_SOCK\": \"$SSH_AUTH_SOCK\"\n      }"),
		"opencode": jsonOf("mcp", "\"type\": \"local\",\n      \"command\": [\"/opt/sallyport\", \"--via\", \"bastion\", \"https://mcp.internal/mcp\"],\n      \"enabled\": true"),
		"copilot":  jsonOf("mcpServers", "\"type\": \"local\",\n      "+wide+",\n      \"tools\": [\"*\"]"),
		"droid":    jsonOf("mcpServers", "\"type\": \"stdio\",\n      "+wide+",\n      \"disabled\": false"),
		"cline":    jsonOf("mcpServers", "\"transport\": {\n        \"type\": \"stdio\",\n        "+strings.ReplaceAll(wide, "\n", "\n  ")+"\n      }"),
		"zed":      jsonOf("context_servers", wide),
		"codex":    "[mcp_servers.internal]\ncommand = \"/opt/sallyport\"\nargs = [\"--via\", \"bastion\", \"https://mcp.internal/mcp\"]\nenv_vars = [\"SSH_AUTH_SOCK\", \"DISPLAY\"]\n",
		"continue": "name: Local Config\nversion: 1.0.0\nschema: v1\nmcpServers:\n  - name: \"internal\"\n    command: \"/opt/sallyport\"\n    args:\n      - \"--via\"\n      - \"bastion\"\n      - \"https://mcp.internal/mcp\"\n",
	}
	for _, name := range []string{"vscode", "vscode-insiders", "vscodium"} {
		want[name] = jsonOf("servers", `"type": "stdio",`+"\n      "+wide)
	}
	for _, host := range Hosts() {
		got, err := host.Shown(placeOf("linux", "/home/ada", nil), entry)
		if err != nil || got != want[host.Name] {
			t.Errorf("%s:\n%s\nwant\n%s\n%v", host.Name, got, want[host.Name], err)
		}
		if len(host.Next(host.Scopes[0], "internal")) == 0 {
			t.Errorf("%s wants nothing of the person", host.Name)
		}
	}
	if len(want) != len(Hosts()) {
		t.Errorf("%d forms for %d hosts", len(want), len(Hosts()))
	}
}

// The man page lists all hosts.
func TestManualListsHosts(t *testing.T) {
	page := strings.ReplaceAll(read(t, "../../sallyport.1"), `\-`, "-")
	if want := strings.Join(Names(), ", "); !strings.Contains(strings.ReplaceAll(page, "\n", " "), want) {
		t.Errorf("the man page does not list: %s", want)
	}
}

// Names and aliases of hosts are unique.
func TestNamesAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, host := range Hosts() {
		for _, name := range append([]string{host.Name}, host.Aliases...) {
			if seen[name] != "" && seen[name] != host.Name {
				t.Errorf("%s is %s and %s", name, seen[name], host.Name)
			}
			seen[name] = host.Name
		}
	}
}

// TestClaudeProject shows under which key Claude Code keeps a folder.
func TestClaudeProject(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"repository/.git", "repository/deep/er", "plain/deep", "worktree/deep"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "worktree", ".git"), "gitdir: "+dir+"/repository/.git/worktrees/w\n", 0o600)
	for path, want := range map[string]string{
		"repository": "repository", "repository/deep/er": "repository", "plain/deep": "plain/deep", "worktree/deep": "repository",
	} {
		if got := claudeProject(filepath.Join(dir, path)); got != filepath.ToSlash(filepath.Join(dir, want)) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestKind shows which servers are told apart, and where they lead.
func TestKind(t *testing.T) {
	for _, row := range []struct {
		value    map[string]any
		kind     Kind
		upstream string
	}{
		{map[string]any{"command": "/opt/bin/sallyport", "args": []any{"--issuer", "https://i", "https://u/mcp"}}, Ours, "https://u/mcp"},
		{map[string]any{"command": `C:\Program Files\sallyport\sallyport.exe`, "args": []any{"https://u/mcp"}}, Ours, "https://u/mcp"},
		{map[string]any{"command": "npx", "args": []any{"-y", "sallyport@1.2.3", "https://u/mcp"}}, Ours, "https://u/mcp"},
		{map[string]any{"command": "/self", "env": map[string]any{"UPSTREAM_URL": "https://u/mcp"}}, Ours, "https://u/mcp"},
		{map[string]any{"command": []any{"/self", "https://u/mcp"}}, Ours, "https://u/mcp"},
		{map[string]any{"transport": map[string]any{"command": "/self", "args": []any{"https://u/mcp"}}}, Ours, "https://u/mcp"},
		{map[string]any{"command": "npx", "args": []any{"-y", "mcp-remote@latest", "https://u/mcp", "--header", "X: https://x"}}, MCPRemote, "https://u/mcp"},
		{map[string]any{"command": "cmd", "args": []any{"/c", "npx", "mcp-remote", "https://u/mcp", "--resource", "https://r"}}, MCPRemote, "https://u/mcp"},
		{map[string]any{"command": "mcp-oauth2-proxy", "env": map[string]any{"UPSTREAM_URL": "https://u/mcp"}}, Predecessor, "https://u/mcp"},
		{map[string]any{"command": "npx", "args": []any{"mcp-oauth2-proxy"}, "env": map[string]any{"UPSTREAM_URL": "https://u/mcp"}}, Predecessor, "https://u/mcp"},
		{map[string]any{"type": "http", "url": "https://u/mcp"}, Direct, "https://u/mcp"},
		{map[string]any{"httpUrl": "https://u/mcp"}, Direct, "https://u/mcp"},
		{map[string]any{"command": "grep", "args": []any{"sallyport"}}, Foreign, ""},
		{map[string]any{"command": "/opt/not-sallyport"}, Foreign, ""},
		{nil, Foreign, ""},
	} {
		s := newServer("x", row.value)
		if got := s.Kind("/self"); got != row.kind || s.Upstream() != row.upstream {
			t.Errorf("%v: %s to %q, want %s to %q", row.value, got, s.Upstream(), row.kind, row.upstream)
		}
	}
}

// TestNameOf shows the name that a server gets.
func TestNameOf(t *testing.T) {
	for text, want := range map[string]string{
		"https://mcp.linear.app/mcp": "linear", "https://mcp.internal/mcp": "internal", "https://api.githubcopilot.com/mcp/": "githubcopilot",
		"https://Tools.Example.ORG/x": "tools-example", "http://localhost:8080/mcp": "localhost-8080", "http://127.0.0.1:8080/mcp": "127-0-0-1-8080",
		"https://[2001:db8::1]/mcp": "2001-db8--1", "https://mcp/x": "mcp", "https://münchen.de/": "m-nchen",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := NameOf(u, "default"); got != want || !IsName(got) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	u := &url.URL{Scheme: "https", Host: "mcp.linear.app"}
	if got := NameOf(u, "Work"); got != "linear-work" {
		t.Errorf("with a profile: %q", got)
	}
}

// install installs into a file with this text, and returns the text then.
func installInto(t *testing.T, host, old string, change func(*Request)) (Result, string, error) {
	t.Helper()
	h, _ := Find(host)
	home := t.TempDir()
	r := Request{
		Host: h, Place: placeOf("linux", home, nil), Scope: User, Upstream: "https://mcp.internal/mcp",
		Entry:   Entry{Name: "internal", Command: "/opt/sallyport", Args: []string{"--via", "bastion", "https://mcp.internal/mcp"}},
		Records: Records(filepath.Join(home, "records.json")),
	}
	if change != nil {
		change(&r)
	}
	path := h.File(r.Place, User)
	if old != "" {
		write(t, path, old, 0o600)
	}
	result, err := Install(t.Context(), r)
	text, _ := os.ReadFile(path)
	if err != nil && string(text) != old {
		t.Errorf("the file has changed in spite of %v", err)
	}
	return result, string(text), err
}

// TestInstall shows what becomes of entries that are there already.
func TestInstall(t *testing.T) {
	const ours = `{"mcpServers": {"internal": {"type": "stdio", "command": "/opt/sallyport", "args": ["--via", "bastion", "https://mcp.internal/mcp"], "timeout": 9}}}`
	remote := `{"mcpServers": {"old": {"command": "npx", "args": ["mcp-remote", "https://mcp.internal/mcp/", "--header", "X: ${T}", "--debug"], "env": {"T": "1"}}}}`
	for name, row := range map[string]struct {
		old     string
		change  func(*Request)
		outcome Outcome
		entry   string
		has     []string
		hasNot  []string
		taken   bool
	}{
		"nothing there": {outcome: Added, entry: "internal"},
		"the same":      {old: ours, outcome: Unchanged, entry: "internal"},
		"other arguments": {old: ours, change: func(r *Request) { r.Entry.Args = []string{"https://mcp.internal/mcp"} },
			outcome: Updated, entry: "internal", has: []string{`"timeout": 9`}, hasNot: []string{"bastion"}},
		"ours under another name": {old: strings.ReplaceAll(ours, `"internal"`, `"mine"`), outcome: Unchanged, entry: "mine"},
		"ours for another profile": {old: strings.ReplaceAll(strings.ReplaceAll(ours, `"internal"`, `"mine"`), "--via\", \"bastion", "--profile\", \"work"),
			outcome: Added, entry: "internal", has: []string{`"mine"`}},
		"ours, another upstream": {old: strings.ReplaceAll(ours, "internal/mcp", "internal/other"), taken: true},
		"ours, another upstream, named": {old: strings.ReplaceAll(ours, "internal/mcp", "internal/other"), change: func(r *Request) { r.Named = true },
			outcome: Updated, entry: "internal", hasNot: []string{"other"}},
		"somebody else's":        {old: `{"mcpServers": {"internal": {"command": "x"}}}`, taken: true},
		"somebody else's, named": {old: `{"mcpServers": {"internal": {"command": "x"}}}`, change: func(r *Request) { r.Named = true }, taken: true},
		"mcp-remote":             {old: remote, taken: true},
		"mcp-remote, named":      {old: remote, change: func(r *Request) { r.Named = true }, outcome: Added, entry: "internal", has: []string{"mcp-remote"}},
		"mcp-remote, replaced": {old: remote, change: func(r *Request) { r.Replace = true },
			outcome: Replaced, entry: "old", has: []string{`"T": "1"`, `"--header", "X: ${T}"`}, hasNot: []string{"mcp-remote", "--debug"}},
		"the host itself, replaced": {old: `{"mcpServers": {"x": {"type": "http", "url": "https://MCP.internal:443/mcp"}, "y": {}}}`,
			change: func(r *Request) { r.Replace = true }, outcome: Replaced, entry: "x", has: []string{`"y"`}, hasNot: []string{"http\""}},
		"another upstream's": {old: strings.ReplaceAll(remote, "internal", "other"), outcome: Added, entry: "internal"},
		"dry run":            {old: "{}", change: func(r *Request) { r.DryRun = true }, outcome: Added, entry: "internal", hasNot: []string{"mcpServers"}},
	} {
		t.Run(name, func(t *testing.T) {
			result, text, err := installInto(t, "claude-code", row.old, row.change)
			if _, taken := errors.AsType[*TakenError](err); taken != row.taken || err != nil && !taken {
				t.Fatalf("the error is %v", err)
			}
			if result.Outcome != row.outcome || err == nil && result.Name != row.entry {
				t.Errorf("%s %q, want %s %q", result.Outcome, result.Name, row.outcome, row.entry)
			}
			for _, part := range row.has {
				if !strings.Contains(text, part) {
					t.Errorf("%s is not in\n%s", part, text)
				}
			}
			for _, part := range row.hasNot {
				if strings.Contains(text, part) {
					t.Errorf("%s is in\n%s", part, text)
				}
			}
		})
	}
}

// A file that cannot be parsed is left alone, and the error says where.
func TestInstallSyntax(t *testing.T) {
	for host, rows := range map[string]map[string]string{
		"claude-code": {
			"{\n  \"a\": 1\n  \"b\": 2\n}": "line 3, column 3",
			"[]":                           "no JSON object",
			"{\"mcpServers\": []}":         "line 1: \"mcpServers\" should be an object",
			"{\"mcpServers\": {},\n\"mcpServers\": {}}":             "is there twice, in line 1 and in line 2",
			"\xff\xfe{\x00}\x00":                                    "UTF-16",
			"{\"mcpServers\": {\"internal\": {}, \"internal\": 1}}": "",
		},
		"codex": {
			"a = \n":                          "line 1",
			"mcp_servers = 3\n":               "should be a table",
			"mcp_servers = { x = { a = 1 } }": "not written as a table of its own",
		},
		"continue": {
			"a: [\n":                  "line",
			"- a\n":                   "no mapping",
			"mcpServers: {a: b}\n":    "line 1: \"mcpServers\" should be a list",
			"mcpServers: [{name: a}]": "in brackets",
		},
	} {
		for old, want := range rows {
			_, _, err := installInto(t, host, old, nil)
			if err == nil {
				t.Errorf("%s: %q is taken", host, old)
			} else if syntax, ok := errors.AsType[*SyntaxError](err); want != "" && (!ok || !strings.Contains(syntax.Text, want) || syntax.Path == "") {
				t.Errorf("%s: %q gives %v, want %s", host, old, err, want)
			}
		}
	}
}

// TestUninstall shows for each host and scope that two installs and two uninstalls leave what was
// there: no file.
func TestUninstall(t *testing.T) {
	for _, host := range Hosts() {
		if host.Paste != "" {
			continue
		}
		t.Run(host.Name, func(t *testing.T) {
			home := t.TempDir()
			place := placeOf("linux", home, nil)
			place.Dir = filepath.Join(home, "project")
			records := Records(filepath.Join(home, "records.json"))
			for _, scope := range host.Scopes {
				request := Request{Host: host, Place: place, Scope: scope, Upstream: "https://a/mcp", Entry: Entry{Name: "a", Command: "/opt/sallyport", Args: []string{"https://a/mcp"}}, Records: records}
				if _, err := Install(t.Context(), request); err != nil {
					t.Fatal(err)
				}
				second := request
				second.Upstream, second.Entry = "https://b/mcp", Entry{Name: "b", Command: "/opt/sallyport", Args: []string{"https://b/mcp"}}
				if _, err := Install(t.Context(), second); err != nil {
					t.Fatal(err)
				}
				removal := Removal{Host: host, Place: place, Scope: scope, Self: "/opt/sallyport", Records: records}
				if _, err := Uninstall(t.Context(), removal); err == nil {
					t.Error("one of two entries is taken out unasked")
				}
				removal.Upstream = "https://a/mcp/"
				if got, err := Uninstall(t.Context(), removal); err != nil || got.Outcome != Removed || got.Name != "a" {
					t.Errorf("the first removal: %s %q, %v", got.Outcome, got.Name, err)
				}
				removal.Upstream = ""
				if got, err := Uninstall(t.Context(), removal); err != nil || got.Outcome != Removed || got.Name != "b" {
					t.Errorf("the second removal: %s %q, %v", got.Outcome, got.Name, err)
				}
				if text, err := os.ReadFile(host.File(place, scope)); err == nil {
					t.Errorf("the file was not there and is now\n%s", text)
				}
				if got, err := Uninstall(t.Context(), removal); err != nil || got.Outcome != Absent {
					t.Errorf("the third removal: %s, %v", got.Outcome, err)
				}
			}
		})
	}
}

// Uninstall leaves a server alone that is not ours.
func TestUninstallForeign(t *testing.T) {
	host, _ := Find("cursor")
	place := placeOf("linux", t.TempDir(), nil)
	path := host.File(place, User)
	write(t, path, `{"mcpServers": {"x": {"command": "y"}}}`, 0o600)
	_, err := Uninstall(t.Context(), Removal{Host: host, Place: place, Name: "x", Self: "/opt/sallyport"})
	if _, ok := errors.AsType[*TakenError](err); !ok {
		t.Errorf("the error is %v, want a *TakenError", err)
	}
	if got := read(t, path); !strings.Contains(got, `"x"`) {
		t.Errorf("the file is now %s", got)
	}
}

// An entry of another program in another scope does not keep ours from being taken out.
func TestUninstallBesideForeign(t *testing.T) {
	host, _ := Find("claude-code")
	home := t.TempDir()
	place := placeOf("linux", home, nil)
	place.Dir = filepath.Join(home, "project")
	path := host.File(place, User)
	old := fmt.Sprintf(`{"projects":{%q:{"mcpServers":{"x":{"command":"y"}}}},"mcpServers":{}}`, place.Dir)
	write(t, path, old, 0o600)
	records := Records(filepath.Join(home, "records.json"))
	request := Request{Host: host, Place: place, Scope: User, Named: true, Upstream: "https://a/mcp",
		Entry: Entry{Name: "x", Command: "/opt/sallyport", Args: []string{"https://a/mcp"}}, Records: records}
	if _, err := Install(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	got, err := Uninstall(t.Context(), Removal{Host: host, Place: place, Name: "x", Self: "/opt/sallyport", Records: records})
	if err != nil || got.Outcome != Removed || got.Scope != User {
		t.Errorf("%s in %s, %v", got.Outcome, got.Scope, err)
	}
	if text := read(t, path); text != old {
		t.Errorf("the file is now %s", text)
	}
}
