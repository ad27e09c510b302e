package service

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
)

var update = flag.Bool("update", false, "write the texts of testdata anew")

// hard is a program whose words need every kind of quoting.
var hard = Program{
	Path: "/home/me/my programs/100%/sallyport",
	Args: []string{"callback", "--unattended", "-o", `ProxyCommand=ssh -W "%h:%p" $USER'\s`, "--trust", "a&b<c>", "desk", ""},

	Description: "sallyport callback for desk (100%)",
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", path, got)
	}
}

func TestTexts(t *testing.T) {
	golden(t, "graphical.service", unit{isGraphical: true}.text(hard))
	golden(t, "plain.service", unit{variables: []string{"DISPLAY=:0", `SSH_AUTH_SOCK=/home/me/"agent" 1%`}}.text(hard))
	golden(t, "agent.plist", agentText(hard, "/Users/me/Library/Logs/a&b.log"))
	golden(t, "run.txt", runText(hard)+"\n")
}

// The real parser of systemd reads the units as they were meant.
func TestUnitsBySystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	dir := t.TempDir()
	p := hard
	p.Path = filepath.Join(dir, "my programs 100% $HOME", "sallyport")
	if err := os.MkdirAll(filepath.Dir(p.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, u := range []unit{{isGraphical: true}, {variables: []string{"DISPLAY=:0"}}} {
		path := filepath.Join(dir, unitName)
		if err := os.WriteFile(path, []byte(u.text(p)), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), analyze, "verify", "--user", "--man=no", "--recursive-errors=no", path)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze: %v\n%s", err, out)
		}
	}
}

// A property list is read again as the words that went in.
func TestAgentIsRead(t *testing.T) {
	var list struct {
		Keys  []string `xml:"dict>key"`
		Words []string `xml:"dict>array>string"`
	}
	decoder := xml.NewDecoder(strings.NewReader(agentText(hard, "/log")))
	if err := decoder.Decode(&list); err != nil {
		t.Fatal(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) && err != nil {
		t.Error(err)
	}
	if want := append([]string{hard.Path}, hard.Args...); !slices.Equal(list.Words, want) {
		t.Errorf("got %q, want %q", list.Words, want)
	}
	want := []string{"Label", "ProgramArguments", "EnvironmentVariables", "RunAtLoad", "KeepAlive", "ThrottleInterval",
		"LimitLoadToSessionType", "AbandonProcessGroup", "StandardErrorPath"}
	if !slices.Equal(list.Keys, want) {
		t.Errorf("keys %q, want %q", list.Keys, want)
	}
	if python, err := exec.LookPath("python3"); err == nil {
		cmd := exec.CommandContext(t.Context(), python, "-c", "import plistlib, sys; print(plistlib.loads(sys.stdin.buffer.read())['ProgramArguments'][0])")
		cmd.Stdin = strings.NewReader(agentText(hard, "/log"))
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != hard.Path {
			t.Errorf("plistlib: %v\n%s", err, out)
		}
	}
}

func TestQuoteWindows(t *testing.T) {
	for word, want := range map[string]string{
		`plain`:      `plain`,
		``:           `""`,
		`C:\a b\c`:   `"C:\a b\c"`,
		`C:\a b\`:    `"C:\a b\\"`,
		`say "hi"`:   `"say \"hi\""`,
		`a\\"b c`:    `"a\\\\\"b c"`,
		`C:\dir\x&y`: `C:\dir\x&y`,
	} {
		if got := quoteWindows(word); got != want {
			t.Errorf("%s: got %s, want %s", word, got, want)
		}
	}
}

// system is a system whose commands are only noted.
type system struct {
	ran []string
	// answers are what commands print, by the beginning of their line. An answer that begins with
	// ! is that of a command that fails.
	answers map[string]string
}

func (s *system) run(_ context.Context, name string, args ...string) (string, error) {
	line := strings.Join(append([]string{name}, args...), " ")
	s.ran = append(s.ran, line)
	for begins, answer := range s.answers {
		if strings.HasPrefix(line, begins) {
			if text, fails := strings.CutPrefix(answer, "!"); fails {
				return text, errors.New("exit status 1")
			}
			return answer, nil
		}
	}
	return "", nil
}

// machine is a machine of this system, with a home of its own.
func machine(t *testing.T, goos string, s *system, variables map[string]string) Machine {
	t.Helper()
	return Machine{OS: goos, Env: environment.Fixed(variables, t.TempDir()), UserID: 501, Run: s.run}
}

func TestUnitIsInstalledAndRemoved(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the paths are those of Unix")
	}
	s := &system{answers: map[string]string{"systemctl --user is-active": "active\n"}}
	m := machine(t, "linux", s, map[string]string{"DISPLAY": ":0", "SSH_AUTH_SOCK": "/run/user/1/agent", "SECRET": "hush"})
	r, err := Install(t.Context(), m, hard)
	want := filepath.Join(m.Env.Home, ".config", "systemd", "user", unitName)
	if err != nil || r.Place != want || !r.Running {
		t.Fatalf("got %+v, %v, want %s", r, err, want)
	}
	text, err := os.ReadFile(want)
	if err != nil || string(text) != r.Text {
		t.Errorf("%v: %s", err, text)
	}
	if fi, err := os.Stat(want); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 600", fi.Mode(), err)
	}
	for part, in := range map[string]bool{
		"WantedBy=graphical-session.target": true, `Environment="SSH_AUTH_SOCK=/run/user/1/agent"`: true, "DISPLAY": false, "hush": false,
	} {
		if strings.Contains(r.Text, part) != in {
			t.Errorf("%q in the unit: want %v\n%s", part, in, r.Text)
		}
	}
	if last := s.ran[len(s.ran)-3:]; !slices.Equal(last, []string{"systemctl --user daemon-reload", "systemctl --user enable " + unitName, "systemctl --user restart " + unitName}) {
		t.Errorf("ran %q", last)
	}
	if r, err := Remove(t.Context(), m); err != nil || r.Place != want || exists(want) {
		t.Errorf("removed: %+v, %v", r, err)
	}
	if r, err := Remove(t.Context(), m); err != nil || r.Place != "" {
		t.Errorf("removed again: %+v, %v", r, err)
	}
}

// Where the desktop tells systemd nothing, the display of now is written down. An agent that ends
// with the terminal is not.
func TestUnitWithoutAGraphicalSession(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the paths are those of Unix")
	}
	s := &system{answers: map[string]string{"systemctl --user is-active": "!inactive", "systemctl --user show-environment": "LANG=C\nWAYLAND_DISPLAY=wayland-1\n"}}
	m := machine(t, "linux", s, map[string]string{"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0", "SSH_AUTH_SOCK": "/tmp/ssh-1/agent.2"})
	r, err := Install(t.Context(), m, hard)
	if err != nil || !strings.Contains(r.Text, `Environment="DISPLAY=:0"`) || !strings.Contains(r.Text, "WantedBy=default.target") {
		t.Errorf("%v\n%s", err, r.Text)
	}
	if strings.Contains(r.Text, "WAYLAND") || strings.Contains(r.Text, "SSH_AUTH_SOCK") {
		t.Errorf("systemd knows its display, and the agent ends:\n%s", r.Text)
	}
	if !slices.ContainsFunc(r.Notes, func(note string) bool { return strings.Contains(note, "/tmp/ssh-1/agent.2") }) {
		t.Errorf("notes %q, want one about the agent", r.Notes)
	}
}

// Without a bus of the user, as over SSH or in a container, the unit is written and not started.
func TestUnitWithoutABus(t *testing.T) {
	s := &system{answers: map[string]string{"systemctl --user": "!Failed to connect to bus: No medium found\nmore"}}
	m := machine(t, "linux", s, nil)
	r, err := Install(t.Context(), m, hard)
	if err != nil || r.Running || !exists(r.Place) {
		t.Errorf("got %+v, %v", r, err)
	}
	want := []string{"systemctl --user show-environment failed: Failed to connect to bus: No medium found",
		"in a terminal of your desktop, type: systemctl --user enable --now " + unitName}
	if !slices.Equal(r.Notes, want) {
		t.Errorf("notes %q, want %q", r.Notes, want)
	}
}

func TestWithoutSystemd(t *testing.T) {
	s := &system{answers: map[string]string{"systemctl": "!not found"}}
	for _, goos := range []string{"linux", "freebsd"} {
		_, err := Install(t.Context(), machine(t, goos, s, nil), Program{Path: "/bin/sallyport", Args: []string{"callback", "a b"}})
		if e, ok := errors.AsType[*UnsupportedError](err); !ok || e.Line != "/bin/sallyport callback 'a b'" {
			t.Errorf("%s: %v", goos, err)
		}
	}
}

func TestAgentIsInstalledAndRemoved(t *testing.T) {
	s := &system{answers: map[string]string{"launchctl bootout": "!No such process"}}
	m := machine(t, "darwin", s, nil)
	r, err := Install(t.Context(), m, hard)
	if err != nil || !r.Running || !exists(r.Place) || !strings.HasSuffix(r.Place, "sallyport.callback.plist") {
		t.Errorf("got %+v, %v", r, err)
	}
	want := []string{"launchctl bootout gui/501/sallyport.callback", "launchctl bootstrap gui/501 " + r.Place}
	if !slices.Equal(s.ran, want) {
		t.Errorf("ran %q, want %q", s.ran, want)
	}
	if gone, err := Remove(t.Context(), m); err != nil || gone.Place != r.Place || exists(r.Place) {
		t.Errorf("removed: %+v, %v", gone, err)
	}
	s.answers["launchctl bootstrap"] = "!Bootstrap failed: 5: Input/output error"
	if r, err := Install(t.Context(), m, hard); err != nil || r.Running || len(r.Notes) != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestRunKeyIsInstalledAndRemoved(t *testing.T) {
	s := &system{}
	m := machine(t, "windows", s, nil)
	r, err := Install(t.Context(), m, hard)
	if err != nil || r.Running || r.Text != runText(hard) {
		t.Errorf("got %+v, %v", r, err)
	}
	want := `reg add HKCU\Software\Microsoft\Windows\CurrentVersion\Run /v sallyport-callback /t REG_SZ /d ` + r.Text + " /f"
	if !slices.Equal(s.ran, []string{want}) {
		t.Errorf("ran %q, want %q", s.ran, want)
	}
	if gone, err := Remove(t.Context(), m); err != nil || gone.Place != r.Place {
		t.Errorf("removed: %+v, %v", gone, err)
	}
	s.answers = map[string]string{"reg": "!ERROR: denied"}
	if _, err := Install(t.Context(), m, hard); err == nil || !strings.Contains(err.Error(), "ERROR: denied") {
		t.Errorf("got %v", err)
	}
	if gone, err := Remove(t.Context(), m); err != nil || gone.Place != "" {
		t.Errorf("removed nothing: %+v, %v", gone, err)
	}
}
