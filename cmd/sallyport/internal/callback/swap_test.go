package callback

import (
	"net/http"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/helper"
)

// swap is what a rogue HOST puts in the place of what the person reads about, or has agreed to.
type swap struct{ name, from, to, shown string }

var swaps = []swap{
	{"another login server", "https://login.example/", "https://evil.example/", "evil.example"},
	{"another client", "client_id=c&", "client_id=cli-that-may-do-all&", "login.example"},
}

// message returns the login page of a login with something else in its place.
func (s swap) message(r *remote) helper.Message {
	m := r.message()
	m.AuthorizeURL = strings.Replace(m.AuthorizeURL, s.from, s.to, 1)
	return m
}

// A HOST that changes the login page while the person reads about another, or after Continue, has
// the person asked again. The state stays the same, as if it were a new link to the same page.
func TestRogueChangesTheLoginPage(t *testing.T) {
	for _, s := range swaps {
		t.Run(s.name, s.try)
	}
}

func (s swap) try(t *testing.T) {
	t.Run("before Continue", func(t *testing.T) {
		w := newWorld(t, nil)
		r := w.hold("rogue")
		r.show()
		page := w.page(w.visit())
		token := "token=" + tokenField.FindStringSubmatch(w.get(page).text)[1]
		r.send(s.message(r))
		r.receive(helper.TypeShown)
		w.browse(http.MethodPost, page, token+"&choice=continue&remember=yes", "Origin", "http://"+w.pages.addr)
		if a := w.get(page); a.Header.Get("Refresh") != "" {
			t.Errorf("Continue at another page leads to %s", a.Header.Get("Refresh"))
		}
		if len(w.cfg.Trust.List()) != 0 {
			t.Errorf("it is remembered: %+v", w.cfg.Trust.List())
		}
		w.checkText(w.get(w.visit()), 200, s.shown, "Refuse")
	})
	t.Run("after Continue", func(t *testing.T) {
		w := newWorld(t, nil)
		r := w.hold("rogue")
		r.show()
		page := w.page(w.visit())
		w.choose(page, "continue", "")
		r.receive(helper.TypeShown)
		r.send(s.message(r))
		w.checkText(w.get(w.visit()), 200, s.shown, "Refuse")
		w.checkText(w.get(page), 200, "One more login page")
	})
	t.Run("the next time", func(t *testing.T) {
		w := newWorld(t, nil)
		r := w.hold("rogue")
		r.show()
		w.choose(w.page(w.visit()), "continue", "&remember=yes")
		r.receive(helper.TypeShown)
		w.browse(http.MethodGet, r.callback("code=x"), "")
		r.receive(helper.TypeCallback)
		r.send(helper.Message{Type: helper.TypeOutcome, OK: true})
		r.end()
		same := w.hold("rogue")
		if how := same.show(); how != helper.HowOpened {
			t.Errorf("the same again: %q", how)
		}
		w.visit()
		w.browse(http.MethodGet, same.callback("code=x"), "")
		same.receive(helper.TypeCallback)
		same.end()
		next := w.hold("rogue")
		next.send(s.message(next))
		if how := next.receive(helper.TypeShown).How; how != helper.HowConfirm {
			t.Errorf("the person is not asked: %q", how)
		}
		text := w.get(w.visit()).text
		if told := strings.Contains(text, "not the program (client ID) of before"); told != (s.shown == "login.example") {
			t.Errorf("the page says %s", text)
		}
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
		if err := w.cfg.Trust.Add(Trusted{Host: "rogue", Origin: "https://login.example", Issuer: "https://login.example", Client: "c"}); err != nil {
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
