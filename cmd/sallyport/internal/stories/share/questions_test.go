//go:build linux

package share_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// askers is how many proxies need an answer at the same time.
const askers = 10

// question is something that a bastion wants from the person.
type question struct {
	name string
	// options are those of sshd, and host are lines of ssh_config.
	options machines.SSHDOptions
	host    func(*crew) []string
	// prompt is what a terminal shows, and answer is what the person types.
	prompt, answer string
	// obstacle is what a proxy tells meanwhile.
	obstacle string
}

// questions makes them. Each is for one bastion.
func questions(t *testing.T) []question {
	t.Helper()
	machines.NeedPAM(t)
	account := machines.NewAccount(t)
	account.SetPassword(t, "correct horse")
	return []question{
		{name: "passphrase", host: func(c *crew) []string {
			return []string{"IdentityFile " + machines.EncryptKey(c.t, c.hop.IdentityFile, "open sesame")}
		}, prompt: `Enter passphrase for key '\S+': $`, answer: "open sesame", obstacle: `passphrase`},
		{name: "keyboard-interactive", options: machines.SSHDOptions{User: account, Config: []string{"UsePAM yes",
			"KbdInteractiveAuthentication yes", "AuthenticationMethods publickey,keyboard-interactive"}},
			prompt: `Password: $`, answer: "correct horse", obstacle: `(?i)needs a person|password`},
		{name: "unknown host key", host: func(c *crew) []string {
			return []string{"StrictHostKeyChecking ask", "UserKnownHostsFile " + machines.WriteKnownHosts(c.t, "")}
		}, prompt: `\(yes/no/\[fingerprint\]\)\? $`, answer: "yes", obstacle: `host key`},
	}
}

// crewOf starts a crew whose bastion asks the question.
func (q question) crewOf(t *testing.T) *crew {
	t.Helper()
	c := newCrew(t, q.options)
	if q.host != nil {
		config := machines.WriteSSHConfig(t, machines.Hop{Alias: "bastion", SSHD: c.hop, Config: append(q.host(c), "IdentityAgent none")})
		c.args[1] = config
	}
	return c
}

// Ten proxies start behind a bastion that asks. With a program for questions, the person is asked
// once and all are served.
func TestAskedOnceByProgram(t *testing.T) {
	for _, q := range questions(t) {
		t.Run(strings.ReplaceAll(q.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			c := q.crewOf(t)
			asked, program := c.askpass("echo '" + q.answer + "'")
			c.env = append(c.env, "SSH_ASKPASS="+program, "SSH_ASKPASS_REQUIRE=force")
			c.start(askers)
			c.checkLogins(1)
			if text := machines.ReadFile(t, asked); strings.Count(text, "asked:") != 1 {
				t.Errorf("asked %q", text)
			}
			c.end()
		})
	}
}

// The person types `sallyport login` first. Then a host starts ten proxies that could ask
// themselves. The question stays where it is, and all are served.
func TestAskedAtTheTerminalFirst(t *testing.T) {
	for _, q := range questions(t) {
		t.Run(strings.ReplaceAll(q.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			c := q.crewOf(t)
			term := c.login(t)
			term.Await(t, q.prompt)
			asked, program := c.askpass("echo no")
			c.env = append(c.env, "SSH_ASKPASS="+program, "SSH_ASKPASS_REQUIRE=force")
			for _, p := range c.launch(askers) {
				p.write(`"first"`, strings.TrimSuffix(machines.InitializeLine, "\n"))
			}
			machines.Poll(t, func() bool {
				out, _ := c.run("share")
				return strings.Count(out, "used by") == askers+1
			}, "all proxies to wait")
			term.Type(t, q.prompt, q.answer+"\n")
			if status := term.Wait(t); status != machines.StatusDone {
				t.Errorf("status %d; the screen:\n%s", status, term)
			}
			for i, p := range c.proxies {
				p.echo(t, fmt.Sprint("served ", i))
			}
			c.checkLogins(1)
			if text, err := os.ReadFile(asked); err == nil {
				t.Errorf("asked %q", text)
			}
			c.end()
		})
	}
}

// askpass writes a program for questions, which notes each in a file and then does what the rest of
// its text says.
func (c *crew) askpass(rest string) (asked, program string) {
	asked = filepath.Join(c.home, "asked")
	return asked, machines.WriteFile(c.t, machines.OpenDir(c.t), "askpass", fmt.Sprintf("#!/bin/sh\necho \"asked: $*\" >>%s\n%s\n", asked, rest), 0o755)
}

// Nobody can answer, and each proxy says what is in the way. Then the person types
// `sallyport login`, is asked once, and all are served without a second login.
func TestAskedAtTheTerminal(t *testing.T) {
	for _, q := range questions(t) {
		if q.name == "unknown host key" {
			continue // without an answer a proxy ends, as alone
		}
		t.Run(strings.ReplaceAll(q.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			c := q.crewOf(t)
			for _, p := range c.launch(askers) {
				p.write(`"first"`, strings.TrimSuffix(machines.InitializeLine, "\n"))
			}
			for _, p := range c.proxies {
				machines.Poll(t, func() bool { return len(p.stderr.toldPerson()) > 0 }, "a proxy to say what is in the way")
			}
			t.Logf("meanwhile: %q", c.proxies[askers-1].stderr.toldPerson())
			term := c.login(t)
			term.Type(t, q.prompt, q.answer+"\n")
			if status := term.Wait(t); status != machines.StatusDone {
				t.Errorf("status %d; the screen:\n%s", status, term)
			}
			began := time.Now()
			calls := []*call{}
			for i, p := range c.proxies {
				calls = append(calls, p.send("echo", fmt.Sprint("served ", i)))
			}
			for i, p := range c.proxies {
				if call := p.await(t, calls[i]); call.fault != "" {
					t.Errorf("proxy %d: %s", i, call.fault)
				}
			}
			took := time.Since(began)
			for i, p := range c.proxies {
				p.echo(t, fmt.Sprint("after ", i))
			}
			t.Logf("all are served %v after the login", took.Round(time.Millisecond))
			c.checkLogins(1)
			c.end()
		})
	}
}

// login is a person who types `sallyport login`.
func (c *crew) login(t *testing.T) *machines.Terminal {
	t.Helper()
	var term *machines.Terminal
	cmd := c.command(append([]string{"login"}, c.args...)...)
	if err := c.ns.Enter(func() error { term = machines.StartInTerminal(t, cmd); return nil }); err != nil {
		t.Fatal(err)
	}
	return term
}

// A question is open in a window that nobody looks at. The person types `sallyport login` instead,
// and is asked there.
func TestTerminalComesSecond(t *testing.T) {
	t.Parallel()
	q := questions(t)[0]
	c := q.crewOf(t)
	asked, program := c.askpass("exec sleep 1000")
	c.env = append(c.env, "SSH_ASKPASS="+program, "SSH_ASKPASS_REQUIRE=force")
	for _, p := range c.launch(askers) {
		p.write(`"first"`, strings.TrimSuffix(machines.InitializeLine, "\n"))
	}
	machines.Poll(t, func() bool { _, err := os.Stat(asked); return err == nil }, "the question")
	c.env = c.env[:len(c.env)-2]
	term := c.login(t)
	term.Type(t, q.prompt, q.answer+"\n")
	if status := term.Wait(t); status != machines.StatusDone {
		t.Errorf("status %d; the screen:\n%s", status, term)
	}
	for i, p := range c.proxies {
		machines.Poll(t, func() bool { return p.await(t, p.send("echo", fmt.Sprint("served ", i))).fault == "" }, "a proxy to be served")
	}
	c.checkLogins(1)
	if text := machines.ReadFile(t, asked); strings.Count(text, "asked:") != 1 {
		t.Errorf("asked %q", text)
	}
	c.end()
}

// pushBastion is a crew whose bastion sends a push to a phone for each login. It waits until the
// file "confirmed" in dir is there, and notes each push in the file "pushes". The lines are added
// to those of PAM. The test must not be parallel to others with PAM.
func pushBastion(t *testing.T, lines string) (c *crew, dir string) {
	t.Helper()
	machines.NeedPAM(t)
	dir = machines.OpenDir(t)
	push := machines.WriteFile(t, dir, "push", fmt.Sprintf("#!/bin/sh\necho pushed >>%[1]s/pushes; echo Pushed a login request to your phone\n"+
		"until [ -e %[1]s/confirmed ]; do sleep 0.1; done\n", dir), 0o755)
	const file = "/etc/pam.d/sshd" // of the machine of the tests
	before := machines.ReadFile(t, file)
	t.Cleanup(func() { os.WriteFile(file, []byte(before), 0o644) })
	text := "auth required pam_exec.so stdout " + push + "\n" + lines + "account required pam_permit.so\nsession required pam_permit.so\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return newCrew(t, machines.SSHDOptions{User: machines.NewAccount(t), Config: []string{"UsePAM yes", "KbdInteractiveAuthentication yes",
		"AuthenticationMethods publickey,keyboard-interactive", "Banner " + machines.WriteFile(t, dir, "banner", "Look at your phone.\n", 0o644)}}), dir
}

// The bastion's second factor is a push to a phone. The person approves one, and all are served.
func TestOnePush(t *testing.T) {
	c, dir := pushBastion(t, "auth required pam_permit.so\n")
	for _, p := range c.launch(askers) {
		p.write(`"first"`, strings.TrimSuffix(machines.InitializeLine, "\n"))
	}
	for _, p := range c.proxies {
		machines.Poll(t, func() bool { return strings.Contains(strings.Join(p.stderr.toldPerson(), "\n"), "Look at your phone.") }, "a proxy to tell what is in the way")
	}
	var calls []*call
	for i, p := range c.proxies {
		calls = append(calls, p.send("echo", fmt.Sprint("pushed ", i)))
	}
	machines.WriteFile(t, dir, "confirmed", "", 0o644)
	for i, p := range c.proxies {
		if call := p.await(t, calls[i]); call.fault != "" {
			t.Errorf("proxy %d: %s", i, call.fault)
		}
	}
	c.checkLogins(1)
	if text := machines.ReadFile(t, filepath.Join(dir, "pushes")); text != "pushed\n" {
		t.Errorf("the person got %q", text)
	}
	c.end()
}

// The bastion accepts each login and then fails to open a session. The person does not get a push
// each half a second as long as proxies want the connection.
func TestLoginsInVain(t *testing.T) {
	c, dir := pushBastion(t, "") // pam_setcred has no module to agree
	machines.WriteFile(t, dir, "confirmed", "", 0o644)
	for i, p := range c.launch(askers) {
		p.write(`"first"`, strings.TrimSuffix(machines.InitializeLine, "\n"))
		p.send("echo", fmt.Sprint("in vain ", i))
	}
	const span = 20 * time.Second
	<-time.After(span)
	t.Logf("%d logins in %v", c.logins(), span)
	if got := c.logins(); got > askers+2 { // one for each call, and some with growing pauses
		t.Errorf("%d logins in %v", got, span)
	}
}
