//go:build linux

package doctor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/oauth/oauthtest"

	"golang.org/x/sys/unix"
)

// startHole returns an address that answers no connection: its queue is full.
func startHole(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}).String()
	for range 4 { // more than the queue holds
		conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue is never full")
	return ""
}

// site is an upstream with its login server at one origin. Both are good unless a fault changes
// them.
type site struct {
	login    *oauthtest.Server
	upstream string
	// ahead is how much later than the truth the Date of the answers is.
	ahead time.Duration

	mu sync.Mutex
	// instead has the handlers of paths that a fault changes.
	instead map[string]http.HandlerFunc
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{instead: map[string]http.HandlerFunc{}}
	server := httptest.NewUnstartedServer(s)
	origin := "http://" + server.Listener.Addr().String()
	s.upstream = origin + "/mcp"
	s.login = oauthtest.New(origin, s.upstream)
	s.login.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = true })
	server.Start()
	t.Cleanup(server.Close)
	return s
}

// on replaces the answer of a path.
func (s *site) on(path string, handler http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead[path] = handler
}

// setClock sets the clock of the server ahead.
func (s *site) setClock(ahead time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	handler, ahead := s.instead[r.URL.Path], s.ahead
	s.mu.Unlock()
	if ahead != 0 {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
	}
	switch {
	case handler != nil:
		handler(w, r)
	case r.URL.Path == "/mcp" || strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource"):
		s.login.Guard(machines.TinyMCP{}).ServeHTTP(w, r)
	default:
		s.login.ServeHTTP(w, r)
	}
}

// knobs makes the login server deviate.
func knobs(set func(*oauthtest.Knobs)) func(*site) { return func(s *site) { s.login.Set(set) } }

// page answers with a status and a body.
func page(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

// Each part of the sign-in breaks in turn.
func TestTheFirstFailureNamesTheFaultOfTheLogin(t *testing.T) {
	for _, f := range []struct {
		fault
		change func(*site)
	}{
		{fault{name: "no metadata at all", first: "signin.server", status: machines.StatusSignIn, args: []string{"--grant", "client_credentials", "--client-id", "c"}, env: []string{"OAUTH2_CLIENT_SECRET=hush"}},
			knobs(func(k *oauthtest.Knobs) { k.NoMetadata = true })},
		{fault{name: "metadata of another resource", first: "signin.resource", status: machines.StatusSignIn}, knobs(func(k *oauthtest.Knobs) { k.ResourceName = "https://elsewhere.example/mcp" })},
		{fault{name: "metadata of another issuer", first: "signin.issuer", status: machines.StatusSignIn, still: []string{"signin.resource"}}, knobs(func(k *oauthtest.Knobs) { k.WrongIssuer = "https://elsewhere.example" })},
		{fault{name: "no PKCE", first: "signin.pkce", status: machines.StatusSignIn, still: []string{"signin.server", "signin.issuer"}}, knobs(func(k *oauthtest.Knobs) { k.NoPKCE = true })},
		{fault{name: "no registration", first: "signin.client", status: machines.StatusSignIn, still: []string{"signin.pkce"}}, knobs(func(k *oauthtest.Knobs) { k.NoRegistration = true })},
		{fault{name: "login server down", first: "signin.server", status: machines.StatusUnreachable, still: []string{"signin.resource"}}, func(s *site) {
			s.on("/.well-known/oauth-protected-resource/mcp", page(200, `{"resource":"`+s.upstream+`","authorization_servers":["http://127.0.0.1:1"]}`))
		}},
		{fault{name: "no MCP endpoint", first: "upstream.mcp", status: machines.StatusFailed, still: []string{"upstream.http"}}, func(s *site) { s.on("/mcp", page(404, "nothing here")) }},
		{fault{name: "a page in place of MCP", first: "upstream.mcp", status: machines.StatusFailed}, func(s *site) { s.on("/mcp", page(200, "<html>hello</html>")) }},
		{fault{name: "gateway without a server", first: "upstream.mcp", status: machines.StatusUnreachable}, func(s *site) { s.on("/mcp", page(502, "bad gateway")) }},
		{fault{name: "clock an hour behind", first: "clock", status: machines.StatusFailed, still: []string{"signin.challenge", "signin.pkce"}}, func(s *site) { s.setClock(time.Hour) }},
		{fault{name: "clock an hour ahead", first: "clock", status: machines.StatusFailed}, func(s *site) { s.setClock(-time.Hour) }},
		{fault{name: "callback port taken", first: "callback.port", status: machines.StatusFailed, args: []string{"--callback-port", "PORT"}, still: []string{"signin.pkce"}}, nil},
		{fault{name: "keyring absent", first: "store.key", status: machines.StatusUsage, args: []string{"--token-store", "keyring"}}, nil},
		{fault{name: "settings file broken", first: "settings", status: machines.StatusUsage, args: []string{"--config", "FILE"}}, nil},
		{fault{name: "CA file missing", first: "settings", status: machines.StatusUsage, args: []string{"--ca-file", "/nosuch/file"}, still: []string{"store.directory"}}, nil},
		{fault{name: "unknown flag", first: "settings", status: machines.StatusUsage, args: []string{"--no-such-flag"}}, nil},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if f.change != nil {
				f.change(s)
			}
			args := slices.Clone(f.args)
			if !slices.Contains(args, "--callback-port") {
				args = append(args, "--callback-port", "0")
			}
			for i, arg := range args {
				switch arg {
				case "PORT":
					_, args[i], _ = net.SplitHostPort(machines.Here.Listen(t, "127.0.0.1:0").Addr().String())
				case "FILE":
					args[i] = machines.WriteFile(t, t.TempDir(), "settings.json", "{\n  \"ssh\": {,\n}", 0o600)
				}
			}
			f.check(t, machines.Command(t, t.TempDir(), append(args, s.upstream)...))
		})
	}
}

// A stored sign-in, and its place, break in turn.
func TestTheFirstFailureNamesTheFaultOfTheStore(t *testing.T) {
	for _, f := range []struct {
		fault
		knobs  func(*oauthtest.Knobs)
		change func(t *testing.T, s *site, home string)
	}{
		{fault{name: "token revoked, and nothing renews it", first: "token.accepted", status: machines.StatusSignIn, still: []string{"token.stored", "store.directory"}},
			func(k *oauthtest.Knobs) { k.NoRefresh = true }, func(_ *testing.T, s *site, _ string) { s.login.RevokeAccess() }},
		{fault{name: "directory open to others", first: "store.directory", status: machines.StatusFailed}, nil,
			func(t *testing.T, _ *site, home string) { chmod(t, stateDir(home), 0o777) }},
		{fault{name: "key open to others", first: "store.directory", status: machines.StatusFailed}, nil,
			func(t *testing.T, _ *site, home string) {
				chmod(t, filepath.Join(home, ".config", "sallyport", "store.key"), 0o644)
			}},
		{fault{name: "a file in place of the directory", first: "store.directory", status: machines.StatusFailed}, nil, func(t *testing.T, _ *site, home string) {
			if err := os.RemoveAll(stateDir(home)); err != nil {
				t.Fatal(err)
			}
			machines.WriteFile(t, filepath.Dir(stateDir(home)), "sallyport", "", 0o600)
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s, home := newSite(t), t.TempDir()
			if f.knobs != nil {
				s.login.Set(f.knobs)
			}
			args := []string{"--callback-port", "0", "--token-store", "file", "--browser", "curl -sL -o /dev/null %s", s.upstream}
			login := machines.StartProcess(t, machines.Command(t, home, append([]string{"login"}, args...)...))
			if status := login.Wait(t); status != machines.StatusDone {
				t.Fatalf("login ended with status %d", status)
			}
			f.change(t, s, home)
			f.check(t, machines.Command(t, home, args...))
		})
	}
}

func stateDir(home string) string { return filepath.Join(home, ".local", "state", "sallyport") }

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// What is wrong with a certificate is named by its row, with the chain.
func TestTheFirstFailureNamesTheFaultOfTLS(t *testing.T) {
	t.Parallel()
	ca := machines.NewAuthority(t)
	good, key := ca.Issue(t, "127.0.0.1")
	misnamed, misnamedKey := ca.Issue(t, "other.internal")
	expired, expiredKey := expiredCertificate(t)
	for _, test := range []struct {
		fault
		cert, key string
		clientCAs bool
	}{
		{fault{name: "good", still: []string{"upstream.tls", "upstream.mcp"}, args: []string{"--ca-file", ca.File}}, good, key, false},
		{fault{name: "unknown authority", first: "upstream.tls", status: machines.StatusUnreachable, still: []string{"upstream.tcp"}}, good, key, false},
		{fault{name: "another name", first: "upstream.tls", status: machines.StatusUnreachable, args: []string{"--ca-file", ca.File}}, misnamed, misnamedKey, false},
		{fault{name: "expired", first: "upstream.tls", status: machines.StatusUnreachable, args: []string{"--ca-file", expired}}, expired, expiredKey, false},
		{fault{name: "a client certificate is wanted", first: "upstream.tls", status: machines.StatusUnreachable, args: []string{"--ca-file", ca.File}}, good, key, true},
		{fault{name: "no TLS", first: "upstream.tls", status: machines.StatusUnreachable}, "", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(machines.TinyMCP{})
			if test.cert == "" {
				server.Start()
			} else {
				pair, err := tls.LoadX509KeyPair(test.cert, test.key)
				if err != nil {
					t.Fatal(err)
				}
				server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
				if test.clientCAs {
					server.TLS.ClientAuth = tls.RequireAndVerifyClientCert
				}
				server.StartTLS()
			}
			t.Cleanup(server.Close)
			test.check(t, machines.Command(t, t.TempDir(), append(test.args, "https://"+server.Listener.Addr().String()+"/mcp")...))
		})
	}
}

// expiredCertificate writes a certificate that has expired, which vouches for itself, and its key.
func expiredCertificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return machines.WriteFile(t, dir, "cert.pem", machines.PEM("CERTIFICATE", der), 0o644), machines.WriteFile(t, dir, "key.pem", machines.PEM("PRIVATE KEY", keyDER), 0o600)
}

// With --login the doctor signs in first, and then looks at what that has left.
func TestLoginFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cmd := machines.Command(t, t.TempDir(), "--login", "--callback-port", "0", "--token-store", "file", "--browser", "curl -sL -o /dev/null %s", s.upstream)
	checkGood(t, cmd, "token.stored", "token.accepted", "upstream.mcp")
}

// What a peer writes to harm reaches no terminal.
func TestHostileWordsOnATerminal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const evil = `\u001b]0;title\u0007\u001b[2J\u009b31m\u202e`
	s.on("/.well-known/oauth-protected-resource/mcp", page(200, `{"resource":"`+s.upstream+`","authorization_servers":["https://evil`+evil+`.example"]}`))
	s.on("/mcp", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "evil\u009b31m\u202ewords")
		w.Header().Set("WWW-Authenticate", "Bearer scope=\"evil\u009b31m\u202ewords\"")
		w.WriteHeader(http.StatusUnauthorized)
	})
	cmd := machines.Command(t, t.TempDir(), "doctor", "--verbose", "--callback-port", "0", s.upstream)
	cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=1")
	terminal := machines.StartInTerminal(t, cmd)
	terminal.Wait(t)
	shown := strings.ReplaceAll(terminal.String(), "\r\x1b[K", "")
	if i := strings.IndexFunc(shown, func(r rune) bool { return r != '\r' && r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%+q", shown[max(0, i-80):min(len(shown), i+20)])
	}
	if !strings.Contains(shown, "words") {
		t.Errorf("the words are not shown:\n%s", shown)
	}
}

// What the upstream asks for is told as it says it.
func TestKindOfToken(t *testing.T) {
	t.Parallel()
	for challenge, want := range map[string]string{
		"":                     "does not say that it wants a Bearer token",
		`Basic realm="x"`:      "does not say that it wants a Bearer token",
		"Bearer":               "asks for a Bearer token",
		`DPoP algs="ES256"`:    "asks for a DPoP token",
		`DPoP, Bearer scope=x`: "asks for a Bearer token",
	} {
		s := newSite(t)
		s.on("/mcp", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
		})
		r, _ := run(t, command(machines.Command(t, t.TempDir(), "--callback-port", "0", s.upstream)))
		if got := r.row("signin.challenge").Summary; !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", challenge, got, want)
		}
	}
}

// While `sallyport callback` lends this machine's browser, logins go by it, and the port that it
// holds is no fault.
func TestWhileALendingRuns(t *testing.T) {
	t.Parallel()
	// HOST has a network of its own, so that no other test's login finds the socket that is lent.
	far := machines.StartSSHD(t, machines.SSHDOptions{NS: machines.NewNamespace(t)})
	site, home := newSite(t), t.TempDir()
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "far", SSHD: far})
	lending := machines.StartProcess(t, machines.Command(t, home, "callback", "-F", config, "far"))
	lending.Err.Await(t, "Ctrl-C")
	machines.Poll(t, func() bool {
		r, _ := run(t, command(machines.Command(t, home, site.upstream)))
		return r.Status == 0 && r.row("callback.helper").Result == "ok"
	}, "the doctor to see the helper")
	lending.Signal(t, syscall.SIGINT)
	if status := lending.Wait(t); status != machines.StatusInterrupted {
		t.Errorf("callback ended with status %d", status)
	}
	checkGood(t, machines.Command(t, home, site.upstream), "callback.port", "callback.loopback")
}
