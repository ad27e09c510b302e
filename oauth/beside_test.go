package oauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/asclient"
	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

// codeWanted is the CodeBeside of a process on another machine than the person's browser.
func codeWanted() (bool, <-chan struct{}) { return true, nil }

// besideWorld is a field whose person does only what the test says.
type besideWorld struct {
	*field
	offers sync.Mutex // guards prompts
	// prompts are those that Offer was called with.
	prompts []Prompt
}

func newBesideWorld(t *testing.T, rules ...oauthtest.Rule) *besideWorld {
	w := &besideWorld{field: newField(t, oauthtest.Home{})}
	w.as.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = true })
	w.as.Play(rules...)
	return w
}

// process returns the Transport of a process that offers codes.
func (w *besideWorld) process(change func(*Config)) *Transport {
	return w.transport(func(c *Config) {
		c.CodeBeside = codeWanted
		c.Offer = func(_ context.Context, p Prompt) {
			w.offers.Lock()
			defer w.offers.Unlock()
			w.prompts = append(w.prompts, p)
		}
		if change != nil {
			change(c)
		}
	})
}

// offered returns what Offer was called with so far.
func (w *besideWorld) offered() []Prompt {
	w.offers.Lock()
	defer w.offers.Unlock()
	return slices.Clone(w.prompts)
}

// begin starts a sign-in. Its outcome comes through the channel.
func (w *besideWorld) begin(tr *Transport) <-chan error {
	done := make(chan error, 1)
	go func() { done <- tr.SignIn(w.t.Context()) }() // ends with the sign-in
	return done
}

// prompt returns what tr shows once it shows something, and after d at the earliest.
func (w *besideWorld) prompt(tr *Transport, d time.Duration) Prompt {
	w.t.Helper()
	time.Sleep(d)
	for range 10000 {
		if s, _ := tr.State(); s.Prompt != (Prompt{}) {
			return s.Prompt
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatal("no prompt is shown")
	return Prompt{}
}

// enters enters the code of a prompt, on whatever machine.
func (w *besideWorld) enters(p Prompt) {
	w.t.Helper()
	page, err := oauthtest.Browser{Transport: w.net.Transport()}.Open(w.t.Context(), p.VerificationURI+"?user_code="+p.UserCode)
	if err != nil || page.Status != 200 {
		w.t.Errorf("the code %q is not taken: %v %+v", p.UserCode, err, page)
	}
}

// follows follows the link of a prompt, and returns the last page.
func (w *besideWorld) follows(p Prompt) oauthtest.Page {
	w.t.Helper()
	page, err := oauthtest.Browser{Transport: w.net.Transport()}.Open(w.t.Context(), p.AuthorizeURL)
	if err != nil {
		w.t.Errorf("the link is not followed: %v", err)
	}
	return page
}

// want fails if the server was asked for other things than these.
func (w *besideWorld) want(want oauthtest.Stats) {
	w.t.Helper()
	got := w.as.Stats()
	got.Unauthorized = want.Unauthorized
	if got != want {
		w.t.Errorf("the server was asked %+v, want %+v", got, want)
	}
	if found := w.leaks(); found != nil {
		w.t.Errorf("secrets in the log: %q", found)
	}
}

// valid returns how many access tokens are good.
func (w *besideWorld) valid() (n int) {
	for _, secret := range w.as.Secrets() {
		if _, ok := w.as.Check(secret); ok {
			n++
		}
	}
	return n
}

func TestCodeBesideTheLinkIsEntered(t *testing.T) {
	t.Parallel()
	for _, dpop := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newBesideWorld(t)
			defer w.net.Close()
			w.as.Set(func(k *oauthtest.Knobs) { k.DPoP, k.Nonces, k.ResourceScopes = dpop, dpop, []string{"tools"} })
			tr := w.process(nil)
			defer tr.Close()
			begin := time.Now()
			done := w.begin(tr)
			p := w.prompt(tr, 0)
			if p.UserCode == "" || p.VerificationURI != "https://as.test/device" || p.IsDevice() || !p.HasOtherWay() ||
				!strings.HasPrefix(p.AuthorizeURL, "https://as.test/authorize?") || p.StartURL == "" {
				t.Errorf("the prompt is %+v", p)
			}
			if waited := time.Since(begin); waited > codePatience {
				t.Errorf("the link came after %v", waited)
			}
			time.Sleep(20 * time.Second)
			w.enters(p)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if err := w.call(tr); err != nil {
				t.Error(err)
			}
			if s, _ := tr.State(); s.Prompt != (Prompt{}) || s.Err != nil {
				t.Errorf("State shows %+v", s)
			}
			if got := w.offered(); len(got) != 1 || got[0] != p {
				t.Errorf("offered %+v, want once %+v", got, p)
			}
			if page, err := (oauthtest.Browser{Transport: w.net.Transport()}).Open(t.Context(), p.AuthorizeURL); err == nil {
				t.Errorf("the callback's port is still open: %+v", page)
			}
			if rec, _ := tr.account.current(); !slices.Equal(rec.Asked, []string{"tools"}) || rec.Resource != "https://mcp.test/mcp" || len(rec.Client.RedirectURIs) == 0 {
				t.Errorf("the record has %q, %q, %q", rec.Asked, rec.Resource, rec.Client.RedirectURIs)
			}
			if got := fmt.Sprint(w.as.Registered()["grant_types"]); got != "[authorization_code refresh_token urn:ietf:params:oauth:grant-type:device_code]" {
				t.Errorf("registered for %v", got)
			}
			w.want(oauthtest.Stats{Registrations: 1, Authorizations: 1, Devices: 1}) // the authorization is that after the end
			// The client and its refresh token are as good as any.
			time.Sleep(2 * time.Hour)
			if err := w.call(tr); err != nil {
				t.Error(err)
			}
			if got := w.as.Stats(); got.Refreshes != 1 || got.Registrations != 1 {
				t.Errorf("the server was asked %+v", got)
			}
		})
	}
}

func TestLinkBesideTheCodeIsFollowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBesideWorld(t)
		defer w.net.Close()
		tr := w.process(nil)
		defer tr.Close()
		done := w.begin(tr)
		p := w.prompt(tr, 10*time.Second)
		if page := w.follows(p); page.Status != 200 || !strings.Contains(page.Body, "Signed in") {
			t.Errorf("the last page is %+v", page)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		polls := len(w.as.Polls())
		w.enters(p) // too late
		time.Sleep(time.Hour)
		if got := w.as.Polls(); len(got) != polls || polls == 0 {
			t.Errorf("the device's token was asked for %d times, and %d times after that", polls, len(got)-polls)
		}
		w.want(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Devices: 1})
	})
}

// The callback comes while a request for the device's token is under way.
func TestBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		entered bool
		// answers is how long the token endpoint takes for a device.
		answers time.Duration
		codes   int
	}{
		{"only the link", false, time.Second, 1},
		{"the code came first", true, time.Second, 0},
		{"the code came first, and nobody hears of it in time", true, 5 * time.Second, 1},
		{"the code came first, and nobody ever hears of it", true, time.Hour, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newBesideWorld(t, oauthtest.Rule{At: oauthtest.Token, When: []string{"device_code"}, Acts: true, Delay: tt.answers})
				defer w.net.Close()
				tr := w.process(nil)
				defer tr.Close()
				done := w.begin(tr)
				p := w.prompt(tr, 0)
				if tt.entered {
					w.enters(p)
				}
				time.Sleep(3*time.Second + 200*time.Millisecond) // the first request is under way
				page := w.follows(p)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(page.Body, "Signed in") {
					t.Errorf("the last page is %+v", page)
				}
				time.Sleep(2 * time.Hour)
				if err := w.call(tr); err != nil {
					t.Error(err)
				}
				if got := w.as.Stats(); got.Codes != tt.codes || got.Revocations != 0 || got.Authorizations != 1 || w.valid() != 1 {
					t.Errorf("the server was asked %+v, and %d tokens are good", got, w.valid())
				}
			})
		})
	}
}

// A token that comes when the login is over is revoked: here the person has said no at the login
// page meanwhile.
func TestTokenOfACodeThatIsTooLateIsRevoked(t *testing.T) {
	t.Parallel()
	for _, revokes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newBesideWorld(t)
			defer w.net.Close()
			w.as.Set(func(k *oauthtest.Knobs) { k.NoRevocation = !revokes })
			tr := w.process(nil)
			defer tr.Close()
			l := &login{renewal: &renewal{cfg: &tr.cfg, as: tr.as, clients: tr.clients, account: tr.account, flight: new(flight)}, life: tr.life}
			var err error
			if l.found, err = l.discover(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			l.server = l.found.Server
			r, err := tr.as.Register(t.Context(), l.found, asclient.Application{Name: "test", Redirects: []string{"http://127.0.0.1:1/callback"}, Device: true})
			if err != nil {
				t.Fatal(err)
			}
			l.client = client{Registration: r}
			b := l.startBeside(t.Context(), asclient.Wanted{})
			p := b.addFirst(t.Context(), Prompt{})
			w.enters(p)
			time.Sleep(10 * time.Second) // the token is there, and nobody takes it
			b.end()
			<-b.done
			if got := w.as.Stats(); got.Devices != 1 || got.Revocations != map[bool]int{true: 1}[revokes] {
				t.Errorf("the server was asked %+v", got)
			}
			if n := w.valid(); revokes && n != 0 {
				t.Errorf("%d tokens are good", n)
			}
		})
	}
}

func TestCodeThatEndsLeavesTheLink(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"access_denied", "expired_token", "invalid_grant", "unauthorized_client", "unsupported_grant_type"} {
		synctest.Test(t, func(t *testing.T) {
			w := newBesideWorld(t)
			defer w.net.Close()
			w.as.Set(func(k *oauthtest.Knobs) { k.DeviceAnswers = []string{"authorization_pending", answer} })
			tr := w.process(nil)
			defer tr.Close()
			done := w.begin(tr)
			first := w.prompt(tr, 0)
			p := w.prompt(tr, time.Minute)
			if first.UserCode == "" || p.UserCode != "" || p.VerificationURI != "" || p.AuthorizeURL != first.AuthorizeURL || !p.Expires.Equal(first.Expires) {
				t.Errorf("%s: the prompt was %+v, and is %+v", answer, first, p)
			}
			w.follows(p)
			if err := <-done; err != nil {
				t.Errorf("%s: %v", answer, err)
			}
			if got := len(w.offered()); got != 1 || len(w.as.Polls()) != 2 {
				t.Errorf("%s: offered %d times, asked for the token %d times", answer, got, len(w.as.Polls()))
			}
			w.want(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Devices: 1})
		})
	}
}

func TestEndsOfALoginEndTheCode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(*besideWorld, *Transport, Prompt)
		want func(error) bool
	}{
		{"the person says no at the login page", func(w *besideWorld, _ *Transport, p Prompt) {
			w.as.Set(func(k *oauthtest.Knobs) { k.Deny = "access_denied" })
			w.follows(p)
		}, func(err error) bool { return codeOf(err) == "access_denied" }},
		{"nobody comes", func(*besideWorld, *Transport, Prompt) { time.Sleep(6 * time.Minute) },
			func(err error) bool { return errors.Is(err, ErrNotCompleted) }},
		{"the process ends", func(_ *besideWorld, tr *Transport, _ Prompt) { tr.Close() },
			func(err error) bool { return errors.Is(err, ErrClosed) }},
		{"another process signs in", func(w *besideWorld, _ *Transport, _ Prompt) {
			other := w.transport(func(c *Config) { c.AtTerminal, c.Callback.Addrs = true, []string{"127.0.0.1:53683"} })
			defer other.Close()
			if err := other.SignIn(w.t.Context()); err != nil {
				w.t.Error(err)
			}
		}, func(err error) bool { return err == nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newBesideWorld(t)
				defer w.net.Close()
				tr := w.process(nil)
				defer tr.Close()
				done := w.begin(tr)
				p := w.prompt(tr, 10*time.Second)
				tt.do(w, tr, p)
				if err := <-done; !tt.want(err) {
					t.Errorf("got %v", err)
				}
				polls := len(w.as.Polls())
				time.Sleep(time.Hour)
				if got := len(w.as.Polls()); got != polls || polls == 0 {
					t.Errorf("the device's token was asked for %d times, and %d times after that", polls, got-polls)
				}
			})
		})
	}
}

// Servers with odd device endpoints: the link comes at once, and leads where it leads without.
func TestOddDeviceEndpoints(t *testing.T) {
	t.Parallel()
	at := func(rules ...oauthtest.Rule) []oauthtest.Rule { return rules }
	says := func(status int, body string) []oauthtest.Rule {
		return at(oauthtest.Rule{At: oauthtest.Device, Status: status, Body: body})
	}
	with := func(member, value string) []oauthtest.Rule {
		return at(oauthtest.Rule{At: oauthtest.Device, Set: map[string]string{member: value}})
	}
	const page = "<!doctype html><html><h1>no</h1></html>"
	tests := []struct {
		name  string
		rules []oauthtest.Rule
		// code says that a code is shown. late says that it comes after the link.
		code, late bool
	}{
		{"all is well", nil, true, false},
		{"no interval", at(oauthtest.Rule{At: oauthtest.Device, Drop: []string{"interval"}}), true, false},
		{"no expiry", at(oauthtest.Rule{At: oauthtest.Device, Drop: []string{"expires_in"}}), true, false},
		{"no complete link", at(oauthtest.Rule{At: oauthtest.Device, Drop: []string{"verification_uri_complete"}}), true, false},
		{"a little slow", at(oauthtest.Rule{At: oauthtest.Device, Delay: 400 * time.Millisecond}), true, false},
		{"slow", at(oauthtest.Rule{At: oauthtest.Device, Delay: 4 * time.Second}), true, true},
		{"busy once", at(oauthtest.Rule{At: oauthtest.Device, Status: 503, Header: map[string]string{"Retry-After": "2"}, Times: 1}), true, true},
		{"never answers", at(oauthtest.Rule{At: oauthtest.Device, Delay: time.Hour}), false, false},
		{"closes the connection", at(oauthtest.Rule{At: oauthtest.Device, Reset: true}), false, false},
		{"404", says(404, page), false, false},
		{"404 in JSON", says(404, `{"error":"not_found"}`), false, false},
		{"405", says(405, ""), false, false},
		{"a page", says(200, page), false, false},
		{"a login wall", at(oauthtest.Rule{At: oauthtest.Device, Redirect: "$issuer/login"}), false, false},
		{"broken", says(500, page), false, false},
		{"unauthorized_client", says(400, `{"error":"unauthorized_client"}`), false, false},
		{"invalid_client", says(401, `{"error":"invalid_client"}`), false, false},
		{"invalid_client, described", says(400, `{"error":"invalid_client","error_description":"Client not found"}`), false, false},
		{"unsupported_grant_type", says(400, `{"error":"unsupported_grant_type"}`), false, false},
		{"access_denied", says(403, `{"error":"access_denied"}`), false, false},
		{"invalid_scope", says(400, `{"error":"invalid_scope"}`), false, false},
		{"an empty answer", says(200, ""), false, false},
		{"an empty document", says(200, "{}"), false, false},
		{"no user code", at(oauthtest.Rule{At: oauthtest.Device, Drop: []string{"user_code"}}), false, false},
		{"no link", at(oauthtest.Rule{At: oauthtest.Device, Drop: []string{"verification_uri"}}), false, false},
		{"cleartext link", with("verification_uri", `"http://as.test/device"`), false, false},
		{"a script", with("verification_uri", `"javascript:alert(1)"`), false, false},
		{"a code for the terminal", with("user_code", `"\u001b[2J"`), false, false},
		{"an endless code", with("user_code", `"`+strings.Repeat("A", 200)+`"`), false, false},
		{"cleartext endpoint", at(oauthtest.Rule{At: oauthtest.ServerMetadata,
			Set: map[string]string{"device_authorization_endpoint": `"http://as.test/device_authorization"`}}), false, false},
		{"endpoint is null", at(oauthtest.Rule{At: oauthtest.ServerMetadata, Set: map[string]string{"device_authorization_endpoint": "null"}}), false, false},
		{"endpoint is nobody's", at(oauthtest.Rule{At: oauthtest.ServerMetadata,
			Set: map[string]string{"device_authorization_endpoint": `"https://gone.test/device"`}}), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newBesideWorld(t, tt.rules...)
				defer w.net.Close()
				tr := w.process(nil)
				defer tr.Close()
				begin := time.Now()
				done := w.begin(tr)
				first := w.prompt(tr, 0)
				if waited := time.Since(begin); waited > codePatience+50*time.Millisecond {
					t.Errorf("the link came after %v", waited)
				}
				p := w.prompt(tr, 10*time.Second)
				if (first.UserCode != "") != (tt.code && !tt.late) || (p.UserCode != "") != tt.code || first.withCode(asclient.Device{}) != p.withCode(asclient.Device{}) {
					t.Errorf("the prompt was %+v, and is %+v", first, p)
				}
				if page := w.follows(p); page.Status != 200 {
					t.Errorf("the last page is %+v", page)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				if err := w.call(tr); err != nil {
					t.Error(err)
				}
				if got := w.as.Stats(); len(w.offered()) != 1 || got.Registrations != 1 || got.Authorizations != 1 || got.Codes != 1 {
					t.Errorf("offered %d times, the server was asked %+v", len(w.offered()), got)
				}
			})
		})
	}
}

// A server that does not register clients for the device grant registers the one that it always
// did.
func TestRegistrationWithoutTheDeviceGrant(t *testing.T) {
	t.Parallel()
	const device = "grant_types~device_code"
	tests := []struct {
		name          string
		rule          oauthtest.Rule
		registrations int
		grants        string
	}{
		{"named", oauthtest.Rule{When: []string{device}, Status: 400, Body: `{"error":"invalid_client_metadata","error_description":"grant_types: device_code is not allowed"}`},
			2, "[authorization_code refresh_token]"},
		{"not named", oauthtest.Rule{When: []string{device}, Status: 400, Body: `{"error":"invalid_client_metadata"}`}, 2, "[authorization_code refresh_token]"},
		{"denied", oauthtest.Rule{When: []string{device}, Status: 403, Body: `{"error":"access_denied","error_description":"grant type not allowed"}`},
			2, "[authorization_code refresh_token]"},
		{"forbidden", oauthtest.Rule{When: []string{device}, Status: 403, Body: `{}`}, 2, "[authorization_code refresh_token]"},
		{"a page", oauthtest.Rule{When: []string{device}, Status: 400, Body: "<html>bad request</html>"}, 2, "[authorization_code refresh_token]"},
		{"a crash", oauthtest.Rule{When: []string{device}, Status: 500, Body: "<html>oops</html>"}, 2, "[authorization_code refresh_token]"},
		{"a schema", oauthtest.Rule{When: []string{device}, Status: 422, Body: `{"detail":[{"loc":["body","grant_types",2],"msg":"unexpected value; permitted: 'authorization_code', 'refresh_token'"}]}`},
			2, "[authorization_code refresh_token]"},
		{"refresh tokens neither", oauthtest.Rule{When: []string{"grant_types~refresh_token"}, Status: 400, Body: `{"error":"invalid_client_metadata","error_description":"grant_types"}`},
			3, "[authorization_code]"},
		{"another member", oauthtest.Rule{When: []string{"application_type"}, Status: 400, Body: `{"error":"invalid_client_metadata","error_description":"application_type is unknown"}`},
			2, "[authorization_code refresh_token urn:ietf:params:oauth:grant-type:device_code]"},
		{"left out of the answer", oauthtest.Rule{Set: map[string]string{"grant_types": `["authorization_code"]`}},
			1, "[authorization_code refresh_token urn:ietf:params:oauth:grant-type:device_code]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.rule.At = oauthtest.Register
				noDevice := oauthtest.Rule{At: oauthtest.Device, When: []string{"!registered." + device}, Status: 400, Body: `{"error":"unauthorized_client"}`}
				w := newBesideWorld(t, tt.rule, noDevice)
				defer w.net.Close()
				tr := w.process(nil)
				defer tr.Close()
				done := w.begin(tr)
				w.follows(w.prompt(tr, 0))
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				// Requests that a rule has answered did not get to the server.
				if got := w.as.Asked(oauthtest.Register); got != tt.registrations {
					t.Errorf("%d registrations, want %d", got, tt.registrations)
				}
				if got := fmt.Sprint(w.as.Registered()["grant_types"]); tt.name != "left out of the answer" && got != tt.grants {
					t.Errorf("registered for %v, want %v", got, tt.grants)
				}
			})
		})
	}
}

// Where no code is wanted, and at a server that has none to give, nothing is asked for that was not
// asked for before.
func TestLoginsWithoutACodeAreAsBefore(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		knobs  func(*oauthtest.Knobs)
		change func(*Config)
	}{
		{"no device endpoint", func(k *oauthtest.Knobs) { k.NoDevice = true }, nil},
		{"the browser is here", func(*oauthtest.Knobs) {}, func(c *Config) { c.CodeBeside = nil }},
		{"the person names the grant", func(*oauthtest.Knobs) {}, func(c *Config) { c.Grant = GrantAuthorizationCode }},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			w := newBesideWorld(t)
			defer w.net.Close()
			w.as.Set(tt.knobs)
			tr := w.process(tt.change)
			defer tr.Close()
			begin := time.Now()
			done := w.begin(tr)
			p := w.prompt(tr, 0)
			if p.UserCode != "" || time.Since(begin) > 50*time.Millisecond {
				t.Errorf("%s: after %v the prompt is %+v", tt.name, time.Since(begin), p)
			}
			time.Sleep(time.Minute)
			w.follows(p)
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := fmt.Sprint(w.as.Registered()["grant_types"]); got != "[authorization_code refresh_token]" {
				t.Errorf("%s: registered for %v", tt.name, got)
			}
			w.want(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
		})
	}
}

// A helper that holds the login makes a code needless, until it goes away.
func TestCodeThatIsWantedLater(t *testing.T) {
	t.Parallel()
	for _, later := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newBesideWorld(t)
			defer w.net.Close()
			var mu sync.Mutex
			wanted, changed := false, make(chan struct{})
			tr := w.process(func(c *Config) {
				c.CodeBeside = func() (bool, <-chan struct{}) {
					mu.Lock()
					defer mu.Unlock()
					return wanted, changed
				}
			})
			defer tr.Close()
			begin := time.Now()
			done := w.begin(tr)
			p := w.prompt(tr, 0)
			if p.UserCode != "" || time.Since(begin) > 50*time.Millisecond {
				t.Errorf("after %v the prompt is %+v", time.Since(begin), p)
			}
			time.Sleep(time.Minute)
			if got := w.as.Stats().Devices; got != 0 {
				t.Errorf("%d codes were asked for", got)
			}
			if !later {
				w.follows(p)
			} else {
				mu.Lock()
				wanted = true
				close(changed)
				mu.Unlock()
				w.enters(w.prompt(tr, time.Second))
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := w.as.Stats().Devices; got != map[bool]int{true: 1}[later] || len(w.offered()) != 1 {
				t.Errorf("%d codes, offered %d times", got, len(w.offered()))
			}
		})
	}
}

// All processes of the account show the same code, whichever of them asked for it. When that one
// ends, the next shows another.
func TestFollowersShowTheCode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBesideWorld(t, oauthtest.Rule{At: oauthtest.Device, Delay: 2 * time.Second, Times: 1})
		defer w.net.Close()
		dir := t.TempDir()
		ownStore := func(c *Config) {
			var err error
			if c.Store, err = tokenstore.Open(dir+"/state", dir+"/config", tokenstore.Keyring{}, w.logger()); err != nil {
				t.Fatal(err)
			}
		}
		leader, follower := w.process(ownStore), w.process(ownStore)
		defer leader.Close()
		defer follower.Close()
		led := w.begin(leader)
		first := w.prompt(leader, 0)
		followed := w.begin(follower)
		if p := w.prompt(follower, time.Second); !p.Elsewhere || p.UserCode != "" || p.AuthorizeURL != first.AuthorizeURL {
			t.Errorf("the follower shows %+v", p)
		}
		with := w.prompt(leader, 3*time.Second)
		if p := w.prompt(follower, time.Second); !p.Elsewhere || p.UserCode != with.UserCode || p.VerificationURI != with.VerificationURI || with.UserCode == "" {
			t.Errorf("the leader shows %+v, the follower %+v", with, p)
		}
		if got := w.offered(); len(got) != 2 {
			t.Errorf("offered %+v", got)
		}
		leader.Close()
		<-led
		next := w.prompt(follower, 2*time.Second)
		if next.Elsewhere || next.UserCode == "" || next.UserCode == with.UserCode || next.AuthorizeURL == first.AuthorizeURL {
			t.Errorf("the next leader shows %+v", next)
		}
		w.enters(next)
		if err := <-followed; err != nil {
			t.Error(err)
		}
		if got := w.as.Stats(); got.Registrations != 1 || got.Devices != 2 || got.Codes != 0 {
			t.Errorf("the server was asked %+v", got)
		}
	})
}

// A server that lets a client for the device grant do nothing else, and shows that to the person
// alone, is found out by the third page.
func TestClientForTheDeviceGrantThatMayDoNothingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBesideWorld(t, oauthtest.Rule{At: oauthtest.Authorize, When: []string{"registered.grant_types~device_code"}, Status: 400, Body: "<h1>client may not use this grant</h1>"})
		defer w.net.Close()
		for try := 1; ; try++ {
			tr := w.process(func(c *Config) { c.AtTerminal = true })
			done := w.begin(tr)
			w.follows(w.prompt(tr, 0))
			err := <-done
			tr.Close()
			if err == nil {
				break
			}
			if try == vainPages {
				t.Fatalf("page %d led nowhere: %v", try, err)
			}
		}
	})
}

// A sign-in at the identity provider of a company has a code beside its link as well.
func TestCodeBesideTheLinkOfAnIdentityProvider(t *testing.T) {
	t.Parallel()
	c := newCompany(t, 1)
	c.idp.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = true })
	tr := c.transport(0, func(cfg *Config) {
		cfg.CodeBeside = codeWanted
		cfg.Offer = func(ctx context.Context, p Prompt) {
			if page, err := (oauthtest.Browser{}).Open(ctx, p.VerificationURI+"?user_code="+p.UserCode); err != nil || page.Status != 200 {
				t.Errorf("the code of %+v is not taken: %v %+v", p, err, page)
			}
		}
	})
	c.upstreams[0].mustPost(tr)
	if got := c.idp.Stats(); got.Devices != 1 || got.Codes != 0 || got.Exchanges != 1 || got.Registrations != 0 {
		t.Errorf("the identity provider was asked %+v", got)
	}
}
