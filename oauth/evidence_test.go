package oauth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"sallyport/oauth/oauthtest"
)

// byBody is a Config whose kinds of requests are their bodies.
func byBody(c *Config) {
	c.Kind = func(r *http.Request) string {
		body, err := r.GetBody()
		if err != nil {
			return ""
		}
		b, _ := io.ReadAll(body)
		return string(b)
	}
}

// bodyOf reads the body of a request, which can be read again.
func bodyOf(r *http.Request) string {
	if r.Body == nil {
		return ""
	}
	b, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(b)))
	return string(b)
}

// sendBy sends a request with the given body, and returns the status of the answer.
func (w *world) sendBy(send http.RoundTripper, body string) int {
	w.t.Helper()
	req, _ := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.upstream.String(), strings.NewReader(body))
	resp, err := send.RoundTrip(req)
	if err != nil {
		w.t.Fatalf("request %q: %v", body, err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A gateway passes on the 401 of one backend. That says nothing of the token, which other requests
// go on with: one refresh at most, no page, and the caller gets the answer.
func TestRefusedKindOfRequest(t *testing.T) {
	t.Parallel()
	for _, noRefresh := range []bool{false, true} {
		for _, by := range []string{"the Transport", "InSession", "Background"} {
			for _, challenge := range []string{"", `Bearer error="invalid_token"`} {
				t.Run(fmt.Sprintf("%s, no refresh token %v, challenge %q", by, noRefresh, challenge), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t)
					w.as.Set(func(k *oauthtest.Knobs) { k.NoRefresh = noRefresh })
					tr := w.transport(byBody)
					send := map[string]http.RoundTripper{"the Transport": tr, "InSession": tr.InSession(), "Background": tr.Background()}[by]
					upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
						if access == "" || bodyOf(r) != "bad" {
							return nil
						}
						return answerOf(r, http.StatusUnauthorized, http.Header{"Www-Authenticate": {challenge}}, "")
					})
					w.mustPost(tr)
					for range 3 {
						if got := w.sendBy(send, "bad"); got != http.StatusUnauthorized {
							t.Errorf("got status %d", got)
						}
						w.mustPost(tr)
						w.advance(answerTime)
					}
					want := oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1}
					if noRefresh {
						want.Refreshes = 0
					}
					w.wantStats(want)
					w.as.RevokeAll()
					w.mustPost(tr) // a token that is dead for all is renewed at once
					if got := w.as.Stats().Authorizations; got != 2 {
						t.Errorf("%d logins in all", got)
					}
				})
			}
		}
	}
}

// A kind of request that is refused is judged anew once it has been served.
func TestRefusedKindIsServedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(byBody)
	refuse := true
	upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
		if access == "" || bodyOf(r) != "sometimes" || !refuse {
			return nil
		}
		return answerOf(r, http.StatusUnauthorized, nil, "")
	})
	w.mustPost(tr)
	w.sendBy(tr, "sometimes")
	refuse = false
	if got := w.sendBy(tr, "sometimes"); got != http.StatusOK {
		t.Errorf("got status %d", got)
	}
	w.as.RevokeAccess()
	if got := w.sendBy(tr, "sometimes"); got != http.StatusOK {
		t.Errorf("after the end of the token: got status %d", got)
	}
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 2})
}

// One replica of several refuses what the others take.
func TestRefusedAtRandom(t *testing.T) {
	t.Parallel()
	for _, noRefresh := range []bool{false, true} {
		t.Run(fmt.Sprintf("no refresh token %v", noRefresh), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.as.Set(func(k *oauthtest.Knobs) { k.NoRefresh = noRefresh })
			tr := w.transport(byBody)
			n := 0
			upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
				if n++; access == "" || n%4 != 0 {
					return nil
				}
				return answerOf(r, http.StatusUnauthorized, nil, "")
			})
			for range 40 {
				w.mustPost(tr)
			}
			w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
			w.advance(answerTime) // the next refusal follows no accepted request
			n = 3
			w.mustPost(tr)
			if got := w.as.Stats().Authorizations; got != 1 {
				t.Errorf("%d logins", got)
			}
		})
	}
}

// An upstream that takes pings of anybody says nothing by taking one. A token that is dead for its
// tools is renewed.
func TestPingsOfAnybody(t *testing.T) {
	t.Parallel()
	for _, inSession := range []bool{false, true} {
		t.Run(fmt.Sprintf("in a session %v", inSession), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tr := w.transport(byBody)
			upstreamAnswers(tr, func(r *http.Request, _ string) *http.Response {
				if !strings.Contains(bodyOf(r), `"ping"`) {
					return nil
				}
				return answerOf(r, http.StatusOK, nil, "{}")
			})
			w.mustPost(tr)
			w.as.RevokeAll()
			if got := w.sendBy(tr.InSession(), "x"); inSession && got != http.StatusUnauthorized {
				t.Errorf("in the session: got status %d", got) // its caller tries a new session first
			}
			w.mustPost(tr)
			if got := w.as.Stats().Authorizations; got != 2 {
				t.Errorf("%d logins", got)
			}
		})
	}
}

// An upstream that closes the connection of every request with a dead token refuses it, too. For a
// person at a terminal that is found out.
func TestConnectionClosedForADeadToken(t *testing.T) {
	t.Parallel()
	for _, terminal := range []bool{true, false} {
		t.Run(fmt.Sprintf("terminal %v", terminal), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.mustPost(w.transport(nil))
			tr := w.transport(func(c *Config) { c.AtTerminal = terminal })
			old := w.as.Secrets()
			reset := errors.New("connection reset")
			base := roundTripper(func(r *http.Request) (*http.Response, error) {
				if access := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); slices.Contains(old, access) {
					return nil, reset
				}
				return http.DefaultTransport.RoundTrip(r)
			})
			tr.cfg.Base, tr.as.Base = base, base
			status, err := w.post(tr, "x")
			if terminal && (err != nil || status != http.StatusOK) || !terminal && !errors.Is(err, reset) {
				t.Errorf("got %d, %v", status, err)
			}
		})
	}
}

// A person who asks to sign in at an upstream that serves anybody is shown no page.
func TestSignInAtAnOpenUpstream(t *testing.T) {
	t.Parallel()
	message := `{"jsonrpc":"2.0","id":"x","error":{"code":-32602,"message":"unknown tool"}}`
	for _, tt := range []struct {
		name   string
		status int
		body   string
		pages  int
	}{
		{"a server that serves anybody", 200, message, 0},
		{"a session is wanted", 400, message, 0},
		{"a tool wants a token", 401, "", 1},
		{"a tool wants a token, and says it otherwise", 403, "{}", 1},
		{"no server of MCP", 404, "not found", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tr := w.transport(nil)
			upstreamAnswers(tr, func(r *http.Request, access string) *http.Response {
				switch body := bodyOf(r); {
				case r.URL.Path != "/mcp" || access != "":
					return nil
				case strings.Contains(body, "tools/call"):
					return answerOf(r, tt.status, nil, tt.body)
				}
				return answerOf(r, http.StatusMethodNotAllowed, nil, "")
			})
			if err := tr.SignIn(t.Context()); err != nil {
				t.Error(err)
			}
			if got := w.as.Stats().Authorizations; got != tt.pages {
				t.Errorf("%d login pages, want %d", got, tt.pages)
			}
		})
	}
}
