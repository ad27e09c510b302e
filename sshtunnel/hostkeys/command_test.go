//go:build !windows

package hostkeys

import (
	"context"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// KnownHostsCommand, judged by a real ssh on the same server: the same lines are believed, and the
// command gets the same arguments.
func TestKnownHostsCommandAgreesWithSSH(t *testing.T) {
	t.Parallel()
	openssh.Tool(t, "ssh")
	s := serve(t, sshtest.NewKey())
	key, name := keyLine(s.HostKey()), at(s)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	const tokens = " %I %H %t %f %K %h %p %r %n %%"
	for _, tt := range []struct {
		name string
		// script is what the command does; its first argument is where it notes the others.
		script string
		args   string
		ok     bool
	}{
		{"knows", "echo '" + name + " " + key + "'", tokens, true},
		{"pattern", "echo '* " + key + "'", tokens, true},
		{"another host", "echo 'other " + key + "'", tokens, false},
		{"bare name", "echo '127.0.0.1 " + key + "'", tokens, false}, // only the name with its port counts
		{"another key", "echo '" + name + " " + keyLine(sshtest.NewKey().PublicKey()) + "'", "", false},
		{"revoked", "echo '" + name + " " + key + "\n@revoked * " + key + "'", "", false},
		{"quoted", "echo '" + name + " " + key + "'", ` "a b"`, true},
		{"fails", "echo '" + name + " " + key + "'; echo why >&2; exit 3", "", false},
		{"fails, knows nothing", "exit 1", "", false},
		{"missing", "", "", false},
		{"not absolute", "true", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			program, log := filepath.Join(dir, "the program"), filepath.Join(dir, "log")
			command := `"` + program + `"` + tt.args
			switch tt.name {
			case "missing":
			case "not absolute":
				command = tt.script
			default:
				writeProgram(t, program, "echo \"$@\" >> "+log+"\n"+tt.script)
			}
			h := openssh.NewHost(t, "127.0.0.1", s.Addr())
			h.User = me.Username
			writeFile(t, h.UserKnownHostsFiles[0], "")
			if ok, out := sshConnects(t, h, "KnownHostsCommand="+command); ok != tt.ok {
				t.Errorf("ssh connects: %v: %s", ok, out)
			}
			// Before 10, ssh left out the port when it asked for the order.
			want := strings.Replace(readFile(log), "ORDER 127.0.0.1 ", "ORDER "+name+" ", 1)
			os.Remove(log)
			h.KnownHostsCommand = command
			if err := connects(t, h, nil); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
			if got := readFile(log); got != want {
				t.Errorf("called with %q, ssh %q", got, want)
			}
		})
	}
}

// %u, %d, %k and others come from the Resolver.
func TestTokensOfKnownHostsCommand(t *testing.T) {
	r := &sshconfig.Resolver{Home: "/home/x", User: "me", Options: []string{"HostKeyAlias=Web"}}
	h, err := r.Resolve(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.ExpandTokens("%u %d %k %H", map[byte]string{'H': "host"}, nil)
	if want := "me /home/x web host"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestCancelledKnownHostsCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program, started := filepath.Join(dir, "slow"), filepath.Join(dir, "started")
	writeProgram(t, program, "echo x > "+started+"; exec sleep 1000")
	h := openssh.NewHost(t, "web", "127.0.0.1:1")
	h.KnownHostsCommand = program
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	go func() { // ends when the command has started
		openssh.Eventually(t, "the command runs", func() bool { return readFile(started) == "x\n" })
		cancel(gone)
	}()
	if _, err := New(ctx, Config{Host: h, Log: testLog(t)}); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

// writeProgram writes a shell script.
func writeProgram(t *testing.T, path, script string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}
