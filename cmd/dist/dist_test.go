package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestVersionOf(t *testing.T) {
	for text, want := range map[string]string{
		"v1.2.3-0-g0123456789": "1.2.3", "v1.2.3-4-g0123456789": "1.2.4-dev.4.g0123456789", "v0.0.0-0-g0": "0.0.1-dev.0.g0",
		"release-1-0-gabc": "", "v1.2-0-gabc": "",
	} {
		got, err := versionOf(text)
		if got != want || (err != nil) != (want == "") || want != "" && !plainVersion.MatchString(got) {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestArchivesAreTheSameEachTime(t *testing.T) {
	made := time.Unix(1e9, 0).UTC()
	files := []file{{"d/sallyport", 0o755, []byte("program")}, {"d/README.md", 0o644, []byte("text")}}
	for name, pack := range map[string]func([]file, time.Time) ([]byte, error){"tar": tarred, "zip": zipped} {
		one, err := pack(files, made)
		two, err2 := pack(files, made)
		if err != nil || err2 != nil || !bytes.Equal(one, two) {
			t.Errorf("%s: %v, %v", name, err, err2)
		}
	}
	text, _ := tarred(files, made)
	zipper, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for archive, i := tar.NewReader(zipper), 0; i < len(files); i++ {
		header, err := archive.Next()
		if err != nil {
			t.Fatal(err)
		}
		if header.Name != files[i].name || header.Mode != int64(files[i].mode) || !header.ModTime.Equal(made) || header.Uname != "" {
			t.Errorf("got %+v", header)
		}
	}
}

func TestManifests(t *testing.T) {
	r := &release{out: t.TempDir(), version: "1.2.3", baseURL: "https://downloads.example/v1.2.3/"}
	for _, p := range platforms {
		b := binary{platform: p, archive: "sallyport-1.2.3-" + p.String() + ".tar.gz", sum: strings.Repeat("ab", 32)}
		if p.os == "windows" {
			b.archive = strings.Replace(b.archive, ".tar.gz", ".zip", 1)
		}
		r.built = append(r.built, b)
	}
	if err := r.manifests(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"homebrew/sallyport.rb":                     `url "https://downloads.example/v1.2.3/sallyport-1.2.3-darwin-arm64.tar.gz"`,
		"scoop/sallyport.json":                      `"extract_dir": "sallyport-1.2.3-windows-amd64"`,
		"winget/sallyport.sallyport.installer.yaml": `sallyport-1.2.3-windows-arm64\sallyport.exe`,
		"server.json":                               `"version": "1.2.3"`,
	}
	for path := range templates {
		text, err := os.ReadFile(filepath.Join(r.out, "manifests", path))
		if err != nil || strings.Contains(string(text), "<no value>") || !strings.Contains(string(text), want[path]) {
			t.Errorf("%s: %v\n%s", path, err, text)
		}
		if strings.HasSuffix(path, ".json") && !json.Valid(text) {
			t.Errorf("%s is no JSON:\n%s", path, text)
		}
	}
	for _, b := range r.built {
		if _, err := json.Marshal(r.bundleManifest(b)); err != nil {
			t.Error(err)
		}
	}
}

// The npm package hands on arguments, streams and the exit status, and says which package it
// misses.
func TestWrapper(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no Node.js")
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "node_modules", "sallyport", "bin", "sallyport.js")
	if err := writeFile(script, []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, int) {
		cmd := exec.CommandContext(t.Context(), node, append([]string{script}, args...)...)
		cmd.Stdin = strings.NewReader("hello")
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return string(out), exit.ExitCode()
		}
		return string(out), 0
	}
	if out, status := run(); status != 1 || !strings.Contains(out, "there is no package sallyport-") || !strings.Contains(out, "hint: ") {
		t.Errorf("without a binary: status %d, %s", status, out)
	}
	platform, err := exec.Command(node, "-p", "process.platform+'-'+process.arch").Output()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "node_modules", "sallyport-"+strings.TrimSpace(string(platform)), "sallyport")
	if err := writeFile(program, []byte("#!/bin/sh\ncat; echo \" $*\"; exit 6\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, status := run("--via", "a b"); status != 6 || out != "hello --via a b\n" {
		t.Errorf("status %d, %q", status, out)
	}
}

// TestRelease makes a release for this machine twice, and installs what came out. It takes minutes
// and needs root, dpkg and npm, so it runs by `make dist-check` only.
func TestRelease(t *testing.T) {
	if os.Getenv("SALLYPORT_TEST_DIST") == "" {
		t.Skip("make dist-check runs it")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	dir := t.TempDir()
	var sums [2]string
	for i, name := range []string{"one", "two"} {
		r := &release{out: filepath.Join(dir, name), version: "9.8.7", baseURL: "https://downloads.example"}
		if err := errors.Join(r.describe(t.Context()), r.make(t.Context(), "linux-amd64")); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(r.out, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(text)
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds differ:\n%s\n%s", sums[0], sums[1])
	}
	must := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	const want = "sallyport 9.8.7 "
	must("dpkg", "-i", "one/sallyport-9.8.7-linux-amd64.deb")
	if got := must("/usr/bin/sallyport", "--version"); !strings.HasPrefix(got, want) {
		t.Errorf("the package's binary says %q", got)
	}
	must("dpkg", "-r", "sallyport")
	if _, err := os.Stat("/usr/bin/sallyport"); err == nil {
		t.Error("the package leaves its binary behind")
	}
	must("npm", "install", "--no-audit", "--no-fund", "--prefix", "npm", "./one/sallyport-9.8.7.tgz", "./one/sallyport-linux-x64-9.8.7.tgz")
	if got := must("npm/node_modules/.bin/sallyport", "--version"); !strings.HasPrefix(got, want) {
		t.Errorf("the npm package's binary says %q", got)
	}
	must("npm", "install", "--no-audit", "--no-fund", "--prefix", "mcpb", "@anthropic-ai/mcpb@2.1.2")
	must("mcpb/node_modules/.bin/mcpb", "unpack", "one/sallyport-9.8.7-linux-amd64.mcpb", "bundle")
	must("mcpb/node_modules/.bin/mcpb", "validate", "bundle/manifest.json")
	if got := must("bundle/server/sallyport", "--version"); !strings.HasPrefix(got, want) {
		t.Errorf("the bundle's binary says %q", got)
	}
}
