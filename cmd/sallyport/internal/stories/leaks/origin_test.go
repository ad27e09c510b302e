//go:build linux

package leaks_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/oauth/oauthtest"
)

// redirecting is an upstream that sends requests of one method, if they have a token, to another
// port, or to another name of its own. Both would serve them.
type redirecting struct {
	method string
	byName bool // to another name; else to another port

	login      *oauthtest.Server
	redirected chan struct{} // gets a value for each redirect

	mu      sync.Mutex
	arrived []string // what came to the other origin
}

// start starts it and returns its URL.
func (u *redirecting) start(t *testing.T) string {
	t.Helper()
	backend := machines.StartMCP(t, nil)
	passOn := machines.PassOn(t, backend)
	elsewhere := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.arrived = append(u.arrived, fmt.Sprintf("%s, Authorization %q", r.Method, r.Header["Authorization"]))
		u.mu.Unlock()
		passOn.ServeHTTP(w, r)
	})
	other := machines.Serve(t, elsewhere)
	u.redirected = make(chan struct{}, 100)
	loginOrigin := machines.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { u.login.ServeHTTP(w, r) }))
	origin := machines.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Host, "localhost:") {
			elsewhere(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		call := strings.Contains(string(body), `"method":"tools/call"`)
		if r.Header.Get("Authorization") == "" || r.Method != u.method || r.Method == http.MethodPost && !call {
			u.login.Guard(passOn).ServeHTTP(w, r)
			return
		}
		u.redirected <- struct{}{}
		to := other
		if u.byName {
			to = "http://" + strings.Replace(r.Host, "127.0.0.1", "localhost", 1)
		}
		http.Redirect(w, r, to+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	u.login = oauthtest.New(loginOrigin, origin+machines.ParseURL(t, backend).Path)
	u.login.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = true })
	u.login.AddClient(oauthtest.Client{ID: "machine", Secret: "s3cret"})
	return u.login.Resource
}

// An upstream redirects requests that carry a token. The token stays at its origin.
func TestTokenStaysAtTheOrigin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, method string
		byName       bool
		served       bool // the call is answered all the same
	}{
		{"a call, to another port", http.MethodPost, false, false},
		{"a call, to another name", http.MethodPost, true, false},
		{"the stream, to another port", http.MethodGet, false, true},
		{"the end of the session, to another port", http.MethodDelete, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := &redirecting{method: test.method, byName: test.byName}
			url := upstream.start(t)
			cmd := machines.Command(t, t.TempDir(), "--grant", "client_credentials", "--client-id", "machine", url)
			cmd.Env = append(cmd.Env, "OAUTH2_CLIENT_SECRET=s3cret", "LOG_LEVEL=debug")
			host := machines.StartHost(t, cmd, nil)
			if test.served {
				host.Echo(t)
			} else if err := host.EchoError(t); err == nil ||
				!strings.Contains(err.Error(), "status 307 sends the request to ") {
				t.Errorf("the call: %v", err)
			}
			if test.method != http.MethodDelete { // which comes with the end
				machines.Receive(t, upstream.redirected, "request to redirect")
			}
			host.Close(t)
			if test.method == http.MethodDelete {
				machines.Receive(t, upstream.redirected, "request to redirect")
			}
			upstream.mu.Lock()
			defer upstream.mu.Unlock()
			if got := slices.Clone(upstream.arrived); len(got) != 0 {
				t.Errorf("the other origin saw %q", got)
			}
		})
	}
}
