package callback

import (
	"net/http"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/helper"
)

// elsewhere returns the login page of a login with another origin in its place.
func (r *remote) elsewhere() helper.Message {
	m := r.message()
	m.AuthorizeURL = strings.Replace(m.AuthorizeURL, "login.example", "evil.example", 1)
	return m
}

// A HOST that changes the login page while the person reads about another, or after Continue, has
// the person asked again. The state stays the same, as if it were a new link to the same page.
func TestRogueChangesTheLoginPage(t *testing.T) {
	t.Run("before Continue", func(t *testing.T) {
		w := newWorld(t, nil)
		r := w.hold("rogue")
		r.show()
		page := w.page(w.visit())
		token := "token=" + tokenField.FindStringSubmatch(w.get(page).text)[1]
		r.send(r.elsewhere())
		r.receive(helper.TypeShown)
		w.browse(http.MethodPost, page, token+"&choice=continue&remember=yes", "Origin", "http://"+w.pages.addr)
		if a := w.get(page); strings.Contains(a.Header.Get("Refresh"), "evil") {
			t.Errorf("Continue at another page leads to %s", a.Header.Get("Refresh"))
		}
		if len(w.cfg.Trust.List()) != 0 {
			t.Errorf("it is remembered: %+v", w.cfg.Trust.List())
		}
		w.checkText(w.get(w.visit()), 200, "evil.example", "Refuse")
	})
	t.Run("after Continue", func(t *testing.T) {
		w := newWorld(t, nil)
		r := w.hold("rogue")
		r.show()
		page := w.page(w.visit())
		w.choose(page, "continue", "")
		r.receive(helper.TypeShown)
		r.send(r.elsewhere())
		w.checkText(w.get(w.visit()), 200, "evil.example", "Refuse")
		w.checkText(w.get(page), 200, "One more login page")
	})
}

// A login that the login server is asked to finish without a page is asked about each time, also if
// HOST is trusted.
func TestUnseenLoginIsAskedAbout(t *testing.T) {
	for _, tt := range []struct{ prompt, want string }{
		{"", helper.HowOpened}, {"&prompt=login", helper.HowOpened},
		{"&prompt=none", helper.HowConfirm}, {"&prompt=consent+none", helper.HowConfirm},
	} {
		w := newWorld(t, nil)
		if err := w.cfg.Trust.Add(Trusted{Host: "rogue", Origin: "https://login.example", Issuer: "https://login.example"}); err != nil {
			t.Fatal(err)
		}
		r := w.hold("rogue")
		m := r.message()
		m.AuthorizeURL += tt.prompt
		r.send(m)
		if got := r.receive(helper.TypeShown).How; got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.prompt, got, tt.want)
		}
	}
}
