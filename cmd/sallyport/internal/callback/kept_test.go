package callback

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

// again makes a connection of the same login to another desk, as HOST does after the first is gone.
func (r *remote) again(w *world, host string) *remote {
	w.t.Helper()
	next := w.connect(Origin{Host: host}, helper.Message{Login: r.id, Upstream: "https://mcp.example/mcp", RedirectURI: r.held.RedirectURI, Fixed: true})
	next.held = next.receive(helper.TypeHeld)
	next.state = r.state
	return next
}

// A callback outlives the process that it came to, until HOST has told the outcome. The page that
// the browser shows goes on.
func TestCallbackOutlivesTheProcess(t *testing.T) {
	kept := NewKept(t.TempDir())
	keep := func(c *Config) { c.Kept = kept }
	first := newWorld(t, keep)
	r := first.hold("devbox")
	r.show()
	first.visit()
	page, err := first.browse(http.MethodGet, r.callback("code=c0de"), "").Location()
	if err != nil {
		t.Fatal(err)
	}
	r.receive(helper.TypeCallback)
	files := entries(kept.Dir)
	if len(files) != 1 {
		t.Fatalf("kept in %q", files)
	}
	if fi, err := os.Stat(files[0]); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", fi, err)
	}
	if text, _ := os.ReadFile(files[0]); strings.Contains(string(text), r.id) {
		t.Error("the file holds the name of the login")
	}
	first.Desk.Close()

	second := newWorld(t, keep)
	second.checkText(second.get(page.String()), http.StatusOK, "devbox is away", "goes on by itself")
	other := r.again(second, "other") // knows the name, and is another HOST
	other.send(other.message())
	other.receive(helper.TypeShown)
	other.end()
	next := r.again(second, "devbox")
	next.send(next.message())
	if m := next.receive(helper.TypeCallback); m.Query != "state="+r.state+"&code=c0de" {
		t.Errorf("HOST is given %q", m.Query)
	}
	second.visit() // that of the other HOST
	second.checkNoVisit("the person has signed in already")
	next.send(helper.Message{Type: helper.TypeOutcome, OK: true})
	next.end()
	second.checkText(second.get(page.String()), http.StatusOK, "devbox is signed in")
	if files := entries(kept.Dir); len(files) != 0 {
		t.Errorf("after the outcome %q is kept", files)
	}
}

// What is kept is not used for a login that has begun again, nor after its time, and goes away.
func TestKeptCallbackThatIsOfNoUse(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*keptCallback)
		end    func(*world, *remote)
	}{
		{"another state", func(c *keptCallback) { c.State = newName() }, nil},
		{"too late", func(c *keptCallback) { c.Expires = time.Now() }, nil},
		{"another HOST's", func(c *keptCallback) { c.Host = "other" }, nil},
		{"the login was cancelled", nil, func(_ *world, r *remote) { r.send(helper.Message{Type: helper.TypeEnd}) }},
		{"the exchange failed", nil, func(_ *world, r *remote) { r.send(helper.Message{Type: helper.TypeOutcome, Text: "no"}) }},
		{"a new login page", nil, func(_ *world, r *remote) { r.state = newName(); r.send(r.message()) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			kept := NewKept(t.TempDir())
			w := newWorld(t, func(c *Config) { c.Kept = kept })
			r := w.hold("devbox")
			if row.change != nil {
				c := keptCallback{Host: "devbox", State: r.state, Query: "code=old", Expires: time.Now().Add(time.Minute)}
				row.change(&c)
				if err := writeEntry(kept.file(r.id, "devbox"), c); err != nil {
					t.Fatal(err)
				}
				if how := r.show(); how != helper.HowConfirm {
					t.Errorf("the person sees %q", how)
				}
			} else {
				r.show()
				w.browse(http.MethodGet, r.callback("code=c0de"), "")
				r.receive(helper.TypeCallback)
				row.end(w, r)
			}
			r.end()
			if files := entries(kept.Dir); len(files) != 0 {
				t.Errorf("%q is kept", files)
			}
		})
	}
}

// HOST has got the callback from a process that was killed before it heard the outcome. The page
// that the browser shows tells it all the same.
func TestOutcomeForAProcessBeforeThisOne(t *testing.T) {
	kept := NewKept(t.TempDir())
	keep := func(c *Config) { c.Kept = kept }
	first := newWorld(t, keep)
	r := first.hold("devbox")
	r.show()
	first.visit()
	page, err := first.browse(http.MethodGet, r.callback("code=c0de"), "").Location()
	if err != nil {
		t.Fatal(err)
	}
	r.receive(helper.TypeCallback)
	first.Desk.Close()

	second := newWorld(t, keep)
	next := r.again(second, "devbox")
	next.send(helper.Message{Type: helper.TypeOutcome, OK: true})
	next.send(helper.Message{Type: helper.TypeEnd})
	next.receive(helper.TypeEnd)
	<-next.ended
	second.checkText(second.get(page.String()), http.StatusOK, "devbox is signed in", "https://mcp.example/mcp")
	if files := entries(kept.Dir); len(files) != 0 {
		t.Errorf("%q is kept", files)
	}
}
