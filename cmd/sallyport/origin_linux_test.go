package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"sallyport/oauth/oauthtest"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestTokenStaysAtTheOrigin has an upstream that sends requests with a token to another port, or to another
// name of its own: both would serve them, and get none.
func TestTokenStaysAtTheOrigin(t *testing.T) {
	for _, test := range []struct {
		name, method string
		named        bool // by another name; else at another port
		served       bool // the call is answered all the same
	}{
		{"a call, to another port", http.MethodPost, false, false},
		{"a call, to another name", http.MethodPost, true, false},
		{"the stream, to another port", http.MethodGet, false, true},
		{"the end of the session, to another port", http.MethodDelete, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend, err := url.Parse(startMCP(t, nil))
			if err != nil {
				t.Fatal(err)
			}
			proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: backend.Host}) }}
			redirected := make(chan struct{}, 100)
			var mu sync.Mutex // guards what follows
			var strays []string
			stray := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				strays = append(strays, fmt.Sprintf("%s, Authorization %q", r.Method, r.Header["Authorization"]))
				mu.Unlock()
				proxy.ServeHTTP(w, r)
			})
			other := httptest.NewServer(stray)
			defer other.Close()

			var login *oauthtest.Server
			loginServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { login.ServeHTTP(w, r) }))
			defer loginServer.Close()
			var guard http.Handler
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.Host, "localhost:") {
					stray(w, r)
					return
				}
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				call := strings.Contains(string(body), `"method":"tools/call"`)
				if r.Header.Get("Authorization") == "" || r.Method != test.method || r.Method == http.MethodPost && !call {
					guard.ServeHTTP(w, r)
					return
				}
				redirected <- struct{}{}
				to := other.URL
				if test.named {
					to = "http://" + strings.Replace(r.Host, "127.0.0.1", "localhost", 1)
				}
				http.Redirect(w, r, to+r.URL.Path, http.StatusTemporaryRedirect)
			}))
			defer upstream.Close()
			login = oauthtest.New(loginServer.URL, upstream.URL+backend.Path)
			login.AddClient(oauthtest.Client{ID: "machine", Secret: "s3cret"})
			guard = login.Guard(proxy)

			cmd := (&site{ca: newAuthority(t)}).command(t, t.TempDir(), "--grant", "client_credentials", "--client-id", "machine", login.Resource)
			cmd.Env = append(cmd.Env, "OAUTH2_CLIENT_SECRET=s3cret")
			session := startHost(t, cmd, nil).Session(t)
			if test.served {
				callEcho(t, session)
			} else if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: echoArguments{"hi"}}); err == nil || !strings.Contains(err.Error(), "status 307 sends the request to ") {
				t.Errorf("the call: %v", err)
			}
			if test.method != http.MethodDelete { // which comes with the end
				receive(t, redirected, "request to redirect")
			}
			if err := session.Close(); err != nil {
				t.Errorf("the proxy ended with %v", err)
			}
			if test.method == http.MethodDelete {
				receive(t, redirected, "request to redirect")
			}
			mu.Lock()
			defer mu.Unlock()
			if len(strays) != 0 {
				t.Errorf("the other origin saw %q", strays)
			}
		})
	}
}
