//go:build linux

// Package clients_test installs sallyport into MCP hosts that people use, and lets these hosts
// start it. They are started for real, on a machine without a network, from the folder that
// SALLYPORT_TEST_HOSTS names (see `make hosts`).
package clients_test

import (
	"cmp"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// client is a host, and what it does with an entry of ours.
type client struct {
	// name is that of --client, and program its file in node_modules/.bin.
	name, program string
	// files are written below the home directory before, so that the host asks nobody.
	files map[string]string
	// add is the host's own command that adds a server x, before we add ours. Without it, the file
	// is made by us.
	add []string
	// says is what install quotes from the host's health check. It is empty if it has none.
	says string
	// list is a further command of the host, and listed what it prints when it has started
	// sallyport, or at least read the entry.
	list   []string
	listed string
	// config is the file, below the home directory.
	config string
	// rewrites says that the host writes something of its own into the file when it runs.
	rewrites bool
}

var clients = []client{
	{
		name: "claude-code", program: "claude", add: []string{"mcp", "add", "--scope", "user", "x", "--", "/bin/false", "a"},
		says: `claude mcp get \S+ says: \S+: Status: ✔? ?.*Connected`,
		list: []string{"mcp", "list"}, listed: `127-0-0-1\S*: .*Connected`, config: ".claude.json", rewrites: true,
	},
	{
		name: "codex", program: "codex", add: []string{"mcp", "add", "x", "--env", "A=1", "--", "/bin/false", "a"},
		says: `codex mcp get \S+ says: 127-0-0-1\S* enabled: true .it has read the entry`,
		list: []string{"mcp", "list"}, listed: `127-0-0-1\S* .*enabled`, config: ".codex/config.toml",
	},
	{
		name: "gemini", program: "gemini", add: []string{"mcp", "add", "--scope", "user", "x", "/bin/false", "a"},
		files: map[string]string{".gemini/settings.json": "{\n  // no window asks\n  \"security\": {\"folderTrust\": {\"enabled\": false}}, // here\n  \"telemetry\": {\"enabled\": false}\n}\n"},
		says:  `gemini mcp list says: ✓ 127-0-0-1\S*: .* - Connected`, config: ".gemini/settings.json",
	},
	{
		name: "qwen", program: "qwen", add: []string{"mcp", "add", "x", "/bin/false", "a"},
		says: `qwen mcp list says: ✓ 127-0-0-1\S*: .* - Connected`, config: ".qwen/settings.json", rewrites: true,
	},
	{
		name: "opencode", program: "opencode",
		files: map[string]string{".config/opencode/opencode.jsonc": "{\n  // mine\n  \"autoupdate\": false, \"share\": \"disabled\",\n}\n"},
		says:  `opencode mcp list says: .*127-0-0-1\S* .*connected`, config: ".config/opencode/opencode.jsonc", rewrites: true,
	},
	{
		name: "copilot", program: "copilot", add: []string{"mcp", "add", "x", "--", "/bin/false", "a"},
		says: `copilot mcp get \S+ says: .*127-0-0-1`,
		list: []string{"mcp", "list"}, listed: `127-0-0-1`, config: ".copilot/mcp-config.json",
	},
	{
		name: "mcporter", program: "mcporter",
		says: `mcporter list \S+ says: .*127-0-0-1.* \d+ tools?`,
		list: []string{"list", "--json"}, listed: `"echo"`, config: ".mcporter/mcporter.json",
	},
	{
		name: "droid", program: "droid", says: `droid mcp list says: .*127-0-0-1.*`, config: ".factory/mcp.json",
	},
	{
		name: "auggie", program: "auggie", list: []string{"mcp", "list"}, listed: `127-0-0-1`, config: ".augment/settings.json",
	},
}

// quiet keeps hosts from asking the network, which is not there.
var quiet = []string{
	"CI=1", "TERM=dumb", "LANG=C.UTF-8", "SHELL=/bin/sh", "DISABLE_TELEMETRY=1", "DISABLE_ERROR_REPORTING=1", "DISABLE_AUTOUPDATER=1",
	"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "GEMINI_TELEMETRY_ENABLED=false", "OPENCODE_DISABLE_AUTOUPDATE=1",
	"OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_DEFAULT_PLUGINS=1", "OPENCODE_DISABLE_LSP_DOWNLOAD=1", "COPILOT_OFFLINE=true",
}

// hostProgram returns the path of a host's program, and skips the test if it is not there.
func hostProgram(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("SALLYPORT_TEST_HOSTS")
	if dir == "" {
		t.Skip("SALLYPORT_TEST_HOSTS does not name a folder with hosts (see `make hosts`)")
	}
	path := filepath.Join(dir, "node_modules", ".bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not there", name)
	}
	machines.NeedMachine(t) // it has no network
	cmd := exec.Command(path, "--version")
	cmd.Env = append(machines.Environment(), "HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil && name != "mcp-inspector" {
		t.Skipf("%s does not run here: %v\n%s", name, err, out) // npm has not found its binary
	}
	return path
}

// desk is a person's account with one host.
type desk struct {
	home, program string
	// dir is the working directory. An empty one is home.
	dir string
	env []string
}

// newDesk makes the account. The host is in its PATH.
func newDesk(t *testing.T, program string) *desk {
	t.Helper()
	d := &desk{home: t.TempDir(), program: program}
	d.env = append([]string{
		"HOME=" + d.home, "PATH=" + filepath.Dir(program) + ":" + os.Getenv("PATH"), "USER=root", "LOGNAME=root",
		"SALLYPORT_TOKEN_STORE=file", "TMPDIR=" + t.TempDir(),
	}, quiet...)
	return d
}

// run runs a program to its end, and returns what it prints.
func (d *desk) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = cmp.Or(d.dir, d.home), d.env
	p := machines.StartProcess(t, cmd)
	status := p.Wait(t)
	out := p.Out.String() + p.Err.String()
	if status != 0 {
		t.Errorf("%s %q ended with status %d:\n%s", filepath.Base(program), args, status, out)
	}
	return out
}

// match fails unless the output has a line like this.
func match(t *testing.T, out, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(out) {
		t.Errorf("the output has no %q:\n%s", pattern, out)
	}
}

// config returns the text of the host's file.
func (d *desk) config(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.home, path))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// TestInstall lets each host read the entry that install has written beside one of its own, start
// sallyport if it does that for its health check, and find its own entry alone after uninstall.
func TestInstall(t *testing.T) {
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t, hostProgram(t, c.program))
			url := machines.StartMCP(t, nil)
			for path, text := range c.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(d.home, path)), 0o700); err != nil {
					t.Fatal(err)
				}
				machines.WriteFile(t, d.home, path, text, 0o600)
			}
			if c.add != nil {
				d.run(t, d.program, c.add...)
			}
			before := d.config(t, c.config)
			out := d.run(t, machines.Sallyport(t), "install", "--client", c.name, url)
			t.Logf("install says:\n%s", out)
			match(t, out, `takes requests without a token`)
			if c.says != "" {
				match(t, out, c.says)
			}
			if c.list != nil {
				match(t, d.run(t, d.program, c.list...), c.listed)
			}
			// A host may write what it has seen into the same file.
			after := d.config(t, c.config)
			d.run(t, machines.Sallyport(t), "uninstall", "--client", c.name)
			left := d.config(t, c.config)
			if strings.Contains(left, url) || strings.Contains(before, "// mine") != strings.Contains(left, "// mine") || strings.Contains(before, "/bin/false") != strings.Contains(left, "/bin/false") {
				t.Errorf("uninstall leaves\n%s", left)
			}
			if !c.rewrites && left != before {
				t.Errorf("uninstall leaves\n%s\nbefore install it was\n%s\nafter it\n%s", left, before, after)
			}
		})
	}
}

// TestScopes shows that Claude Code finds the entry under the scope that it was installed for, from
// below the root of a repository, and that install says what a project's entry still waits for.
func TestScopes(t *testing.T) {
	for scope, want := range map[string]string{
		"user": `Scope: User config`, "local": `Scope: Local config`, "project": `Scope: Project config`,
	} {
		t.Run(scope, func(t *testing.T) {
			d := newDesk(t, hostProgram(t, "claude"))
			url := machines.StartMCP(t, nil)
			repository := filepath.Join(d.home, "repository")
			if err := os.MkdirAll(filepath.Join(repository, "deep"), 0o700); err != nil {
				t.Fatal(err)
			}
			d.dir = repository
			d.run(t, machines.NeedProgram(t, "git", "git"), "init", "-q")
			d.dir = filepath.Join(repository, "deep")
			out := d.run(t, machines.Sallyport(t), "install", "--client", "claude-code", "--client-scope", scope, "--name", "site", url)
			if scope == "project" {
				match(t, out, `(?s)claude mcp get site says: .*Pending approval.*hint: start claude in this folder and approve`)
			} else {
				match(t, out, `claude mcp get site says: .*Connected`)
			}
			match(t, d.run(t, d.program, "mcp", "get", "site"), want)
			d.run(t, machines.Sallyport(t), "uninstall", "--client", "claude-code")
			cmd := exec.Command(d.program, "mcp", "get", "site")
			cmd.Dir, cmd.Env = d.dir, d.env
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("it is still there: %s", out)
			}
		})
	}
}

// session is a host that starts its servers only in a session.
type session struct {
	name, program string
	args, env     []string
}

// sessions are such hosts. Their model refuses each request, so the session ends after it has
// started its servers.
func sessions(modelURL string) []session {
	return []session{
		{"continue", "cn", []string{"-p", "hello", "--config", ".continue/config.yaml"}, nil},
		{"codex", "codex", []string{
			"-c", `model_provider="none"`, "-c", `model_providers.none={name="none",base_url="` + modelURL + `",request_max_retries=0,stream_max_retries=0}`,
			"exec", "--skip-git-repo-check", "hello",
		}, nil},
		{"copilot", "copilot", []string{"-p", "hello", "--allow-all-tools", "--no-auto-update"}, []string{
			"COPILOT_PROVIDER_BASE_URL=" + modelURL, "COPILOT_PROVIDER_API_KEY=x", "COPILOT_MODEL=none",
		}},
	}
}

// TestSession lets hosts start sallyport in a session, with the entry that install has written. The
// variable of the sockets' directory reaches it: a proxy that does not get it makes its socket
// elsewhere, and finds neither the keyring nor the shared connection.
func TestSession(t *testing.T) {
	for i, s := range sessions("") {
		t.Run(s.name, func(t *testing.T) {
			d := newDesk(t, hostProgram(t, s.program))
			model := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, `{"error":{"message":"no model here","type":"invalid_request_error"}}`, http.StatusBadRequest)
			}))
			defer model.Close()
			s := sessions(model.URL)[i]
			runtimeDir := t.TempDir()
			if err := os.Chmod(runtimeDir, 0o700); err != nil {
				t.Fatal(err)
			}
			d.env = append(d.env, "XDG_RUNTIME_DIR="+runtimeDir)
			if s.name == "continue" { // it has no flag for the model
				if err := os.Mkdir(filepath.Join(d.home, ".continue"), 0o700); err != nil {
					t.Fatal(err)
				}
				machines.WriteFile(t, d.home, ".continue/config.yaml", "name: Mine\nversion: 1.0.0\nschema: v1\nmodels:\n  # none\n  - name: none\n    provider: openai\n    model: none\n    apiKey: x\n    apiBase: "+model.URL+"\n    roles: [chat]\n", 0o600)
			}
			url := machines.StartMCP(t, nil)
			log := filepath.Join(d.home, "proxy.log")
			d.run(t, machines.Sallyport(t), "install", "--client", s.name, "--no-login", "--log-level", "debug", "--log-file", log, url)
			if err := os.Remove(log); err != nil {
				t.Fatal(err) // install has opened it
			}
			cmd := exec.Command(d.program, s.args...)
			cmd.Dir, cmd.Env = d.home, append(d.env, s.env...)
			null, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer null.Close()
			cmd.Stdin = null
			p := machines.StartProcess(t, cmd)
			p.Wait(t) // whatever it says of its model
			if got := machines.ReadFile(t, log); !strings.Contains(got, "method=initialize") {
				t.Errorf("sallyport was not started, or not used:\n%s\n%s\n%s", got, p.Out, p.Err)
			}
			if _, err := os.Stat(filepath.Join(runtimeDir, "sallyport")); err != nil {
				t.Errorf("XDG_RUNTIME_DIR has not reached sallyport: %v", err)
			}
		})
	}
}

// TestInspector lets the command line of MCP Inspector use the file of a project.
func TestInspector(t *testing.T) {
	d := newDesk(t, hostProgram(t, "mcp-inspector"))
	url := machines.StartMCP(t, nil)
	d.run(t, machines.Sallyport(t), "install", "--client", "claude-code", "--client-scope", "project", "--no-login", "--name", "site", url)
	match(t, d.run(t, d.program, "--cli", "--config", ".mcp.json", "--server", "site", "--method", "tools/list"), `"name": "echo"`)
}
