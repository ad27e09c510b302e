//go:build linux

package share_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// soakSize is how many proxies the soak has.
const soakSize = 30

// soak is a crew at work for a long time.
type soak struct {
	*crew
	over    chan struct{}
	workers sync.WaitGroup
	// good is when each proxy sent the latest call that was answered with a result, in nanoseconds
	// since began.
	good  []atomic.Int64
	began time.Time

	mu sync.Mutex
	// answers counts the results, under "", and the errors by kind.
	answers map[string]int
	slowest time.Duration // of the results
}

// disturbances are what happens at random. Each takes as long as the fault lasts.
var disturbances = map[string]func(*soak){
	"killed":             func(s *soak) { s.signalShares(syscall.SIGKILL) },
	"stopped, continued": func(s *soak) { s.stopAwhile() },
	"connection cut":     func(s *soak) { s.hop.Drop() },
	"sshd restarted":     func(s *soak) { s.hop.Close(); s.pause(3 * time.Second); s.hop.Reopen(s.t) },
	"packets dropped":    func(s *soak) { s.cut(); <-time.After(3 * time.Second); s.uncut() },
	"share --stop":       func(s *soak) { s.run("share", "--stop") },
}

func (s *soak) stopAwhile() {
	s.signalShares(syscall.SIGSTOP)
	s.pause(8 * time.Second)
	s.signalShares(syscall.SIGCONT)
}

// pause is a random one, of limit at most.
func (s *soak) pause(limit time.Duration) { <-time.After(rand.N(limit)) }

// Thirty proxies work on one connection while all kinds of things happen to it. Every request is
// answered exactly once, and there are no more logins than things that happened, and the first.
func TestSoak(t *testing.T) {
	length, rest := 20*time.Second, time.Second
	if text := os.Getenv("SALLYPORT_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		rest = 12 * time.Second
	}
	s := &soak{crew: newCrew(t, machines.SSHDOptions{}), over: make(chan struct{}), good: make([]atomic.Int64, soakSize),
		answers: map[string]int{}, began: time.Now()}
	s.env = append(s.env, "LOG_LEVEL=info")
	s.start(soakSize)
	s.checkLogins(1)
	for i, p := range s.proxies {
		s.workers.Go(func() { s.work(i, p) })
	}
	kinds := slices.Sorted(maps.Keys(disturbances))
	happened, healed := map[string]int{}, map[string][]time.Duration{}
	faults := 0
	for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); faults++ {
		if faults%len(kinds) == 0 { // each once, then again in another order
			rand.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		}
		kind := kinds[faults%len(kinds)]
		happened[kind]++
		disturbances[kind](s)
		if rand.N(2) == 0 { // else the next one may come while the proxies find a connection
			healed[kind] = append(healed[kind], s.awaitAll())
			s.pause(rest)
		}
		if got := s.logins(); got > faults+2 {
			t.Errorf("%d logins after %d faults, the last of them %q", got, faults+1, kind)
		}
	}
	s.awaitAll()
	close(s.over)
	s.workers.Wait()
	for _, kind := range kinds {
		t.Logf("| %s | %d times | healed after %v |", kind, happened[kind], spanOf(healed[kind]))
	}
	t.Logf("%d faults, %d logins, answers %v, the slowest result after %v", faults, s.logins(), s.answers, s.slowest.Round(time.Millisecond))
	for i, p := range s.proxies {
		p.echo(t, fmt.Sprintf("end %d", i))
	}
	s.share()
	s.end()
}

// work makes one call after the other.
func (s *soak) work(i int, p *proxy) {
	for n := 0; ; n++ {
		message := fmt.Sprintf("soak %d %d", i, n)
		c := p.send("echo", message)
		select {
		case <-c.done:
		case <-p.exited:
			s.t.Errorf("proxy %d has ended; stderr:\n%s", i, p.stderr)
			return
		case <-time.After(2 * machines.Patience):
			s.t.Errorf("proxy %d does not answer; stderr:\n%s", i, p.stderr)
			return
		}
		kind, _, _ := strings.Cut(c.fault, ":")
		s.mu.Lock()
		s.answers[kind]++
		if c.fault == "" {
			s.slowest = max(s.slowest, c.answered.Sub(c.sent))
			s.good[i].Store(int64(c.sent.Sub(s.began)))
			if c.text != "Echo: "+message {
				s.t.Errorf("%q was answered with %q", message, c.text)
			}
		}
		s.mu.Unlock()
		select {
		case <-s.over:
			return
		case <-time.After(rand.N(400 * time.Millisecond)):
		}
	}
}

// awaitAll waits until each proxy has got a result for a call that it was sent from now on. It
// returns how long that took.
func (s *soak) awaitAll() time.Duration {
	s.t.Helper()
	now := time.Since(s.began)
	machines.Poll(s.t, func() bool {
		for i := range s.good {
			if time.Duration(s.good[i].Load()) < now {
				return false
			}
		}
		return true
	}, "all proxies to work")
	return time.Since(s.began) - now
}
