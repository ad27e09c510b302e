package oauth

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
)

// deviceWorld is an upstream and its authorization server in memory, for a bubble.
type deviceWorld struct {
	as *oauthtest.Server
	*Transport

	offers  sync.Mutex // of prompts
	prompts []Prompt
}

// offered returns what the person was shown so far.
func (w *deviceWorld) offered() []Prompt {
	w.offers.Lock()
	defer w.offers.Unlock()
	return slices.Clone(w.prompts)
}

func newDeviceWorld(t *testing.T, change func(*Config)) *deviceWorld {
	t.Helper()
	const upstream = "https://mcp.example/mcp"
	w := &deviceWorld{as: oauthtest.New("https://as.example", upstream)}
	guarded := w.as.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	serve := func(h http.Handler) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			return rec.Result(), nil
		})
	}
	u, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Upstream: u, Grant: GrantDeviceCode, Base: serve(guarded), AuthBase: serve(w.as),
		Offer: func(_ context.Context, p Prompt) {
			w.offers.Lock()
			defer w.offers.Unlock()
			w.prompts = append(w.prompts, p)
		}}
	if change != nil {
		change(&cfg)
	}
	if w.Transport, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func (w *deviceWorld) get(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.cfg.Upstream.String(), nil)
	if err != nil {
		return err
	}
	resp, err := w.RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func TestDeviceGrantPollsAtTheServersPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newDeviceWorld(t, nil)
		w.as.Set(func(k *oauthtest.Knobs) {
			k.DeviceAnswers = []string{"authorization_pending", "slow_down", "authorization_pending"}
			k.ResourceScopes = []string{"tools"}
		})
		start := time.Now()
		if err := w.get(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []time.Duration
		for _, p := range w.as.Polls() {
			got = append(got, p.Sub(start))
		}
		if want := []time.Duration{3 * time.Second, 6 * time.Second, 14 * time.Second, 22 * time.Second}; !slices.Equal(got, want) {
			t.Errorf("polled after %v, want %v", got, want)
		}
		want := Prompt{AuthorizeURL: "https://as.example/device?user_code=WDJB-MJHT", VerificationURI: "https://as.example/device",
			UserCode: "WDJB-MJHT", Issuer: "https://as.example", Expires: start.Round(0).Add(10 * time.Minute)}
		if got := w.offered(); len(got) != 1 || got[0] != want {
			t.Errorf("offered %+v, want %+v", got, want)
		}
		if s, _ := w.State(); s.Prompt != (Prompt{}) || s.Err != nil {
			t.Errorf("State still shows %+v", s)
		}
		if reg := w.as.Registered(); len(reg["redirect_uris"].([]any)) != 0 || reg["grant_types"].([]any)[0] != "urn:ietf:params:oauth:grant-type:device_code" {
			t.Errorf("registered %v", reg)
		}
		if !slices.Equal(w.account.rec.Asked, []string{"tools"}) || w.account.rec.Resource != "https://mcp.example/mcp" {
			t.Errorf("asked for %q, resource %q", w.account.rec.Asked, w.account.rec.Resource)
		}
		w.as.RevokeAccess()
		if err := w.get(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.as.RevokeAll()
		if err := w.get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.as.Stats(); got.Refreshes != 2 || got.Devices != 2 || got.Registrations != 1 {
			t.Errorf("server was asked %+v", got)
		}
	})
}

func TestExpiredDeviceCodeIsReplacedWhileSomebodyWaits(t *testing.T) {
	t.Parallel()
	for _, waits := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newDeviceWorld(t, nil)
			w.as.Set(func(k *oauthtest.Knobs) { k.DeviceAnswers = []string{"authorization_pending", "expired_token"} })
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			if waits {
				ctx = t.Context()
			}
			defer cancel()
			err := w.get(ctx)
			if waits {
				if err != nil || len(w.offered()) != 2 || w.as.Stats().Devices != 2 {
					t.Errorf("got %v after %d codes", err, len(w.offered()))
				}
				return
			}
			time.Sleep(time.Hour)
			if s, _ := w.State(); !errors.Is(s.Err, ErrNotCompleted) || w.as.Stats().Devices != 1 {
				t.Errorf("nobody waits: got %v after %d codes", s.Err, w.as.Stats().Devices)
			}
		})
	}
}

func TestDeviceGrantEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		knobs   func(*oauthtest.Knobs)
		refused bool
		want    string
	}{
		{"denied", func(k *oauthtest.Knobs) { k.DeviceAnswers = []string{"access_denied"} }, true, "access_denied"},
		{"the server breaks for good", func(k *oauthtest.Knobs) { k.TokenStatus = 503 }, false, ErrNotCompleted.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newDeviceWorld(t, nil)
				w.as.Set(tt.knobs)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := w.get(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("got %v", err)
				}
				time.Sleep(time.Hour)
				s, _ := w.State()
				if e, ok := errors.AsType[*asclient.SignInError](s.Err); !ok || e.Refused != tt.refused || !strings.Contains(s.Err.Error(), tt.want) {
					t.Errorf("got %v", s.Err)
				}
			})
		})
	}
}

func TestDeviceGrantByItself(t *testing.T) {
	t.Parallel()
	for _, only := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newDeviceWorld(t, func(c *Config) {
				c.Grant = GrantAuto
				c.Callback.Listen = func(context.Context, string) (net.Listener, error) { return nil, errors.New("no sockets in a bubble") }
			})
			w.as.Set(func(k *oauthtest.Knobs) { k.DeviceOnly = only })
			err := w.get(t.Context())
			if only && (err != nil || w.as.Stats().Devices != 1) {
				t.Errorf("a server without an authorization endpoint: %v", err)
			}
			if !only && w.as.Stats().Devices != 0 {
				t.Error("a server with an authorization endpoint was asked for a device code")
			}
		})
	}
}

func TestDeviceAnswersThatAreNotShown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, old, new, want string }{
		{"cleartext link", "https://as.example/device", "http://as.example/device", asclient.CodeInsecureURL},
		{"a script", "https://as.example/device", "javascript:alert(1)//", asclient.CodeInsecureURL},
		{"a code for the terminal", "WDJB-MJHT\",", "\\u001b[2J\",", asclient.CodeBadReply},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newDeviceWorld(t, func(c *Config) {
				as := c.AuthBase
				c.AuthBase = roundTripper(func(r *http.Request) (*http.Response, error) {
					resp, err := as.RoundTrip(r)
					if err != nil || r.URL.Path != "/device_authorization" {
						return resp, err
					}
					rec := httptest.NewRecorder()
					body, _ := io.ReadAll(resp.Body)
					rec.WriteString(strings.ReplaceAll(string(body), tt.old, tt.new))
					return rec.Result(), nil
				})
			})
			err := w.get(t.Context())
			if e, ok := errors.AsType[*asclient.SignInError](err); !ok || e.Code != tt.want || !e.Refused || len(w.offered()) != 0 {
				t.Errorf("%s: got %v, offered %v", tt.name, err, w.offered())
			}
		})
	}
}

// When no other code is shown, the error tells what became of those before.
func TestDeviceCodesThatExpireAreTheCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newDeviceWorld(t, nil)
		w.as.Set(func(k *oauthtest.Knobs) {
			k.DeviceAnswers = []string{"expired_token", "expired_token", "expired_token", "expired_token"}
		})
		err := w.get(t.Context())
		if held, ok := errors.AsType[*HeldBackError](err); !ok || !errors.Is(held.Last, asclient.ErrCodeExpired) {
			t.Errorf("got %v", err)
		}
	})
}
