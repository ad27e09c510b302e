//go:build linux

// The stories of every way to fail that a login server, an upstream or a machine has shown: the MCP
// host, stderr and `sallyport status` name the same cause and the same next step, and so does
// `sallyport login`. A row of the table is a way. Real: the command, its processes and its store.
package causes_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/oauth/oauthtest"
)

func TestMain(m *testing.M) { machines.Main(m) }

// way is one row of the table: a way to fail.
type way struct {
	name string
	// before is what has happened in the home before the server changes. It may be nil.
	before func(t *testing.T, w *world, row way)
	// server changes what surrounds the command. Nil leaves the good servers as they are.
	server func(w *world)
	// args are settings of the person.
	args, env []string
	// then are more variables, which are set after before has run.
	then []string
	// cause and hint are regular expressions of what people read.
	cause, hint string
	// never is a regular expression of what none of the hints may say. Empty forbids nothing.
	never string
	// kind is that in the data of the error. Empty means any.
	kind string
	// login is the exit status of `sallyport login`: noLogin does not run it.
	login int
	// works says that the proxy serves the call all the same, and that status alone tells of it.
	works bool
	// oneCall says that the failure is of the call alone: the host is told, and nobody else.
	oneCall bool
	// stays says that the servers' recovery is not awaited, because a login page was shown just
	// before and the next one waits.
	stays bool
	// loginCause and loginHint are what login says, if it is something else.
	loginCause, loginHint string
}

// noLogin is the exit status of a row in which `sallyport login` is not run, because it is not what
// fails.
const noLogin = -1

func TestEachCauseReachesTheHost(t *testing.T) {
	rows := slices.Concat(discoveryWays, registrationWays, authorizeWays, tokenWays, renewalWays, upstreamWays, networkWays, machineWays)
	t.Logf("%d ways to fail", len(rows))
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if row.before != nil {
				row.before(t, w, row)
				row.env = append(slices.Clone(row.env), row.then...)
			}
			if row.server != nil {
				row.server(w)
			}
			p := row.proxy(t, w)
			if row.login != noLogin {
				row.checkLogin(t, w)
			}
			if p != nil {
				row.checkHealed(t, w, p)
			}
		})
	}
}

// signIn is a sign-in that is good.
func signIn(t *testing.T, w *world, row way) {
	if p := w.run(t, row, "login"); p.Wait(t) != machines.StatusDone {
		t.Fatal("the first sign-in failed")
	}
}

// signInAndExpire is a sign-in of long ago.
func signInAndExpire(t *testing.T, w *world, row way) {
	signIn(t, w, row)
	machines.OpenRecord(t, w.home, w.upstream, "default direct").Expire(t)
}

// threePagesInVain are logins that nobody completed, as many as the brake lets pass.
func threePagesInVain(t *testing.T, w *world, row way) {
	row.args = append(slices.Clone(row.args), "--no-browser", "--callback-timeout", "1s")
	for range 3 {
		if p := w.run(t, row, "login"); p.Wait(t) != machines.StatusSignIn {
			t.Fatal("a login that nobody completed ended well")
		}
	}
}

// heal makes the servers good again. It reports false if a row is not about the servers, or if the
// next login page would have to wait, because one was shown just before.
func (w *world) heal(row way) bool {
	if row.args != nil || row.env != nil || row.then != nil || w.upstream != w.server.URL+"/mcp" {
		return false
	}
	if n := w.Stats(); row.stays || n.Authorizations > n.Codes {
		return false
	}
	w.mu.Lock()
	bad := w.instead
	w.instead = make(map[string]http.HandlerFunc)
	w.mu.Unlock()
	if bad["/authorize"] != nil {
		return false
	}
	w.Set(func(k *oauthtest.Knobs) { *k = oauthtest.Knobs{} })
	return true
}

// run starts the command with the settings of the row.
func (w *world) run(t *testing.T, row way, command ...string) *machines.Process {
	t.Helper()
	return machines.StartProcess(t, w.command(t, row, command...))
}

func (w *world) command(t *testing.T, row way, command ...string) *exec.Cmd {
	t.Helper()
	args := slices.Concat(command, []string{"--callback-port", "0", "--browser", "curl -skL -o /dev/null %s", "--callback-timeout", "20s"})
	for _, arg := range row.args {
		args = append(args, w.expand(arg))
	}
	cmd := machines.Command(t, w.home, append(args, w.expand("UPSTREAM"))...)
	cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+w.runtime)
	for _, entry := range row.env {
		cmd.Env = append(cmd.Env, w.expand(entry))
	}
	return cmd
}

const callLine = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{}}}` + "\n"

// proxy starts a proxy in a session of an MCP host that calls a tool. It returns nil if the proxy
// has ended as the row wants it to.
func (row way) proxy(t *testing.T, w *world) *machines.Stdio {
	t.Helper()
	p := machines.StartStdio(t, w.command(t, row))
	p.Send(t, machines.InitializeLine+`{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n"+callLine)
	if row.login == machines.StatusUsage { // told before there is a session
		if status := p.Wait(t); status != row.login {
			t.Errorf("the proxy ended with status %d", status)
		}
		machines.CheckExplained(t, p.Err.String(), row.cause, row.hint)
		return nil
	}
	if row.works {
		if line := p.Answer(t, "2"); !strings.Contains(line, `"text":"hello"`) {
			t.Errorf("the call got %s", line)
		}
		problem, _ := row.status(t, w)
		if !regexp.MustCompile(row.cause).MatchString(problem.Text) || !regexp.MustCompile(row.hint).MatchString(strings.Join(problem.Hints, "; ")) {
			t.Errorf("status: %+v", problem)
		}
		return p
	}
	e := row.checkAnswer(t, p.Answer(t, "2"))
	if row.oneCall {
		if problem, _ := row.status(t, w); problem.Text != "" || regexp.MustCompile(row.cause).MatchString(p.Err.String()) {
			t.Errorf("status: %+v\nstderr: %s", problem, p.Err)
		}
		return p
	}
	p.Err.Await(t, "(?m)^sallyport: .*(?:"+row.cause+").*\n(?:hint: .*\n)*hint: .*(?:"+row.hint+")") // it comes by another pipe
	machines.CheckExplained(t, p.Err.String(), row.cause, row.hint)
	row.checkStatus(t, w, e)
	return p
}

// checkHealed calls the tool once more after the servers were healed. What a server refused a
// moment ago it takes now, and nobody has to do anything for that.
func (row way) checkHealed(t *testing.T, w *world, p *machines.Stdio) {
	t.Helper()
	if w.heal(row) {
		p.Send(t, strings.Replace(callLine, `"id":2`, `"id":3`, 1))
		if line := p.Answer(t, "3"); !strings.Contains(line, `"text":"hello"`) {
			t.Errorf("after the server was healed: %s", line)
		}
	}
	if status := p.End(t); status != machines.StatusDone {
		t.Errorf("the proxy ended with status %d", status)
	}
}

// hostError is an error as the MCP host gets it.
type hostError struct {
	Code    int
	Message string
	Data    struct {
		Kind  string
		Hints []string
	}
}

func (row way) checkAnswer(t *testing.T, line string) hostError {
	t.Helper()
	var answer struct{ Error hostError }
	if err := json.Unmarshal([]byte(line), &answer); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	e := answer.Error
	hints := strings.Join(e.Data.Hints, "; ")
	if !regexp.MustCompile(row.cause).MatchString(e.Message) || !regexp.MustCompile(row.hint).MatchString(hints) ||
		!strings.HasSuffix(e.Message, "; hint: "+hints) {
		t.Errorf("the host got %s", line)
	}
	if row.kind != "" && e.Data.Kind != row.kind {
		t.Errorf("kind %q, want %q", e.Data.Kind, row.kind)
	}
	row.checkNever(t, hints)
	return e
}

// checkNever looks for what no hint may say.
func (row way) checkNever(t *testing.T, text string) {
	t.Helper()
	if row.never != "" && regexp.MustCompile(row.never).MatchString(text) {
		t.Errorf("a hint that does not help: %s", text)
	}
}

// problem is what `sallyport status --json` says of a proxy.
type problem struct {
	Kind, Text string
	Hints      []string
}

// status returns what `sallyport status` shows of the running proxy, and all that it prints for
// people.
func (row way) status(t *testing.T, w *world) (p problem, people string) {
	t.Helper()
	status := func(args ...string) string {
		cmd := machines.Command(t, w.home, append([]string{"status"}, args...)...)
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+w.runtime)
		for _, entry := range row.env {
			cmd.Env = append(cmd.Env, w.expand(entry))
		}
		p := machines.StartProcess(t, cmd)
		p.Wait(t)
		return p.Out.String()
	}
	var report struct {
		Proxies []struct{ Problem problem }
	}
	text := status("--json")
	if err := json.Unmarshal([]byte(text), &report); err != nil || len(report.Proxies) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	return report.Proxies[0].Problem, status()
}

// checkStatus compares what `sallyport status` shows of the running proxy with what the host got.
func (row way) checkStatus(t *testing.T, w *world, e hostError) {
	t.Helper()
	problem, people := row.status(t, w)
	if got := problem.Text + "; hint: " + strings.Join(problem.Hints, "; "); got != e.Message || problem.Kind != e.Data.Kind {
		t.Errorf("status: %s: %s\nthe host got: %s: %s", problem.Kind, got, e.Data.Kind, e.Message)
	}
	for _, want := range append([]string{"problem  " + problem.Text}, problem.Hints...) {
		if !strings.Contains(people, want+"\n") {
			t.Errorf("no %q in:\n%s", want, people)
		}
	}
}

// checkLogin is the same for `sallyport login`, in a home of its own.
func (row way) checkLogin(t *testing.T, w *world) {
	t.Helper()
	if row.before == nil {
		w.home = t.TempDir()
	}
	p := w.run(t, row, "login")
	if status := p.Wait(t); status != row.login {
		t.Errorf("login: status %d, want %d; stderr:\n%s", status, row.login, p.Err)
	}
	if row.login == machines.StatusDone {
		return
	}
	cause, hint := row.cause, row.hint
	if row.loginCause != "" {
		cause = row.loginCause
	}
	if row.loginHint != "" {
		hint = row.loginHint
	}
	machines.CheckExplained(t, p.Err.String(), cause, hint)
	row.checkNever(t, p.Err.String())
}

// runtimeDir makes a directory whose path is short enough for sockets.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
