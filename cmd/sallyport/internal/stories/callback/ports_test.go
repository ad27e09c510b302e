//go:build linux

package callback_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// Another program of the workstation has the first port of a list. The second one is used there,
// and no answer goes to that program.
func TestTheNextPortOfAListIsUsedOnTheWorkstation(t *testing.T) {
	for _, row := range []struct{ name, addr string }{{"on 127.0.0.1", "127.0.0.1:0"}, {"on ::1", "[::1]:0"}} {
		t.Run(row.name, func(t *testing.T) {
			l := lendBrowser(t)
			taken := portOf(l.workstation.Listen(t, row.addr).Addr())
			free := l.workstation.Listen(t, "127.0.0.1:0")
			next := portOf(free.Addr())
			free.Close()
			l.lend(t, "--trust", "devbox")
			login := machines.StartProcess(t, l.inSession("login", "--callback-host", "localhost", "--callback-port", taken+","+next, l.Gate.URL)(t))
			link := login.Err.Await(t, machines.Offered)[1]
			if !strings.Contains(link, "%3A"+next+"%2F") {
				t.Errorf("the link leads back to another port than %s: %s", next, link)
			}
			if status := login.Wait(t); status != 0 {
				t.Errorf("login ended with status %d", status)
			}
			l.helper.Err.Await(t, `devbox wants to sign in to `+l.Gate.URL+`: callback port \S+:`+taken+`: .*; another port is tried`)
			if n := l.opened(); n != 1 {
				t.Errorf("%d pages were opened, want 1", n)
			}
		})
	}
}

// The one port of a login is another program's on the workstation. Both ends say what to do, and
// nobody is told to start a helper, or to open the link. When the program has ended, the login goes
// on by itself.
func TestAPortThatIsTakenOnTheWorkstation(t *testing.T) {
	l := lendBrowser(t)
	holder := l.workstation.Listen(t, "127.0.0.1:0")
	taken := portOf(holder.Addr())
	l.lend(t, "--trust", "devbox")
	login := machines.StartProcess(t, l.inSession("login", "--callback-port", taken, l.Gate.URL)(t))
	login.Err.Await(t, `hint: your workstation says: another program of the workstation holds 127\.0\.0\.1:`+taken+
		`; end that program, and this goes on by itself, or use a port that is free there \(--callback-port\)`)
	l.helper.Err.Await(t, `devbox wants to sign in to `+l.Gate.URL+`: callback port .*; end that program, and the login goes on by itself`)
	for _, bad := range []string{"sallyport callback", "no browser could be started", "open the link yourself"} {
		if strings.Contains(login.Err.String(), bad) {
			t.Errorf("the login says %q: %s", bad, login.Err)
		}
	}
	holder.Close()
	if status := login.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}
}

// portOf returns the port of an address.
func portOf(addr fmt.Stringer) string {
	text := addr.String()
	return text[strings.LastIndexByte(text, ':')+1:]
}
