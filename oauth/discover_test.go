package oauth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
)

func TestDiscoverShowsEachStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.ChallengeScope = "tools" })
	cfg := Config{Upstream: w.upstream, Store: w.store, Log: w.logger()}
	d, err := Discover(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if d.Challenge == nil || d.Challenge.Scope != "tools" || d.Resource.ID != w.upstream.String() || d.Server.Issuer != w.as.Issuer {
		t.Errorf("got %+v", d)
	}
	metadata, _ := url.Parse(d.Challenge.Metadata)
	want := []asclient.Attempt{
		{Step: asclient.StepChallenge, URL: w.upstream.String(), Status: http.StatusUnauthorized},
		{Step: asclient.StepResource, URL: asclient.WithoutQuery(metadata), Status: http.StatusOK},
		{Step: asclient.StepServer, URL: w.as.Issuer + "/.well-known/oauth-authorization-server", Status: http.StatusOK},
	}
	if !slices.Equal(d.Tried, want) {
		t.Errorf("tried\n%+v\nwant\n%+v", d.Tried, want)
	}
	w.wantStats(oauthtest.Stats{}) // neither a registration nor a login
}

// What was tried comes beside the error, too.
func TestDiscoverThatFailsShowsHowFarItGot(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	gone, err := url.Parse(closed.URL + "/mcp")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		knobs func(*oauthtest.Knobs)
		// change is made to the configuration.
		change func(*Config)
		steps  []string
		// status and reason are those of the last attempt; a reason of "*" is any.
		status int
		reason string
	}{
		{"upstream that is not there", nil, func(c *Config) { c.Upstream = gone }, []string{asclient.StepChallenge}, 0, "*"},
		{"metadata of another resource", func(k *oauthtest.Knobs) { k.ResourceName = "https://evil.example/mcp" }, nil,
			[]string{asclient.StepChallenge, asclient.StepResource}, http.StatusOK, `of resource "https://evil.example/mcp"`},
		{"metadata of another issuer", func(k *oauthtest.Knobs) { k.WrongIssuer = "https://evil.example" }, nil,
			[]string{asclient.StepChallenge, asclient.StepResource, asclient.StepServer, asclient.StepServer}, http.StatusOK, `of issuer "https://evil.example"`},
		{"no metadata of the server", func(k *oauthtest.Knobs) { k.NoMetadata = true }, nil,
			[]string{asclient.StepChallenge, asclient.StepResource, asclient.StepServer, asclient.StepServer}, http.StatusNotFound, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.knobs != nil {
				w.as.Set(tt.knobs)
			}
			cfg := Config{Upstream: w.upstream, Store: w.store, Log: w.logger()}
			if tt.change != nil {
				tt.change(&cfg)
			}
			d, err := Discover(t.Context(), cfg)
			if err == nil {
				t.Fatal("no error")
			}
			var steps []string
			for _, a := range d.Tried {
				steps = append(steps, a.Step)
			}
			last := d.Tried[len(d.Tried)-1]
			if !slices.Equal(steps, tt.steps) || last.Status != tt.status || last.Reason != tt.reason && tt.reason != "*" || tt.reason == "*" && last.Reason == "" {
				t.Errorf("tried %+v, want the steps %q, at last %d %q", d.Tried, tt.steps, tt.status, tt.reason)
			}
		})
	}
}

func TestDiscoverOfAnUpstreamThatAsksForNoToken(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.NotFoundHandler())
	defer up.Close()
	u, err := url.Parse(up.URL)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Discover(t.Context(), Config{Upstream: u})
	if err != nil || d.Challenge != nil || d.Server.Source != asclient.FromDefaults {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestDiscoverTakesWhatIsGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.NoResourceMetadata = true })
	d, err := Discover(t.Context(), Config{Upstream: w.upstream, Endpoints: Endpoints{AuthorizationURL: "https://as.example/a", TokenURL: "https://as.example/t"}})
	if err != nil || d.Server.Source != asclient.FromConfig || d.Server.AuthorizationEndpoint != "https://as.example/a" {
		t.Errorf("got %+v, %v", d, err)
	}
	_, err = Discover(t.Context(), Config{Upstream: w.upstream, Endpoints: Endpoints{NoDiscovery: true}})
	if _, ok := errors.AsType[*asclient.DiscoveryError](err); !ok {
		t.Errorf("nothing to go by: %v", err)
	}
}

// DiscoverServer asks nothing of the upstream.
func TestDiscoverServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	unreached, _ := url.Parse("http://127.0.0.1:1/mcp")
	d, err := DiscoverServer(t.Context(), Config{Upstream: unreached, Log: w.logger()}, w.as.Issuer)
	if err != nil || d.Server.Issuer != w.as.Issuer {
		t.Errorf("%+v, %v", d, err)
	}
	for _, a := range d.Tried {
		if a.Step != asclient.StepServer {
			t.Errorf("asked %s", a)
		}
	}
}
