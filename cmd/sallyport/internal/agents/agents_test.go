//go:build unix

package agents

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/localsock"
)

// shortDir is a directory whose path is short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agents")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// sshAgent starts a real ssh-agent at a path. If key says so, it holds a key.
func sshAgent(t *testing.T, socket string, key bool) {
	t.Helper()
	for _, program := range []string{"ssh-agent", "ssh-add", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	os.MkdirAll(filepath.Dir(socket), 0o700)
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Process.Kill(); agent.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil { // it listens when it says where
		t.Fatal(err)
	}
	if !key {
		return
	}
	file := filepath.Join(t.TempDir(), "key")
	for _, cmd := range []*exec.Cmd{exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file), exec.Command("ssh-add", "-q", file)} {
		cmd.Env = append(os.Environ(), Variable+"="+socket)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// fakeAgent listens at a path and does with each connection what serve says.
func fakeAgent(t *testing.T, socket string, serve func(net.Conn)) {
	t.Helper()
	os.MkdirAll(filepath.Dir(socket), 0o700)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the client
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
}

func silent(conn net.Conn) { io.Copy(io.Discard, conn) }

// person is an environment without the variable. Its home and its directory for sockets are dir.
func person(dir string, variables map[string]string) environment.Environment {
	if variables == nil {
		variables = map[string]string{}
	}
	variables["XDG_RUNTIME_DIR"] = filepath.Join(dir, "run")
	env := environment.Fixed(variables, dir)
	env.AccountHome = dir
	return env
}

// Each place is looked at, by a real agent.
func TestPlaces(t *testing.T) {
	for _, place := range []string{"run/gcr/ssh", "run/keyring/ssh", "run/ssh-agent.socket", "run/openssh_agent", ".1password/agent.sock",
		".ssh/agent/s.abc.agent.xyz", "run/gnupg/S.gpg-agent.ssh", ".gnupg/S.gpg-agent.ssh"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			dir := shortDir(t)
			socket := filepath.Join(dir, place)
			sshAgent(t, socket, false)
			if got := Find(t.Context(), person(dir, nil)); got != socket {
				t.Errorf("got %q, want %q", got, socket)
			}
		})
	}
}

// An agent with a key counts more than one without, and the earlier place more than the later.
// Whatever does not answer as an agent of ours counts for nothing, and holds nobody up.
func TestChoice(t *testing.T) {
	dir := shortDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	if got := Find(t.Context(), person(dir, nil)); got != "" {
		t.Errorf("without an agent: %q", got)
	}
	fakeAgent(t, at("run/gcr/ssh"), silent)
	fakeAgent(t, at("run/keyring/ssh"), func(conn net.Conn) { io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	fakeAgent(t, at(".ssh/agent/refuses"), func(conn net.Conn) { io.WriteString(conn, "\x00\x00\x00\x01\x05xxxxxxxx") })
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("run/ssh-agent.socket")})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	os.MkdirAll(at(".1password"), 0o700)
	os.WriteFile(at(".1password/agent.sock"), nil, 0o600)
	begun := time.Now()
	if got := Find(t.Context(), person(dir, nil)); got != "" {
		t.Errorf("got %q, want none", got)
	}
	t.Logf("the search took %v", time.Since(begun))
	sshAgent(t, at("run/openssh_agent"), false)
	sshAgent(t, at(".gnupg/S.gpg-agent.ssh"), false)
	if got := Find(t.Context(), person(dir, nil)); got != at("run/openssh_agent") {
		t.Errorf("got %q, want the first that answers", got)
	}
	sshAgent(t, at(".ssh/agent/s.new"), true)
	if got := Find(t.Context(), person(dir, nil)); got != at(".ssh/agent/s.new") {
		t.Errorf("got %q, want the one with a key", got)
	}
}

// The variable of systemd's user manager comes first. A manager that hangs holds nobody up.
func TestSystemd(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("systemd is Linux's")
	}
	dir := shortDir(t)
	sshAgent(t, filepath.Join(dir, "somewhere", "agent.1"), true)
	sshAgent(t, filepath.Join(dir, "run", "gcr", "ssh"), true)
	os.MkdirAll(filepath.Join(dir, "run", "systemd"), 0o700)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, tt := range []struct{ script, want string }{
		{`[ "$*" = "--user show-environment" ] && echo LANG=C && echo "SSH_AUTH_SOCK=` + dir + `/somewhere/agent.1" && [ "$XDG_RUNTIME_DIR" = ` + dir + `/run ]`, "somewhere/agent.1"},
		{`exit 1`, "run/gcr/ssh"},
		{`echo SSH_AUTH_SOCK=relative`, "run/gcr/ssh"},
		{`echo SSH_AUTH_SOCK=/nowhere/agent`, "run/gcr/ssh"},
		{`sleep 60`, "run/gcr/ssh"},
	} {
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got, want := Find(t.Context(), person(dir, map[string]string{"PATH": os.Getenv("PATH")})), filepath.Join(dir, tt.want); got != want {
			t.Errorf("%s: got %q, want %q", tt.script, got, want)
		}
	}
}

// A socket of another user is not asked, whatever process is behind it, and neither is a link of
// theirs to one of ours.
func TestAnotherUsersSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("it takes root to make a socket of another user's")
	}
	dir := shortDir(t)
	asked := false
	socket := filepath.Join(dir, "run", "gcr", "ssh")
	fakeAgent(t, socket, func(net.Conn) { asked = true })
	if err := os.Lchown(socket, 60999, 60999); err != nil {
		t.Fatal(err)
	}
	owned := filepath.Join(dir, "run", "own")
	sshAgent(t, owned, true)
	link := filepath.Join(dir, "run", "keyring", "ssh")
	os.MkdirAll(filepath.Dir(link), 0o700)
	if err := errors.Join(os.Symlink(owned, link), os.Lchown(link, 60999, 60999)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{socket, link} {
		_, err := Keys(context.Background(), path)
		if e, ok := errors.AsType[*localsock.SocketOwnerError](err); !ok || e.Owner != 60999 {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if got := Find(t.Context(), person(dir, nil)); got != "" || asked {
		t.Errorf("got %q, asked %v", got, asked)
	}
}

func TestIsSet(t *testing.T) {
	for value, want := range map[string]bool{"unset": false, "": true, "/run/agent": true} {
		variables := map[string]string{"SSH_AUTH_SOCKET": "x"}
		if value != "unset" {
			variables[Variable] = value
		}
		if got := IsSet(environment.Fixed(variables, "")); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func TestWayOf(t *testing.T) {
	for line, want := range map[string]string{
		"/opt/codex-linux/codex exec x":                               "env_vars",
		"node /usr/lib/node_modules/@google/gemini-cli/dist/index.js": "Gemini's",
		"node /usr/bin/gemini -p x":                                   "Gemini's",
		"/usr/bin/qwen":                                               ".qwen",
		"bash -c codex":                                               "",
		"/usr/bin/code --folder codex":                                "",
		"":                                                            "",
	} {
		if got := wayOf(strings.Fields(line)); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}
