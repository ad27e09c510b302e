//go:build linux

package hostile_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// loginServer is an upstream that wants a token, and its authorization server. write answers at one
// path; everything else is answered well.
type loginServer struct {
	*httptest.Server
	path  string
	write func(w http.ResponseWriter)
	sent  atomic.Int64
	hits  atomic.Int64
}

func (s *loginServer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if strings.HasPrefix(r.URL.Path, s.path) {
		s.hits.Add(1)
		s.write(counter{w, &s.sent})
		return
	}
	switch r.URL.Path {
	case "/mcp":
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+s.URL+`/resource"`)
		w.WriteHeader(http.StatusUnauthorized)
	case "/resource":
		fmt.Fprintf(w, `{"resource":"%s/mcp","authorization_servers":[%q]}`, s.URL, s.URL)
	case "/.well-known/oauth-authorization-server":
		fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":"%[1]s/authorize","token_endpoint":"%[2]s/token","registration_endpoint":"%[2]s/register",
			"device_authorization_endpoint":"%[2]s/device","response_types_supported":["code"],"code_challenge_methods_supported":["S256"],
			"grant_types_supported":["authorization_code","client_credentials","urn:ietf:params:oauth:grant-type:device_code"]}`, s.URL, s.URL)
	case "/register":
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"client_id":"c"}`)
	case "/device":
		fmt.Fprintf(w, `{"device_code":"d","user_code":"u","verification_uri":"%s/v","expires_in":5,"interval":1}`, s.URL)
	default:
		http.NotFound(w, r)
	}
}

// Whatever a login server answers, at whatever place, costs no more than the bound of a reply.
func TestLoginServer(t *testing.T) {
	answers := []struct {
		name  string
		write func(w http.ResponseWriter)
	}{
		{"numbers", func(w http.ResponseWriter) {
			repeat(w, endless, `{"access_token":"a","token_type":"Bearer","authorization_servers":[`, "0", ",", "]}")
		}},
		{"members", func(w http.ResponseWriter) { repeat(w, 1<<20-100, `{`, `"a":0`, ",", "}") }},
		{"different members", func(w http.ResponseWriter) {
			io.WriteString(w, "{")
			for i := range 90000 {
				fmt.Fprintf(w, `"%x":0,`, i)
			}
			io.WriteString(w, `"":0}`)
		}},
		{"nested", func(w http.ResponseWriter) { repeat(w, 1<<20-100, `{"authorization_servers":`, "[", "", "") }},
		{"text", func(w http.ResponseWriter) { repeat(w, endless, ``, "x", "", "") }},
		{"white space", func(w http.ResponseWriter) { repeat(w, endless, ``, " ", "", "{}") }},
		{"form", func(w http.ResponseWriter) { repeat(w, 1<<20-100, `access_token=a`, "&a=b", "", "") }},
		{"error", func(w http.ResponseWriter) {
			w.WriteHeader(400)
			repeat(w, 1<<20-100, `{"error":"`, "x", "", `"}`)
		}},
		{"words", func(w http.ResponseWriter) {
			w.WriteHeader(400)
			repeat(w, 1<<20-100, `{"error_description":"`, "x ", "", `"}`)
		}},
		{"gzip", func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(zipped(func(w io.Writer) { repeat(w, full, `{"a":[`, "0", ",", "]}") }, 1))
		}},
		{"redirects", func(w http.ResponseWriter) {
			w.Header().Set("Location", "?"+strings.Repeat("x", 100000))
			w.WriteHeader(http.StatusTemporaryRedirect)
		}},
		{"header", func(w http.ResponseWriter) {
			hijack(func(w io.Writer) { repeat(w, endless, ok+"X: ", "x", "", "\r\n\r\n{}") })(w, nil, "")
		}},
	}
	for _, place := range []struct {
		path  string
		grant string
	}{
		{"/resource", "auto"}, {"/.well-known/oauth-authorization-server", "auto"}, {"/register", "auto"},
		{"/token", "client_credentials"}, {"/device", "device_code"},
	} {
		for _, answer := range answers {
			t.Run(place.grant+place.path+"/"+answer.name, func(t *testing.T) {
				t.Parallel()
				s := &loginServer{path: place.path, write: answer.write}
				s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
				s.Start()
				t.Cleanup(s.Close)
				t.Cleanup(s.CloseClientConnections)
				args := []string{"login", "--no-browser", "--token-store", "file", "--grant", place.grant, "--callback-port", "0", "--callback-timeout", "3", s.URL + "/mcp"}
				if place.grant == "client_credentials" {
					args = append(args, "--client-id", "c", "--client-secret", "s")
				}
				home := t.TempDir()
				cmd := exec.Command(machines.PlainSallyport(t), args...)
				cmd.Dir, cmd.Env = home, append(machines.Environment(), "HOME="+home)
				h := startCommand(t, cmd, false)
				select {
				case <-h.exited:
				case <-time.After(patience):
					t.Fatalf("it does not end; stderr:\n%s", h.err())
				}
				h.check(s.sent.Load(), 4*mib, fmt.Sprintf("%d hits; %.100s", s.hits.Load(), h.err()))
			})
		}
	}
}
