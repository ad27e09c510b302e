package oauth

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/oauthtest"
)

// maxRequests is how many requests one story may cost the login server.
const maxRequests = 120

// TestQuirks plays each row of the table as a person lives it. With -v it prints the outcomes.
func TestQuirks(t *testing.T) {
	t.Parallel()
	var served, withSetting, refused atomic.Int32
	t.Run("rows", func(t *testing.T) {
		for _, q := range oauthtest.Quirks() {
			at := "knobs"
			if len(q.Rules) > 0 {
				at = strings.ReplaceAll(string(q.Rules[0].At), " ", "_")
			}
			t.Run(at+"/"+q.Name, func(t *testing.T) {
				t.Parallel()
				switch {
				case q.Want.With != "":
					withSetting.Add(1)
				case q.Want.Refused != "":
					refused.Add(1)
				default:
					served.Add(1)
				}
				synctest.Test(t, func(t *testing.T) { playQuirk(t, q, false) })
			})
		}
	})
	t.Logf("%d rows: %d served, %d served with a setting, %d refused", len(oauthtest.Quirks()), served.Load(), withSetting.Load(), refused.Load())
}

// TestQuirksWithACodeBesideTheLink plays each row as a person lives it whose browser is on another
// machine. The link must lead where it leads without a code.
func TestQuirksWithACodeBesideTheLink(t *testing.T) {
	t.Parallel()
	var offered atomic.Int32
	t.Run("rows", func(t *testing.T) {
		for _, q := range oauthtest.Quirks() {
			t.Run(q.Name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					if playQuirk(t, q, true) {
						offered.Add(1)
					}
				})
			})
		}
	})
	if rows := len(oauthtest.Quirks()); int(offered.Load()) < rows/2 {
		t.Errorf("a code was asked for in %d of %d rows", offered.Load(), rows)
	} else {
		t.Logf("a code was asked for in %d of %d rows", offered.Load(), rows)
	}
}

// playQuirk plays one row and compares the outcome with the right one. beside says that logins
// offer a code beside the link, which nobody enters. It reports whether a code was asked for.
func playQuirk(t *testing.T, q oauthtest.Quirk, beside bool) (asked bool) {
	var stories []*story
	newStory := func(t *testing.T, q oauthtest.Quirk) *story {
		s := newStory(t, q)
		s.beside = beside
		s.deviceWaits()
		stories = append(stories, s)
		return s
	}
	defer func() {
		for _, s := range stories {
			asked = asked || s.as.Asked(oauthtest.Device) > 0
		}
	}()
	if q.Want.Refused == "" {
		newStory(t, q).served("")
		t.Logf("served: %s (%s), pages %d", q.Name, q.Seen, max(q.Want.Pages, 1))
		return
	}
	newStory(t, q).refused()
	if q.Want.With == "" {
		t.Logf("refused with %s: %s (%s)", q.Want.Refused, q.Name, q.Seen)
		return
	}
	newStory(t, q).served(q.Want.With)
	t.Logf("served with %s: %s (%s)", q.Want.With, q.Name, q.Seen)
	return
}

// story is one row in its own world.
type story struct {
	*field
	quirk oauthtest.Quirk
	// failures are the calls that failed so far.
	failures []error
	// beside says that logins offer a code beside the link.
	beside bool
}

// deviceWaits makes the server wait for a person who enters the code, if the login has a link.
func (s *story) deviceWaits() {
	s.as.Set(func(k *oauthtest.Knobs) { k.DeviceWaits = s.beside && !k.DeviceOnly })
}

func newStory(t *testing.T, q oauthtest.Quirk) *story {
	s := &story{field: newField(t, q.Home), quirk: q}
	if q.Knobs != nil {
		s.as.Set(q.Knobs)
	}
	s.as.Play(q.Rules...)
	return s
}

// end closes the world, and fails for what holds in every row.
func (s *story) end(transports ...*Transport) {
	for _, tr := range transports {
		tr.Close()
	}
	s.net.Close()
	texts := []string{}
	for _, err := range s.failures {
		texts = append(texts, err.Error())
	}
	if found := s.leaks(texts...); found != nil {
		s.t.Errorf("secrets in log or errors: %q", found)
	}
	requests := 0
	for _, at := range []oauthtest.Place{oauthtest.ServerMetadata, oauthtest.Register, oauthtest.Push, oauthtest.Authorize,
		oauthtest.Token, oauthtest.Refresh, oauthtest.Device, oauthtest.Revoke} {
		requests += s.as.Asked(at)
	}
	requests -= len(s.as.Polls()) // they come at the server's pace
	if requests > maxRequests {
		s.t.Errorf("the login server got %d requests", requests)
	}
	if s.t.Failed() {
		s.t.Logf("log:\n%s", s.log.String())
	}
}

// try calls until it is served, as long as calls may fail.
func (s *story) try(what string, tr *Transport) bool {
	for {
		err := s.call(tr)
		if err == nil {
			return true
		}
		s.failures = append(s.failures, err)
		if len(s.failures) > s.quirk.Want.Failures {
			s.t.Errorf("%s failed: %v (%s)", what, err, codeOf(err))
			return false
		}
		time.Sleep(3 * time.Minute)
	}
}

// served fails if the person is not served from the first call to the second sign-in.
func (s *story) served(setting string) {
	first := s.transport(s.settings(setting))
	second := s.transport(s.settings(setting))
	defer func() { s.end(first, second) }()
	steps := []struct {
		what string
		wait time.Duration
		tr   *Transport
	}{
		{"the first call", 0, first},
		{"the second call", time.Minute, first},
		{"a call just before the expiry", 58*time.Minute + 45*time.Second, first},
		{"a call after the expiry", 2 * time.Minute, first},
		{"a call after the next expiry, from a new process", 2 * time.Hour, second},
	}
	for _, step := range steps {
		time.Sleep(step.wait)
		if step.tr == second {
			first.Close()
		}
		if !s.try(step.what, step.tr) {
			return
		}
	}
	want := max(s.quirk.Want.Pages, 1)
	got := s.pages()
	if got < 1 || got > want {
		s.t.Errorf("%d login pages, want 1 to %d", got, want)
	}
	if err := second.SignOut(s.t.Context(), true); err != nil {
		s.Write([]byte("sign-out: " + err.Error() + "\n"))
	}
	time.Sleep(time.Hour)
	s.try("a call after the sign-out", second)
	if again := s.pages() - got; again < 1 || again > want {
		s.t.Errorf("%d login pages after the sign-out, want 1 to %d", again, want)
	}
}

// refused fails if the person gets in, if the reason is another, or if pages are opened in vain.
// Once the server has healed, a new process of a person at a terminal gets in.
func (s *story) refused() {
	tr := s.transport(s.settings(""))
	defer func() { s.end(tr) }()
	start := time.Now()
	err := tr.SignIn(s.t.Context())
	if err == nil {
		err = s.call(tr)
	}
	if err != nil {
		s.failures = append(s.failures, err)
	}
	want := s.quirk.Want.Refused
	switch got := codeOf(err); {
	case err == nil:
		s.t.Error("it is served without the setting")
	case got != want && want != "*":
		s.t.Errorf("refused with %q, want %q: %v", got, want, err)
	}
	if d := time.Since(start); d > 2*time.Minute && want != "not_completed" {
		s.t.Errorf("the refusal took %v", d)
	}
	time.Sleep(3 * time.Minute)
	if err := s.call(tr); err == nil {
		s.t.Error("the second call is served")
	}
	if got := s.pages(); got > 2*s.quirk.Want.Pages {
		s.t.Errorf("%d login pages for two tries, want %d each", got, s.quirk.Want.Pages)
	}
	s.heal()
	fresh := s.transport(func(c *Config) {
		s.settings("")(c)
		c.AtTerminal = true
	})
	defer fresh.Close()
	before := s.pages()
	if err := fresh.SignIn(s.t.Context()); err != nil {
		s.t.Errorf("a sign-in at the terminal after the server has healed: %v", err)
	}
	if got := s.pages() - before; got > 1 {
		s.t.Errorf("%d login pages for that sign-in", got)
	}
}

// heal makes the server correct, and a restart of the machine passes.
func (s *story) heal() {
	s.as.Play()
	s.as.Set(func(k *oauthtest.Knobs) { *k = oauthtest.Knobs{} })
	s.deviceWaits()
	time.Sleep(2 * time.Minute)
}

// settings returns the Config of a command line such as "--resource none --pkce assume".
func (s *story) settings(line string) func(*Config) {
	words := strings.Fields(strings.NewReplacer("$issuer", s.as.Issuer, "$upstream", s.as.Resource).Replace(line))
	return func(c *Config) {
		if s.beside {
			c.CodeBeside = codeWanted
		}
		for i := 0; i+1 < len(words); i += 2 {
			s.setting(c, words[i], words[i+1])
		}
	}
}

func (s *story) setting(c *Config, name, value string) {
	switch name {
	case "--issuer":
		c.Endpoints.Issuer = value
	case "--resource":
		c.Resource = value
	case "--audience":
		c.Audience = value
	case "--scope":
		c.Scope = value
	case "--pkce":
		c.Endpoints.AssumePKCE = true
	case "--auth-style":
		c.Client.AuthStyle = value
	case "--callback-host":
		c.Callback.Addrs = []string{value + ":0"}
	case "--authorize-param":
		name, value, _ := strings.Cut(value, "=")
		c.AuthorizeParams = map[string]string{name: value}
	case "--client-id":
		uri := "http://127.0.0.1:50000/callback"
		s.as.AddClient(oauthtest.Client{ID: value, RedirectURIs: []string{uri}})
		c.Client.ID, c.Callback.Addrs = value, []string{"127.0.0.1:50000"}
	default:
		panic(fmt.Sprintf("the table names an unknown setting %q", name))
	}
}
