package oauth

import (
	"strings"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"
)

// takeover is the ceiling of the time in which another process takes over.
const takeover = 6 * time.Second

func TestAnotherTakesOverWhenTheLeaderIsKilled(t *testing.T) {
	t.Parallel()
	for point, want := range map[string]oauthtest.Stats{
		dieBeforePage:   {Registrations: 1, Authorizations: 1, Codes: 1},
		diePageShown:    {Registrations: 1, Authorizations: 1, Codes: 1},
		dieCodeReceived: {Registrations: 1, Authorizations: 2, Codes: 1},
		dieBeforeStore:  {Registrations: 1, Authorizations: 2, Codes: 2},
		dieAfterStore:   {Registrations: 1, Authorizations: 1, Codes: 1},
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.useWallClock()
			leader := w.startWorker(workerConfig{Die: point})
			leader.await("busy")
			var others []*worker
			if point != dieAfterStore { // then nobody waits any more
				for range 3 {
					others = append(others, w.startWorker(workerConfig{}))
				}
			}
			if point == dieBeforePage {
				for _, p := range others {
					p.await("busy")
				}
			} else {
				page := leader.await("page")
				for _, p := range others {
					link, _, _ := strings.Cut(page, " ")
					if got := p.await("shown"); got != link {
						t.Errorf("another process shows %s, the leader %s", got, link)
					}
				}
				if point != diePageShown {
					go w.visit(page) // ends with the leader
				}
			}
			leader.await("at " + point)
			if point == dieAfterStore {
				others = append(others, w.startWorker(workerConfig{}))
			}
			leader.kill()
			killed := time.Now()
			first, _ := w.serve(others)
			if took := first.Sub(killed); took > takeover {
				t.Errorf("taken over after %v", took)
			} else {
				t.Logf("taken over after %v", took)
			}
			w.wantStats(want)
		})
	}
}

func TestRefreshSurvivesKill(t *testing.T) {
	t.Parallel()
	for point, want := range map[string]oauthtest.Stats{
		dieRefreshing:  {Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1},
		dieBeforeStore: {Registrations: 1, Authorizations: 2, Codes: 2, Refreshes: 2}, // what the server spent is spent: asked again, not locked out
		dieAfterStore:  {Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: 1},
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.useWallClock()
			w.serve([]*worker{w.startWorker(workerConfig{})})
			leader := w.startWorker(workerConfig{Die: point, Ahead: 2 * time.Hour})
			leader.await("at " + point)
			var others []*worker
			for range 3 {
				others = append(others, w.startWorker(workerConfig{Ahead: 2 * time.Hour}))
			}
			leader.kill()
			w.serve(others)
			w.wantStats(want)
		})
	}
}

// A login in a terminal goes before the one that waits, which then counts on it.
func TestTerminalTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.useWallClock()
	proxies := []*worker{w.startWorker(workerConfig{})}
	proxies[0].await("page")
	proxies = append(proxies, w.startWorker(workerConfig{}))
	proxies[1].await("shown")
	terminal := w.startWorker(workerConfig{Terminal: true})
	page := terminal.await("page")
	link, _, _ := strings.Cut(page, " ")
	for _, p := range proxies {
		if got := p.await("shown"); got != link {
			t.Errorf("a proxy shows %s, the terminal %s", got, link)
		}
	}
	go w.visit(page) // ends with the terminal
	w.serve(append(proxies, terminal))
	w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1})
}
