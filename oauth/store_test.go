package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func openStore(t *testing.T, dir string) (*Store, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	s, err := OpenStore(filepath.Join(dir, "state"), filepath.Join(dir, "config"), slog.New(slog.NewTextHandler(io.MultiWriter(&log, t.Output()), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, &log
}

func load(t *testing.T, s *Store, name string) string {
	t.Helper()
	b, err := s.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "state", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestStoreKeeps(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	if got := load(t, s, "k"); got != "" {
		t.Errorf("an empty store holds %q", got)
	}
	s.Save("k", []byte("token-in-clear"))
	s.Save("k/session", []byte("era"))
	s.Save("other", []byte("o"))
	s, _ = openStore(t, dir)
	if got := load(t, s, "k") + load(t, s, "k/session") + load(t, s, "other"); got != "token-in-clearerao" {
		t.Errorf("got %q", got)
	}
	for _, f := range append(files(t, dir, "*"), filepath.Join(dir, "config", keyName), filepath.Join(dir, "state")) {
		fi, err := os.Stat(f)
		if err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", f, fi.Mode(), err)
		}
		if b, _ := os.ReadFile(f); bytes.Contains(b, []byte("clear")) {
			t.Errorf("%s is not encrypted", f)
		}
	}
	s.Forget("k")
	if got := load(t, s, "k") + load(t, s, "k/session") + load(t, s, "other"); got != "o" {
		t.Errorf("after Forget: %q", got)
	}
	s.ForgetAll()
	if got := files(t, dir, "*"+sealedSuffix); len(got) != 0 {
		t.Errorf("after ForgetAll: %q", got)
	}
}

func TestStoreSetsAside(t *testing.T) {
	for name, spoil := range map[string]func(dir, file string) error{
		"truncated": func(_, f string) error { return os.Truncate(f, 20) },
		"empty":     func(_, f string) error { return os.Truncate(f, 0) },
		"one bit": func(_, f string) error {
			b, _ := os.ReadFile(f)
			b[len(b)-1] ^= 1
			return os.WriteFile(f, b, 0o600)
		},
		"of another name": func(dir, f string) error {
			return os.Rename(filepath.Join(dir, "state", fileName("other")), f)
		},
		"lost key":  func(dir, _ string) error { return os.Remove(filepath.Join(dir, "config", keyName)) },
		"short key": func(dir, _ string) error { return os.Truncate(filepath.Join(dir, "config", keyName), 5) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := openStore(t, dir)
			s.Save("k", []byte("v"))
			s.Save("other", []byte("o"))
			if err := spoil(dir, filepath.Join(dir, "state", fileName("k"))); err != nil {
				t.Fatal(err)
			}
			s, log := openStore(t, dir)
			b, err := s.Load("k")
			if b != nil || err == nil || !strings.Contains(err.Error(), "set aside") {
				t.Errorf("got %q, error %v", b, err)
			}
			if len(files(t, dir, "*"+badSuffix)) != 1 {
				t.Errorf("not set aside: %s", log)
			}
			s.Save("k", []byte("new"))
			s, _ = openStore(t, dir)
			if got := load(t, s, "k"); got != "new" {
				t.Errorf("after a new Save: %q", got)
			}
		})
	}
}

func TestStoreOpenToOthersIsNotUsed(t *testing.T) {
	for _, open := range []string{"state", "config/" + keyName} {
		dir := t.TempDir()
		s, _ := openStore(t, dir)
		s.Save("k", []byte("v"))
		if err := os.Chmod(filepath.Join(dir, open), 0o755); err != nil {
			t.Fatal(err)
		}
		s, log := openStore(t, dir)
		if got := load(t, s, "k"); got != "" || !strings.Contains(log.String(), "open to others") {
			t.Errorf("%s: got %q, log %s", open, got, log)
		}
		before := files(t, dir, "*")
		s.Save("k2", []byte("memory"))
		if got := load(t, s, "k2"); got != "memory" || len(files(t, dir, "*")) != len(before) {
			t.Errorf("%s: got %q, files %q", open, got, files(t, dir, "*"))
		}
	}
}

func TestStoreFileOpenToOthersIsNotUsed(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	s.Save("k", []byte("v"))
	if err := os.Chmod(filepath.Join(dir, "state", fileName("k")), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Load("k"); b != nil || err == nil || !strings.Contains(err.Error(), "open to others") {
		t.Errorf("got %q, error %v", b, err)
	}
}

func TestStoreLock(t *testing.T) {
	dir := t.TempDir()
	a, _ := openStore(t, dir)
	b, _ := openStore(t, dir)
	unlock, err := a.lock(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if _, err := b.lock(ctx, "k"); !errors.Is(err, gone) {
		t.Errorf("a held lock was got: %v", err)
	}
	unlock()
	unlock, err = b.lock(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// A writer that is killed at any instruction leaves the old value or the new one.
func TestStoreSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	last := 0
	for range 8 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "OAUTH_TEST_STORE="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := 0
		for said < last+20 { // then it is in the midst of the next
			if _, err := fmt.Fscan(out, &said); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Process.Kill()
		rest, _ := io.ReadAll(out)
		cmd.Wait()
		for f := range strings.FieldsSeq(string(rest)) {
			fmt.Sscan(f, &said)
		}
		got := 0
		fmt.Sscan(load(t, s, "k"), &got)
		if got < said {
			t.Fatalf("store holds %d, %d was saved before the kill", got, said)
		}
		last = got
	}
	if bad := files(t, dir, "*"+badSuffix); len(bad) != 0 {
		t.Errorf("set aside: %q", bad)
	}
}

// storeWriter saves 1, 2, 3 ... under k and says each number once it is durable.
func storeWriter(dir string) {
	s, err := OpenStore(filepath.Join(dir, "state"), filepath.Join(dir, "config"), nil)
	if err != nil {
		os.Exit(1)
	}
	b, _ := s.Load("k")
	n := 0
	fmt.Sscan(string(b), &n)
	for {
		n++
		s.Save("k", []byte(fmt.Sprint(n)+strings.Repeat(" ", 8000)))
		if _, err := fmt.Println(n); err != nil {
			os.Exit(0)
		}
	}
}

func TestKeyTellsAccountsApart(t *testing.T) {
	w := newWorld(t)
	base := func() *Config { return &Config{Upstream: w.upstream, Realm: "default direct"} }
	seen := map[string]bool{base().Key(): true}
	for _, change := range []func(*Config){
		func(c *Config) { c.Realm = "default bastion" },
		func(c *Config) { c.ClientID = "x" },
		func(c *Config) { c.Resource = "x" },
		func(c *Config) { c.Audience = "x" },
		func(c *Config) { c.Upstream = w.upstream.JoinPath("x") },
	} {
		c := base()
		change(c)
		if seen[c.Key()] {
			t.Errorf("same key for %+v", c)
		}
		seen[c.Key()] = true
	}
}

func TestSecretHides(t *testing.T) {
	s := Secret("hush")
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "s", s, "c", Config{ClientSecret: s}.ClientSecret)
	j, err := json.Marshal(map[string]Secret{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(s, &s, token{Access: "hush"}, client{Secret: "hush"}) + fmt.Sprintf("%v %s %q %x %d %#v %+v", s, s, s, s, s, s, struct{ S Secret }{s}) + log.String() + string(j)
	if strings.Contains(text, "hush") || strings.Contains(text, "68757368") {
		t.Errorf("shown: %s", text)
	}
}
