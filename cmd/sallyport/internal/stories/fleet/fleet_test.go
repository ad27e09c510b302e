//go:build linux

// The story of a machine full of proxies that share one account, at a login server that forgives
// nothing: a refresh token works once, its second use ends all tokens of the login, and no token
// is good a second longer than it says. Real: the processes of the command, their store, its locks.
package fleet_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/oauth/oauthtest"
)

func TestMain(m *testing.M) { machines.Main(m) }

// processes is how many proxies there are.
func processes(t testing.TB) int { return int(machines.Setting(t, "SALLYPORT_TEST_FLEET", 50)) }

// fleet is the proxies, and the servers that they share.
type fleet struct {
	*oauthtest.Server
	t      *testing.T
	home   string
	origin string
	calls  int

	mu      sync.Mutex // guards what follows
	proxies []*machines.Stdio
	// refresh is called before a refresh is answered. It reports false to answer nothing.
	refresh func(*http.Request) bool
}

func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t, home: t.TempDir()}
	server := httptest.NewUnstartedServer(f)
	f.origin = "http://" + server.Listener.Addr().String()
	f.Server = oauthtest.New(f.origin, f.origin+"/mcp")
	f.Server.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = true })
	server.Start()
	t.Cleanup(server.Close)
	return f
}

func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/token":
		f.mu.Lock()
		before := f.refresh
		f.mu.Unlock()
		if before != nil && r.FormValue("grant_type") == "refresh_token" && !before(r) {
			return
		}
		f.Server.ServeHTTP(w, r)
	case r.URL.Path == "/mcp" || strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource"):
		f.Guard(machines.TinyMCP{}).ServeHTTP(w, r)
	default:
		f.Server.ServeHTTP(w, r)
	}
}

// beforeRefresh sets what happens before a refresh is answered.
func (f *fleet) beforeRefresh(do func(*http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh = do
}

// signIn is the person's only login.
func (f *fleet) signIn() {
	f.t.Helper()
	cmd := machines.Command(f.t, f.home, "login", "--callback-port", "0", "--browser", "curl -sL -o /dev/null %s", f.origin+"/mcp")
	if p := machines.StartProcess(f.t, cmd); p.Wait(f.t) != machines.StatusDone {
		f.t.Fatal("the login failed")
	}
}

// start starts n proxies and sends each an initialize. Nobody answers a login page of theirs unless
// a browser is named.
func (f *fleet) start(n int, browser string) {
	f.t.Helper()
	for range n {
		cmd := machines.Command(f.t, f.home, "--callback-port", "0", "--browser", browser, f.origin+"/mcp")
		p := machines.StartStdio(f.t, cmd)
		p.Send(f.t, machines.InitializeLine+`{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
		f.proxies = append(f.proxies, p)
	}
}

// call has every proxy call the tool at the same time.
func (f *fleet) call() {
	f.t.Helper()
	f.calls++
	line := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"echo","arguments":{}}}`+"\n", f.calls)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.proxies {
		p.Send(f.t, line)
	}
}

// answered waits until every proxy has answered the last call, and checks that all were served.
func (f *fleet) answered() {
	f.t.Helper()
	f.mu.Lock()
	proxies := slices.Clone(f.proxies)
	f.mu.Unlock()
	id := strconv.Itoa(f.calls)
	for i, p := range proxies {
		if line := p.Answer(f.t, id); !strings.Contains(line, `"text":"hello"`) {
			f.t.Errorf("proxy %d: %s\n%s", i, line, p.Err)
		}
	}
}

// kill kills the proxy with this process ID. The caller holds f.mu.
func (f *fleet) kill(pid int) {
	i := slices.IndexFunc(f.proxies, func(p *machines.Stdio) bool { return p.PID() == pid })
	if i < 0 {
		f.t.Errorf("no proxy is process %d", pid)
		return
	}
	f.proxies[i].Stop()
	f.proxies = slices.Delete(f.proxies, i, i+1)
}

// since returns what the login server counted since the last time, and prints it.
func (f *fleet) since(last *oauthtest.Stats, what string, began time.Time, want oauthtest.Stats) {
	f.t.Helper()
	now := f.Stats()
	got := oauthtest.Stats{Refreshes: now.Refreshes - last.Refreshes, Authorizations: now.Authorizations - last.Authorizations,
		Registrations: now.Registrations - last.Registrations}
	*last = now
	f.t.Logf("%s: %d processes, %d refreshes, %d login pages, %d registrations, %v",
		what, len(f.proxies), got.Refreshes, got.Authorizations, got.Registrations, time.Since(began).Round(time.Millisecond))
	if got != want {
		f.t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

// All meet the end of the token at the same time: at the start, in the middle of their sessions, at
// a server that is slow, and while the process that refreshes is killed.
func TestFleetRefreshesOnce(t *testing.T) {
	f := newFleet(t)
	f.signIn()
	last := f.Stats()
	once := oauthtest.Stats{Refreshes: 1}

	began := time.Now()
	machines.OpenRecord(t, f.home, f.origin+"/mcp", "default direct").Expire(t)
	f.start(processes(t), "/bin/false")
	f.call()
	f.answered()
	f.since(&last, "expired before the start", began, once)

	began = time.Now()
	f.RevokeAccess()
	f.call()
	f.answered()
	f.since(&last, "expired in the session", began, once)

	began = time.Now()
	f.beforeRefresh(func(r *http.Request) bool {
		select { // the time that a slow server takes
		case <-time.After(2 * time.Second):
		case <-r.Context().Done():
		}
		return true
	})
	f.RevokeAccess()
	f.call()
	f.answered()
	f.since(&last, "expired at a slow server", began, once)

	began = time.Now()
	killed := 0
	f.beforeRefresh(func(r *http.Request) bool {
		f.mu.Lock() // one request at a time, as only one process may refresh
		defer f.mu.Unlock()
		if killed == 3 {
			return true
		}
		killed++
		f.kill(f.sender(r))
		return false // its refresh token was not used
	})
	f.RevokeAccess()
	f.call()
	for f.refreshed(last) == 0 { // the killed ones are gone before the others are asked
		time.Sleep(20 * time.Millisecond)
	}
	f.answered()
	f.since(&last, "three killed as they refreshed", began, once)
	if killed != 3 {
		t.Errorf("%d processes were killed, want 3", killed)
	}
}

// refreshed counts the refreshes since last.
func (f *fleet) refreshed(last oauthtest.Stats) int { return f.Stats().Refreshes - last.Refreshes }

// A process is killed after the server has spent its refresh token and before it could store the
// new one. Nothing can bring that back: one login page for all, and everybody is served.
func TestFleetSurvivesALostRefreshToken(t *testing.T) {
	f := newFleet(t)
	f.signIn()
	last := f.Stats()
	f.start(processes(t)/5, "curl -sL -o /dev/null %s")
	f.call()
	f.answered()

	began := time.Now()
	var spent sync.Once
	f.beforeRefresh(func(r *http.Request) (answer bool) {
		answer = true
		spent.Do(func() {
			f.Server.ServeHTTP(httptest.NewRecorder(), r)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.kill(f.sender(r))
			answer = false
		})
		return answer
	})
	f.RevokeAccess()
	f.call()
	for f.Stats().Codes == last.Codes {
		time.Sleep(20 * time.Millisecond)
	}
	f.answered()
	f.since(&last, "a refresh token lost", began, oauthtest.Stats{Refreshes: 2, Authorizations: 1, Registrations: 1}) // each callback port is one client
}

// sender returns the process that sent the request. The caller holds f.mu.
func (f *fleet) sender(r *http.Request) int {
	_, port, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		f.t.Error(err)
		return 0
	}
	n, _ := strconv.Atoi(port)
	row := regexp.MustCompile(fmt.Sprintf(`(?m)^ *\d+: 0100007F:%04X .*`, n)).FindString(machines.ReadFile(f.t, "/proc/net/tcp"))
	fields := strings.Fields(row)
	if len(fields) < 10 {
		f.t.Errorf("no socket has the port %d", n)
		return 0
	}
	for _, p := range f.proxies {
		descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID()))
		for _, path := range descriptors {
			if target, _ := os.Readlink(path); target == "socket:["+fields[9]+"]" {
				return p.PID()
			}
		}
	}
	f.t.Errorf("no proxy has the socket of port %d", n)
	return 0
}
