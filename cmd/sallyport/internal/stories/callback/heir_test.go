//go:build linux

package callback_test

import (
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// The proxy on HOST is killed in mid-login, or started anew by its MCP host, and the next one asks
// for the same. The person goes on in the tab that is open, and types nothing a second time.
func TestTheProxyEndsInMidLogin(t *testing.T) {
	site := machines.NewDirectSite(t, machines.OIDCOptions{LoginTTL: machines.Patience * 10})
	kill := func(t *testing.T, s *sleeper) { s.host.Kill(t) }
	ask := func(*testing.T, *sleeper) {}
	loginPage := func(t *testing.T, s *sleeper) {
		s.tab.Click(t, "Continue")
		s.tab.Await(t, "Sign-in")
	}
	signIn := func(t *testing.T, s *sleeper) { s.tab.SignIn(t) }
	// This login server asks a native client for its consent each time (RFC 8252 section 8.6). The
	// person has a session by then.
	consent := func(t *testing.T, s *sleeper) {
		s.tab.Await(t, "confirm previously given authorization")
		s.tab.Click(t, "Continue")
	}
	signInAndConsent := func(t *testing.T, s *sleeper) {
		signIn(t, s)
		consent(t, s)
	}
	for _, row := range []struct {
		name               string
		before, end, after func(*testing.T, *sleeper)
	}{
		{"killed at our question", ask, kill, func(t *testing.T, s *sleeper) {
			loginPage(t, s)
			signIn(t, s)
		}},
		{"started anew at our question", ask, func(t *testing.T, s *sleeper) { s.host.Close(t) }, func(t *testing.T, s *sleeper) {
			loginPage(t, s)
			signIn(t, s)
		}},
		{"killed at the login page", loginPage, kill, signInAndConsent},
		{"started anew at the login page", loginPage, func(t *testing.T, s *sleeper) { s.host.Close(t) }, signInAndConsent},
		{"killed in the exchange", func(t *testing.T, s *sleeper) {
			loginPage(t, s)
			syscall.Kill(s.host.PID(), syscall.SIGSTOP)
			s.tab.SignIn(t)
			s.tab.Await(t, "Almost done")
		}, kill, consent},
		{"killed, and long after that started", loginPage, func(t *testing.T, s *sleeper) {
			kill(t, s)
			s.tab.SignIn(t)
			s.tab.Await(t, "The program on devbox has ended")
		}, consent},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSleeper(t, site, nil)
			row.before(t, s)
			row.end(t, s)
			s.host = machines.StartHost(t, s.proxy(t, s.args...), nil)
			s.helper.Err.Await(t, `anew: it goes on in the tab that is open in your browser`)
			row.after(t, s)
			s.tab.Await(t, "devbox is signed in")
			s.host.Echo(t)
			if n := len(s.pagesOpened()); n != 1 {
				t.Errorf("%d pages were opened, want 1", n)
			}
			s.host.Close(t)
		})
	}
}
