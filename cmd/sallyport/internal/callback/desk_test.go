package callback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

// patience bounds what a test waits for. It is no assertion.
const patience = 20 * time.Second

// world is a desk, whose browser is the test.
type world struct {
	*Desk
	t *testing.T
	// visits gets the links that a browser was started with.
	visits chan string
	// said collects what the person was told.
	said *transcript
	// noBrowser has the browser fail to start.
	noBrowser bool
}

// transcript collects lines.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *transcript) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.text, format+"\n", args...)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// newWorld makes a desk. The function change may change its configuration.
func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, visits: make(chan string, 100), said: new(transcript)}
	cfg := Config{
		Open: func(_ context.Context, link string) error {
			if w.noBrowser {
				return errors.New("no display here")
			}
			w.visits <- link
			return nil
		},
		Say: w.said.say, Trust: NewTrust(t.TempDir()), Log: slog.New(slog.DiscardHandler),
		askTime: patience / 2,
	}
	if change != nil {
		change(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	w.Desk = d
	return w
}

// visit returns the link that a browser is started with next.
func (w *world) visit() string {
	w.t.Helper()
	select {
	case link := <-w.visits:
		return link
	case <-time.After(patience):
		w.t.Fatal("no browser was started")
		return ""
	}
}

// checkNoVisit reports a browser that was started.
func (w *world) checkNoVisit(why string) {
	w.t.Helper()
	select {
	case link := <-w.visits:
		w.t.Errorf("%s: a browser was started at %s", why, link)
	default:
	}
}

// remote is a scripted login on a HOST.
type remote struct {
	*helper.Conn
	t    *testing.T
	id   string
	held helper.Message
	// state is that of the authorization request.
	state string
	ended chan error
}

// connect makes a connection from a HOST, and says hold.
func (w *world) connect(from Origin, hold helper.Message) *remote {
	w.t.Helper()
	near, far := net.Pipe()
	r := &remote{Conn: helper.NewConn(near), t: w.t, id: hold.Login, ended: make(chan error, 1)}
	go func() { r.ended <- w.Serve(context.Background(), far, from) }()
	w.t.Cleanup(func() { r.Close() })
	r.SetDeadline(time.Now().Add(patience))
	if err := r.Greet(); err != nil {
		w.t.Fatal(err)
	}
	hold.Type = helper.TypeHold
	r.send(hold)
	return r
}

// hold makes a connection from a HOST with a login of its own, on any port.
func (w *world) hold(host string) *remote {
	w.t.Helper()
	return w.holdFor(Origin{Host: host}, "https://mcp.example/mcp")
}

// holdFor is hold for a login to an upstream.
func (w *world) holdFor(from Origin, upstream string) *remote {
	w.t.Helper()
	r := w.connect(from, helper.Message{Login: newName(), Upstream: upstream, RedirectURI: "http://127.0.0.1:0/"})
	r.held = r.receive(helper.TypeHeld)
	r.state = newName()
	return r
}

// send sends a message. A desk that has ended the connection is no failure.
func (r *remote) send(m helper.Message) { r.Send(m) }

// receive returns the next message, which must be of a type.
func (r *remote) receive(kind string) helper.Message {
	r.t.Helper()
	m, err := r.Receive()
	if err != nil || m.Type != kind {
		r.t.Fatalf("got %+v, %v, want %q", m, err, kind)
	}
	return m
}

// end says that the login needs the helper no more, and waits for its goodbye.
func (r *remote) end() {
	r.t.Helper()
	r.send(helper.Message{Type: helper.TypeEnd})
	for m, err := r.Receive(); err == nil && m.Type != helper.TypeEnd; m, err = r.Receive() {
	}
	<-r.ended
}

// message returns a login page that is as it should be.
func (r *remote) message() helper.Message {
	redirect := r.held.RedirectURI + "callback"
	q := url.Values{"response_type": {"code"}, "client_id": {"c"}, "code_challenge": {"ch"}, "code_challenge_method": {"S256"},
		"state": {r.state}, "redirect_uri": {redirect}}
	return helper.Message{Type: helper.TypeLogin, AuthorizeURL: "https://login.example/authorize?" + q.Encode(), RedirectURI: redirect,
		State: r.state, Issuer: "https://login.example", Expires: time.Now().Add(5 * time.Minute)}
}

// show hands over the login page and returns what the person sees.
func (r *remote) show() string {
	r.t.Helper()
	r.send(r.message())
	return r.receive(helper.TypeShown).How
}

// callback returns the URL that the login server leads the browser to.
func (r *remote) callback(query string) string {
	return r.held.RedirectURI + "callback?state=" + r.state + "&" + query
}

// answer is an answer to the browser.
type answer struct {
	*http.Response
	text string
}

// browse makes one request as a browser.
func (w *world) browse(method, link, form string, headers ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, link, strings.NewReader(form))
	if err != nil {
		w.t.Fatal(err)
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp, string(bytes.TrimSpace(body))}
}

// get follows redirects within our pages by GET.
func (w *world) get(link string) answer {
	w.t.Helper()
	a := w.browse(http.MethodGet, link, "")
	if to, err := a.Location(); err == nil {
		return w.browse(http.MethodGet, to.String(), "")
	}
	return a
}

// page returns the URL of the page that a visit leads to.
func (w *world) page(visit string) string {
	w.t.Helper()
	to, err := w.browse(http.MethodGet, visit, "").Location()
	if err != nil {
		w.t.Fatal(err)
	}
	return to.String()
}

var tokenField = regexp.MustCompile(`name="token" value="([^"]+)"`)

// choose presses a button of a page and returns what comes then.
func (w *world) choose(page, choice, more string) answer {
	w.t.Helper()
	found := tokenField.FindStringSubmatch(w.get(page).text)
	if found == nil {
		w.t.Fatalf("%s has no form", page)
	}
	a := w.browse(http.MethodPost, page, "token="+found[1]+"&choice="+choice+more, "Origin", "http://"+w.pages.addr, "Sec-Fetch-Site", "same-origin")
	if a.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("the form was answered by %d: %s", a.StatusCode, a.text)
	}
	return w.get(page)
}

// checkText reports what an answer lacks.
func (w *world) checkText(a answer, status int, want ...string) {
	w.t.Helper()
	for _, text := range want {
		if a.StatusCode != status || !strings.Contains(a.text, text) {
			w.t.Errorf("got %d %s, want %d with %q", a.StatusCode, a.text, status, text)
		}
	}
}

// One login from the port to the last page: one click the first time, none the second.
func TestLogin(t *testing.T) {
	w := newWorld(t, nil)
	r := w.hold("devbox")
	if how := r.show(); how != helper.HowConfirm || r.held.Host != "devbox" {
		t.Errorf("the person sees %q of %q", how, r.held.Host)
	}
	visit := w.visit()
	page := w.page(visit)
	w.checkText(w.get(page), 200, "devbox wants to sign in", "https://mcp.example/mcp", "https://login.example")
	w.checkText(w.get(visit), 410, "already used")

	a := w.choose(page, "continue", "&remember=yes")
	if got, want := a.Header.Get("Refresh"), "0; url="+r.message().AuthorizeURL; got != want {
		t.Errorf("Continue leads to %q, want %q", got, want)
	}
	if how := r.receive(helper.TypeShown).How; how != helper.HowOpened {
		t.Errorf("after Continue the person sees %q", how)
	}
	w.checkText(w.get(page), 200, "The login page is open")

	a = w.browse(http.MethodGet, r.callback("code=c0de"), "")
	last, err := a.Location()
	if err != nil || last.String() != page {
		t.Fatalf("the callback is answered by %d and leads to %v, want %s", a.StatusCode, last, page)
	}
	if got, want := r.receive(helper.TypeCallback).Query, "state="+r.state+"&code=c0de"; got != want {
		t.Errorf("HOST got the query %q, want %q", got, want)
	}
	go func() {
		r.send(helper.Message{Type: helper.TypeOutcome, OK: true})
		r.send(helper.Message{Type: helper.TypeEnd})
		r.Receive() // its goodbye
	}()
	w.checkText(w.get(page), 200, "Signed in", "devbox is signed in")
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", last.Host); err == nil { // our pages are still there
		c.Close()
	}
	w.checkFree(r)

	again := w.hold("devbox")
	if how := again.show(); how != helper.HowOpened {
		t.Errorf("the second time the person sees %q, want the login page", how)
	}
	if a := w.get(w.visit()); !strings.HasPrefix(a.Header.Get("Refresh"), "0; url=https://login.example/") {
		t.Errorf("the second time the browser gets %d %v", a.StatusCode, a.Header)
	}
	other := w.hold("otherbox")
	if how := other.show(); how != helper.HowConfirm {
		t.Errorf("another host is not asked for: the person sees %q", how)
	}
}

// The words of a failure are shown as text.
func TestFailure(t *testing.T) {
	w := newWorld(t, nil)
	r := w.hold("devbox")
	r.show()
	page := w.page(w.visit())
	w.browse(http.MethodGet, r.callback("error=access_denied"), "")
	r.receive(helper.TypeCallback)
	go r.send(helper.Message{Type: helper.TypeOutcome, Text: "<script>alert(1)</script> \x1b[31mno\u202e" + strings.Repeat("x", 5000)})
	a := w.get(page)
	w.checkText(a, 200, "Not signed in", "&lt;script&gt;alert(1)&lt;/script&gt;")
	if strings.ContainsAny(a.text, "\x1b\u202e") || len(a.text) > 8000 {
		t.Errorf("the page of %d bytes has controls, or all that HOST said", len(a.text))
	}
}

func TestRefuse(t *testing.T) {
	w := newWorld(t, nil)
	r := w.hold("devbox")
	r.show()
	a := w.choose(w.page(w.visit()), "refuse", "")
	w.checkText(a, 200, "Refused")
	if e := r.receive(helper.TypeError); e.Kind != helper.KindRefused {
		t.Errorf("HOST got %+v", e)
	}
	if w.cfg.Trust.List() != nil {
		t.Error("a refusal is remembered as trust")
	}
}

// The link that an MCP host shows leads to our page, also while the page of another login is open.
func TestOwnLinkOfALogin(t *testing.T) {
	w := newWorld(t, nil)
	w.hold("devbox").show()
	w.visit()
	r := w.hold("devbox")
	m := r.message()
	m.StartURL = r.held.RedirectURI + "start/" + newName()
	r.send(m)
	if how := r.receive(helper.TypeShown).How; how != helper.HowWaiting {
		t.Errorf("the person sees %q", how)
	}
	w.checkText(w.get(r.held.RedirectURI+"start/"+newName()), 400, "out of date")
	page := w.page(m.StartURL)
	w.checkText(w.get(page), 200, "devbox wants to sign in")
	w.choose(page, "continue", "")
	r.receive(helper.TypeShown)
	if a := w.get(m.StartURL); !strings.HasPrefix(a.Header.Get("Refresh"), "0; url=https://login.example/") {
		t.Errorf("the link that is opened again leads to %d %v", a.StatusCode, a.Header)
	}
}

// A login page that only HOST reaches is opened in a window of ours, after the question.
func TestFarLoginPage(t *testing.T) {
	pages := make(chan FarPage, 1)
	ended := make(chan bool, 2)
	answers := make(chan FarResult)
	w := newWorld(t, func(c *Config) {
		c.Far = func(ctx context.Context, p FarPage) FarResult {
			pages <- p
			context.AfterFunc(ctx, func() { ended <- true })
			return <-answers
		}
	})
	begin := func() *remote {
		r := w.connect(Origin{Host: "devbox", Dial: new(net.Dialer).DialContext}, helper.Message{Login: newName(), RedirectURI: "http://127.0.0.1:0/"})
		r.held, r.state = r.receive(helper.TypeHeld), newName()
		return r
	}
	r := begin()
	r.show()
	page := w.page(w.visit())
	go func() { answers <- FarResult{Words: "a window of ours is open", Opened: true} }()
	w.checkText(w.choose(page, "continue", "&remember=yes"), 200, "a window of ours is open", "The login page is open")
	r.receive(helper.TypeShown)
	p := <-pages
	to, err := w.browse(http.MethodGet, p.Start, "").Location()
	if err != nil || to.String() != r.message().AuthorizeURL || p.Link != to.String() || p.Host != "devbox" || p.Dial == nil {
		t.Errorf("%+v leads to %v, %v", p, to, err)
	}
	w.browse(http.MethodGet, r.callback("code=x"), "")
	r.receive(helper.TypeCallback)
	r.send(helper.Message{Type: helper.TypeOutcome, OK: true})
	r.send(helper.Message{Type: helper.TypeEnd})
	r.Receive() // its goodbye
	<-ended     // the way through HOST, with the login

	r = begin() // it is trusted now
	r.send(r.message())
	<-pages
	w.checkNoVisit("before it is known where the page is reached")
	answers <- FarResult{Words: "use the PAC file http://127.0.0.1:1/pac"}
	if how := r.receive(helper.TypeShown).How; how != helper.HowByHand {
		t.Errorf("the person sees %q", how)
	}
	page = w.page(w.visit())
	w.checkText(w.get(page), 200, "Only devbox reaches the login server", "http://127.0.0.1:1/pac", w.pages.addr+farPath)

	// Nothing is said to be open if no way is known, and the person may try again.
	r.receive(helper.TypeShown) // again, when our page has opened
	go func() {
		<-pages
		answers <- FarResult{Words: "it is not reached", Unreached: true, Why: "no such host"}
	}()
	w.checkText(w.choose(page, "continue", ""), 200, "The login server is not reached", "it is not reached", "no such host", w.pages.addr+farPath)
	if how := r.receive(helper.TypeShown).How; how != helper.HowUnreached {
		t.Errorf("the person sees %q", how)
	}
	go func() {
		<-pages
		answers <- FarResult{}
	}()
	w.choose(page, "continue", "")
	if how := r.receive(helper.TypeShown).How; how != helper.HowOpened {
		t.Errorf("the person sees %q", how)
	}
}

// A HOST without a name is no login of this machine: the person is asked.
func TestHostWithoutAName(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TrustHosts = []string{""} })
	if how := w.hold("").show(); how != helper.HowConfirm {
		t.Errorf("the person sees %q", how)
	}
	w.checkText(w.get(w.visit()), 200, "another machine wants to sign in")
}

// One login may come over several connections at once. There is one page, and all get the callback.
func TestOneLoginOverTwoConnections(t *testing.T) {
	w := newWorld(t, nil)
	first := w.hold("devbox")
	first.show()
	w.visit()
	second := w.connect(Origin{Host: "alias"}, helper.Message{Login: first.id, RedirectURI: "http://127.0.0.1:0/"})
	second.held, second.state = second.receive(helper.TypeHeld), first.state
	if how := second.show(); how != helper.HowConfirm {
		t.Errorf("the second connection hears %q", how)
	}
	w.checkNoVisit("a second page for one login")
	w.browse(http.MethodGet, first.callback("code=x"), "")
	for _, r := range []*remote{first, second} {
		if got := r.receive(helper.TypeCallback).Query; !strings.Contains(got, "code=x") {
			t.Errorf("got %q", got)
		}
	}
}
