//go:build !windows

package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
)

// startPAM starts a real sshd whose PAM asks twice by keyboard-interactive. pam_stress of Debian's
// libpam-modules asks, and pam_exec checks the answer.
func startPAM(t *testing.T, keyFile string, options ...string) *openssh.Server {
	t.Helper()
	judge := writeProgram(t, "judge", `[ "$(tr -d '\000')" = "$1" ]`+"\n")
	step := func(answer string) string {
		return "auth required pam_stress.so\nauth requisite pam_exec.so expose_authtok " + judge + " " + answer + "\n"
	}
	return startPAMOf(t, keyFile, step("first")+step("second"), options...)
}

// writeProgram writes a script for sh, and returns its path.
func writeProgram(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// startPAMOf starts a real sshd with the auth lines of a PAM file. sshd runs in a mount namespace
// with the file in place, so that the machine is not changed.
func startPAMOf(t *testing.T, keyFile, auth string, options ...string) *openssh.Server {
	t.Helper()
	sshd := openssh.Tool(t, "sshd")
	missing := func(why string) {
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if os.Geteuid() != 0 {
		missing("a mount namespace needs root")
	}
	if found, _ := filepath.Glob("/lib/*/security/pam_stress.so"); len(found) == 0 {
		missing("pam_stress.so is missing (Debian: libpam-modules)")
	}
	if _, err := os.Stat("/etc/pam.d/sshd"); err != nil {
		missing(err.Error())
	}
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		missing(fmt.Sprintf("unshare -m: %v: %s", err, out))
	}
	pam := filepath.Join(t.TempDir(), "pam")
	writeFile(t, pam, auth+"account required pam_permit.so\nsession required pam_permit.so\n")
	bin := writeProgram(t, "sshd", "exec unshare -m sh -c 'mount --bind "+pam+" /etc/pam.d/sshd && exec "+sshd+" \"$@\"' sshd \"$@\"\n")
	return openssh.StartBy(t, bin, openssh.ReadPublicKey(t, keyFile+".pub"), append(options, "UsePAM yes", "KbdInteractiveAuthentication yes")...)
}

// A real sshd asks two questions by PAM, alone and after a key.
func TestTwoFactorsOnRealServer(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "id")
	openssh.WriteKey(t, key, "")
	for _, tt := range []struct {
		name    string
		methods string
		answers []string
		ok      bool
		person  bool
		asked   int
		edit    func(*sshconfig.Host)
	}{
		{name: "two rounds", methods: "keyboard-interactive", answers: []string{"first", "second"}, ok: true, asked: 2},
		{name: "key and two rounds", methods: "publickey,keyboard-interactive", answers: []string{"first", "second"}, ok: true, asked: 2},
		{name: "either order", methods: "keyboard-interactive,publickey", answers: []string{"first", "second"}, ok: true, asked: 2},
		{name: "second try", methods: "publickey,keyboard-interactive", answers: []string{"wrong", "first", "second"}, ok: true, asked: 3},
		{name: "wrong", methods: "publickey,keyboard-interactive", answers: []string{"a", "b", "c", "d"}, asked: 3},
		{name: "NumberOfPasswordPrompts", methods: "keyboard-interactive", answers: []string{"a", "first", "second"}, asked: 1,
			edit: func(h *sshconfig.Host) { h.NumberOfPasswordPrompts = 1 }},
		{name: "none at all", methods: "keyboard-interactive", answers: []string{"first", "second"},
			edit: func(h *sshconfig.Host) { h.NumberOfPasswordPrompts = 0 }},
		{name: "nobody", methods: "publickey,keyboard-interactive", asked: 1, person: true},
		{name: "goes after the first answer", methods: "keyboard-interactive", answers: []string{"first"}, asked: 2, person: true},
		{name: "BatchMode", methods: "keyboard-interactive", answers: []string{"first", "second"}, edit: func(h *sshconfig.Host) { h.BatchMode = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startPAM(t, key, "AuthenticationMethods "+tt.methods)
			h := s.Host(t, "bastion", key)
			if tt.edit != nil {
				tt.edit(h)
			}
			p := &person{answers: map[string][]string{"keyboard-interactive": tt.answers}}
			err := newTunnel(t, p.ask, h).Connect(t.Context())
			if (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
			if len(p.asked) != tt.asked {
				t.Errorf("asked %+v", p.asked)
			}
			if len(p.asked) > 0 && (p.asked[0].Echo || !strings.HasPrefix(p.asked[0].Prompt, "("+h.User+"@127.0.0.1) ")) {
				t.Errorf("asked %+v", p.asked[0])
			}
			if auth, _ := errors.AsType[*AuthError](err); !tt.ok && (auth == nil || auth.NeedsPerson != tt.person) {
				t.Errorf("got %#v", auth)
			}
		})
	}
}

// A real sshd whose PAM sends a push says nothing meanwhile. The login waits for the person, also
// if the one who wanted it leaves, and the person gets one push.
func TestPushOnRealServer(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "id")
	openssh.WriteKey(t, key, "")
	for _, methods := range []string{"keyboard-interactive", "publickey,keyboard-interactive"} {
		t.Run(methods, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			push := writeProgram(t, "push", `echo pushed >>"$1/pushes"; echo Pushed a login request to your phone
until [ -e "$1/confirmed" ]; do sleep 0.1; done
`)
			s := startPAMOf(t, key, "auth required pam_exec.so stdout "+push+" "+dir+"\n", "AuthenticationMethods "+methods,
				"Banner "+writeProgram(t, "banner", "Authorized use only.\n"))
			h := s.Host(t, "bastion", key)
			tun := newTunnel(t, nil, h)
			ctx, leave := context.WithCancel(t.Context())
			first := make(chan error, 1)
			go func() { first <- tun.Connect(ctx) }() // ends when its context does
			pushes := func() string {
				b, _ := os.ReadFile(filepath.Join(dir, "pushes"))
				return string(b)
			}
			openssh.Eventually(t, "a push", func() bool { return pushes() != "" })
			if st, _ := tun.State(); !strings.Contains(st.Notice.Text, "Authorized use only.") {
				t.Errorf("got %+v", st)
			}
			leave()
			<-first
			second := make(chan error, 1)
			go func() { second <- tun.Connect(t.Context()) }() // ends with the login
			writeFile(t, filepath.Join(dir, "confirmed"), "")
			if err := <-second; err != nil {
				t.Error(err)
			}
			if got := pushes(); got != "pushed\n" {
				t.Errorf("the person got %q", got)
			}
		})
	}
}
