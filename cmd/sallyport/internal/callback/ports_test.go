//go:build linux

package callback

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/machines"
)

// freePort returns a port on which nobody listens.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Another user of the workstation holds one of the loopback addresses: a browser that goes to
// localhost could find that user there. Another port is used, or the login is told.
func TestAnotherUserHoldsALoopback(t *testing.T) {
	machines.NeedMachine(t)
	stranger := machines.NewAccount(t)
	for _, addr := range []string{"[::1]", "127.0.0.1", "[::]"} {
		t.Run(addr, func(t *testing.T) {
			port := freePort(t)
			machines.StartCatcher(t, stranger, fmt.Sprintf("%s:%d", addr, port))
			w := newWorld(t, nil)
			for _, row := range []struct {
				host  string
				fixed bool
				// want is "same", "other" or "busy".
				want string
			}{
				{"localhost", false, "other"},
				{"127.0.0.1", false, "other"},
				{"localhost", true, "busy"},
				// A browser goes to the address that the redirect URI names, and to no other.
				{"127.0.0.1", true, map[bool]string{true: "same", false: "busy"}[addr == "[::1]"]},
				{"[::1]", true, map[bool]string{true: "same", false: "busy"}[addr == "127.0.0.1"]},
			} {
				wanted := fmt.Sprintf("http://%s:%d/", row.host, port)
				r := w.connect(Origin{Host: "devbox"}, helper.Message{Login: newName(), RedirectURI: wanted, Fixed: row.fixed})
				m, err := r.Receive()
				got := "other"
				switch {
				case err != nil:
					t.Fatal(err)
				case m.Type == helper.TypeError && m.Kind == helper.KindPortBusy:
					got = "busy"
					if strings.Contains(m.Text, stranger.Name) {
						t.Errorf("HOST learns who holds the port: %q", m.Text)
					}
				case m.RedirectURI == wanted:
					got = "same"
				}
				if got != row.want {
					t.Errorf("%+v: got %s (%+v)", row, got, m)
				}
				r.end()
			}
			if said := w.said.String(); !strings.Contains(said, fmt.Sprintf("user %d (%s)", stranger.UID, stranger.Name)) {
				t.Errorf("the holder is not named:\n%s", said)
			}
		})
	}
}

// The holder of a port is named by its process where that can be seen.
func TestHolderIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t, nil)
	err = w.Carry(t.Context(), NewCarrier(nil, nil), []int{l.Addr().(*net.TCPAddr).Port})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("held by process %d (", os.Getpid())) {
		t.Errorf("got %v", err)
	}
}

// privateDir returns a directory of mode 0700, whose path is short enough for a socket.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := machines.OpenDir(t)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startLocal serves a desk's helper socket.
func (w *world) startLocal() {
	w.t.Helper()
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- w.ServeLocal(w.ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		w.t.Fatal(err)
	}
}

// A second helper of this machine finds the port taken, and joins the first: its login gets its
// callback, and the page says from where it is. A cut in between loses nothing.
func TestSecondHelperJoinsTheFirst(t *testing.T) {
	machines.NeedMachine(t)
	dirs := []string{filepath.Join(privateDir(t), "browser")}
	first := newWorld(t, func(c *Config) { c.SocketDirs = dirs })
	second := newWorld(t, func(c *Config) { c.SocketDirs, c.TrustHosts = dirs, []string{"trustedbox"} })
	first.startLocal()
	second.startLocal()
	r := first.hold("devbox")
	r.show()
	first.visit()
	joined := func(host, id string) *remote {
		o := second.connect(Origin{Host: host}, helper.Message{Login: id, Upstream: "https://other.example/mcp", RedirectURI: r.held.RedirectURI, Fixed: true})
		o.held, o.state = o.receive(helper.TypeHeld), newName()
		return o
	}
	o := joined("otherbox", newName())
	if o.held.RedirectURI != r.held.RedirectURI || o.held.Host != "otherbox" {
		t.Errorf("held is %+v", o.held)
	}
	if how := o.show(); how != helper.HowConfirm {
		t.Errorf("the person sees %q", how)
	}
	second.checkNoVisit("the second helper has handed the login on")
	first.checkText(first.get(first.visit()), 200, "otherbox wants to sign in", "https://other.example/mcp")
	o.Close()
	<-o.ended
	first.browse(http.MethodGet, o.callback("code=other"), "")
	back := joined("otherbox", o.id)
	back.state = o.state
	back.show()
	if got := back.receive(helper.TypeCallback).Query; !strings.Contains(got, "code=other") {
		t.Errorf("after a cut the login of the second helper got %q", got)
	}
	if how := joined("trustedbox", newName()).show(); how != helper.HowOpened {
		t.Errorf("--trust of the second helper counts for nothing: %q", how)
	}
}

// A program of this machine that is no helper is served, too. It has no need to ask.
func TestLoginOfThisMachine(t *testing.T) {
	dirs := []string{filepath.Join(privateDir(t), "browser")}
	w := newWorld(t, func(c *Config) { c.SocketDirs = dirs })
	w.startLocal()
	sockets := w.localSockets()
	if len(sockets) == 0 {
		t.Fatal("no socket")
	}
	conn, err := helper.Dial(t.Context(), sockets[0])
	if err != nil {
		t.Fatal(err)
	}
	r := &remote{Conn: helper.NewConn(conn), t: t, state: newName()}
	defer r.Close()
	r.SetDeadline(time.Now().Add(patience))
	if err := r.Greet(); err != nil {
		t.Fatal(err)
	}
	r.send(helper.Message{Type: helper.TypeHold, Login: newName(), RedirectURI: "http://localhost:0/"})
	r.held = r.receive(helper.TypeHeld)
	if how := r.show(); how != helper.HowOpened {
		t.Errorf("the person sees %q", how)
	}
	w.browse(http.MethodGet, r.callback("code=x"), "")
	r.receive(helper.TypeCallback)
	u, _ := url.Parse(r.held.RedirectURI)
	for _, addr := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(addr, u.Port()))
		if err != nil {
			t.Error(err)
			continue
		}
		c.Close()
	}
}

// HOST may claim in its own words that a login is another's. It is not believed.
func TestFromOfAHostCountsForNothing(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TrustHosts = []string{"devbox"} })
	r := w.connect(Origin{Host: "rogue"}, helper.Message{Login: newName(), RedirectURI: "http://127.0.0.1:0/", From: "devbox", Trusted: true})
	r.held, r.state = r.receive(helper.TypeHeld), newName()
	if how := r.show(); how != helper.HowConfirm || r.held.Host != "rogue" {
		t.Errorf("the person sees %q of %q", how, r.held.Host)
	}
}

// Another user of this machine sees the arguments of the browser's program, and gets no page by it,
// nor uses the link up.
func TestAnotherUserOpensOurLink(t *testing.T) {
	machines.NeedMachine(t)
	stranger := machines.NewAccount(t)
	w := newWorld(t, nil)
	w.hold("devbox").show()
	visit := w.visit()
	curl := machines.NeedProgram(t, "curl", "curl")
	for _, link := range []string{visit, w.pages.url(loginPath, "x")} {
		out, err := stranger.Command(curl, "-s", "-L", "--noproxy", "*", "--max-time", "20", link).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "only the user whose sign-in this is") {
			t.Errorf("the stranger got %q, %v", out, err)
		}
	}
	if a := w.browse(http.MethodHead, visit, ""); a.StatusCode != http.StatusForbidden {
		t.Errorf("HEAD is answered by %d", a.StatusCode)
	}
	w.checkText(w.get(w.page(visit)), 200, "devbox wants to sign in")
}
