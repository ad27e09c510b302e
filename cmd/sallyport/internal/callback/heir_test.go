package callback

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

// backdate makes the end of a login's connection longer ago than anything waits for.
func (w *world) backdate(r *remote) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.shown {
		if l.id == r.id {
			l.page.awaySince = l.page.awaySince.Add(-endedTime)
		}
	}
}

// silent makes the last sign of life of a login's tab longer ago by d.
func (w *world) silent(r *remote, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logins[r.id].page.seen = w.logins[r.id].page.seen.Add(-d)
}

// next is the login that a program begins after its end, with the page that it is shown.
func (w *world) next(from Origin) (r *remote, how string) {
	w.t.Helper()
	r = w.holdFor(from, "https://mcp.example/mcp")
	if how = r.show(); how == helper.HowWaiting {
		how = r.receive(helper.TypeShown).How
	}
	return r, how
}

// checkLeadsTo looks at a page that must lead the tab on to the login page of a login by itself.
func (w *world) checkLeadsTo(page string, r *remote) {
	w.t.Helper()
	w.checkAnswerLeadsTo(w.get(page), r)
}

// checkAnswerLeadsTo is checkLeadsTo for a page that the browser has.
func (w *world) checkAnswerLeadsTo(a answer, r *remote) {
	w.t.Helper()
	for range 3 {
		_, to, _ := strings.Cut(a.Header.Get("Refresh"), "url=")
		if to == "" || strings.HasPrefix(to, "https:") {
			if !strings.Contains(to, "state="+r.state) {
				w.t.Errorf("the page leads to %q: %s", to, a.text)
			}
			return
		}
		a = w.get(to)
	}
	w.t.Error("the page leads nowhere")
}

// A program on HOST is killed in mid-login, or its MCP host starts it anew, and asks again. The tab
// of before goes on with the new login, wherever it is, and no other page opens.
func TestTheNextLoginTakesOverTheTab(t *testing.T) {
	t.Parallel()
	ends := map[string]func(*remote){
		"killed": func(r *remote) {
			r.Close()
			<-r.ended
		},
		"started anew": func(r *remote) { r.end() },
	}
	devbox, local := Origin{Host: "devbox", Since: alwaysThere}, Origin{Local: true}
	for name, end := range ends {
		for _, from := range []Origin{devbox, {Host: "unknown"}, local} {
			t.Run(name+" on "+from.Host, func(t *testing.T) {
				t.Parallel()
				tryTakeOver(t, from, end)
			})
		}
	}
}

func tryTakeOver(t *testing.T, from Origin, end func(*remote)) {
	begin := func(t *testing.T) (*world, *remote, string) {
		w := newWorld(t, nil)
		first := w.holdFor(from, "https://mcp.example/mcp")
		first.show()
		return w, first, w.visit()
	}
	if !from.Local { // a login of this machine is not asked about
		t.Run("while the browser starts", func(t *testing.T) {
			w, first, visit := begin(t)
			end(first)
			next, _ := w.next(from)
			page := w.page(visit)
			w.checkText(w.get(page), 200, "wants to sign in", "Refuse")
			w.checkAnswerLeadsTo(w.choose(page, "continue", ""), next)
			w.checkNoVisit("there is a tab")
		})
		t.Run("at our question", func(t *testing.T) {
			w, first, visit := begin(t)
			page := w.page(visit)
			w.get(page)
			end(first)
			next, how := w.next(from)
			if how != helper.HowConfirm {
				t.Errorf("HOST is told %q", how)
			}
			w.checkAnswerLeadsTo(w.choose(page, "continue", ""), next)
			w.checkNoVisit("there is a tab")
		})
	}
	opened := func(t *testing.T) (*world, *remote) {
		w, first, visit := begin(t)
		page := w.page(visit)
		if from.Local {
			w.checkLeadsTo(page, first)
			return w, first
		}
		w.checkAnswerLeadsTo(w.choose(page, "continue", ""), first)
		first.receive(helper.TypeShown)
		return w, first
	}
	t.Run("at the login server", func(t *testing.T) {
		w, first := opened(t)
		end(first)
		next, how := w.next(from)
		if how != helper.HowOpened {
			t.Errorf("HOST is told %q", how)
		}
		w.comeBack(first, next)
	})
	t.Run("after the login server", func(t *testing.T) {
		w, first := opened(t)
		to, _ := w.browse(http.MethodGet, first.callback("code=old"), "").Location()
		first.receive(helper.TypeCallback)
		end(first)
		next, _ := w.next(from)
		w.checkLeadsTo(to.String(), next)
		w.checkNoVisit("there is a tab")
	})
	t.Run("killed again and again", func(t *testing.T) {
		w, first := opened(t)
		end(first)
		second, _ := w.next(from)
		end(second)
		third, _ := w.next(from)
		w.comeBack(first, third)
	})
}

// receiveCallback returns the callback, after what the person sees.
func (r *remote) receiveCallback() helper.Message {
	r.t.Helper()
	m, err := r.Receive()
	for err == nil && m.Type == helper.TypeShown {
		m, err = r.Receive()
	}
	if err != nil || m.Type != helper.TypeCallback {
		r.t.Fatalf("got %+v, %v, want a callback", m, err)
	}
	return m
}

// comeBack has the browser come back with the code of a login that is over, and then with that of
// the next. Each gets its own at most.
func (w *world) comeBack(first, next *remote) {
	w.t.Helper()
	// The port of the first is that of the next where both want the same.
	w.mu.Lock()
	l := w.logins[next.id]
	number := l.port.number
	if old := w.logins[first.id]; old != nil {
		number = old.port.number
	}
	w.mu.Unlock()
	link := strings.Replace(first.callback("code=old"), first.held.RedirectURI, "http://"+hostPort(loopback4, number)+"/", 1)
	to, err := w.browse(http.MethodGet, link, "").Location()
	if err != nil {
		w.t.Fatalf("the old callback leads nowhere: %v", err)
	}
	w.checkLeadsTo(to.String(), next)
	w.checkNoVisit("there is a tab")
	w.browse(http.MethodGet, next.callback("code=new"), "")
	if m := next.receiveCallback(); !strings.Contains(m.Query, "code=new") || strings.Contains(m.Query, "old") {
		w.t.Errorf("the next login got %+v", m)
	}
}

// A tab that gives no sign of life may be closed, so the page opens.
func TestATabThatIsGoneIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	from := Origin{Host: "devbox", Since: alwaysThere}
	for _, row := range []struct {
		name string
		ago  time.Duration
	}{{"for long", time.Hour}, {"in a moment", patience/2 - comebackTime - time.Second}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			first := w.holdFor(from, "https://mcp.example/mcp")
			first.show()
			page := w.page(w.visit())
			w.silent(first, row.ago)
			first.Close()
			<-first.ended
			w.next(from)
			if again := w.page(w.visit()); again != page {
				t.Errorf("%s opens, and not %s", again, page)
			}
		})
	}
}

// Only what asks the person for the same is the next login.
func TestAnotherLoginTakesNoTab(t *testing.T) {
	t.Parallel()
	from := Origin{Host: "devbox", Since: alwaysThere}
	for name, next := range map[string]func(*world) (*remote, helper.Message){
		"another host": func(w *world) (*remote, helper.Message) { r := w.hold("other"); return r, r.message() },
		"another upstream": func(w *world) (*remote, helper.Message) {
			r := w.holdFor(from, "https://x.example")
			return r, r.message()
		},
		"another client": func(w *world) (*remote, helper.Message) {
			r := w.holdFor(from, "https://mcp.example/mcp")
			m := r.message()
			m.AuthorizeURL = strings.Replace(m.AuthorizeURL, "client_id=c&", "client_id=d&", 1)
			return r, m
		},
		"without a page": func(w *world) (*remote, helper.Message) {
			r := w.holdFor(from, "https://mcp.example/mcp")
			m := r.message()
			m.AuthorizeURL += "&prompt=none"
			return r, m
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			first := w.holdFor(from, "https://mcp.example/mcp")
			first.show()
			page := w.page(w.visit())
			w.checkAnswerLeadsTo(w.choose(page, "continue", ""), first)
			first.Close()
			<-first.ended
			r, m := next(w)
			r.send(m)
			w.checkText(w.get(w.visit()), 200, "wants to sign in", "Refuse")
			w.backdate(first)
			w.checkText(w.get(page), 200, "The program on devbox has ended")
			to, _ := w.browse(http.MethodGet, first.callback("code=old"), "").Location()
			w.checkText(w.get(to.String()), 200, "The program on devbox has ended", "You have signed in")
		})
	}
}

// A login that was taken for one that has ended comes back, and has its page again.
func TestALoginComesBackAfterItsHeir(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	from := Origin{Host: "devbox", Since: alwaysThere}
	first := w.holdFor(from, "https://mcp.example/mcp")
	first.show()
	page := w.page(w.visit())
	first.Close()
	<-first.ended
	next, _ := w.next(from)
	back := w.connect(from, helper.Message{Login: first.id, Upstream: "https://mcp.example/mcp", RedirectURI: first.held.RedirectURI})
	back.held, back.state = back.receive(helper.TypeHeld), first.state
	if how := back.show(); how != helper.HowWaiting {
		t.Errorf("beside its heir it is shown %q", how)
	}
	w.choose(page, "refuse", "")
	next.receive(helper.TypeError)
	if how := back.receive(helper.TypeShown).How; how != helper.HowConfirm {
		t.Errorf("after its heir it is shown %q", how)
	}
	w.choose(w.page(w.visit()), "continue", "")
	w.browse(http.MethodGet, back.callback("code=x"), "")
	back.receiveCallback()
}

// A rogue HOST does not get one code after the other for one Continue.
func TestRogueHeirsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	from := Origin{Host: "rogue", Since: alwaysThere}
	r := w.holdFor(from, "https://mcp.example/mcp")
	r.show()
	w.choose(w.page(w.visit()), "continue", "")
	codes := 0
	for range 3 * maxHeirs {
		w.browse(http.MethodGet, r.callback("code=x"), "")
		codes++
		r.end()
		how := ""
		if r, how = w.next(from); how == helper.HowConfirm {
			break
		}
	}
	if codes > maxHeirs+1 {
		t.Errorf("one Continue was good for %d codes", codes)
	}
}

// What the page says of a login that is away depends on HOST.
func TestAwayOrEnded(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		since func() time.Time
		want  string
	}{
		{"HOST is away", func() time.Time { return time.Time{} }, "devbox is away"},
		{"HOST is back this moment", time.Now, "devbox is away"},
		{"HOST is there", alwaysThere, "The program on devbox has ended"},
		{"nobody knows", nil, "Has the program there ended meanwhile?"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			r := w.holdFor(Origin{Host: "devbox", Since: row.since}, "https://mcp.example/mcp")
			r.show()
			w.choose(w.page(w.visit()), "continue", "")
			r.Close()
			<-r.ended
			to, _ := w.browse(http.MethodGet, r.callback("code=x"), "").Location()
			w.checkText(w.get(to.String()), 200, "devbox is away") // it may be back in a moment
			w.backdate(r)
			w.checkText(w.get(to.String()), 200, row.want)
		})
	}
}
