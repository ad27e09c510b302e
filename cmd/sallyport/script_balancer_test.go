package main

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"sallyport/oauth/oauthtest"

	"github.com/rogpeppe/go-internal/testscript"
)

// balancer spreads requests over replicas of an upstream in turn, unless a cookie says which one
// has the session. It notes what its clients say of themselves.
type balancer struct {
	replicas []http.Handler

	mu       sync.Mutex // of what follows
	next     int
	sessions int
	agents   map[string]bool
	// pinged gets a value at each ping of MCP, as far as somebody waits.
	pinged chan bool
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.note(r)
	if body, err := io.ReadAll(r.Body); err == nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(body, []byte(`"method":"ping"`)) {
			select {
			case b.pinged <- true:
			default:
			}
		}
	}
	replica := -1
	if cookie, err := r.Cookie("replica"); err == nil {
		replica, _ = strconv.Atoi(cookie.Value)
	}
	if replica < 0 {
		b.mu.Lock()
		replica = b.next
		b.next = (b.next + 1) % len(b.replicas)
		b.mu.Unlock()
		http.SetCookie(w, &http.Cookie{Name: "replica", Value: strconv.Itoa(replica), Path: "/", HttpOnly: true, Secure: true})
	}
	b.replicas[replica].ServeHTTP(w, r)
}

// note notes the User-Agent of a request, and counts the first one of each session.
func (b *balancer) note(r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.agents[r.Header.Get("User-Agent")] = true
	if r.Method == http.MethodPost && r.URL.Path == "/mcp" && r.Header.Get("Mcp-Session-Id") == "" {
		b.sessions++
	}
}

// scriptBalancer is `balancer`: an upstream of three replicas behind a load balancer, and a login
// server at another origin. `balancer agents REGEXP` says that every request since the last such
// line had such a User-Agent, and `balancer sessions N` that N requests had no session. `balancer
// ping` waits for a ping of MCP.
func scriptBalancer(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	switch {
	case len(args) == 2 && args[0] == "agents":
		w.balancer.mu.Lock()
		defer w.balancer.mu.Unlock()
		for _, agent := range slices.Sorted(maps.Keys(w.balancer.agents)) {
			if !regexp.MustCompile(args[1]).MatchString(agent) {
				ts.Fatalf("a request has the User-Agent %q, want %s", agent, args[1])
			}
		}
		clear(w.balancer.agents)
	case len(args) == 2 && args[0] == "sessions":
		w.balancer.mu.Lock()
		defer w.balancer.mu.Unlock()
		if got := strconv.Itoa(w.balancer.sessions); got != args[1] {
			ts.Fatalf("%s requests without a session, want %s", got, args[1])
		}
		w.balancer.sessions = 0
	case len(args) == 1 && args[0] == "ping":
		select {
		case <-w.balancer.pinged:
		case <-time.After(time.Minute):
			ts.Fatalf("no ping came")
		}
	default:
		startBalancer(ts, w)
	}
}

// startBalancer starts the upstream and the login server of a scriptBalancer.
func startBalancer(ts *testscript.TestScript, w *scriptWorld) {
	w.balancer = &balancer{agents: map[string]bool{}, pinged: make(chan bool)}
	login, mcp := http.NewServeMux(), http.NewServeMux()
	issuer, upstream := httptest.NewServer(login), httptest.NewServer(mcp)
	w.closers = append(w.closers, func() {
		for _, server := range []*httptest.Server{issuer, upstream} {
			server.CloseClientConnections()
			server.Close()
		}
	})
	w.login = oauthtest.New(issuer.URL, upstream.URL+"/mcp")
	w.login.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = true })
	for range 3 {
		w.balancer.replicas = append(w.balancer.replicas, w.login.Guard(mcpServer()))
	}
	login.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		if len(r.Cookies()) > 0 {
			http.Error(rw, "a cookie of the upstream", http.StatusBadRequest)
			return
		}
		if r.URL.Path != "/authorize" { // the browser's
			w.balancer.note(r)
		}
		w.login.ServeHTTP(rw, r)
	})
	mcp.Handle("/", w.balancer)
	ts.Setenv("UPSTREAM", upstream.URL+"/mcp")
	ts.Setenv("ISSUER", issuer.URL)
}
