package oauth

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/oauthtest"
)

// backWith has the login page send the browser back with the parameters, once.
func backWith(params string) oauthtest.Rule {
	return oauthtest.Rule{At: oauthtest.Authorize, Times: 1, Redirect: "${request.redirect_uri}?" + params}
}

// A server that does not know a client of an earlier login any more says so in many places. The
// login registers again and goes on, with one more page at most.
func TestForgottenClientIsRegisteredAgain(t *testing.T) {
	t.Parallel()
	const state = "&state=${request.state}&iss=$issuer"
	for _, tt := range []struct {
		name   string
		rule   oauthtest.Rule
		pages  int // of the second login
		failed string
	}{
		{"the redirect says unauthorized_client", backWith("error=unauthorized_client&error_description=Client+not+found" + state), 2, ""},
		{"the redirect says invalid_client", backWith("error=invalid_client" + state), 2, ""},
		{"the redirect says it in words", backWith("error=invalid_request&error_description=unknown+client" + state), 2, ""},
		{"the redirect has no state", backWith("error=invalid_client"), 2, ""},
		{"the token endpoint says it", oauthtest.Rule{At: oauthtest.Token, Times: 1, Status: 401, Body: `{"error":"invalid_client"}`}, 2, ""},
		{"the token endpoint says it in words", oauthtest.Rule{At: oauthtest.Token, Times: 2, Status: 400, // also without the resource parameter
			Body: `{"error":"invalid_request","error_description":"Client ID is not registered"}`}, 2, ""},
		{"the person says no", backWith("error=access_denied&error_description=client+not+found" + state), 1, "access_denied"},
		{"the redirect is of another issuer", backWith("error=invalid_client&state=${request.state}&iss=https://other.test"), 1, "issuer_mismatch"},
		{"it says so for ever", oauthtest.Rule{At: oauthtest.Authorize, Redirect: "${request.redirect_uri}?error=invalid_client" + state}, 2, "invalid_client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newField(t, oauthtest.Home{})
				defer f.net.Close()
				tr := f.transport(nil)
				defer tr.Close()
				if err := f.call(tr); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour / 2) // a new client may be unknown for a moment
				f.as.RevokeAll()
				if tt.rule.At == oauthtest.Authorize {
					f.as.ForgetClients()
				}
				f.as.Play(tt.rule, oauthtest.Rule{At: oauthtest.Refresh, Status: 400, Body: `{"error":"invalid_grant"}`})
				before := f.pages()
				if err := f.call(tr); codeOf(err) != tt.failed {
					t.Errorf("got %v, want %q", err, tt.failed)
				}
				if got := f.pages() - before; got != tt.pages {
					t.Errorf("%d login pages, want %d", got, tt.pages)
				}
				if got, want := f.as.Stats().Registrations, 1+min(tt.pages-1, 1); got != want {
					t.Errorf("%d registrations, want %d", got, want)
				}
				if found := f.leaks(); found != nil {
					t.Errorf("the log holds the secrets %q", found)
				}
			})
		})
	}
}

// plainOnly has the server register no other callback path than /callback.
var plainOnly = oauthtest.Rule{At: oauthtest.Register, When: []string{"redirect_uris~/callback/"}, Status: 400,
	Body: `{"error":"invalid_redirect_uri"}`}

// A server that takes no callback path but /callback is served, and its account is bound to it.
func TestServerThatTakesThePlainPathOnly(t *testing.T) {
	t.Parallel()
	noIss := func(k *oauthtest.Knobs) { k.NoIss = true }
	for _, tt := range []struct {
		name          string
		rules         []oauthtest.Rule
		change        func(*Config)
		pages, failed int
		asked         int // registration requests
	}{
		{"it refuses to register another", []oauthtest.Rule{plainOnly}, nil, 1, 0, 3},
		{"in words", []oauthtest.Rule{{At: oauthtest.Register, When: plainOnly.When, Status: 400,
			Body: `{"error":"invalid_client_metadata","error_description":"redirect_uris must be http://127.0.0.1:*/callback"}`}}, nil, 1, 0, 3},
		{"its login page redirects all the same", []oauthtest.Rule{{At: oauthtest.Authorize, When: []string{"redirect_uri~/callback/"},
			Redirect: "${request.redirect_uri}?error=invalid_request&error_description=redirect_uri+mismatch&state=${request.state}"}}, nil, 2, 0, 2},
		{"its login page shows an error", []oauthtest.Rule{{At: oauthtest.Authorize, When: []string{"redirect_uri~/callback/"}, Status: 400}}, nil, 2, 1, 2},
		{"the person vouches for it", []oauthtest.Rule{plainOnly}, func(c *Config) { c.Endpoints.Issuer = "https://as.test" }, 1, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newField(t, oauthtest.Home{})
				defer f.net.Close()
				f.as.Set(noIss)
				f.as.Play(tt.rules...)
				tr := f.transport(tt.change)
				defer tr.Close()
				failed := 0
				for failed < 3 && f.call(tr) != nil {
					failed++
				}
				if failed != tt.failed || f.pages() != tt.pages || f.as.Asked(oauthtest.Register) != tt.asked {
					t.Errorf("%d calls failed, %d pages, %d registrations, want %d, %d, %d", failed, f.pages(), f.as.Asked(oauthtest.Register),
						tt.failed, tt.pages, tt.asked)
				}
				if u, _ := url.Parse(f.as.Authorized().Get("redirect_uri")); u.Path != "/callback" {
					t.Errorf("the redirect URI has the path %q", u.Path)
				}
				f.as.RevokeAll() // a later login uses the registration, at the same path
				if err := f.call(tr); err != nil || f.as.Asked(oauthtest.Register) != tt.asked {
					t.Errorf("the next login: %v, %d registrations", err, f.as.Asked(oauthtest.Register))
				}
			})
		})
	}
}

// A page that ended with another answer leaves the client as it is, whoever asks next.
func TestClientStaysAfterADeniedPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newField(t, oauthtest.Home{})
		defer f.net.Close()
		f.as.Set(func(k *oauthtest.Knobs) { k.NoIss, k.Deny = true, "access_denied" })
		for range 2 {
			tr := f.transport(func(c *Config) { c.AtTerminal = true })
			if err := tr.SignIn(t.Context()); codeOf(err) != "access_denied" {
				t.Errorf("got %v", err)
			}
			tr.Close()
		}
		if got := f.as.Stats().Registrations; got != 1 {
			t.Errorf("%d registrations, want 1", got)
		}
	})
}

// Of the servers without proof, only one may have callbacks at /callback: as many as are known to
// the account or to the store.
func TestPlainPathIsForOneServer(t *testing.T) {
	t.Parallel()
	noIss := func(k *oauthtest.Knobs) { k.NoIss = true }
	configured := func(w *world, c *Config) { asClient("me", "", w.as)(c) }
	for _, tt := range []struct {
		name    string
		first   func(*world, *Config)
		other   func(*world, *Config)
		refused bool
	}{
		{"the same upstream", nil, nil, true},
		{"another account of the store", nil, func(_ *world, c *Config) { c.Realm = "another" }, true},
		{"another account, with a configured client", configured, func(_ *world, c *Config) { c.Realm = "another" }, true},
		{"another store", nil, func(w *world, c *Config) { c.Store = newWorld(w.t).store }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.as.Set(noIss)
			w.as.Play(plainOnly)
			w.mustPost(w.transport(func(c *Config) {
				if tt.first != nil {
					tt.first(w, c)
				}
			}))
			other := w.secondServer(noIss)
			other.Play(plainOnly)
			start := func(change func(*Config)) *Transport {
				return naming(w.transport(func(c *Config) {
					if tt.other != nil {
						tt.other(w, c)
					}
					if change != nil {
						change(c)
					}
				}), other)
			}
			if tt.name == "the same upstream" {
				w.as.RevokeAll()
			}
			_, err := w.post(start(nil), "x")
			if tt.refused {
				wantIssuerChanged(t, err, w.as.Issuer, other.Issuer)
				_, err = w.post(start(func(c *Config) { c.Endpoints.Issuer = other.Issuer }), "x")
			}
			if err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A server that was bound to the plain path stays bound although its record is of another by now.
func TestPlainPathStaysBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	noIss := func(k *oauthtest.Knobs) { k.NoIss = true }
	w.as.Set(noIss)
	w.as.Play(plainOnly)
	w.mustPost(w.transport(nil))
	other := w.secondServer(nil) // its redirects prove their issuer
	w.mustPost(naming(w.transport(nil), other))
	other.Set(noIss)
	other.Play(plainOnly)
	other.RevokeAll()
	other.ForgetClients()
	_, err := w.post(naming(w.transport(nil), other), "x")
	wantIssuerChanged(t, err, w.as.Issuer, other.Issuer)
}

// The tab of a login page that led to another one says so, and its callback counts no more.
func TestTabOfTheFirstPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	samePort := w.samePort()
	w.mustPost(w.transport(samePort))
	w.as.RevokeAll()
	w.as.ForgetClients()
	w.as.Play(backWith("error=invalid_client&state=${request.state}&iss=$issuer"),
		oauthtest.Rule{At: oauthtest.Refresh, Status: 400, Body: `{"error":"invalid_grant"}`})
	w.mustPost(w.transport(samePort))
	w.mu.Lock()
	defer w.mu.Unlock()
	var titles []string
	for _, p := range w.pages {
		titles = append(titles, fmt.Sprint(p.Status, " ", strings.Contains(p.Body, pageAgain.Title)))
	}
	if got := strings.Join(titles, ", "); !strings.Contains(got, "400 true") {
		t.Errorf("the tabs show %s", got)
	}
}

func TestRecordUsesPlainPath(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{}`:                                false,
		`{"server":{"issuer":"https://a"}}`: true,
		`{"server":{"issuer":"https://a","authorization_response_iss_parameter_supported":true}}`:                                   false,
		`{"server":{"issuer":"https://a"},"client":{"dynamic":true,"redirect_uris":["http://127.0.0.1:1/callback/0f"]}}`:            false,
		`{"server":{"issuer":"https://a"},"client":{"dynamic":true,"redirect_uris":["http://h/cb","http://127.0.0.1:1/callback"]}}`: true,
		`{"server":{"issuer":"https://a"},"client":{"dynamic":true}}`:                                                               false,
	} {
		var r record
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		if got := r.usesPlainPath(); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}
