package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
)

// stage is a request of a sign-in at which the leader is killed.
type stage struct {
	name, path string
	answered   bool // the server has acted on it, and the answer is lost; else it never acts on it
	linked     bool // the person is needed to get so far
	want       oauthtest.Stats
}

// holder holds the first request of a stage until its sender is gone.
type holder struct {
	stage
	http.Handler
	held  chan struct{} // closed when the request is there
	taken atomic.Bool
}

func (h *holder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != h.path || h.taken.Swap(true) {
		h.Handler.ServeHTTP(w, r)
		return
	}
	if h.answered {
		h.Handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	io.Copy(io.Discard, r.Body) // else net/http does not see that the sender is gone
	close(h.held)
	<-r.Context().Done()
}

// TestLeaderKilledAtEachStage kills the proxy that signs in while a request of its own is under way: another goes on
// without what that one was about to learn. Where the server has registered the leader and could not tell
// it, and nowhere else, there is a second registration; a second code exchange where a token was lost so.
func TestLeaderKilledAtEachStage(t *testing.T) {
	needProgram(t, "curl", "curl")
	once := oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Pushes: 1}
	for _, stage := range []stage{
		{"resource metadata", "/.well-known/oauth-protected-resource/mcp", false, false, once},
		{"server metadata", "/.well-known/oauth-authorization-server", false, false, once},
		{"register, not yet done", "/register", false, false, once},
		{"register, done", "/register", true, false, oauthtest.Stats{Registrations: 2, Authorizations: 1, Codes: 1, Pushes: 1}},
		{"pushed request, done", "/par", true, false, oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Pushes: 2}},
		{"token, not yet done", "/token", false, true, oauthtest.Stats{Registrations: 1, Authorizations: 2, Codes: 1, Pushes: 2}},
		{"token, done", "/token", true, true, oauthtest.Stats{Registrations: 1, Authorizations: 2, Codes: 2, Pushes: 2}},
	} {
		t.Run(stage.name, func(t *testing.T) {
			backend, err := url.Parse(startMCP(t, nil))
			if err != nil {
				t.Fatal(err)
			}
			var as *oauthtest.Server
			h := &holder{stage: stage, held: make(chan struct{})}
			asked := make(chan struct{}, 100) // a proxy without a token, from then on in want of one
			h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { as.ServeHTTP(w, r) })
			login := httptest.NewServer(h)
			t.Cleanup(login.Close)
			mcpHolder := &holder{stage: stage, held: h.held}
			mcp := httptest.NewServer(mcpHolder)
			t.Cleanup(mcp.Close)
			upstream := mcp.URL + backend.Path
			as = oauthtest.New(login.URL, upstream)
			as.Set(func(k *oauthtest.Knobs) { k.RequirePush = true })
			guard := as.Guard(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: backend.Host}) }})
			mcpHolder.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				guard.ServeHTTP(w, r)
				if r.URL.Path == backend.Path && r.Header.Get("Authorization") == "" {
					asked <- struct{}{}
				}
			})

			s, home := &site{ca: newAuthority(t)}, t.TempDir()
			start := func() *mcpHost {
				host := startHost(t, s.command(t, home, "--no-browser", upstream), nil)
				receive(t, asked, "request without a token")
				return host
			}
			leader := start()
			if stage.linked {
				link := leader.Stderr.await(t, offered)[1]
				go oauthtest.Browser{}.Open(t.Context(), link) // ends with the leader
			}
			receive(t, h.held, "request of the stage")
			others := []*mcpHost{start(), start(), start()}
			next := make(chan string, len(others))
			for _, host := range others {
				go func() { // ends with the host
					if m := awaitMatch(host.Stderr, offered); m != nil {
						next <- m[1]
					}
				}()
			}
			if err := leader.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			killed := time.Now()
			link := receive(t, next, "page of another proxy")
			took := time.Since(killed)
			t.Logf("taken over after %v", took)
			if took > 6*time.Second { // three times what is promised
				t.Errorf("taken over after %v", took)
			}
			get(t, nil, "-L", link)
			echoAll(t, others)
			got := as.Stats()
			got.Unauthorized = 0
			if got != stage.want {
				t.Errorf("the server was asked %+v, want %+v", got, stage.want)
			}
		})
	}
}
