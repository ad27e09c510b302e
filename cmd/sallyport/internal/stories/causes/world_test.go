//go:build linux

package causes_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/oauth/oauthtest"
)

// world is what surrounds the command in one row: an upstream with its login server at the same
// origin, both good unless a row changes them, and a home.
type world struct {
	*oauthtest.Server
	t *testing.T
	// home and runtime are directories of the command. files is the first home: login gets another.
	home, runtime, files string
	// free is a port of a client that is registered beforehand.
	free string
	// upstream is the URL of the MCP endpoint.
	upstream string
	server   *httptest.Server

	mu sync.Mutex // guards the handlers
	// instead has the handlers of paths that a row changes.
	instead map[string]http.HandlerFunc
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, home: t.TempDir(), runtime: runtimeDir(t), instead: make(map[string]http.HandlerFunc)}
	w.files = w.home
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, w.free, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	w.server = httptest.NewUnstartedServer(w)
	origin := "http://" + w.server.Listener.Addr().String()
	w.upstream = origin + "/mcp"
	w.Server = oauthtest.New(origin, w.upstream)
	w.Server.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = true })
	w.server.Start()
	t.Cleanup(w.server.Close)
	return w
}

// expand puts the world's values into a setting.
func (w *world) expand(text string) string {
	return strings.NewReplacer("UPSTREAM", w.upstream, "ORIGIN", w.server.URL, "FILES/", w.files+"/", "BUSY", w.busyPort(text), "FREE", w.free).Replace(text)
}

// busyPort is a port that another program holds, if the text asks for one.
func (w *world) busyPort(text string) string {
	if text != "BUSY" {
		return ""
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// elsewhere makes the upstream name another login server.
func (w *world) elsewhere(issuer string) {
	text, _ := json.Marshal(map[string]any{"resource": w.upstream, "authorization_servers": []string{issuer}})
	w.answer("/.well-known/oauth-protected-resource/mcp", http.StatusOK, mediaJSON, string(text))
}

// takeAnyRedirect lets the person come back to any redirect URI, with a code that is worth nothing.
func (w *world) takeAnyRedirect() { w.redirectWith("code=worthless", true) }

// failCall replaces the answer to a call.
func (w *world) failCall(status int, mediaType, body string) {
	w.answer("tools/call", status, mediaType, body)
}

// on replaces the answer of a path.
func (w *world) on(path string, handler http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.instead[path] = handler
}

// answer replaces the answer of a path by a fixed one.
func (w *world) answer(path string, status int, mediaType, body string) {
	w.on(path, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", mediaType)
		rw.WriteHeader(status)
		io.WriteString(rw, body)
	})
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	handler := w.instead[r.URL.Path]
	w.mu.Unlock()
	switch {
	case handler != nil:
		handler(rw, r)
	case r.URL.Path == "/mcp" || strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource"):
		w.Guard(http.HandlerFunc(w.mcp)).ServeHTTP(rw, r)
	default:
		w.Server.ServeHTTP(rw, r)
	}
}

// mcp is the MCP server behind the guard.
func (w *world) mcp(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	call := w.instead["tools/call"]
	w.mu.Unlock()
	machines.TinyMCP{Call: call}.ServeHTTP(rw, r)
}

const (
	htmlPage  = "<html><body>Request blocked</body></html>"
	mediaJSON = "application/json"
	mediaHTML = "text/html"
)

// oauthError is the body of an error answer.
func oauthError(code, description string) string {
	b, _ := json.Marshal(map[string]string{"error": code, "error_description": description})
	return string(b)
}

// redirectWith answers an authorization request with these parameters, and with its state if
// keepState is set.
func (w *world) redirectWith(params string, keepState bool) {
	w.on("/authorize", func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		to := q.Get("redirect_uri") + "?" + params
		if keepState {
			to += "&state=" + q.Get("state") + "&iss=" + w.Issuer
		}
		http.Redirect(rw, r, to, http.StatusFound)
	})
}

// changeMetadata changes the metadata of the login server.
func (w *world) changeMetadata(change func(m map[string]any)) {
	const path = "/.well-known/oauth-authorization-server"
	rec := httptest.NewRecorder()
	w.Server.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	var m map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &m); err != nil {
		w.t.Fatal(err)
	}
	change(m)
	text, _ := json.Marshal(m)
	w.answer(path, http.StatusOK, mediaJSON, string(text))
}
