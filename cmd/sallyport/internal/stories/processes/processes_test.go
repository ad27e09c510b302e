//go:build linux

// The stories of many sallyports on one machine that share one home: they sign in once, one of them
// dies, somebody types `sallyport login` meanwhile, and `sallyport status` tells of all. Real:
// oidc-provider, Chromium, sshd, as many processes of the command as there are.
package processes_test

import (
	"net"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// processes is how many proxies start at once. SALLYPORT_TEST_PROCESSES=50 shows a machine full of
// them.
func processes(t testing.TB) int { return int(machines.Setting(t, "SALLYPORT_TEST_PROCESSES", 12)) }

// Many proxies start at once, first with an empty store, then with a token that has expired: one
// login, one registration, one refresh.
func TestManyAtOnceSignInOnce(t *testing.T) {
	t.Parallel()
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	home := t.TempDir()
	chromium, pages := machines.CountingBrowser(t, machines.Person{TrustsAll: true}.BrowserScript(t))
	start := func(browser string) (hosts []*machines.Host) {
		for range processes(t) {
			cmd := s.Command(t, home, "--callback-port", "0", "--browser", browser, s.Gate.URL)
			cmd.Env = append(cmd.Env, "LOG_LEVEL=info")
			hosts = append(hosts, machines.StartHost(t, cmd, nil))
		}
		return hosts
	}
	check := func(want map[string]int) {
		t.Helper()
		for pattern, n := range want {
			if got := s.OIDC.Asked(pattern); got != n {
				t.Errorf("%s: %d times, want %d", pattern, got, n)
			}
		}
	}
	began := time.Now()
	hosts := start(chromium)
	s.OIDC.Log.Await(t, machines.CodeExchanged) // a call that waits for longer than 25 s is answered with the URL
	machines.EchoAll(t, hosts...)
	if opened := machines.ReadFile(t, pages); opened != "page\n" {
		t.Errorf("browser pages: %q, want one", opened)
	}
	check(map[string]int{`POST /reg 201 `: 1, `POST /token 200 authorization_code`: 1, `POST /token \d+ refresh_token`: 0})
	t.Logf("%d processes with an empty store: %v", processes(t), time.Since(began))

	machines.OpenRecord(t, home, s.Gate.URL, "default direct").Expire(t)
	began = time.Now()
	machines.EchoAll(t, start("/bin/false")...)
	check(map[string]int{`POST /reg 201 `: 1, `POST /token 200 authorization_code`: 1, `POST /token 200 refresh_token`: 1,
		`POST /token 4\d\d \w+`: 0})
	t.Logf("%d processes with an expired token: %v", processes(t), time.Since(began))
}

// takeoverLimit is three times the two seconds that are promised.
const takeoverLimit = 6 * time.Second

// The proxy that waits for the person is killed: another shows a URL of its own.
func TestLeaderKilled(t *testing.T) {
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	home := t.TempDir()
	start := func() *machines.Host {
		return machines.StartHost(t, s.Command(t, home, "--callback-port", "53682", "--no-browser", s.Gate.URL), nil)
	}
	leader := start()
	link := leader.Stderr.Await(t, machines.Offered)[1]
	others := []*machines.Host{start(), start(), start()}
	for _, host := range others {
		if got := host.Stderr.Await(t, machines.Elsewhere)[1]; got != link {
			t.Errorf("another proxy shows %s, the leader %s", got, link)
		}
	}
	leader.Kill(t)
	killed := time.Now()
	got := machines.FirstOf(t, others, machines.Offered)
	took := time.Since(killed)
	t.Logf("taken over after %v", took)
	if took > takeoverLimit || got == link {
		t.Errorf("taken over after %v, with %s", took, got)
	}
	page := machines.Person{TrustsAll: true}.LogsIn(t, got)
	machines.CheckSuccessPage(t, page, machines.DefaultCallback, s.Gate.URL)
	machines.EchoAll(t, others...)
	if got := s.OIDC.Asked(`POST /reg 201 `); got != 1 {
		t.Errorf("%d registrations", got)
	}
}

// A login that a person types takes the place of the one that waits, with a prompt of its own, and
// the proxy goes on with its token.
func TestTypedLoginTakesThePlaceOfTheOneThatWaits(t *testing.T) {
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	home := t.TempDir()
	host := machines.StartHost(t, s.Command(t, home, "--no-browser", s.Gate.URL), nil)
	host.Stderr.Await(t, machines.Offered)
	login := machines.StartProcess(t, s.Command(t, home, "login",
		"--browser", machines.Person{TrustsAll: true}.BrowserScript(t), s.Gate.URL))
	if status := login.Wait(t); status != machines.StatusDone {
		t.Fatalf("login: status %d", status)
	}
	machines.EchoAll(t, host)
	if got := s.OIDC.Asked(`POST /token 200 authorization_code`); got != 1 {
		t.Errorf("%d code exchanges", got)
	}
}

// A proxy whose port is busy waits for the one that has it. One whose host dies during the login
// leaves the port, and nothing behind.
func TestCallbackPortIsSharedAndLeft(t *testing.T) {
	s := machines.NewDirectSite(t, machines.OIDCOptions{})
	home := t.TempDir()
	start := func() *machines.Stdio {
		p := machines.StartStdio(t, s.Command(t, home, "--no-browser", s.Gate.URL))
		p.Initialize(t)
		return p
	}
	first := start()
	link := first.Err.Await(t, machines.Offered)[1]
	second := start()
	if got := second.Err.Await(t, machines.Elsewhere)[1]; got != link {
		t.Errorf("the second shows %s, the first %s", got, link)
	}
	for _, p := range []*machines.Stdio{first, second} { // the second has taken over meanwhile
		if status := p.End(t); status != machines.StatusDone {
			t.Errorf("status %d", status)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:53682")
	if err != nil {
		t.Fatalf("the port is still held: %v", err)
	}
	listener.Close()
}
