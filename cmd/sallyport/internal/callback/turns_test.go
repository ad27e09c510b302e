package callback

import (
	"fmt"
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

// Logins that wait while the person is away, and lets the first page pass, count once. The next
// login has its page.
func TestAnAbsenceCountsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var first *remote
	for i := range maxMisses + 1 {
		r := w.holdFor(Origin{Host: "devbox"}, fmt.Sprintf("https://mcp.example/%d", i))
		m := r.message()
		m.Expires = time.Now().Add(3 * time.Second)
		r.send(m)
		r.receive(helper.TypeShown)
		if first == nil {
			first = r
		}
	}
	page := w.page(w.visit())
	w.mu.Lock()
	w.logins[first.id].page.launched = time.Now().Add(-fairTime)
	w.mu.Unlock()
	for over := false; !over; {
		<-time.After(50 * time.Millisecond)
		w.mu.Lock()
		over = len(w.logins) == 0
		w.mu.Unlock()
	}
	if strings.Contains(w.said.String(), "No page is opened for it") {
		t.Errorf("the person was told: %s", w.said)
	}
	w.checkText(w.get(page), 200, "Too late")
	if how := w.hold("devbox").show(); how != helper.HowConfirm {
		t.Errorf("back again, the person sees %q", how)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.brakes["devbox"].misses); n != 1 {
		t.Errorf("the brake counts %d pages in vain, want 1", n)
	}
}

// A page that nobody looks at keeps others waiting for a while. No more than a few are open then.
func TestAnUnansweredPageKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var pages []string
	for i := range maxUnanswered {
		r := w.holdFor(Origin{Host: "devbox"}, fmt.Sprintf("https://mcp.example/%d", i))
		if how := r.show(); how != helper.HowConfirm {
			t.Fatalf("page %d: the person sees %q", i, how)
		}
		pages = append(pages, w.page(w.visit()))
		w.silent(r, turnTime)
	}
	last := w.holdFor(Origin{Host: "devbox"}, "https://mcp.example/last")
	if how := last.show(); how != helper.HowWaiting {
		t.Errorf("beside %d pages the person sees %q", maxUnanswered, how)
	}
	for _, page := range pages { // the person is back
		w.choose(page, "continue", "")
	}
	w.choose(pages[0], "continue", "")
}
