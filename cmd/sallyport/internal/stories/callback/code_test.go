//go:build linux

package callback_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// besideLink is what stderr says of a code beside a link: the code, and where it is entered.
const besideLink = `hint: or enter the code (\S+) at (\S+) on any device\n`

// enters is the person, who enters a code of oidc-provider in the browser of the workstation.
func (l *lending) enters(t *testing.T, code, url string) {
	t.Helper()
	page := machines.Person{NS: l.workstation, TrustsAll: true}.LogsIn(t, url+"?user_code="+code)
	if !strings.Contains(page.Text, "Sign-in Success") {
		t.Errorf("the last page is %+v", page)
	}
}

// checkAsked fails if the login server was asked for other things than these since the story began.
func (l *lending) checkAsked(t *testing.T, want map[string]int) {
	t.Helper()
	for pattern, n := range want {
		if got := l.OIDC.Asked(pattern); got != n {
			t.Errorf("the login server was asked %d times for %q, want %d:\n%s", got, pattern, n, l.OIDC.Log)
		}
	}
}

// What the login server's log has of a code.
const (
	codeAskedFor  = `POST /device/auth 200 .*`
	codeExchanged = `POST /token 200 urn:ietf:params:oauth:grant-type:device_code`
	linkExchanged = `POST /token 200 authorization_code`
	revoked       = `POST /token/revocation .*`
)

// Nobody lends a browser to HOST. The person opens no link, types no command and copies nothing
// but a code, which is entered on another machine. All that shows the link shows the code as well.
func TestACodeBesideTheLink(t *testing.T) {
	l := lendBrowser(t)
	log := filepath.Join(l.ada.Home, "log")
	host := machines.StartHost(t, l.proxy(t, "--log-file", log, "--log-level", "trace"), nil)
	link := host.Stderr.Await(t, machines.Offered)[1]
	shown := host.Stderr.Await(t, besideLink)
	code, url := shown[1], shown[2]
	if url != l.OIDC.Issuer+"/device" || len(code) < 4 || strings.Contains(link, code) {
		t.Errorf("the link is %s, the code %s at %s", link, code, url)
	}
	other := machines.StartHost(t, l.proxy(t), nil)
	other.Stderr.Await(t, `another process of yours waits .*\n  \S+\nhint: or enter the code `+code+` at `+url+` on any device\n`)

	first := host.Call(t, "sallyport_sign_in")
	if line, rest, _ := strings.Cut(first, "\n"); line != link ||
		!strings.Contains(rest, "The person has to open this link in a browser, or enter the code "+code+" at "+url+" on any device, to sign in to ") ||
		!strings.Contains(rest, "Show the link and the code to the person now") {
		t.Errorf("the sign-in tool says %q", first)
	}
	status := machines.StartProcess(t, l.inSession("status")(t))
	status.Out.Await(t, `link +`+regexp.QuoteMeta(link)+`, or the code `+code+` at `+url+` on any device \(\d\S* left\)`)
	l.checkStatusJSON(t, link, code, url)

	l.enters(t, code, url)
	machines.EchoAll(t, host, other)
	machines.Poll(t, func() bool { return !machines.Here.Listens(t, 53682) }, "the end of the callback's port")
	l.checkAsked(t, map[string]int{codeAskedFor: 1, codeExchanged: 1, linkExchanged: 0, revoked: 0, `POST /reg 201 .*`: 1})
	host.Close(t)
	other.Close(t)
	if text := machines.ReadFile(t, log); !strings.Contains(text, "sign-in offered") || strings.Contains(text, code) {
		t.Errorf("the log has the code, or nothing of the login:\n%s", text)
	}

	// The second start asks nothing.
	again := machines.EchoOnce(t, l.proxy(t))
	if text := again.Stderr.String(); strings.Contains(text, "enter the code") || strings.Contains(text, "open this link") {
		t.Errorf("the second start asked again:\n%s", text)
	}
}

// checkStatusJSON looks at what other programs read of a login that waits.
func (l *lending) checkStatusJSON(t *testing.T, link, code, url string) {
	t.Helper()
	out, err := l.inSession("status", "--json")(t).Output()
	var report struct {
		Proxies []struct {
			Link     string `json:"link"`
			UserCode string `json:"user_code"`
			CodeURL  string `json:"code_url"`
		} `json:"proxies"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	if err != nil || len(report.Proxies) != 2 {
		t.Fatalf("%v: %s", err, out)
	}
	for _, p := range report.Proxies {
		if p.Link != link || p.UserCode != code || p.CodeURL != url {
			t.Errorf("status says %+v", p)
		}
	}
}

// The link is as good as ever: the person follows it on HOST while the code waits.
func TestTheLinkBesideACode(t *testing.T) {
	l := lendBrowser(t)
	login := machines.StartProcess(t, l.inSession("login", "--log-level", "debug", l.Gate.URL)(t))
	link := login.Err.Await(t, machines.Offered)[1]
	shown := login.Err.Await(t, besideLink)
	page := machines.Person{As: l.ada, TrustsAll: true}.LogsIn(t, link)
	machines.CheckSuccessPage(t, page, machines.DefaultCallback, l.Gate.URL)
	if status := login.Wait(t); status != 0 {
		t.Errorf("login ended with status %d", status)
	}
	l.checkAsked(t, map[string]int{codeAskedFor: 1, codeExchanged: 0, linkExchanged: 1, revoked: 0})
	if log, _, _ := strings.Cut(login.Err.String(), "open this link"); strings.Contains(log, shown[1]) {
		t.Errorf("the log shows the code:\n%s", log)
	}
}

// The person says no where the code is entered: the code is gone, and the link is not. The person
// says no at the link: both are.
func TestThePersonSaysNoToACode(t *testing.T) {
	l := lendBrowser(t)
	login := machines.StartProcess(t, l.inSession("login", l.Gate.URL)(t))
	link := login.Err.Await(t, machines.Offered)[1]
	shown := login.Err.Await(t, besideLink)
	tab := machines.StartTab(t, l.workstation)
	tab.Goto(t, shown[2]+"?user_code="+shown[1])
	tab.Click(t, "[ Abort ]") // of the page that confirms the code
	login.Err.Await(t, `hint: the code `+shown[1]+` is of no more use; the link is`)
	machines.Person{As: l.ada, TrustsAll: true, Denies: true}.LogsIn(t, link)
	if status := login.Wait(t); status != machines.StatusSignIn || !strings.Contains(login.Err.String(), "access_denied") {
		t.Errorf("login ended with status %d", status)
	}
}

// A browser that is lent makes a code needless, until it is gone. The code that is shown then
// stays when another browser is lent, and whatever comes first counts.
func TestALentBrowserNeedsNoCode(t *testing.T) {
	l := lendBrowser(t)
	nothing := machines.WriteFile(t, machines.OpenDir(t), "nothing", "#!/bin/sh\nexit 0\n", 0o755)
	cmd := machines.Command(t, l.home, "callback", "-F", l.config, "--browser", nothing, "--trust", "devbox", "devbox")
	l.helper = machines.StartProcess(t, l.workstation.Move(t, cmd))
	l.helper.Err.Await(t, `devbox: ready`)
	host := machines.StartHost(t, l.proxy(t), nil)
	host.Stderr.Await(t, machines.Offered)
	host.Stderr.Await(t, `is open in the browser of your workstation`)
	if regexp.MustCompile(besideLink).MatchString(host.Stderr.String()) {
		t.Errorf("a code is shown although a browser is lent:\n%s", host.Stderr)
	}
	l.checkAsked(t, map[string]int{codeAskedFor: 0})

	l.helper.Signal(t, syscall.SIGKILL)
	l.helper.Wait(t)
	shown := host.Stderr.Await(t, besideLink)
	l.enters(t, shown[1], shown[2])
	host.Echo(t)
	l.checkAsked(t, map[string]int{codeAskedFor: 1, codeExchanged: 1, linkExchanged: 0, revoked: 0})
	host.Close(t)
	if text := l.helper.Err.String() + l.helper.Out.String(); strings.Contains(text, shown[1]) {
		t.Errorf("the helper knows the code:\n%s", text)
	}
}

// The process that shows the code is killed. The next one shows another, and both end there.
func TestTheProcessWithTheCodeIsKilled(t *testing.T) {
	l := lendBrowser(t)
	first := machines.StartHost(t, l.proxy(t), nil)
	shown := first.Stderr.Await(t, besideLink)
	second := machines.StartHost(t, l.proxy(t), nil)
	second.Stderr.Await(t, `or enter the code `+shown[1])
	first.Kill(t)
	next := second.Stderr.Await(t, `to sign in to \S+, open this link:\n  \S+\n`+besideLink)
	if next[1] == shown[1] {
		t.Errorf("the code %s is shown again", next[1])
	}
	l.enters(t, next[1], next[2])
	second.Echo(t)
	l.checkAsked(t, map[string]int{codeAskedFor: 2, codeExchanged: 1, linkExchanged: 0})
	second.Close(t)
}

// Where there is no code to have, and where the browser is here, logins ask for what they always
// asked for.
func TestLoginsWithoutACode(t *testing.T) {
	without := machines.OIDCOptions{Features: map[string]any{"deviceFlow": map[string]any{"enabled": false}}}
	for _, tt := range []struct {
		name    string
		options machines.OIDCOptions
		command func(*testing.T, *machines.Site) *exec.Cmd
	}{
		{"the server has none", without, func(t *testing.T, s *machines.Site) *exec.Cmd {
			cmd := s.Command(t, t.TempDir(), "login", s.Gate.URL)
			cmd.Env = append(cmd.Env, "SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22")
			return cmd
		}},
		{"the browser is here", machines.OIDCOptions{}, func(t *testing.T, s *machines.Site) *exec.Cmd {
			return s.Command(t, t.TempDir(), "login", "--browser", "true", s.Gate.URL)
		}},
		{"the person names the grant", machines.OIDCOptions{}, func(t *testing.T, s *machines.Site) *exec.Cmd {
			return s.Command(t, t.TempDir(), "login", "--no-browser", "--grant", "authorization_code", s.Gate.URL)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := machines.NewDirectSite(t, tt.options)
			login := machines.StartProcess(t, tt.command(t, s))
			link := login.Err.Await(t, machines.Offered)[1]
			if strings.HasPrefix(link, "http://") {
				t.Fatalf("the link is %s", link)
			}
			machines.Person{TrustsAll: true}.LogsIn(t, link)
			if status := login.Wait(t); status != 0 {
				t.Errorf("login ended with status %d", status)
			}
			if strings.Contains(login.Err.String(), "enter the code") {
				t.Errorf("a code is shown:\n%s", login.Err)
			}
			if got := s.OIDC.Asked(`POST /(reg|device|token|request).*`); got != 2 || s.OIDC.Asked(`POST /reg 201 .*`) != 1 || s.OIDC.Asked(linkExchanged) != 1 {
				t.Errorf("the login server was asked:\n%s", s.OIDC.Log)
			}
		})
	}
}
