package callback

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

// A login whose proxy was killed gives its turn to the next one. Its page still works, because the
// proxy may come back.
func TestALoginThatIsAwayKeepsNobodyWaiting(t *testing.T) {
	w := newWorld(t, nil)
	killed := w.hold("devbox")
	killed.show()
	page := w.page(w.visit())
	killed.Close()
	<-killed.ended
	next := w.holdFor(Origin{Host: "devbox"}, "https://another.example/mcp")
	if how := next.show(); how == helper.HowWaiting {
		how = next.receive(helper.TypeShown).How
		if how != helper.HowConfirm {
			t.Errorf("the person sees %q", how)
		}
	}
	w.checkText(w.get(w.visit()), http.StatusOK, "devbox wants to sign in")
	w.checkText(w.get(page), http.StatusOK, "devbox wants to sign in")
}

// A page that the brake keeps shut can be opened by hand, and the login comes through.
func TestALoginBehindTheBrakeIsOpenedByHand(t *testing.T) {
	w := newWorld(t, nil)
	for range maxMisses {
		r := w.hold("devbox")
		r.show()
		w.choose(w.page(w.visit()), "refuse", "")
	}
	r := w.hold("devbox")
	m := r.message()
	m.StartURL = r.held.RedirectURI + "start/" + newName()
	r.send(m)
	if e := r.receive(helper.TypeError); e.Kind != helper.KindTooMany {
		t.Fatalf("got %+v", e)
	}
	w.checkNoVisit("the brake holds")
	w.checkText(w.get(m.StartURL), 200, "devbox wants to sign in", "Refuse")
	if a := w.browse(http.MethodGet, r.callback("code=x"), ""); a.StatusCode != http.StatusSeeOther {
		t.Errorf("the callback is answered by %d: %s", a.StatusCode, a.text)
	}
	if got := r.receive(helper.TypeCallback).Query; !strings.Contains(got, "code=x") {
		t.Errorf("HOST got %q", got)
	}
}

// A rogue HOST cannot find out which ports of the workstation are taken.
func TestRogueTriesOutPorts(t *testing.T) {
	w := newWorld(t, nil)
	answers := map[string]int{}
	for range maxBusy + 4 {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		r := w.connect(Origin{Host: "rogue"}, helper.Message{Login: newName(), RedirectURI: "http://" + taken.Addr().String() + "/", Fixed: true})
		answers[r.receive(helper.TypeError).Kind]++
	}
	if answers[helper.KindPortBusy] != maxBusy || answers[helper.KindTooMany] != 4 {
		t.Errorf("the answers are %v", answers)
	}
	w.hold("rogue") // any port that is free
	w.hold("devbox")
}

// A login that asks for a taken port again and again is told of once.
func TestATakenPortIsToldOnce(t *testing.T) {
	w := newWorld(t, nil)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	id := newName()
	for range 3 {
		r := w.connect(Origin{Host: "devbox"}, helper.Message{Login: id, RedirectURI: "http://" + taken.Addr().String() + "/", Fixed: true})
		r.receive(helper.TypeError)
		<-r.ended
	}
	if n := strings.Count(w.said.String(), taken.Addr().String()); n != 1 {
		t.Errorf("the person got %d lines: %s", n, w.said)
	}
}

// This machine has slept, and so have its timers, while the login on HOST ended by the wall clock.
// The page and the callback say so as soon as the person comes back.
func TestALoginThatExpiredInOurSleep(t *testing.T) {
	for _, back := range []string{"to the page", "from the login server"} {
		w := newWorld(t, nil)
		r := w.hold("devbox")
		r.show()
		page := w.page(w.visit())
		w.mu.Lock()
		l := w.logins[r.id]
		if l.expires != l.expires.Round(0) {
			t.Errorf("the end of the login %v is not one of the wall clock", l.expires)
		}
		l.expires = time.Now().Add(-time.Second).Round(0)
		w.mu.Unlock()
		if back == "to the page" {
			w.checkText(w.get(page), 200, "Too late", "Start it again on devbox")
		} else {
			w.checkText(w.get(r.callback("code=x")), 200, "Too late")
		}
		w.checkFree(r)
	}
}
