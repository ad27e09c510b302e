//go:build linux

package callback

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// loginServer is an authorization server, whose page is a button.
func loginServer(t *testing.T) (origin string) {
	t.Helper()
	return machines.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		q := r.URL.Query()
		fmt.Fprintf(w, `<!doctype html><title>Login server</title><h1>Login server</h1><p>from %q</p><a href="%s?code=c0de&state=%s">Sign in</a>`,
			r.Referer(), q.Get("redirect_uri"), q.Get("state"))
	}))
}

// at makes the login page one of a login server.
func (r *remote) at(origin string) helper.Message {
	m := r.message()
	m.AuthorizeURL = strings.Replace(m.AuthorizeURL, "https://login.example", origin, 1)
	m.Issuer = origin
	return m
}

// The person sees confirm, the login page, "away" and the success. HOST is cut off while the person
// signs in, and comes back: nothing is lost, and nothing is clicked again.
func TestPagesInABrowser(t *testing.T) {
	w := newWorld(t, nil)
	tab := machines.StartTab(t, nil)
	login := loginServer(t)
	r := w.hold("devbox")
	r.send(r.at(login))
	r.receive(helper.TypeShown)
	visit := w.visit()
	page := tab.Goto(t, visit)
	if page.URL == visit || !strings.Contains(page.Text, "devbox wants to sign in") || !strings.Contains(page.Text, login) {
		t.Errorf("the person sees %+v", page)
	}
	ours := page.URL
	tab.Keep(t, "confirm")
	page = tab.Click(t, "Continue")
	page = tab.Await(t, "Sign in")
	if !strings.HasPrefix(page.URL, login+"/authorize?") || !strings.Contains(page.Text, `from ""`) {
		t.Errorf("Continue leads to %+v", page)
	}
	r.receive(helper.TypeShown)

	r.Close() // HOST is away
	<-r.ended
	tab.Click(t, "Sign in")
	page = tab.Await(t, "devbox is away")
	if page.URL != ours {
		t.Errorf("the callback leads to %s, want %s", page.URL, ours)
	}
	tab.Keep(t, "away")

	back := w.connect(Origin{Host: "devbox"}, helper.Message{Login: r.id, RedirectURI: r.held.RedirectURI})
	if held := back.receive(helper.TypeHeld); held.RedirectURI != r.held.RedirectURI {
		t.Errorf("after the cut %s is held, want %s", held.RedirectURI, r.held.RedirectURI)
	}
	back.send(r.at(login))
	back.receive(helper.TypeShown)
	if got := back.receive(helper.TypeCallback).Query; got != "code=c0de&state="+r.state {
		t.Errorf("HOST got the query %q", got)
	}
	page = tab.Await(t, "Almost done")
	tab.Keep(t, "almost")
	back.send(helper.Message{Type: helper.TypeOutcome, OK: true})
	back.send(helper.Message{Type: helper.TypeEnd})
	page = tab.Await(t, "devbox is signed in")
	if page.URL != ours || strings.Contains(page.URL, "c0de") {
		t.Errorf("the last page is %+v", page)
	}
	tab.Keep(t, "success")
	w.checkNoVisit("after the cut")
}

// What the person sees of logins that come to nothing.
func TestPagesOfFailuresInABrowser(t *testing.T) {
	w := newWorld(t, nil)
	tab := machines.StartTab(t, nil)
	login := loginServer(t)
	begin := func(host string) *remote {
		r := w.hold(host)
		m := r.at(login)
		m.Issuer = "https://another.example/realms/r"
		r.send(m)
		r.receive(helper.TypeShown)
		tab.Goto(t, w.visit())
		return r
	}
	r := begin("devbox")
	tab.Click(t, "Continue")
	tab.Await(t, "Sign in")
	tab.Click(t, "Sign in")
	r.receive(helper.TypeShown)
	r.receive(helper.TypeCallback)
	r.send(helper.Message{Type: helper.TypeOutcome, Text: "sign-in at https://login.example/token: invalid_grant: the code has <b>expired</b>"})
	tab.Await(t, "Not signed in")
	tab.Keep(t, "failure")
	r.send(helper.Message{Type: helper.TypeEnd})

	r = begin("refusedbox")
	tab.Keep(t, "confirm-other-issuer")
	tab.Click(t, "Refuse")
	tab.Await(t, "Refused")
	tab.Keep(t, "refused")

	r = begin("endingbox")
	r.send(helper.Message{Type: helper.TypeEnd})
	<-r.ended
	tab.Click(t, "Continue")
	tab.Await(t, "This sign-in is over")
	tab.Keep(t, "over")

	r = w.hold("latebox")
	m := r.at(login)
	m.Expires = time.Now().Add(1500 * time.Millisecond)
	r.send(m)
	r.receive(helper.TypeShown)
	page := tab.Goto(t, w.visit())
	machines.Poll(t, func() bool { return strings.Contains(tab.Goto(t, page.URL).Text, "Too late") }, "the end of the login")
	tab.Keep(t, "late")
}

// The link of a pushed request works once. A new one is asked for when the person needs it, and
// comes after a cut, too.
func TestPushedLinkInABrowser(t *testing.T) {
	w := newWorld(t, nil)
	tab := machines.StartTab(t, nil)
	login := loginServer(t)
	r := w.hold("devbox")
	pushed := func(name string) helper.Message {
		m := r.at(login)
		m.AuthorizeURL = fmt.Sprintf("%s/authorize?client_id=c&request_uri=urn:%s", login, name)
		m.LinkExpires = time.Now().Add(-time.Second)
		return m
	}
	r.send(pushed("first"))
	r.receive(helper.TypeShown)
	tab.Goto(t, w.visit())
	r.Close()
	<-r.ended
	tab.Click(t, "Continue")
	tab.Await(t, "devbox is away")
	tab.Keep(t, "away-link")
	back := w.connect(Origin{Host: "devbox"}, helper.Message{Login: r.id, RedirectURI: r.held.RedirectURI})
	back.receive(helper.TypeHeld)
	back.receive(helper.TypeRelink)
	m := pushed("second")
	m.LinkExpires = time.Now().Add(time.Minute)
	back.send(m)
	back.receive(helper.TypeShown)
	if page := tab.Await(t, "Login server"); !strings.HasSuffix(page.URL, "urn:second") {
		t.Errorf("the browser is at %s", page.URL)
	}
}
