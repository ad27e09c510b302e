package oauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

// field is a world in memory, for a bubble of testing/synctest: an upstream at https://mcp.test, a
// login server at https://as.test that plays rules, and a person who follows every link at once.
type field struct {
	t        *testing.T
	as       *oauthtest.Server
	net      *oauthtest.Network
	upstream *url.URL
	store    *tokenstore.Store

	mu    sync.Mutex
	links []string
	log   bytes.Buffer
}

func (f *field) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.Write(b)
}

func (f *field) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
}

// newField returns a world whose login server lives at home. The caller closes it.
func newField(t *testing.T, home oauthtest.Home) *field {
	f := &field{t: t, net: oauthtest.NewNetwork()}
	f.upstream, _ = url.Parse("https://mcp.test/mcp")
	f.store = tokenstore.Memory(f.logger())
	host := "https://as.test"
	if home.Upstream {
		host = "https://mcp.test"
	}
	f.as = oauthtest.New(host+home.Path, f.upstream.String())
	guarded := f.as.Guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	upstream := guarded
	if home.Upstream {
		upstream = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/mcp" || strings.HasPrefix(r.URL.Path, "/.well-known/oauth-protected-resource") {
				guarded.ServeHTTP(w, r)
			} else {
				f.as.ServeHTTP(w, r)
			}
		})
	}
	f.net.Serve("mcp.test", upstream)
	for _, name := range []string{"as.test", "tokens.test"} {
		f.net.Serve(name, f.as)
	}
	for _, name := range []string{"empty.test", "proxy.test", "sso.test", "portal.test"} {
		f.net.Serve(name, oauthtest.Stranger(f.as))
	}
	return f
}

// person follows the link of a prompt. The page stays open when the prompt is withdrawn.
func (f *field) person(ctx context.Context, p Prompt) {
	f.mu.Lock()
	f.links = append(f.links, p.AuthorizeURL)
	f.mu.Unlock()
	browser := oauthtest.Browser{Transport: f.net.Transport()}
	browser.Open(context.WithoutCancel(ctx), p.AuthorizeURL) // a page that breaks is a quirk, too
}

func (f *field) pages() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.links)
}

// transport returns a Transport of this world, as a process would have it: with a fixed port, so
// that it can use a registration again.
func (f *field) transport(change func(*Config)) *Transport {
	cfg := Config{Upstream: f.upstream, Store: f.store, Log: f.logger(), Base: f.net.Transport(), AuthBase: f.net.Transport(),
		Offer: f.person, Callback: CallbackConfig{Listen: f.net.Listen, Addrs: []string{"127.0.0.1:53682"}}}
	if change != nil {
		change(&cfg)
	}
	tr, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	return tr
}

// statusError is an answer of the upstream that is not 200.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("the upstream answered %d", int(e)) }

// call sends one request, as an MCP host with patience does.
func (f *field) call(tr *Transport) error {
	ctx, cancel := context.WithTimeoutCause(f.t.Context(), 20*time.Minute, errors.New("the call took 20 minutes"))
	defer cancel()
	return f.callWithin(ctx, tr)
}

// callWithin is call with the patience of ctx.
func (f *field) callWithin(ctx context.Context, tr *Transport) error {
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, f.upstream.String(), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
	req.Header.Set("Content-Type", "application/json")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusError(resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// codeOf names an outcome as oauthtest.Want.Refused does.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	if _, ok := errors.AsType[*TokenRefusedError](err); ok {
		return "token_refused"
	}
	if errors.Is(err, ErrNotCompleted) {
		return "not_completed"
	}
	if errors.Is(err, ErrHeldBack) {
		return "held_back"
	}
	if e, ok := errors.AsType[*asclient.SignInError](err); ok {
		return e.Code
	}
	if _, ok := errors.AsType[*asclient.DiscoveryError](err); ok {
		return "discovery"
	}
	if e, ok := errors.AsType[statusError](err); ok {
		return fmt.Sprintf("status %d", int(e))
	}
	return "other"
}

// leaks returns the secrets of the world that stand in its log or in texts.
func (f *field) leaks(texts ...string) (found []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.log.String() + strings.Join(texts, "\n")
	for _, secret := range f.as.Secrets() {
		if secret != "" && strings.Contains(all, secret) {
			found = append(found, secret)
		}
	}
	return found
}
