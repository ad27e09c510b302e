package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const initializeLine = `{"jsonrpc":"2.0","id":"first","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}` + "\n"

// TestDestinations names the host in the ways that ssh knows.
func TestDestinations(t *testing.T) {
	t.Parallel()
	upstream := startMCP(t, nil)
	first, last := startSSHD(t, sshdOptions{}), startSSHD(t, sshdOptions{})
	known := writeFile(t, openDir(t), "known_hosts", first.KnownHosts+last.KnownHosts, 0o600)
	config := writeFile(t, openDir(t), "config", "Host *\n  IdentityFile "+first.IdentityFile+"\n  IdentityFile "+last.IdentityFile+
		"\n  UserKnownHostsFile "+known+"\n  GlobalKnownHostsFile none\n", 0o644)
	for _, test := range []struct {
		name string
		args []string
		hops []*sshd
	}{
		{"user@host:port", []string{"--via", last.User + "@" + last.Addr}, []*sshd{last}},
		{"ssh URL", []string{"--via", "ssh://" + last.User + "@" + last.Addr}, []*sshd{last}},
		{"-o", []string{"-o", "Port=" + last.Port, "-o", "User=" + last.User, "--via", "127.0.0.1"}, []*sshd{last}},
		{"-J", []string{"-J", first.User + "@" + first.Addr, "--via", last.User + "@" + last.Addr}, []*sshd{first, last}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := strings.Count(first.Log.String(), "Accepted publickey")
			cmd := exec.Command(buildSallyport(t), append(test.args, "-F", config, "--grant", "none", upstream)...)
			cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")} // no USER
			callEcho(t, startHost(t, cmd, nil).Session(t))
			passed := strings.Count(first.Log.String(), "Accepted publickey") > before
			if want := slices.Contains(test.hops, first); passed != want {
				t.Errorf("through the first hop: %v, want %v", passed, want)
			}
		})
	}
}

// TestOAuthRoute has an authorization server that only one side can reach.
func TestOAuthRoute(t *testing.T) {
	t.Parallel()
	ns := newNetns(t)
	ca := newAuthority(t)
	hop1 := startSSHD(t, sshdOptions{NS: ns})
	config := writeSSHConfig(t, hop{Alias: "bastion", SSHD: hop1})
	upstream := startMCP(t, ns)
	for _, side := range []struct {
		name  string
		ns    *netns
		works map[string]bool // by route
	}{
		{"here only", nil, map[string]bool{"auto": true, "direct": true, "via": false}},
		{"there only", ns, map[string]bool{"auto": true, "direct": false, "via": true}},
	} {
		oidc := startOIDC(t, oidcOptions{TLS: ca, NS: side.ns})
		gate := startGate(t, gateOptions{NS: ns, CA: ca, OIDC: oidc, Upstream: upstream})
		for route, works := range side.works {
			t.Run(side.name+", "+route, func(t *testing.T) {
				s := &site{ca: ca}
				cmd := s.command(t, t.TempDir(), "login", "-F", config, "--via", "bastion", "--oauth-route", route,
					"--grant", "client_credentials", "--client-id", machineID, gate.URL)
				cmd.Env = append(cmd.Env, "OAUTH2_CLIENT_SECRET="+machineSecret)
				p := startProcess(t, cmd)
				want := map[bool]int{true: statusDone, false: statusUnreachable}[works]
				if status := p.wait(t); status != want {
					t.Errorf("status %d, want %d", status, want)
				}
			})
		}
		gate.stop() // its port is the next one's
	}
}

// TestHTTPSProxy has an upstream whose name only a corporate proxy resolves.
func TestHTTPSProxy(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	oidc := startOIDC(t, oidcOptions{TLS: ca})
	upstream := startMCP(t, nil)
	named := "https://mcp.internal/mcp"
	gate := startGate(t, gateOptions{CA: ca, OIDC: oidc, Upstream: upstream, Audience: named})
	gateAddr := strings.TrimSuffix(strings.TrimPrefix(gate.URL, "https://"), "/mcp")
	proxy := startConnectProxy(t, map[string]string{"mcp.internal:443": gateAddr})
	bastion := startSSHD(t, sshdOptions{})
	s := &site{ca: ca, config: writeSSHConfig(t, hop{Alias: "bastion", SSHD: bastion})}
	login := func(t *testing.T, env []string, args ...string) *process {
		cmd := s.command(t, t.TempDir(), append([]string{"login", "--header", "Authorization: Bearer ${TOKEN}"}, args...)...)
		cmd.Env = append(append(cmd.Env, "TOKEN="+oidc.MachineToken(t, named)), env...)
		return startProcess(t, cmd)
	}
	t.Run("through it", func(t *testing.T) {
		if status := login(t, []string{"HTTPS_PROXY=" + proxy.URL}, named).wait(t); status != statusDone {
			t.Errorf("status %d", status)
		}
		if got := proxy.Asked(); !slices.Contains(got, "mcp.internal:443 person:hush") {
			t.Errorf("the proxy was asked for %q", got)
		}
	})
	t.Run("excepted", func(t *testing.T) {
		before := len(proxy.Asked())
		p := login(t, []string{"https_proxy=" + proxy.URL, "no_proxy=.internal"}, named)
		if status := p.wait(t); status != statusUnreachable || len(proxy.Asked()) != before {
			t.Errorf("status %d; the proxy was asked for %q", status, proxy.Asked()[before:])
		}
	})
	t.Run("refused by it", func(t *testing.T) {
		p := login(t, []string{"HTTPS_PROXY=" + proxy.URL}, "https://elsewhere.internal/mcp")
		if status := p.wait(t); status != statusUnreachable {
			t.Errorf("status %d, want %d", status, statusUnreachable)
		}
		p.Err.await(t, `(?m)^sallyport: .*proxy 127\.0\.0\.1:\d+ refuses to connect to elsewhere\.internal:443: status 502 Bad Gateway\nhint: .*NO_PROXY`)
		if strings.Contains(p.Err.String(), "hush") {
			t.Error("the proxy's password on stderr")
		}
	})
	t.Run("never behind SSH", func(t *testing.T) {
		before := len(proxy.Asked())
		if status := login(t, []string{"HTTPS_PROXY=" + proxy.URL}, "-F", s.config, "--via", "bastion", gate.URL).wait(t); status != statusDone {
			t.Errorf("status %d", status)
		}
		if got := proxy.Asked()[before:]; len(got) > 0 {
			t.Errorf("the proxy was asked for %q", got)
		}
	})
}

// connectProxy is an HTTP proxy that knows CONNECT, and no names but its own.
type connectProxy struct {
	URL string // with a user and a password

	mu    sync.Mutex
	asked []string // "host:port user:password"
}

// startConnectProxy starts a proxy that connects to routes[host:port]. It ends with the test.
func startConnectProxy(t testing.TB, routes map[string]string) *connectProxy {
	t.Helper()
	p := &connectProxy{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.URL = "http://person:hush@" + listener.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn, routes) })
		}
	})
	t.Cleanup(func() { listener.Close(); wg.Wait() })
	return p
}

func (p *connectProxy) serve(conn net.Conn, routes map[string]string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	basic := http.Request{Header: http.Header{"Authorization": req.Header["Proxy-Authorization"]}}
	name, password, _ := basic.BasicAuth()
	p.mu.Lock()
	p.asked = append(p.asked, req.Host+" "+name+":"+password)
	p.mu.Unlock()
	target, err := net.Dial("tcp", routes[req.Host])
	if req.Method != http.MethodConnect || routes[req.Host] == "" || err != nil {
		io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer target.Close()
	io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { io.Copy(target, in); target.Close() }() // ends with the client
	io.Copy(conn, target)
}

// Asked returns what the proxy was asked for so far.
func (p *connectProxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// TestHostStopsReading closes the pipe that the proxy writes to, as a host that ends does: the
// upstream is told, and that is no failure.
func TestHostStopsReading(t *testing.T) {
	t.Parallel()
	deleted := make(chan struct{})
	backend, err := url.Parse(startMCP(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	front := startFront(t, backend, func(r *http.Request) {
		if r.Method == http.MethodDelete {
			close(deleted)
		}
	})
	cmd := exec.Command(buildSallyport(t), "--grant", "none", front+backend.Path)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	stdin, host, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	cmd.Stdin = stdin
	cmd.Stdout = theirs
	cmd.Stderr = t.Output()
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	stdin.Close()
	io.WriteString(host, initializeLine)
	if line, err := bufio.NewReader(ours).ReadString('\n'); err != nil || !strings.Contains(line, `"result"`) {
		t.Errorf("initialize: %q, %v", line, err)
	}
	ours.Close()
	io.WriteString(host, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`+"\n")
	late := time.AfterFunc(patience, func() { cmd.Process.Signal(syscall.SIGQUIT) }) // shows where it hangs
	defer late.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
	select {
	case <-deleted:
	default:
		t.Error("the upstream was not told")
	}
}

// TestHostDies kills the process that started the proxy, whose stdin another one keeps open: the upstream is told all the same.
func TestHostDies(t *testing.T) {
	t.Parallel()
	deleted := make(chan struct{})
	backend, err := url.Parse(startMCP(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	front := startFront(t, backend, func(r *http.Request) {
		if r.Method == http.MethodDelete {
			close(deleted)
		}
	})
	stdin, host, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	// The shell waits, so it is the parent; a command in the background has no stdin unless it is named.
	shell := exec.Command("/bin/sh", "-c", `exec 3<&0; "$@" <&3 3<&- & exec <&- 3<&-; echo $! >&2; wait`, "sh", buildSallyport(t), "--grant", "none", front+backend.Path)
	shell.Env = []string{"HOME=" + t.TempDir()}
	shell.Stdin = stdin
	p := startProcess(t, shell)
	stdin.Close()
	proxy, err := strconv.Atoi(p.Err.await(t, `^(\d+)\n`)[1])
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(host, initializeLine)
	p.Out.await(t, `"result"`)
	p.cmd.Process.Kill()
	select {
	case <-deleted:
	case <-time.After(patience):
		syscall.Kill(proxy, syscall.SIGKILL)
		t.Fatal("the upstream was not told")
	}
	<-p.exited // the proxy has the shell's stdout, so this is its end, too
}

// TestSignals ends each command at the stage where it waits for a silent sshd.
func TestSignals(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	reached := make(chan struct{}, 10)
	go func() { // ends with the listener
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			reached <- struct{}{}
		}
	}()
	via := "ssh://nobody@" + silent.Addr().String()
	const upstream = "https://mcp.internal/mcp"
	for _, test := range []struct {
		name   string
		args   []string
		signal syscall.Signal // 0: the end of input
		status int
	}{
		{"proxy, end of input", []string{"--grant", "none", "--via", via, upstream}, 0, statusDone},
		{"proxy, SIGTERM", []string{"--grant", "none", "--via", via, upstream}, syscall.SIGTERM, statusDone},
		{"proxy, SIGINT", []string{"--grant", "none", "--via", via, upstream}, syscall.SIGINT, statusDone},
		{"login, SIGINT", []string{"login", "--via", via, upstream}, syscall.SIGINT, statusInterrupted},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(buildSallyport(t), append(test.args, "-F", "none")...)
			cmd.Env = []string{"HOME=" + t.TempDir()}
			p, host := startWithInput(t, cmd)
			io.WriteString(host, initializeLine)
			select {
			case <-reached:
			case <-p.exited:
				t.Fatalf("ended before it came to the sshd:\n%s", p.Err)
			}
			if test.signal == 0 {
				host.Close()
			} else if err := p.cmd.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			if status := p.wait(t); status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			if text := p.Err.String(); text != "" {
				t.Errorf("stderr: %s", text)
			}
			if answered := strings.Contains(p.Out.String(), `"id":"first","error":{"code":-32000`); answered != (test.status == statusDone) {
				t.Errorf("stdout: %q", p.Out)
			}
		})
	}
}

// TestLoginWithRefusedHeader gives a token that the upstream refuses, where no sign-in can mend it.
func TestLoginWithRefusedHeader(t *testing.T) {
	t.Parallel()
	upstream := startFront(t, nil, nil)
	cmd := exec.Command(buildSallyport(t), "login", "--header", "Authorization: Bearer ${TOKEN}", upstream+"/mcp")
	cmd.Env = []string{"HOME=" + t.TempDir(), "TOKEN=sesame-sesame"}
	p := startProcess(t, cmd)
	if status := p.wait(t); status != statusSignIn {
		t.Errorf("status %d, want %d", status, statusSignIn)
	}
	p.Err.await(t, `^sallyport: http://\S+/mcp: status 401: .*\nhint: check --header Authorization`)
	if strings.Contains(p.Err.String(), "sesame") {
		t.Error("the token on stderr")
	}
}

// TestLostLinkAndLog cuts the link while a login waits and again between two calls, and looks for
// secrets in all that was logged meanwhile.
func TestLostLinkAndLog(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1, startMCP)
	home := t.TempDir()
	log := writeFile(t, home, "log", strings.Repeat("old\n", logFileMegabytes<<20/4), 0o600)
	host := startHost(t, s.throughChain(t, home, "--no-browser", "--callback-port", "0", "--log-level", "trace", "--log-file", log), nil)
	link := host.Stderr.await(t, offered)[1]
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(host.cmd.Process.Pid), "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	s.hops[0].SSHD.Drop()
	if page := (person{TrustsAll: true}).logsIn(t, link); !strings.Contains(page.Text, "igned in") {
		t.Errorf("the last page is %+v", page)
	}
	session := host.Session(t)
	callEcho(t, session)
	s.hops[0].SSHD.Drop()
	host.Stderr.await(t, `(?s)msg="link lost".*msg="link lost"`) // a call on the dying link may have run, and gets an error
	host.Stderr.await(t, `(?s)hop hop1 .*: link: .*\nhint: sallyport connects anew\n(?s:.*)sallyport: the tunnel via hop1 is up\n`)
	callEcho(t, session)
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}

	files, err := filepath.Glob(filepath.Join(home, "log*"))
	if err != nil || len(files) != 2 {
		t.Errorf("log files: %q, %v; want the new and the rotated one", files, err)
	}
	text, err := os.ReadFile(log)
	if err != nil || !bytes.Contains(text, []byte(`msg="signed in"`)) {
		t.Errorf("the log: %q, %v", text, err)
	}
	if bytes.Contains(text, []byte("<nil>")) {
		t.Errorf("the log tells what is not: %s", text)
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state", "code_challenge"} {
		if secret := u.Query().Get(name); secret == "" || bytes.Contains(text, []byte(secret)) || bytes.Contains(cmdline, []byte(secret)) {
			t.Errorf("%s %q in the log or the command line", name, secret)
		}
	}
	// A JWT, a header that carries one, a parameter of the token request.
	tokens := regexp.MustCompile(`eyJ|Bearer \S|(code|code_verifier|refresh_token)=`)
	if found := tokens.Find(append(text, cmdline...)); found != nil {
		t.Errorf("%q in the log or the command line", found)
	}
	if found := tokens.FindString(strings.ReplaceAll(host.Stderr.String(), link, "")); found != "" {
		t.Errorf("%q on stderr", found)
	}
}

// TestWorkstationGone ends the workstation that a login came through: nothing waits for it any more.
func TestWorkstationGone(t *testing.T) {
	t.Parallel()
	workstation := newNetns(t, "workstation")
	ca := newAuthority(t)
	oidc := startOIDC(t, oidcOptions{TLS: ca})
	workstation.borrow(t, strings.TrimPrefix(oidc.Issuer, "https://"))
	gate := startGate(t, gateOptions{CA: ca, OIDC: oidc, Upstream: startMCP(t, nil)})
	desk := startSSHD(t, sshdOptions{NS: workstation})
	s := &site{ca: ca}
	host := startHost(t, s.command(t, t.TempDir(), "-F", writeSSHConfig(t, hop{Alias: "desk", SSHD: desk}), "--callback-via", "desk", gate.URL), nil)
	person{NS: workstation, TrustsAll: true}.logsIn(t, host.Stderr.await(t, offered)[1])
	session := host.Session(t)
	desk.Stop()
	host.Stderr.await(t, `msg="dial failed"`)
	callEcho(t, session)
	if err := session.Close(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
	if text := host.Stderr.String(); strings.Contains(text, "hint: nothing listens") {
		t.Errorf("stderr speaks of the workstation, which nobody waits for:\n%s", text)
	}
}

// startFront starts an HTTP server that shows each request to saw and passes it on to backend; a nil
// backend refuses all with 401. It returns its origin.
func startFront(t testing.TB, backend *url.URL, saw func(*http.Request)) string {
	t.Helper()
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	if backend != nil {
		proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
			saw(r.In)
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = backend.Scheme, backend.Host, backend.Host
		}}
		handler = proxy
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}
