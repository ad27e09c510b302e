//go:build linux

package signinhosts_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// realHost is a host that people use, and how it is told of its model and of the proxy.
type realHost struct {
	name string
	// program is its file in node_modules/.bin.
	program string
	// files are written below the home directory.
	files map[string]string
	// args are its arguments and env its variables.
	args, env []string
}

// prompt is the task. The stand-in for the model does not read it.
const prompt = "Call the tool echo of the MCP server site."

// realHosts are those that are tried. The command is that of the proxy.
func realHosts(modelURL string, command []string) []realHost {
	program, args := quote(command[0]), make([]string, len(command)-1)
	for i, arg := range command[1:] {
		args[i] = quote(arg)
	}
	list := "[" + strings.Join(args, ",") + "]"
	whole := "[" + strings.Join(append([]string{program}, args...), ",") + "]"
	return []realHost{
		{name: "Codex", program: "codex", files: map[string]string{".codex/config.toml": fmt.Sprintf(`
model = "stand-in"
model_provider = "standin"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.standin]
name = "standin"
base_url = "%s/v1"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
[mcp_servers.site]
command = %s
args = %s
`, modelURL, program, list)},
			args: []string{"exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", prompt}, env: []string{"OPENAI_API_KEY=x"}},
		{name: "Gemini CLI", program: "gemini", files: map[string]string{".gemini/settings.json": fmt.Sprintf(
			`{"mcpServers":{"site":{"command":%s,"args":%s,"trust":true}},"security":{"auth":{"selectedType":"gemini-api-key"},"folderTrust":{"enabled":false}},
			"telemetry":{"enabled":false},"privacy":{"usageStatisticsEnabled":false},"general":{"disableAutoUpdate":true,"enableAutoUpdate":false}}`, program, list)},
			args: []string{"-m", "gemini-2.5-flash", "--yolo", "-p", prompt},
			env:  []string{"GEMINI_API_KEY=x", "GOOGLE_GEMINI_BASE_URL=" + modelURL, "GEMINI_TELEMETRY_ENABLED=false"}},
		{name: "opencode", program: "opencode", files: map[string]string{".config/opencode/opencode.jsonc": fmt.Sprintf(
			`{"autoupdate":false,"share":"disabled","model":"standin/stand-in","small_model":"standin/stand-in","provider":{"standin":{"npm":"@ai-sdk/openai-compatible","name":"s",
			"options":{"baseURL":"%s/v1","apiKey":"x"},"models":{"stand-in":{"name":"s","tool_call":true}}}},"mcp":{"site":{"type":"local","command":%s}}}`, modelURL, whole)},
			args: []string{"run", prompt},
			env:  []string{"OPENCODE_DISABLE_AUTOUPDATE=1", "OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_LSP_DOWNLOAD=1", "OPENCODE_DISABLE_DEFAULT_PLUGINS=1"}},
		{name: "Claude Code", program: "claude", files: map[string]string{"mcp.json": fmt.Sprintf(`{"mcpServers":{"site":{"type":"stdio","command":%s,"args":%s}}}`, program, list)},
			args: []string{"-p", prompt, "--mcp-config", "mcp.json", "--strict-mcp-config", "--allowedTools", "mcp__site"},
			env: []string{"ANTHROPIC_BASE_URL=" + modelURL, "ANTHROPIC_API_KEY=sk-ant-x", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_TELEMETRY=1",
				"DISABLE_ERROR_REPORTING=1", "DISABLE_AUTOUPDATER=1"}},
		{name: "Copilot CLI", program: "copilot", files: map[string]string{".copilot/mcp-config.json": fmt.Sprintf(
			`{"mcpServers":{"site":{"type":"local","command":%s,"args":%s,"tools":["*"]}}}`, program, list)},
			args: []string{"-p", prompt, "--allow-all-tools", "--no-auto-update"},
			env:  []string{"COPILOT_PROVIDER_BASE_URL=" + modelURL + "/v1", "COPILOT_PROVIDER_API_KEY=x", "COPILOT_MODEL=stand-in", "COPILOT_OFFLINE=true"}},
	}
}

// quote returns a string as JSON, TOML and JavaScript have it.
func quote(text string) string { return fmt.Sprintf("%q", text) }

// TestRealHosts starts hosts that people use, without a network but for a stand-in for their model.
// The person signs in SIGN_IN_AFTER seconds after the link is there. The log has a table of what
// the model had at each of its turns.
func TestRealHosts(t *testing.T) {
	dir := os.Getenv("SALLYPORT_TEST_HOSTS")
	if dir == "" {
		t.Skip("SALLYPORT_TEST_HOSTS does not name a folder with hosts (see `make hosts`)")
	}
	machines.NeedMachine(t) // it has no network
	wait := machines.Setting(t, "SIGN_IN_AFTER", 5)
	for _, h := range realHosts("", []string{""}) {
		t.Run(h.name, func(t *testing.T) {
			file := filepath.Join(dir, "node_modules", ".bin", h.program)
			if _, err := os.Stat(file); err != nil {
				t.Skipf("%s is not there", h.program)
			}
			runRealHost(t, h.name, file, wait)
		})
	}
}

// TestInspector lets the command line of MCP Inspector, which has no model, show the tools and the
// link.
func TestInspector(t *testing.T) {
	file := filepath.Join(os.Getenv("SALLYPORT_TEST_HOSTS"), "node_modules", ".bin", "mcp-inspector")
	if _, err := os.Stat(file); err != nil {
		t.Skip("SALLYPORT_TEST_HOSTS does not name a folder with MCP Inspector (see `make hosts`)")
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--method", "tools/list"}, `"name": "sallyport_call_tool"`},
		{[]string{"--method", "tools/call", "--tool-name", "sallyport_sign_in"}, `"text": "http://127\.0\.0\.1:\d+/start/\w+\\n`},
	} {
		site := machines.NewFakeSite(t)
		cmd := site.Command(nil, "--no-browser", "--callback-port", "0")
		config := machines.WriteFile(t, t.TempDir(), "mcp.json", fmt.Sprintf(`{"mcpServers":{"site":{"command":%q,"args":["%s"]}}}`,
			cmd.Path, strings.Join(cmd.Args[1:], `","`)), 0o600)
		inspector := exec.Command(file, append([]string{"--cli", "--config", config, "--server", "site"}, tt.args...)...)
		inspector.Env = cmd.Env
		p := machines.StartProcess(t, inspector)
		p.Out.Await(t, tt.want)
		if status := p.Wait(t); status != 0 {
			t.Errorf("%q ended with status %d:\n%s", tt.args, status, p.Err)
		}
	}
}

// runRealHost lets one host do its task, with a sign-in.
func runRealHost(t *testing.T, name, file string, wait int64) {
	t.Helper()
	site, brain := machines.NewFakeSite(t), startModel(t)
	browser := site.Child(t, "slowbrowser", fmt.Sprintf(`sleep %d; exec curl -s -L --noproxy '*' -o /dev/null "$1"`, wait))
	cmd := site.Command(nil, "--browser", browser, "--callback-port", "0", "--state-dir", filepath.Join(site.Home, "state"),
		"--log-level", "debug", "--log-file", filepath.Join(site.Home, "proxy.log"))
	brain.work(t, name, file, t.TempDir(), cmd.Args)
}

// work starts a host with the home directory, and checks that it has done its task. The command is
// that of the proxy, and env are further variables of the host.
func (m *model) work(t *testing.T, name, file, home string, command []string, env ...string) {
	t.Helper()
	all := realHosts(m.url, command)
	h := all[slices.IndexFunc(all, func(h realHost) bool { return h.name == name })]
	for path, text := range h.files {
		path = filepath.Join(home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := exec.Command(file, h.args...)
	host.Dir = home
	host.Env = append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "LANG=C.UTF-8", "TERM=dumb", "CI=1"}, h.env...)
	host.Env = append(host.Env, env...)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	host.Stdin = null // some hosts read a pipe to its end first
	p := machines.StartProcess(t, host)
	null.Close()
	status := p.Wait(t)
	said := m.said()
	t.Logf("%s ended with status %d; its model:\n%s", name, status, said)
	if !strings.Contains(said, `calls ""`) || !strings.Contains(said, `echo"`) && !strings.Contains(said, `call_tool"`) {
		t.Errorf("the tool was not called:\n%s\n%s", p.Out, p.Err)
	}
}

// TestRealHostsDropTheAgent starts the hosts that do not pass SSH_AUTH_SOCK on. The key of the
// bastion is in that agent alone. The person has typed `sallyport login` in a terminal, and the
// proxies of the hosts use the connection of that login.
func TestRealHostsDropTheAgent(t *testing.T) {
	dir := os.Getenv("SALLYPORT_TEST_HOSTS")
	if dir == "" {
		t.Skip("SALLYPORT_TEST_HOSTS does not name a folder with hosts (see `make hosts`)")
	}
	site, home := machines.NewPlainSite(t), machines.OpenDir(t)
	machines.EndShares(t, home)
	command := []string{machines.Sallyport(t), "-F", "none", "--grant", "none", "--token-store", "memory", "--via", "127.0.0.1", "-o", "Port=" + site.SSHD.Port,
		"-o", "User=" + site.SSHD.User, "-o", "UserKnownHostsFile=" + machines.WriteKnownHosts(t, site.SSHD.KnownHosts), "-o", "GlobalKnownHostsFile=none", site.Upstream}
	agent := machines.StartAgent(t, site.SSHD.IdentityFile)
	login := exec.Command(command[0], append([]string{"login"}, command[1:]...)...)
	login.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "SSH_AUTH_SOCK=" + agent}
	if status := machines.StartInTerminal(t, login).Wait(t); status != 0 {
		t.Fatalf("login: status %d", status)
	}
	for name, program := range map[string]string{"Codex": "codex", "Gemini CLI": "gemini"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "node_modules", ".bin", program)
			if _, err := os.Stat(file); err != nil {
				t.Skipf("%s is not there", program)
			}
			startModel(t).work(t, name, file, home, command, "SSH_AUTH_SOCK="+agent)
		})
	}
	if n := strings.Count(site.SSHD.Log.String(), "Accepted publickey for"); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}
