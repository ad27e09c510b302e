package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Two processes write to one file and rotate it. No line is lost, cut or mixed with another one.
func TestTwoProcesses(t *testing.T) {
	const each, writers = 500, 3 // fewer than maxWaiting
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	var logs []*Log
	for range writers {
		l, err := Open(path, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		l.maxBytes = 64 << 10 // all lines fit into the file and its backups
		logs = append(logs, l)
	}
	var writing sync.WaitGroup
	for i, l := range logs {
		writing.Go(func() {
			for n := range each {
				l.Add(Line{Method: "tools/call", Tool: fmt.Sprintf("%d-%d-%s", i, n, strings.Repeat("x", n%50))})
			}
			l.Close()
		})
	}
	writing.Wait()
	seen, rotated := map[string]int{}, 0
	for _, suffix := range []string{"", ".1", ".2", ".3"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			continue
		}
		rotated++
		if fi, err := os.Stat(path + suffix); err == nil && fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", path+suffix, fi.Mode())
		}
		for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
			var line Line
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			seen[line.Tool]++
		}
	}
	if rotated < 2 {
		t.Error("the file was not rotated")
	}
	if len(seen) != writers*each {
		t.Errorf("%d lines, want %d", len(seen), writers*each)
	}
}

// What cannot be written is told once, and nobody waits for it.
func TestLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	l, err := Open(filepath.Join(dir, "audit.jsonl"), slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 3 * maxWaiting {
		l.Add(Line{Method: "tools/call"})
	}
	l.Close()
	l.Add(Line{}) // after the end nothing happens
	if got := strings.Count(told.String(), "the audit log is not complete"); got != 1 {
		t.Errorf("told %d times: %s", got, told.String())
	}
}

// A name that a server chose is no line of its own, and steers no terminal.
func TestLineIsOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const name = "a\n{\"outcome\":\"ok\"}\x1b[2J\u202e"
	l.Add(Line{Tool: name})
	l.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var line Line
	if err := json.Unmarshal(b, &line); err != nil || line.Tool != name {
		t.Errorf("got %q, %v", line.Tool, err)
	}
	if bytes.Count(b, []byte("\n")) != 1 || bytes.ContainsAny(b, "\x1b\u202e") {
		t.Errorf("got %q", b)
	}
}

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{"a folder": dir, "a missing folder": filepath.Join(dir, "x", "y")} {
		if l, err := Open(path, slog.New(slog.DiscardHandler)); err == nil {
			l.Close()
			t.Errorf("%s: no error", name)
		}
	}
}
