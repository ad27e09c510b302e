//go:build linux

// The story of which network an address of metadata means. The person's machine and the last hop
// have each a loopback, and here also an address that counts as public. On each address that is not
// the right one a trap listens. Real: sshd. The upstream and the login server are ours.
package routes_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// publicIP is an address that counts as public. Both machines believe to have it.
const publicIP = "11.22.33.44"

// sides are the person's machine and the last hop.
type sides struct {
	person, bastion *machines.Namespace
	sshd            *machines.SSHD
	config          string

	mu sync.Mutex
	// asked lists what was asked for on the way to a token, as SIDE PATH.
	asked []string
}

// startSides makes the two machines. The names public.internal and private.internal mean the same
// on both.
func startSides(t *testing.T) *sides {
	t.Helper()
	s := &sides{person: machines.NewNamespace(t), bastion: machines.NewNamespace(t)}
	for _, ns := range []*machines.Namespace{s.person, s.bastion} {
		for _, ip := range []string{publicIP, "10.11.12.13", "169.254.1.2"} {
			if out, err := ns.Command(t, "ip", "addr", "add", ip+"/32", "dev", "lo").CombinedOutput(); err != nil {
				t.Fatalf("ip addr add: %v: %s", err, out)
			}
		}
		hosts := "127.0.0.1 localhost loopback.internal\n" + publicIP + " public.internal\n10.11.12.13 private.internal\n"
		if ns == s.bastion {
			hosts += publicIP + " there.internal\n"
		}
		if err := os.WriteFile("/etc/netns/"+ns.Name+"/hosts", []byte(hosts), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.sshd = machines.StartSSHD(t, machines.SSHDOptions{NS: s.bastion})
	s.person.Borrow(t, s.sshd.Addr)
	s.config = machines.WriteSSHConfig(t, machines.Hop{Alias: "bastion", SSHD: s.sshd})
	return s
}

// listen serves a handler at a port of every address of one of the machines. It notes each request.
func (s *sides) listen(t *testing.T, side, port string, serve http.HandlerFunc) (chosen string) {
	t.Helper()
	ns := s.person
	if side == "there" {
		ns = s.bastion
	}
	listener := ns.Listen(t, ":"+port)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.note(side + " " + r.URL.Path)
		serve(w, r)
	})}
	go server.Serve(listener) // ends with its listener
	t.Cleanup(func() { server.Close() })
	_, chosen, _ = net.SplitHostPort(listener.Addr().String())
	return chosen
}

func (s *sides) note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, line)
}

// take returns what was asked for since the last call.
func (s *sides) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := strings.Join(s.asked, "\n")
	s.asked = nil
	return asked
}

// answer writes a JSON document.
func answer(w http.ResponseWriter, document map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(document)
}

func TestSides(t *testing.T) {
	t.Parallel()
	s := startSides(t)

	// All three are set before each login.
	var named, issuer, token string
	upstream := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource"):
			if named != "" && r.URL.Path != "/moved" {
				http.Redirect(w, r, named, http.StatusFound)
				return
			}
			answer(w, map[string]any{"resource": "http://" + r.Host + "/mcp", "authorization_servers": []string{issuer}})
		case r.URL.Path == "/mcp" && r.Header.Get("Authorization") != "":
			var request struct{ ID json.RawMessage }
			json.NewDecoder(r.Body).Decode(&request)
			answer(w, map[string]any{"jsonrpc": "2.0", "id": request.ID, "result": map[string]any{}})
		default:
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	login := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/oauth-authorization-server":
			answer(w, map[string]any{"issuer": issuer, "token_endpoint": token})
		case "/token":
			answer(w, map[string]any{"access_token": "t", "token_type": "Bearer", "expires_in": 600})
		case "/resource": // what a redirect leads to
			answer(w, map[string]any{"resource": "http://127.0.0.1/mcp", "authorization_servers": []string{issuer}})
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}
	port := s.listen(t, "there", "0", upstream)
	s.listen(t, "here", port, upstream)
	as := s.listen(t, "there", "0", login)
	s.listen(t, "here", as, login)

	const via, direct = true, false
	for _, test := range []struct {
		name           string
		via            bool
		upstream       string // hosts
		issuer, token  string
		redirect       string
		args           []string
		asked, refused string
	}{
		{"all on the last hop", via, "127.0.0.1", "127.0.0.1", "127.0.0.1", "", nil, "there", ""},
		{"localhost of the last hop", via, "localhost", "localhost", "localhost", "", nil, "there", ""},
		{"another loopback address", via, "localhost", "127.0.0.1", "[::1]", "", nil, "there", ""},
		{"IPv4 in IPv6", via, "127.0.0.1", "[::ffff:127.0.0.1]", "127.0.0.1", "", nil, "there", ""},
		{"the unspecified address", via, "private.internal", "0.0.0.0", "0.0.0.0", "", nil, "there", ""},
		{"a short address", via, "private.internal", "127.1", "0x7f000001", "", nil, "there", ""},
		{"names of loopback", via, "private.internal", "LocalHost", "LOCALHOST", "", nil, "there", ""},
		{"a name that resolves to loopback", via, "private.internal", "loopback.internal", "loopback.internal", "", nil, "there", ""},
		{"private, both", via, "private.internal", "private.internal", "private.internal", "", nil, "there", ""},
		{"private addresses, both", via, "10.11.12.13", "10.11.12.13", "10.11.12.13", "", nil, "there", ""},
		{"the token endpoint alone", via, "private.internal", "private.internal", "127.0.0.1", "", nil, "there", ""},
		{"a name for the last hop alone", via, "private.internal", "there.internal", "there.internal", "", nil, "there", ""},
		{"oauth-route via", via, "127.0.0.1", "127.0.0.1", "localhost", "", []string{"--oauth-route", "via"}, "there", ""},
		{"a public login server", via, "private.internal", "public.internal", publicIP, "", nil, "here", ""},
		{"a redirect to loopback", via, "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", nil, "there", ""},

		{"oauth-route direct", via, "127.0.0.1", "127.0.0.1", "127.0.0.1", "", []string{"--oauth-route", "direct"}, "", "127.0.0.1"},
		{"a public upstream names loopback", via, publicIP, "127.0.0.1", "127.0.0.1", "", nil, "", "127.0.0.1"},
		{"by another spelling", via, publicIP, "2130706433", "127.1", "", nil, "", "2130706433"},
		{"a public name names loopback", via, "public.internal", "localhost", "localhost", "", nil, "", "localhost"},
		{"a public name names a private address", via, "public.internal", "10.11.12.13", "10.11.12.13", "", nil, "", "10.11.12.13"},
		{"a public name names a private name", via, "public.internal", "private.internal", "private.internal", "", nil, "", "private.internal"},
		{"link-local", via, "private.internal", "169.254.1.2", "169.254.1.2", "", nil, "", "169.254.1.2"},
		{"a public login server names loopback", via, "private.internal", "public.internal", "127.0.0.1", "", nil, "here", "127.0.0.1"},
		{"a public upstream redirects to loopback", via, publicIP, "127.0.0.1", "127.0.0.1", "127.0.0.1", nil, "", "127.0.0.1"},

		{"the person names loopback here", via, "127.0.0.1", "127.0.0.1", "127.0.0.1", "",
			[]string{"--oauth-route", "direct", "--issuer", "http://127.0.0.1:" + as}, "here", ""},
		{"the person names loopback there", via, publicIP, "127.0.0.1", "127.0.0.1", "",
			[]string{"--oauth-route", "via", "--issuer", "http://127.0.0.1:" + as}, "there", ""},

		{"direct, all on loopback", direct, "127.0.0.1", "localhost", "[::1]", "", nil, "here", ""},
		{"direct, all private", direct, "private.internal", "10.11.12.13", "private.internal", "", nil, "here", ""},
		{"direct, all public", direct, "public.internal", publicIP, "public.internal", "", nil, "here", ""},
		{"direct, a public upstream names loopback", direct, "public.internal", "127.0.0.1", "127.0.0.1", "", nil, "", "127.0.0.1"},
		{"direct, a public upstream names a loopback name", direct, publicIP, "loopback.internal", "127.0.0.1", "", nil, "", "loopback.internal"},
		{"direct, a public upstream names a private name", direct, publicIP, "private.internal", "127.0.0.1", "", nil, "", "private.internal"},
		{"direct, a private upstream names loopback", direct, "private.internal", "loopback.internal", "127.0.0.1", "", nil, "", "loopback.internal"},
		{"direct, a public login server names loopback", direct, "127.0.0.1", publicIP, "127.0.0.1", "", nil, "here", "127.0.0.1"},
		{"direct, the person names it", direct, "public.internal", "127.0.0.1", "127.0.0.1", "",
			[]string{"--issuer", "http://127.0.0.1:" + as}, "here", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			issuer, token = "http://"+test.issuer+":"+as, "http://"+test.token+":"+as+"/token"
			if named = ""; test.redirect != "" {
				named = "http://" + test.redirect + ":" + as + "/resource"
			}
			args := append([]string{"login", "--allow-insecure-http", "--grant", "client_credentials", "--client-id", "c",
				"--resource", "none"}, test.args...)
			if test.via {
				args = append(args, "-F", s.config, "--via", "bastion")
			}
			s.take()
			cmd := machines.Command(t, t.TempDir(), append(args, "http://"+test.upstream+":"+port+"/mcp")...)
			cmd.Env = append(cmd.Env, "OAUTH2_CLIENT_SECRET=hush")
			p := machines.StartProcess(t, s.person.Move(t, cmd))
			status := p.Wait(t)
			asked := s.take()
			if test.refused == "" && status != machines.StatusDone {
				t.Errorf("status %d", status)
			}
			if test.refused != "" {
				if want := fmt.Sprintf("leads to %s:%s, which is ", test.refused, as); !strings.Contains(p.Err.String(), want) || status != machines.StatusSignIn {
					t.Errorf("status %d, want %d and %q", status, machines.StatusSignIn, want)
				}
			}
			for line := range strings.Lines(asked) {
				side, path, _ := strings.Cut(strings.TrimSpace(line), " ")
				isLogin := !strings.HasPrefix(path, "/mcp") && !strings.HasPrefix(path, "/.well-known/oauth-protected-resource")
				if want := map[bool]string{true: "there", false: "here"}[test.via]; !isLogin && side != want || isLogin && side != test.asked {
					t.Errorf("%s was asked for %s", side, path)
				}
			}
			if t.Failed() {
				t.Logf("asked:\n%s\n%s", asked, p.Err.String())
			}
		})
	}
}
