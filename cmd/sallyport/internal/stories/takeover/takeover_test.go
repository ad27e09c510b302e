//go:build linux

// The story of the proxy that signs in for all and is killed at the worst moment: while a request
// of its own is under way. Real: the processes, the Go SDK's host and server. The authorization
// server is oauthtest's, which can hold a request; curl is the browser.
package takeover_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/oauth/oauthtest"
)

func TestMain(m *testing.M) { machines.Main(m) }

// stage is a request of a login at which the leader is killed.
type stage struct {
	name, path string
	// answered tells that the server has acted on the request, and the answer is lost; else it
	// never acts.
	answered bool
	// offered tells that the person is needed to get so far.
	offered bool
	want    oauthtest.Stats
}

// holder is a handler that holds the first request of a stage until its sender is gone.
type holder struct {
	*stage
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

// Another proxy goes on without what the killed one was about to learn. Where the server has
// registered the leader and could not tell it, and nowhere else, there is a second registration; a
// second code exchange where a token was lost so.
func TestLeaderKilledAtEachStage(t *testing.T) {
	t.Parallel()
	machines.NeedProgram(t, "curl", "curl")
	once := oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Pushes: 1}
	for _, stage := range []*stage{
		{"resource metadata", "/.well-known/oauth-protected-resource/mcp", false, false, once},
		{"server metadata", "/.well-known/oauth-authorization-server", false, false, once},
		{"register, not yet done", "/register", false, false, once},
		{"register, done", "/register", true, false, oauthtest.Stats{Registrations: 2, Authorizations: 1, Codes: 1, Pushes: 1}},
		{"pushed request, done", "/par", true, false, oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1,
			Pushes: 2}},
		{"device code, not yet done", devicePath, false, false, oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Pushes: 2, Devices: 1}},
		{"device code, done", devicePath, true, false, oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Pushes: 2, Devices: 2}},
		{"token, not yet done", "/token", false, true, oauthtest.Stats{Registrations: 1, Authorizations: 2, Codes: 1,
			Pushes: 2}},
		{"token, done", "/token", true, true, oauthtest.Stats{Registrations: 1, Authorizations: 2, Codes: 2, Pushes: 2}},
	} {
		t.Run(stage.name, func(t *testing.T) { stage.run(t) })
	}
}

// devicePath is where a code beside the link is asked for. The server has it at those stages only.
const devicePath = "/device_authorization"

// site is an upstream and an authorization server that hold the stage's request.
type site struct {
	as       *oauthtest.Server
	upstream string
	held     chan struct{}
	// asked gets a value when a proxy was refused for want of a token: from then on it wants one.
	asked chan struct{}
}

func (st *stage) start(t *testing.T) *site {
	t.Helper()
	s := &site{held: make(chan struct{}), asked: make(chan struct{}, 100)}
	backend := machines.StartMCP(t, nil)
	path := machines.ParseURL(t, backend).Path
	passOn := machines.PassOn(t, backend)
	login := machines.Serve(t, &holder{stage: st, held: s.held,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.as.ServeHTTP(w, r) })})
	s.upstream = machines.Serve(t, &holder{stage: st, held: s.held,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.as.Guard(passOn).ServeHTTP(w, r)
			if r.URL.Path == path && r.Header.Get("Authorization") == "" {
				s.asked <- struct{}{}
			}
		})}) + path
	s.as = oauthtest.New(login, s.upstream)
	s.as.Set(func(k *oauthtest.Knobs) { k.RequirePush, k.DeviceWaits, k.NoDevice = true, true, st.path != devicePath })
	return s
}

func (st *stage) run(t *testing.T) {
	s, home := st.start(t), t.TempDir()
	start := func() *machines.Host {
		cmd := machines.Command(t, home, "--no-browser", s.upstream)
		cmd.Env = append(cmd.Env, "LOG_LEVEL=debug")
		host := machines.StartHost(t, cmd, nil)
		machines.Receive(t, s.asked, "request without a token")
		return host
	}
	leader := start()
	if st.offered {
		link := leader.Stderr.Await(t, machines.Offered)[1]
		go oauthtest.Browser{}.Open(t.Context(), link) // ends with the leader
	}
	machines.Receive(t, s.held, "request of the stage")
	others := []*machines.Host{start(), start(), start()}
	leader.Kill(t)
	killed := time.Now()
	link := machines.FirstOf(t, others, machines.Offered)
	took := time.Since(killed)
	t.Logf("taken over after %v", took)
	if took > 6*time.Second { // three times what is promised
		t.Errorf("taken over after %v", took)
	}
	machines.Curl(t, nil, "-L", link)
	machines.EchoAll(t, others...)
	got := s.as.Stats()
	got.Unauthorized = 0
	if got != st.want {
		t.Errorf("the server was asked %+v, want %+v", got, st.want)
	}
}
