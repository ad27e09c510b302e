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

	begin("refusedbox")
	tab.Keep(t, "confirm-other-issuer")
	tab.Click(t, "Refuse")
	tab.Await(t, "Refused")
	tab.Keep(t, "refused")

	r = begin("endingbox")
	r.end()
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

// A tool of a rogue HOST, whose page --port carries, runs no script, leaves no cookie, no storage
// and no service worker behind, and cannot lead the browser elsewhere by a page.
func TestCarriedPageInABrowser(t *testing.T) {
	w := newWorld(t, nil)
	evil := make(chan string, 100)
	elsewhere := machines.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { evil <- r.URL.Path }))
	port := freePort(t)
	if err := w.Carry(t.Context(), carryFrom(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "left=behind")
		w.Header().Set("Service-Worker-Allowed", "/")
		if r.URL.Path == "/worker.js" {
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprint(w, "self.addEventListener('fetch', e => e.respondWith(new Response('owned')))")
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>Tool</title><meta http-equiv="refresh" content="0;url=%[1]s/refresh">
			<script>document.title = 'owned'; navigator.serviceWorker.register('/worker.js'); document.cookie = 'a=b'; localStorage.x = 1</script>
			<img src="%[1]s/img"><iframe src="%[1]s/frame"></iframe><form action="%[1]s/form"><button>Send</button></form>
			<body onload="location='%[1]s/onload'">The tool says: signed in</body>`, elsewhere)
	}), []int{port}); err != nil {
		t.Fatal(err)
	}
	origin := fmt.Sprintf("http://127.0.0.1:%d", port)
	tab := machines.StartTab(t, nil)
	page := tab.Goto(t, origin+"/callback?code=x")
	if page.Title != "Tool" || !strings.Contains(page.Text, "The tool says: signed in") {
		t.Errorf("the person sees %+v", page)
	}
	tab.Try(t, map[string]any{"do": "click", "name": "Send"})
	// A page of ours has the origin of the port, and would find what was left there.
	w.mu.Lock()
	w.carried[port] = nil
	w.mu.Unlock()
	if page = tab.Goto(t, origin+"/nothing"); !strings.Contains(page.Text, "out of date") {
		t.Errorf("the person sees %+v", page)
	}
	left := tab.Eval(t, `(async () => [document.cookie, Object.keys(localStorage).length, (await navigator.serviceWorker.getRegistrations()).length])()`)
	if left.Value != `["",0,0]` {
		t.Errorf("cookies, storage and service workers that were left: %s %s", left.Value, left.Error)
	}
	if len(evil) > 0 {
		t.Errorf("the browser was led to %s", <-evil)
	}
}

// A web page that knows the address of our page cannot answer for the person, nor show our page in
// a frame, nor bring a callback unseen.
func TestEvilPageInABrowser(t *testing.T) {
	w := newWorld(t, nil)
	r := w.hold("devbox")
	r.show()
	page := w.page(w.visit())
	token := tokenField.FindStringSubmatch(w.get(page).text)[1]
	evil := machines.Serve(t, http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
		out.Header().Set("Content-Type", "text/html")
		switch req.URL.Path {
		case "/post":
			fmt.Fprintf(out, `<form method=post action=%q><input name=token value=%q><input name=choice value=continue><button>Win</button></form>`, page, token)
		case "/frame":
			fmt.Fprintf(out, `<p>Framed</p><iframe name=f src=%q></iframe><iframe src=%q></iframe>`, page, r.callback("code=evil"))
		case "/fetch":
			fmt.Fprint(out, `<p>Fetching</p>`)
		}
	}))
	tab := machines.StartTab(t, nil)
	tab.Goto(t, evil+"/post")
	if seen := tab.Click(t, "Win"); !strings.Contains(seen.Text, "does not come from the page that asked") {
		t.Errorf("the form of another site was answered by %q", seen.Text)
	}
	tab.Goto(t, evil+"/frame")
	if seen := tab.Eval(t, `frames.f.document ? "readable" : "none"`); seen.Value == `"readable"` {
		t.Error("our page is in a frame")
	}
	tab.Goto(t, evil+"/fetch")
	for _, link := range []string{page, r.callback("code=evil")} {
		tab.Eval(t, fmt.Sprintf(`fetch(%q, {mode: 'no-cors'}).then(() => 1, () => 0)`, link))
		tab.Eval(t, fmt.Sprintf(`new Promise(done => { const i = new Image(); i.onload = i.onerror = done; i.src = %q })`, link))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.logins[r.id]; l == nil || l.phase != asking || l.query != "" {
		t.Errorf("the login is %+v", l)
	}
}
