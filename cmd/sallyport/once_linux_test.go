package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/oauth"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"sallyport/oauth/tokenstore"
)

// processes is how many proxies start at once; SALLYPORT_TEST_PROCESSES=50 shows a machine-full.
func processes(t testing.TB) int {
	t.Helper()
	text := os.Getenv("SALLYPORT_TEST_PROCESSES")
	if text == "" {
		return 12
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// direct is a site whose gate is on this machine, without SSH.
func directSite(t testing.TB) *site {
	t.Helper()
	s := &site{ca: newAuthority(t)}
	s.oidc = startOIDC(t, oidcOptions{TLS: s.ca})
	s.gate = startGate(t, gateOptions{CA: s.ca, OIDC: s.oidc, Upstream: startMCP(t, nil)})
	return s
}

// countingBrowser is a browser command that notes each start in the file.
func countingBrowser(t testing.TB, command string) (script, file string) {
	t.Helper()
	dir := openDir(t)
	file = filepath.Join(dir, "pages")
	return writeFile(t, dir, "counting", fmt.Sprintf("#!/bin/sh\necho page >> %s\nexec %s \"$@\"\n", file, command), 0o755), file
}

// asked counts the requests that the authorization server answered.
func (s *oidcServer) asked(pattern string) int {
	return len(regexp.MustCompile(`(?m)^`+pattern+`$`).FindAllString(s.Log.String(), -1))
}

// codeExchanged is a login's last request in the log of the authorization server.
const codeExchanged = `POST /token 200 authorization_code\n`

// echoAll calls echo in a session of each host, and ends it.
func echoAll(t *testing.T, hosts []*mcpHost) {
	t.Helper()
	var wg sync.WaitGroup
	for _, host := range hosts {
		wg.Go(func() {
			session := host.Session(t)
			callEcho(t, session)
			if err := session.Close(); err != nil {
				t.Errorf("a proxy ended with %v", err)
			}
		})
	}
	wg.Wait()
}

// expireToken makes the stored access token look old.
func expireToken(t testing.TB, home, upstream string) {
	t.Helper()
	store, err := tokenstore.Open(filepath.Join(home, ".local/state/sallyport"), filepath.Join(home, ".config/sallyport"), tokenstore.Keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	key := (&oauth.Config{Upstream: u, Realm: "default direct"}).Key()
	b, err := store.Load(key)
	if err != nil {
		t.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(b, &record); err != nil {
		t.Fatal(err)
	}
	token := record["token"].(map[string]any)
	token["obtained"], token["expiry"] = "2020-01-01T00:00:00Z", "2020-01-01T00:10:00Z"
	if b, err = json.Marshal(record); err != nil {
		t.Fatal(err)
	}
	if err := store.Save(key, b); err != nil {
		t.Fatal(err)
	}
}

// TestManyAtOnceSignInOnce starts many proxies with an empty store, then with an expired token.
func TestManyAtOnceSignInOnce(t *testing.T) {
	s := directSite(t)
	home := t.TempDir()
	chromium, pages := countingBrowser(t, person{TrustsAll: true}.browserScript(t))
	start := func(browser string) (hosts []*mcpHost) {
		for range processes(t) {
			cmd := s.command(t, home, "--callback-port", "0", "--browser", browser, s.gate.URL)
			cmd.Env = append(cmd.Env, "LOG_LEVEL=info")
			hosts = append(hosts, startHost(t, cmd, nil))
		}
		return hosts
	}
	began := time.Now()
	hosts := start(chromium)
	s.oidc.Log.await(t, codeExchanged) // a call that waits for longer than 25 s is answered with the link
	echoAll(t, hosts)
	opened, err := os.ReadFile(pages)
	if err != nil || string(opened) != "page\n" {
		t.Errorf("browser pages: %q, %v, want one", opened, err)
	}
	check := func(want map[string]int) {
		t.Helper()
		for pattern, n := range want {
			if got := s.oidc.asked(pattern); got != n {
				t.Errorf("%s: %d times, want %d", pattern, got, n)
			}
		}
	}
	check(map[string]int{`POST /reg 201 `: 1, `POST /token 200 authorization_code`: 1, `POST /token \d+ refresh_token`: 0})
	t.Logf("%d processes with an empty store: %v", processes(t), time.Since(began))

	expireToken(t, home, s.gate.URL)
	began = time.Now()
	echoAll(t, start("/bin/false"))
	check(map[string]int{`POST /reg 201 `: 1, `POST /token 200 authorization_code`: 1, `POST /token 200 refresh_token`: 1, `POST /token 4\d\d \w+`: 0})
	t.Logf("%d processes with an expired token: %v", processes(t), time.Since(began))
}

// TestLeaderKilled kills the proxy that waits for the person: another shows a link of its own.
func TestLeaderKilled(t *testing.T) {
	s := directSite(t)
	home := t.TempDir()
	start := func() *mcpHost {
		return startHost(t, s.command(t, home, "--callback-port", "53682", "--no-browser", s.gate.URL), nil)
	}
	leader := start()
	link := leader.Stderr.await(t, offered)[1]
	others := []*mcpHost{start(), start(), start()}
	for _, host := range others {
		if got := host.Stderr.await(t, elsewhere)[1]; got != link {
			t.Errorf("another proxy shows %s, the leader %s", got, link)
		}
	}
	if err := leader.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	next := make(chan string, len(others))
	for _, host := range others {
		go func() { // ends with the host
			if m := awaitMatch(host.Stderr, offered); m != nil {
				next <- m[1]
			}
		}()
	}
	select {
	case got := <-next:
		took := time.Since(killed)
		t.Logf("taken over after %v", took)
		if took > 6*time.Second || got == link { // three times what is promised
			t.Errorf("taken over after %v, with %s", took, got)
		}
		checkSuccessPage(t, person{TrustsAll: true}.logsIn(t, got), s.gate.URL)
	case <-time.After(patience):
		t.Fatal("nobody takes over")
	}
	echoAll(t, others)
	if got := s.oidc.asked(`POST /reg 201 `); got != 1 {
		t.Errorf("%d registrations", got)
	}
}

// elsewhere is the link of another process on stderr.
const elsewhere = `waits for the sign-in to \S+, at this link:\n  (\S+)\n`

// awaitMatch is await that returns nil where the program ends without.
func awaitMatch(tr *transcript, pattern string) []string {
	want := regexp.MustCompile(pattern)
	for {
		tr.mu.Lock()
		match, ended, changed := want.FindStringSubmatch(string(tr.text)), tr.ended, tr.changed
		tr.mu.Unlock()
		if match != nil || ended {
			return match
		}
		<-changed
	}
}

// A login that is typed takes the place of the one that waits, with a prompt of its own, and the
// proxy goes on with its token.
func TestLoginElsewhereCounts(t *testing.T) {
	s := directSite(t)
	home := t.TempDir()
	host := startHost(t, s.command(t, home, "--no-browser", s.gate.URL), nil)
	host.Stderr.await(t, offered)
	login := startProcess(t, s.command(t, home, "login", "--browser", person{TrustsAll: true}.browserScript(t), s.gate.URL))
	if status := login.wait(t); status != statusDone {
		t.Fatalf("login: status %d", status)
	}
	echoAll(t, []*mcpHost{host})
	if got := s.oidc.asked(`POST /token 200 authorization_code`); got != 1 {
		t.Errorf("%d code exchanges", got)
	}
}

// A proxy whose port is busy waits for the one that has it; one whose host dies during the login
// leaves the port, and nothing behind.
func TestWeakness03CallbackPortIsSharedAndLeft(t *testing.T) {
	s := directSite(t)
	home := t.TempDir()
	start := func() *process {
		cmd := s.command(t, home, "--no-browser", s.gate.URL)
		p := startProcess(t, cmd)
		if _, err := p.stdin.(interface{ Write([]byte) (int, error) }).Write([]byte(initializeLine)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := start()
	link := first.Err.await(t, offered)[1]
	second := start()
	if got := second.Err.await(t, elsewhere)[1]; got != link {
		t.Errorf("the second shows %s, the first %s", got, link)
	}
	for _, p := range []*process{first, second} { // the second has taken over meanwhile
		p.stdin.Close()
		if status := p.wait(t); status != statusDone {
			t.Errorf("status %d", status)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:53682")
	if err != nil {
		t.Fatalf("the port is still held: %v", err)
	}
	ln.Close()
}

// TestLoginOnAFullDisk has no room for the tokens.
func TestLoginOnAFullDisk(t *testing.T) {
	needPart(t, os.Geteuid() == 0, "root, to mount a file system", "run as root")
	s := directSite(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	full, err := os.Create(filepath.Join(dir, "full"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = full.Write(make([]byte, 4096))
	}
	full.Close()
	home := t.TempDir()
	args := []string{"--state-dir", dir, "--callback-port", "0", "--browser", person{TrustsAll: true}.browserScript(t), s.gate.URL}
	login := startProcess(t, s.command(t, home, append([]string{"login"}, args...)...))
	if status := login.wait(t); status != statusFailed {
		t.Errorf("login: status %d, want %d", status, statusFailed)
	}
	login.Err.await(t, `(?m)^sallyport: signed in to \S+, but the tokens could not be stored: .*no space left on device\nhint: .*--state-dir`)
	host := startHost(t, s.command(t, home, args...), nil)
	s.oidc.Log.await(t, `(?s)`+codeExchanged+`.*`+codeExchanged)
	echoAll(t, []*mcpHost{host}) // in memory, for as long as it runs
}

// TestStatus looks at what is stored and what runs, through a real hop.
func TestStatus(t *testing.T) {
	s := newSite(t, 1, startMCP)
	home, runtime := t.TempDir(), t.TempDir()
	status := func(args ...string) string {
		t.Helper()
		cmd := s.command(t, home, append([]string{"status"}, args...)...)
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+runtime)
		p := startProcess(t, cmd)
		if got := p.wait(t); got != statusDone {
			t.Errorf("status %d", got)
		}
		return p.Out.String()
	}
	if got := status(); got != "nothing is stored\nno proxy runs here\n" {
		t.Errorf("at first: %q", got)
	}
	var hosts []*mcpHost
	for _, env := range []string{"XDG_RUNTIME_DIR=" + runtime, "LOG_LEVEL=info"} { // and one that its host gave no such variable
		cmd := s.throughChain(t, home, "--scope", "openid mcp", "--callback-port", "0", "--browser", person{TrustsAll: true}.browserScript(t))
		cmd.Env = append(cmd.Env, env)
		host := startHost(t, cmd, nil)
		s.oidc.Log.await(t, codeExchanged)
		callEcho(t, host.Session(t))
		hosts = append(hosts, host)
	}
	var report struct {
		Accounts []map[string]any
		Proxies  []struct {
			PID               int
			Upstream, Profile string
			Via               string
			Tunnel            struct{ Phase string }
		}
	}
	text := status("--json")
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if len(report.Accounts) != 1 || len(report.Proxies) != 2 {
		t.Fatalf("got %s", text)
	}
	account := report.Accounts[0]
	for name, want := range map[string]any{
		"upstream": s.gate.URL, "issuer": s.oidc.Issuer, "profile": "default", "route": "via 127.0.0.1:" + s.hops[0].SSHD.Port,
		"signed_in": true, "refreshable": true, "registered": true,
	} {
		if account[name] != want {
			t.Errorf("%s: got %v, want %v", name, account[name], want)
		}
	}
	if name, _ := account["account"].(string); name == "" || account["scopes"] == nil || account["expiry"] == nil {
		t.Errorf("account: %v", account)
	}
	for i, p := range report.Proxies {
		if p.PID != hosts[i].cmd.Process.Pid || p.Upstream != s.gate.URL || p.Profile != "default" || p.Via != "hop1" || p.Tunnel.Phase != "up" {
			t.Errorf("proxy %d: %+v", i, p)
		}
	}
	people := status()
	for _, want := range []string{`(?m)^https://mcp\.internal/mcp$`, `(?m)^  issuer   ` + regexp.QuoteMeta(s.oidc.Issuer) + `$`, `(?m)^  token    until .* renewed by itself$`,
		fmt.Sprintf(`(?m)^proxy %d to https://mcp\.internal/mcp, profile default, since `, hosts[0].cmd.Process.Pid), `(?m)^  tunnel   via hop1: up$`} {
		if !regexp.MustCompile(want).MatchString(people) {
			t.Errorf("no %q in:\n%s", want, people)
		}
	}
	checkNoToken(t, home, "default via 127.0.0.1:"+s.hops[0].SSHD.Port, s.gate.URL, text+people)

	if err := hosts[0].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	hosts[0].session.Close()
	if err := hosts[1].session.Close(); err != nil {
		t.Error(err)
	}
	sockets := filepath.Join(runtime, "sallyport", "*.sock")
	if left, _ := filepath.Glob(sockets); len(left) != 1 {
		t.Errorf("the killed proxy left %q", left)
	}
	if got := status(); !strings.Contains(got, "no proxy runs here") {
		t.Errorf("after the end:\n%s", got)
	}
	if left, _ := filepath.Glob(sockets); len(left) != 0 {
		t.Errorf("stale sockets stay: %q", left)
	}
}

// checkNoToken fails where text holds a token of the store.
func checkNoToken(t testing.TB, home, realm, upstream, text string) {
	t.Helper()
	store, err := tokenstore.Open(filepath.Join(home, ".local/state/sallyport"), filepath.Join(home, ".config/sallyport"), tokenstore.Keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(upstream)
	b, err := store.Load((&oauth.Config{Upstream: u, Realm: realm}).Key())
	if err != nil {
		t.Fatal(err)
	}
	var record struct {
		Token struct{ Access, Refresh string }
	}
	if err := json.Unmarshal(b, &record); err != nil || record.Token.Access == "" || record.Token.Refresh == "" {
		t.Fatalf("no tokens in the record: %v", err)
	}
	for _, secret := range []string{record.Token.Access, record.Token.Refresh} {
		if strings.Contains(text, secret) {
			t.Error("a token is shown")
		}
	}
}

// TestSignInToolAfterAStorm lets three logins pass. Then the host's requests open no page any more, and its sign-in tool does,
// when the last page is half a minute old.
func TestSignInToolAfterAStorm(t *testing.T) {
	t.Parallel()
	s := newDirectSite(t, oidcOptions{}, false)
	home := t.TempDir()
	common := []string{"--no-browser", "--callback-port", "0", s.gate.URL}
	for range 3 {
		if status := startProcess(t, s.command(t, home, append([]string{"login", "--callback-timeout", "1s"}, common...)...)).wait(t); status != statusSignIn {
			t.Fatalf("login: status %d, want %d", status, statusSignIn)
		}
	}
	host := startHost(t, s.command(t, home, common...), nil)
	host.Stderr.await(t, `several login pages led to no sign-in`)
	session := host.Session(t)
	go session.CallTool(t.Context(), &mcp.CallToolParams{Name: "sallyport_sign_in"}) // it may give up before the page opens
	host.Stderr.await(t, `sallyport: a sign-in is wanted; its page opens at \d\d:\d\d:\d\d, .*\nhint: wait for the link`)
	person{TrustsAll: true}.logsIn(t, host.Stderr.await(t, offered)[1])
	callEcho(t, session)
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
}
