package sshconfig

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestAliases(t *testing.T) {
	home := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(home, ".ssh", name)
		os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ran := filepath.Join(home, "ran")
	write("more/work", "Host inner\n  Port 23\nHost deep.example\n")
	r := &Resolver{Home: home, UserFile: write("config", `Host bastion jump !not-this web-*
Include more/*
Match exec "touch `+ran+`"
  Include more/*
Host never?
  Include other/none
Host bastion last
Host *
  User ada
`), SystemFile: write("system", "Host far\n")}
	want := []string{"bastion", "jump", "inner", "deep.example", "last", "far"}
	if got := r.Aliases(t.Context()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a command of Match exec has run")
	}
	broken := &Resolver{Home: home, UserFile: write("broken", "Host first\nHost \"\"\nHost second\n")}
	if got := broken.Aliases(t.Context()); !slices.Equal(got, []string{"first"}) {
		t.Errorf("before an error: got %q", got)
	}
}

func TestNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	text := "Host bastion web-*\nMatch originalhost matched\n  Port 23\nHost !closed *\nMatch !host other\nHost *\nMatch all\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &Resolver{UserFile: path}
	for name, want := range map[string]bool{
		"bastion": true, "web-1": true, "matched": true, "other": false, "closed": false, "ada@bastion": true,
	} {
		host, err := r.Resolve(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := host.Named(); got != want {
			t.Errorf("%s: got %t, want %t", name, got, want)
		}
	}
}
