//go:build linux

package callback_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// The first login of a client of HOST takes one click on our page, the next one none, and after a
// logout the person is asked again. All of it is seen in a real browser.
func TestOneClickTheFirstTime(t *testing.T) {
	l := lendBrowser(t)
	links := filepath.Join(machines.OpenDir(t), "links")
	browser := machines.WriteFile(t, filepath.Dir(links), "browser", "#!/bin/sh\necho \"$1\" >> "+links+"\n", 0o755)
	cmd := machines.Command(t, l.home, "callback", "-F", l.config, "--browser", browser, "devbox")
	l.helper = machines.StartProcess(t, l.workstation.Move(t, cmd))
	l.helper.Err.Await(t, `devbox: ready`)
	tab := machines.StartTab(t, l.workstation)

	opened := 0
	// begin starts a login on HOST, and shows in the browser what the workstation opens.
	begin := func(profile string, more ...string) (*machines.Process, machines.TabPage) {
		t.Helper()
		login := machines.StartProcess(t, l.inSession(append([]string{"login", "--profile", profile, l.Gate.URL}, more...)...)(t))
		var lines []string
		machines.Poll(t, func() bool {
			text, _ := os.ReadFile(links)
			lines = strings.Split(strings.TrimSpace(string(text)), "\n")
			return len(text) > 0 && len(lines) > opened
		}, "a page on the workstation")
		opened++
		return login, tab.Goto(t, lines[opened-1])
	}
	isAsked := func(page machines.TabPage) bool { return strings.Contains(page.Text, "devbox wants to sign in") }

	known := "--client-id=" + l.OIDC.RegisterNative(t, machines.DefaultCallback)
	login, page := begin("one", known)
	if !isAsked(page) || !strings.Contains(page.Text, l.Gate.URL) || !strings.Contains(page.Text, l.OIDC.Issuer) {
		t.Errorf("the person is asked by %+v", page)
	}
	tab.Click(t, "Continue")
	tab.SignIn(t)
	page = tab.Await(t, "devbox is signed in")
	if strings.Contains(page.URL, "code=") || strings.Contains(page.URL, "state=") {
		t.Errorf("the address bar keeps %s", page.URL)
	}
	if status := login.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}

	login, page = begin("two", known)
	if isAsked(page) {
		t.Errorf("the person is asked again by %+v", page)
	}
	tab.Await(t, "Continue") // the login server knows the person, and asks for consent
	tab.Click(t, "Continue")
	tab.Await(t, "devbox is signed in")
	if status := login.Wait(t); status != 0 {
		t.Errorf("the second login ended with status %d", status)
	}

	// Another client, which the login server may let do other things, is another question.
	if login, page = begin("three"); !isAsked(page) || !strings.Contains(page.Text, "not the program (client ID) of before") {
		t.Errorf("another client is not asked about: %+v", page)
	}
	tab.Keep(t, "another-client")
	login.Stop()

	sallyport := func(args ...string) *machines.Process {
		p := machines.StartProcess(t, machines.Command(t, l.home, args...))
		if status := p.Wait(t); status != 0 {
			t.Errorf("%v ended with status %d", args, status)
		}
		return p
	}
	sallyport("status").Out.Await(t, `logins on devbox open this browser without asking\n  page\s+`+l.OIDC.Issuer)
	sallyport("logout", "--all").Err.Await(t, `logins elsewhere ask again`)
	if _, page = begin("four", known); !isAsked(page) {
		t.Errorf("after logout --all the person is not asked: %+v", page)
	}
}
