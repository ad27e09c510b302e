package callback

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

// What a rogue HOST hands over as a link is refused with a reason, opens nothing, and frees the
// port.
func TestRogueLinks(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(m *helper.Message)
		want   string
	}{
		{"javascript", func(m *helper.Message) { m.AuthorizeURL = "javascript:fetch('//evil.example')" }, "no http or https URL"},
		{"file", func(m *helper.Message) { m.AuthorizeURL = "file:///etc/passwd" }, "no http or https URL"},
		{"userinfo", func(m *helper.Message) {
			m.AuthorizeURL = strings.Replace(m.AuthorizeURL, "login.example", "login.example@evil.example", 1)
		}, "user name"},
		{"redirect_uri elsewhere", func(m *helper.Message) {
			m.AuthorizeURL = strings.Replace(m.AuthorizeURL, "redirect_uri=http%3A%2F%2F127.0.0.1", "redirect_uri=http%3A%2F%2Fevil.example", 1)
		}, "another redirect URI"},
		{"no PKCE", func(m *helper.Message) { m.AuthorizeURL = strings.Replace(m.AuthorizeURL, "S256", "plain", 1) }, "PKCE"},
		{"a state that can be guessed", func(m *helper.Message) {
			m.AuthorizeURL, m.State = strings.Replace(m.AuthorizeURL, m.State, "1", 1), "1"
		}, "state must have"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.TrustHosts = []string{"rogue"} })
			r := w.hold("rogue")
			m := r.message()
			row.change(&m)
			r.send(m)
			if e := r.receive(helper.TypeError); e.Kind != helper.KindInvalid || !strings.Contains(e.Text, row.want) {
				t.Errorf("got %+v, want %q", e, row.want)
			}
			w.checkNoVisit(row.name)
			w.checkFree(r)
		})
	}
}

// checkFree waits until the port of a login is free.
func (w *world) checkFree(r *remote) {
	w.t.Helper()
	u, _ := url.Parse(r.held.RedirectURI)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			return
		}
		c.Close()
		if time.Now().After(deadline) {
			w.t.Fatalf("%s is still held", u.Host)
		}
	}
}

// Two logins at one port: each gets its own callback, and no other host learns of it.
func TestRoutingByState(t *testing.T) {
	w := newWorld(t, nil)
	first := w.hold("devbox")
	first.show()
	u, _ := url.Parse(first.held.RedirectURI)
	second := w.connect(Origin{Host: "otherbox"}, helper.Message{Login: newName(), RedirectURI: u.String(), Fixed: true})
	second.held, second.state = second.receive(helper.TypeHeld), newName()
	if second.held.RedirectURI != first.held.RedirectURI {
		t.Fatalf("the second login holds %s, want %s", second.held.RedirectURI, first.held.RedirectURI)
	}
	second.show()
	w.browse(http.MethodGet, second.callback("code=two"), "")
	if got := second.receive(helper.TypeCallback).Query; !strings.Contains(got, "code=two") {
		t.Errorf("the second login got %q", got)
	}
	w.browse(http.MethodGet, first.callback("code=one"), "")
	// The first message that the first login gets is its own callback.
	if got := first.receive(helper.TypeCallback).Query; !strings.Contains(got, "code=one") {
		t.Errorf("the first login got %q", got)
	}
	w.checkText(w.browse(http.MethodGet, first.held.RedirectURI+"callback?code=x&state="+newName(), ""), 400, "out of date")
	w.checkText(w.browse(http.MethodGet, strings.Replace(first.callback("code=x"), "/callback", "/other", 1), ""), 400, "out of date")

	rogue := w.connect(Origin{Host: "rogue"}, helper.Message{Login: newName(), RedirectURI: u.String(), Fixed: true})
	rogue.held, rogue.state = rogue.receive(helper.TypeHeld), first.state
	rogue.send(rogue.message())
	if e := rogue.receive(helper.TypeError); e.Kind != helper.KindInvalid || !strings.Contains(e.Text, "same state") {
		t.Errorf("the state of another host was taken: %+v", e)
	}
	byName := w.connect(Origin{Host: "rogue"}, helper.Message{Login: first.id, RedirectURI: u.String()})
	byName.held, byName.state = byName.receive(helper.TypeHeld), newName()
	byName.send(byName.message())
	if e := byName.receive(helper.TypeError); e.Kind != helper.KindInvalid {
		t.Errorf("the name of a login of another host was taken: %+v", e)
	}
	byName.send(helper.Message{Type: helper.TypeOutcome, OK: true})
	byName.end()
	if l := w.logins[first.id]; l == nil || l.outcome != nil {
		t.Errorf("a rogue host has ended a login of another: %+v", l)
	}
}

// A HOST that opens pages in a loop opens one, then waits, then is silent.
func TestBrake(t *testing.T) {
	w := newWorld(t, nil)
	for i := range maxMisses {
		r := w.hold("rogue")
		if how := r.show(); how != helper.HowConfirm {
			t.Fatalf("page %d: the person sees %q", i, how)
		}
		page := w.page(w.visit())
		other := w.hold("rogue")
		if how := other.show(); how != helper.HowWaiting {
			t.Errorf("beside page %d the person sees %q", i, how)
		}
		w.checkNoVisit("a second page at once")
		other.end()
		w.choose(page, "refuse", "")
	}
	r := w.hold("rogue")
	r.send(r.message())
	if e := r.receive(helper.TypeError); e.Kind != helper.KindTooMany || !strings.Contains(e.Text, "opens no page of this host by itself until") ||
		!strings.Contains(e.Text, "open its link in the browser there yourself") {
		t.Errorf("after %d pages in vain, got %+v", maxMisses, e)
	}
	w.checkNoVisit("a silent host")
	other := w.hold("devbox")
	if how := other.show(); how != helper.HowConfirm {
		t.Errorf("another host suffers: %q", how)
	}
}

// Logins that HOST ends are no pages that the person refused or left alone: somebody has finished
// them elsewhere, on another workstation say, or cancelled them, or the program was killed. A HOST
// that does so all the time is silent in the end.
func TestLoginsThatHostEnds(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(*remote)
		page string
		more int
	}{
		{"finished elsewhere", func(r *remote) { r.send(helper.Message{Type: helper.TypeOutcome, OK: true}); r.end() }, "devbox is signed in", 0},
		{"cancelled", func(r *remote) { r.end() }, "This sign-in is over", 0},
		{"killed", func(r *remote) {
			r.Close()
			<-r.ended
		}, "The program on devbox has ended", 1}, // the last one is noted when the next has come
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, nil)
			for i := range maxByHost + maxMisses + row.more {
				r := w.holdFor(Origin{Host: "devbox", Since: alwaysThere}, fmt.Sprintf("https://mcp.example/%d", i))
				if how := r.show(); how != helper.HowConfirm {
					t.Fatalf("page %d: the person sees %q", i, how)
				}
				page := w.page(w.visit())
				row.end(r)
				w.backdate(r)
				w.checkText(w.get(page), 200, row.page)
			}
			r := w.hold("devbox")
			r.send(r.message())
			if e := r.receive(helper.TypeError); e.Kind != helper.KindTooMany {
				t.Errorf("got %+v", e)
			}
			w.checkNoVisit("a silent host")
		})
	}
}

// A login whose time the person lets pass is a page in vain, whoever notes it first.
func TestLoginsThatThePersonLetsPass(t *testing.T) {
	w := newWorld(t, nil)
	for i := range maxMisses {
		r := w.holdFor(Origin{Host: "devbox"}, fmt.Sprintf("https://mcp.example/%d", i))
		m := r.message()
		m.Expires = time.Now().Add(2 * time.Second)
		r.send(m)
		r.receive(helper.TypeShown)
		page := w.page(w.visit())
		w.mu.Lock()
		w.logins[r.id].page.launched = time.Now().Add(-fairTime)
		w.mu.Unlock()
		if i > 0 { // HOST says so first
			r.end()
			continue
		}
		<-time.After(time.Until(m.Expires))
		for !strings.Contains(w.get(page).text, "Too late") {
		}
	}
	r := w.hold("devbox")
	r.send(r.message())
	if e := r.receive(helper.TypeError); e.Kind != helper.KindTooMany {
		t.Errorf("got %+v", e)
	}
}

// A HOST that is trusted, and whose own login server sends the browser back at once, cannot open
// pages without end.
func TestBrakeOfATrustedHost(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TrustHosts = []string{"rogue"} })
	for range maxPages {
		r := w.hold("rogue")
		r.show()
		w.visit()
		w.browse(http.MethodGet, r.callback("code=x"), "")
		r.receive(helper.TypeCallback)
		r.send(helper.Message{Type: helper.TypeOutcome, OK: true})
		r.end()
	}
	r := w.hold("rogue")
	r.send(r.message())
	if e := r.receive(helper.TypeError); e.Kind != helper.KindTooMany {
		t.Errorf("after %d pages: %+v", maxPages, e)
	}
	w.checkNoVisit("too many pages")
	if n := strings.Count(w.said.String(), "rogue"); n > maxTold {
		t.Errorf("the person got %d lines", n)
	}
}

// The next login has its turn when the page before it is done, or when there is a silence, hears
// so.
func TestTurns(t *testing.T) {
	w := newWorld(t, nil)
	first, second := w.hold("devbox"), w.hold("devbox")
	first.show()
	w.visit()
	if how := second.show(); how != helper.HowWaiting {
		t.Errorf("the second sees %q", how)
	}
	w.browse(http.MethodGet, first.callback("code=x"), "")
	first.receive(helper.TypeCallback)
	first.send(helper.Message{Type: helper.TypeEnd})
	if how := second.receive(helper.TypeShown).How; how != helper.HowConfirm {
		t.Errorf("after its turn has come, the second sees %q", how)
	}
	w.visit()
}

// Thousands of logins at once are refused, and others are served.
func TestThousandsOfLogins(t *testing.T) {
	w := newWorld(t, nil)
	for range maxLoginsOfHost {
		w.hold("rogue")
	}
	for range 200 {
		r := w.connect(Origin{Host: "rogue"}, helper.Message{Login: newName(), RedirectURI: "http://127.0.0.1:0/"})
		if e := r.receive(helper.TypeError); e.Kind != helper.KindTooMany {
			t.Fatalf("got %+v", e)
		}
		if err := <-r.ended; err == nil {
			t.Fatal("the desk does not say that it refused")
		}
	}
	w.hold("devbox").show()
	w.visit()
}

// A HOST that speaks no protocol, too much of it, or reads nothing, harms only its own connection.
func TestRogueWords(t *testing.T) {
	w := newWorld(t, nil)
	for name, text := range map[string]string{
		"nonsense": "GET / HTTP/1.1\r\n\r\n", "another version": `{"type":"hello","version":99}` + "\n",
		"a long line":  `{"type":"hello","version":1,"text":"` + strings.Repeat("x", 1<<17),
		"no hold":      `{"type":"hello","version":1}` + "\n" + `{"type":"login"}` + "\n",
		"a short name": `{"type":"hello","version":1}` + "\n" + `{"type":"hold","login":"x","redirect_uri":"http://127.0.0.1:0/"}` + "\n",
		"a wide port":  `{"type":"hello","version":1}` + "\n" + `{"type":"hold","login":"` + newName() + `","redirect_uri":"http://0.0.0.0:80/"}` + "\n",
	} {
		near, far := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- w.Serve(context.Background(), far, Origin{Host: "rogue"}) }()
		go io.Copy(io.Discard, near)
		near.SetDeadline(time.Now().Add(patience))
		near.Write([]byte(text))
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		case <-time.After(patience):
			t.Errorf("%s: it is still served", name)
		}
		near.Close()
	}
	r := w.hold("rogue")
	r.send(r.message())
	m := r.message()
	for range 4 * maxQueued { // each is answered, and nothing is read
		if r.Send(m) != nil {
			break
		}
	}
	<-r.ended
	w.hold("devbox").show()
}

// Names and words of HOST are short and printable wherever a person meets them.
func TestRogueTexts(t *testing.T) {
	w := newWorld(t, nil)
	r := w.connect(Origin{Host: "rogue"}, helper.Message{Login: newName(), RedirectURI: "http://127.0.0.1:0/",
		Upstream: "https://mcp.example/\x1b]0;x\a\u202e<img src=x onerror=alert(1)>\n" + strings.Repeat("y", 9000)})
	r.held, r.state = r.receive(helper.TypeHeld), newName()
	m := r.message()
	m.Issuer = "https://idp.example/\u202e<b>"
	r.send(m)
	r.receive(helper.TypeShown)
	a := w.get(w.visit())
	for _, bad := range []string{"\x1b", "\a", "\u202e", strings.Repeat("y", 300)} {
		if strings.Contains(a.text, bad) || strings.Contains(w.said.String(), bad) {
			t.Errorf("%q reached the person", bad)
		}
	}
	if strings.Contains(a.text, "<img") || strings.Contains(a.text, "<b>") {
		t.Errorf("HOST wrote the page: %s", a.text)
	}
	w.checkText(a, 200, "&lt;img")
}

// Only the page itself can answer for the person.
func TestForms(t *testing.T) {
	w := newWorld(t, nil)
	r := w.hold("devbox")
	r.show()
	page := w.page(w.visit())
	token := "token=" + tokenField.FindStringSubmatch(w.get(page).text)[1]
	own := "http://" + w.pages.addr
	for _, row := range []struct {
		name, method, link, form string
		headers                  []string
		status                   int
	}{
		{"no token", "POST", page, "choice=continue", []string{"Origin", own}, 403},
		{"another token", "POST", page, "choice=continue&token=x", []string{"Origin", own}, 403},
		{"from another site", "POST", page, token + "&choice=continue", []string{"Origin", "https://evil.example"}, 403},
		{"from a sandbox", "POST", page, token + "&choice=continue", []string{"Origin", "null"}, 403},
		{"cross-site", "POST", page, token + "&choice=continue", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"from another port", "POST", page, token + "&choice=continue", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"JSON", "POST", page, token + "&choice=continue", []string{"Content-Type", "text/plain"}, 403},
		{"too long", "POST", page, strings.Repeat("x", maxForm) + "&" + token + "&choice=continue", []string{"Origin", own}, 403},
		{"DNS rebinding", "POST", page, token + "&choice=continue", []string{"Host", "evil.example:80"}, 421},
		{"DNS rebinding, reading", "GET", page, "", []string{"Host", "evil.example"}, 421},
		{"by the name localhost", "GET", page, "", []string{"Host", strings.Replace(w.pages.addr, "127.0.0.1", "localhost", 1)}, 421},
		{"by GET", "GET", page + "?" + token + "&choice=continue", "", nil, 200},
		{"in a frame", "GET", page, "", []string{"Sec-Fetch-Dest", "iframe", "Sec-Fetch-Mode", "navigate"}, 403},
		{"by a script", "GET", page, "", []string{"Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "cors"}, 403},
		{"another page", "GET", own + loginPath + newName(), "", nil, 404},
		{"no page", "GET", own + "/", "", nil, 404},
	} {
		if a := w.browse(row.method, row.link, row.form, row.headers...); a.StatusCode != row.status {
			t.Errorf("%s: got %d, want %d: %s", row.name, a.StatusCode, row.status, a.text)
		}
	}
	a := w.get(page)
	w.checkText(a, 200, "Refuse") // nothing of this was an answer
	for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		"Content-Security-Policy": pageCSP(), "Cross-Origin-Opener-Policy": "same-origin", "Set-Cookie": ""} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// The port of a login takes what a browser shows as a page, and nothing else.
func TestRequestsToThePort(t *testing.T) {
	w := newWorld(t, nil)
	r := w.hold("devbox")
	r.show()
	w.visit()
	good := r.callback("code=x")
	for _, row := range []struct {
		name, method, link string
		headers            []string
		status             int
	}{
		{"DNS rebinding", "GET", good, []string{"Host", "evil.example"}, 421},
		{"POST", "POST", good, nil, 405},
		{"HEAD", "HEAD", good, nil, 405},
		{"a picture", "GET", good, []string{"Sec-Fetch-Dest", "image", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"a frame", "GET", good, []string{"Sec-Fetch-Dest", "iframe", "Sec-Fetch-Mode", "navigate"}, 403},
		{"a service worker", "GET", good, []string{"Service-Worker", "script"}, 403},
		{"a prefetch", "GET", good, []string{"Sec-Purpose", "prefetch;prerender"}, 403},
		{"a WebSocket", "GET", good, []string{"Upgrade", "websocket"}, 403},
		{"too long", "GET", good + strings.Repeat("x", maxQuery), nil, 414},
		{"nobody's", "GET", r.held.RedirectURI + "callback?code=x", nil, 400},
		{"the callback", "GET", good, []string{"Sec-Fetch-Dest", "document", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "cross-site"}, 303},
		{"the callback again", "GET", good + "&again", nil, 303},
	} {
		if a := w.browse(row.method, row.link, "", row.headers...); a.StatusCode != row.status {
			t.Errorf("%s: got %d, want %d: %s", row.name, a.StatusCode, row.status, a.text)
		}
	}
	if got, want := r.receive(helper.TypeCallback).Query, "state="+r.state+"&code=x"; got != want {
		t.Errorf("HOST got %q, want %q", got, want)
	}
	if w.get(strings.Replace(good, "127.0.0.1", "localhost", 1)).StatusCode != 200 {
		t.Error("the callback to localhost is not answered")
	}
}

// rogueTool is a tool of HOST that wants to stay in the browser.
func rogueTool(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	for name, value := range map[string]string{
		"Set-Cookie": "a=b", "Service-Worker-Allowed": "/", "Clear-Site-Data": `"*"`, "Strict-Transport-Security": "max-age=9", "Refresh": "0;url=https://evil.example",
		"WWW-Authenticate": "Basic", "Link": "</x>;rel=preload", "Cache-Control": "max-age=999", "Content-Security-Policy": "default-src *", "Access-Control-Allow-Origin": "*",
	} {
		h.Set(name, value)
	}
	switch r.URL.Path {
	case "/script":
		h.Set("Content-Type", "text/javascript")
	case "/svg":
		h.Set("Content-Type", "image/svg+xml")
	case "/elsewhere":
		h.Set("Location", "https://tool.example/done")
		w.WriteHeader(302)
	case "/file":
		h.Set("Location", "file:///etc/passwd")
		w.WriteHeader(302)
	case "/javascript":
		h.Set("Location", "javascript:alert(1)")
		w.WriteHeader(302)
	case "/next":
		h.Set("Location", "/after")
		w.WriteHeader(302)
	case "/to":
		h.Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(302)
	case "/early":
		for range 50 {
			w.WriteHeader(100)
		}
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		h.Set("Content-Type", "text/html")
	case "/long":
		io.WriteString(w, strings.Repeat("x", 2*maxCarriedPage))
	default:
		h.Set("Content-Type", "text/html")
	}
	fmt.Fprintf(w, "carried %v", r.Header)
}

// carryFrom makes a handler that carries to a tool, as if it ran on HOST.
func carryFrom(t *testing.T, tool http.HandlerFunc) *Carrier {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: tool}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	c := NewCarrier(func(err error) (string, []string) { return err.Error(), nil }, slog.New(slog.DiscardHandler))
	c.Add(&Host{Name: "devbox"})
	c.dialHost = func(ctx context.Context, _ *Host, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
	return c
}

// What --port carries is put into a sandbox.
func TestCarriedPages(t *testing.T) {
	w := newWorld(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	if err := w.Carry(t.Context(), carryFrom(t, rogueTool), []int{port}); err != nil {
		t.Fatal(err)
	}
	origin := fmt.Sprintf("http://127.0.0.1:%d", port)
	a := w.browse(http.MethodGet, origin+"/callback?code=x", "", "Cookie", "secret=1", "Authorization", "Basic x", "X-Mine", "y", "Accept-Language", "de", "Origin", "https://evil.example")
	w.checkText(a, 200, "carried", "Accept-Language:[de]")
	for _, bad := range []string{"secret", "Basic", "X-Mine", "evil"} {
		if strings.Contains(a.text, bad) {
			t.Errorf("HOST got %q: %s", bad, a.text)
		}
	}
	want := map[string]string{"Content-Type": "text/html", "Content-Security-Policy": carriedCSP, "X-Content-Type-Options": "nosniff",
		"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin"}
	for name := range a.Header {
		if _, ok := want[name]; !ok && name != "Date" && name != "Connection" && name != "Content-Length" {
			t.Errorf("the browser got %s: %s", name, a.Header.Get(name))
		}
	}
	for name, value := range want {
		if got := a.Header.Get(name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	for path, kind := range map[string]string{"/script": "text/plain; charset=utf-8", "/svg": "text/plain; charset=utf-8"} {
		if got := w.browse(http.MethodGet, origin+path, "").Header.Get("Content-Type"); got != kind {
			t.Errorf("%s has the type %q", path, got)
		}
	}
	if a := w.browse(http.MethodGet, origin+"/elsewhere", ""); a.Header.Get("Location") != "https://tool.example/done" {
		t.Errorf("a redirect became %d %v", a.StatusCode, a.Header)
	}
	if a := w.browse(http.MethodGet, origin+"/next", ""); a.Header.Get("Location") != origin+"/after" {
		t.Errorf("a redirect to a page of the tool's own became %d %v", a.StatusCode, a.Header)
	}
	elsewhere := []string{"/file", "/javascript"}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "a.localhost", "127.9.9.9", "0.0.0.0", "127.1", "2130706433", "0x7f.1", "0177.0.0.1",
		"localhost.", "[::ffff:127.0.0.1]", "[::]"} {
		elsewhere = append(elsewhere, "/to?to="+url.QueryEscape("http://"+host+":8080/admin"), "/to?to="+url.QueryEscape("https://"+host+"/admin"))
	}
	for _, path := range elsewhere {
		w.checkText(w.browse(http.MethodGet, origin+path, ""), 502, "not led to")
	}
	w.checkEarly(origin + "/early")
	if a := w.browse(http.MethodGet, origin+"/long", ""); len(a.text) > maxCarriedPage {
		t.Errorf("%d bytes are carried", len(a.text))
	}
	for _, headers := range [][]string{{"Service-Worker", "script"}, {"Sec-Fetch-Dest", "iframe"}, {"Sec-Fetch-Mode", "cors"}, {"Host", "evil.example"}} {
		if a := w.browse(http.MethodGet, origin+"/callback", "", headers...); strings.Contains(a.text, "carried map") {
			t.Errorf("%v is carried", headers)
		}
	}
	// A login of our own shares the port, and its callback is not carried.
	r := w.connect(Origin{Host: "devbox"}, helper.Message{Login: newName(), RedirectURI: origin + "/", Fixed: true})
	r.held, r.state = r.receive(helper.TypeHeld), newName()
	r.show()
	if a := w.browse(http.MethodGet, r.callback("code=x"), ""); a.StatusCode != 303 {
		t.Errorf("the callback of a login is answered by %d %s", a.StatusCode, a.text)
	}
}

// checkEarly reports what a tool sends the browser before its answer.
func (w *world) checkEarly(link string) {
	w.t.Helper()
	var early []string
	ctx := httptrace.WithClientTrace(w.t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		early = append(early, fmt.Sprint(code, h))
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if len(early) > 0 || resp.StatusCode != 200 || resp.Header.Get("Set-Cookie") != "" || resp.Header.Get("Content-Security-Policy") != carriedCSP {
		w.t.Errorf("early %v, then %d %v", early, resp.StatusCode, resp.Header)
	}
}

// A tool that never finishes the header of its answer gets an error page in its place.
func TestCarriedAnswerThatNeverEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	c := carryFrom(t, rogueTool)
	c.dialHost = func(context.Context, *Host, int) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { // ends with the connection
			if _, err := far.Read(make([]byte, 1)); err != nil { // an answer to nothing is refused at once
				return
			}
			go io.Copy(io.Discard, far)
			text := "HTTP/1.1 200 OK\r\n"
			for {
				if _, err := io.WriteString(far, text); err != nil {
					return
				}
				<-time.After(time.Second)
				text = "X-More: x\r\n"
			}
		}()
		return near, nil
	}
	if err := w.Carry(t.Context(), c, []int{port}); err != nil {
		t.Fatal(err)
	}
	w.checkText(w.browse(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/callback?code=x", port), ""), 502, "Not carried", "does not answer in time")
}

// A rogue HOST that offers to make connections, and sends bytes of them that nobody has asked for,
// or garbage once it was asked, opens nothing and ends nothing but these connections.
func TestRogueBytes(t *testing.T) {
	dialed := make(chan error, 1)
	w := newWorld(t, func(c *Config) {
		c.TrustHosts = []string{"rogue"}
		c.Far = func(ctx context.Context, p FarPage) FarResult {
			conn, err := p.Dial(ctx, "tcp", "login.example:443")
			if err == nil {
				conn.Close()
			}
			dialed <- err
			return FarResult{Words: "it is not reached", Unreached: true, Why: err.Error()}
		}
	})
	r := w.connect(Origin{Host: "rogue"}, helper.Message{Login: newName(), RedirectURI: "http://127.0.0.1:0/", Dials: true})
	r.held, r.state = r.receive(helper.TypeHeld), newName()
	garbage := helper.Message{Type: helper.TypeBytes, Bytes: "////////////////////////"}
	for range 100 {
		r.send(garbage)
	}
	r.send(r.message())
	r.receive(helper.TypeBytes) // it is asked for a connection
	r.send(helper.Message{Type: helper.TypeBytes, Bytes: "no base64"})
	r.send(garbage)
	if err := <-dialed; err == nil {
		t.Error("garbage is a connection")
	}
	for m := r.receiveAny(); m.How != helper.HowUnreached; m = r.receiveAny() {
		if m.Type != helper.TypeBytes && m.Type != helper.TypeShown {
			t.Fatalf("got %+v", m)
		}
	}
	w.checkText(w.get(w.visit()), 200, "The login server is not reached")
	w.browse(http.MethodGet, r.callback("code=x"), "")
	for m := r.receiveAny(); m.Type != helper.TypeCallback; m = r.receiveAny() {
		if m.Type != helper.TypeBytes && m.Type != helper.TypeShown {
			t.Fatalf("got %+v", m)
		}
	}
}

// receiveAny returns the next message.
func (r *remote) receiveAny() helper.Message {
	m, err := r.Receive()
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}
