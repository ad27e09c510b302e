package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	. "sallyport/relay/relaytest"
)

// probe runs Probe and returns its steps as "METHOD CALL STATUS outcome".
func probe(t *testing.T, cfg Config) (Found, []string, error) {
	t.Helper()
	if cfg.URL == nil {
		cfg.URL = mustURL(URL)
	}
	var steps []string
	found, err := Probe(t.Context(), cfg, func(s Step) {
		if want := "http://" + cfg.URL.Host; !strings.HasPrefix(s.URL, want) || strings.Contains(s.URL, "?") {
			t.Errorf("step at %q", s.URL)
		}
		steps = append(steps, fmt.Sprintf("%s %s %d %s", s.Method, s.Call, s.Status, s.Outcome))
	})
	return found, steps, err
}

func wantSteps(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("steps\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

const (
	discoverAnswer = `{"jsonrpc":"2.0","id":"sallyport-1","result":{"supportedVersions":["2026-07-28","2025-11-25"],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"2"}}}}`
	noDiscover     = "is not the answer of a server of 2026-07-28"
)

func TestProbeFindsAModernServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		url := mustURL(URL + "?key=secret")
		found, steps, err := probe(t, Config{URL: url, Send: New(t, Exchange{Call: "server/discover", Reply: discoverAnswer}).Transport()})
		want := Found{Era: EraModern, Transport: TransportHTTP, Version: "2026-07-28", Versions: []string{"2026-07-28", "2025-11-25"}, ServerName: "s", ServerVersion: "2"}
		if err != nil || fmt.Sprint(found) != fmt.Sprint(want) {
			t.Errorf("got %+v, %v", found, err)
		}
		wantSteps(t, steps, "POST server/discover 200 speaks 2026-07-28")
	})
}

// A session is opened and ended again; the second request of the redirect is a step of its own.
func TestProbeFindsALegacyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)[:1]
		script = append(script, Exchange{Call: "server/discover", Path: "/mcp", Status: 307, Set: map[string]string{"Location": "/mcp/"}},
			Exchange{Call: "server/discover", Path: "/mcp/", Status: 400}, Goodbye())
		found, steps, err := probe(t, Config{Send: New(t, script...).Transport()})
		if want := (Found{Era: EraLegacy, Transport: TransportHTTP, Version: version, ServerName: "scripted", ServerVersion: "1"}); err != nil || fmt.Sprint(found) != fmt.Sprint(want) {
			t.Errorf("got %+v, %v", found, err)
		}
		wantSteps(t, steps, "POST server/discover 307 sends the request to another URL", "POST server/discover 400 "+noDiscover,
			"POST initialize 200 opens a session of 2025-11-25", "DELETE  204 ends the session")
	})
}

// A session that is opened by an event stream, which the server does not end.
func TestProbeFindsALegacyServerThatStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := Opening(version)[:1]
		script[0].Handle = Stream("data: " + script[0].Reply)
		found, _, err := probe(t, Config{Send: New(t, append(script, Exchange{Call: "server/discover", Status: 405}, Goodbye())...).Transport()})
		if err != nil || found.Era != EraLegacy {
			t.Errorf("got %+v, %v", found, err)
		}
	})
}

func TestProbeFindsHTTPSSE(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := make(events2024)
		found, steps, err := probe(t, Config{Send: New(t, Exchange{Call: "server/discover", Status: 405}, Exchange{Call: "initialize", Path: "/mcp", Status: 405},
			Exchange{Method: "GET", Handle: s.get("/message")}, Exchange{Call: "initialize", Path: "/message", Handle: s.accept(oldInitAnswer)}).Transport()})
		if want := (Found{Era: EraLegacy, Transport: TransportSSE, Version: "2024-11-05", ServerName: "s", ServerVersion: "1"}); err != nil || fmt.Sprint(found) != fmt.Sprint(want) {
			t.Errorf("got %+v, %v", found, err)
		}
		wantSteps(t, steps, "POST server/discover 405 "+noDiscover, "POST initialize 405 status 405 Method Not Allowed",
			"GET  200 status 200 OK", "POST initialize 202 opens a session of 2024-11-05")
	})
}

// What is in the way of finding out is an error that says so, and the last step shows it.
func TestProbeFails(t *testing.T) {
	refused := errors.New("dial secret: refused")
	mask := func(s string) string { return strings.ReplaceAll(s, "secret", "***") }
	explain := func(err error) Explanation { return Explanation{Kind: "unreachable", Text: "no way: " + err.Error()} }
	for _, tt := range []struct {
		name   string
		send   func(t *testing.T) http.RoundTripper
		kind   string
		status int
		err    error
		last   string
	}{
		{"unreachable", func(*testing.T) http.RoundTripper {
			return roundTrip(func(*http.Request) (*http.Response, error) { return nil, refused })
		}, "unreachable", 0, refused, "POST server/discover 0 dial ***: refused"},
		{"sign-in wanted", func(t *testing.T) http.RoundTripper {
			return New(t, Exchange{Call: "server/discover", Status: 401}, Exchange{Call: "initialize", Status: 401}).Transport()
		}, "status", 401, nil, "POST initialize 401 status 401 Unauthorized"},
		{"session refused", func(t *testing.T) http.RoundTripper {
			return New(t, Exchange{Call: "server/discover", Status: 400}, Exchange{Call: "initialize", Reply: `{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}`}).Transport()
		}, "initialize", 0, nil, "POST initialize 200 status 200 OK"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, steps, err := probe(t, Config{Send: tt.send(t), Mask: mask, Explain: explain})
				e, ok := errors.AsType[*ProbeError](err)
				if !ok || e.Kind != tt.kind || e.Status != tt.status || tt.err != nil && !errors.Is(err, tt.err) || strings.Contains(e.Text, "secret") {
					t.Errorf("got %#v", err)
				}
				if got := steps[len(steps)-1]; got != tt.last {
					t.Errorf("last step %q, want %q", got, tt.last)
				}
			})
		})
	}
}

// The context bounds the wait for an obstacle, and a silent server is taken for a legacy one after
// a while.
func TestProbeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newObstacle(down)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		_, err := Probe(ctx, Config{URL: mustURL(URL), Send: gated{b, nil, true}, Obstacle: b.get}, nil)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// The Go SDK's server, of either era.
func TestProbeOfRealServers(t *testing.T) {
	server := mcp.NewServer(&mcp.Implementation{Name: "real", Version: "1"}, nil)
	for _, tt := range []struct {
		stateless bool
		want      Found
	}{
		{true, Found{Era: EraModern, Transport: TransportHTTP, Version: "2026-07-28", ServerName: "real", ServerVersion: "1"}},
		{false, Found{Era: EraLegacy, Transport: TransportHTTP, Version: "2025-11-25", ServerName: "real", ServerVersion: "1"}},
	} {
		t.Run(tt.want.Era, func(t *testing.T) {
			handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: tt.stateless})
			web := httptest.NewServer(handler)
			defer web.Close()
			found, steps, err := probe(t, Config{URL: mustURL(web.URL), Send: web.Client().Transport})
			found.Versions = nil
			if err != nil || fmt.Sprint(found) != fmt.Sprint(tt.want) {
				t.Errorf("got %+v, %v; steps %q", found, err, steps)
			}
		})
	}
}
