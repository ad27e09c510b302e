package farbrowser

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// What the person has named comes first if it takes a PAC file, under whatever name it is found.
func TestPreferred(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("programs have other names")
	}
	dir := t.TempDir()
	for _, name := range []string{"chromium", "firefox", "brave", "opener"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("firefox", filepath.Join(dir, "x-www-browser")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	all := []browser{{name: "Chromium", id: "chromium"}, {name: "Brave", id: "brave", confined: "/snap"}, {name: "Firefox", id: "firefox", firefox: true}}
	for _, test := range []struct {
		named []string
		only  bool
		want  string
	}{
		{nil, false, "Chromium Brave Firefox"},
		{nil, true, "Chromium Brave Firefox"},
		{[]string{"firefox"}, false, "Firefox Chromium Brave"},
		{[]string{filepath.Join(dir, "firefox")}, false, "Firefox Chromium Brave"},
		{[]string{"x-www-browser"}, false, "Firefox Chromium Brave"},
		{[]string{"opener"}, false, "Chromium Brave Firefox"},
		{[]string{"opener", "brave", "firefox", "brave"}, false, "Brave Firefox Chromium"},
		{[]string{"links"}, false, "Chromium Brave Firefox"},
		{[]string{"firefox"}, true, "Firefox"},
		{[]string{"opener"}, true, ""},
		{[]string{"vivaldi"}, true, ""},
	} {
		var names []string
		for _, b := range preferred(all, test.named, test.only) {
			names = append(names, b.name)
			if b.name == "Brave" && b.command != nil {
				t.Errorf("%q: a program in a sandbox is started as %q", test.named, b.command)
			}
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%q, only %t: got %q, want %q", test.named, test.only, got, test.want)
		}
	}
}
