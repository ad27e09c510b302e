//go:build unix

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// machine is a machine with a home of its own, whose commands run here.
type machine struct {
	home string
	// env is added to the environment of its commands.
	env []string
	// cutAfter is after how many bytes of stdin the link breaks. 0 is never.
	cutAfter int
}

// command is a command that runs on a machine.
type command struct {
	io.Reader
	stdin io.WriteCloser
	cmd   *exec.Cmd
	left  int // bytes until the link breaks; negative is never
}

var errCut = errors.New("the link broke")

func (m *machine) exec(ctx context.Context, text string) (io.ReadWriteCloser, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", text)
	cmd.Env = append([]string{"HOME=" + m.home, "PATH=" + os.Getenv("PATH"), "SHELL=/bin/sh"}, m.env...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c := &command{Reader: out, stdin: stdin, cmd: cmd, left: m.cutAfter}
	if m.cutAfter == 0 {
		c.left = -1
	}
	return c, cmd.Start()
}

func (c *command) Write(p []byte) (int, error) {
	if c.left >= 0 && len(p) > c.left {
		c.stdin.Write(p[:c.left])
		c.stdin.Close()
		return 0, errCut
	}
	if c.left >= 0 {
		c.left -= len(p)
	}
	return c.stdin.Write(p)
}

func (c *command) Close() error {
	c.stdin.Close()
	return c.cmd.Wait()
}

// writeProgram writes a program that prints a version, with some text after it.
func writeProgram(t *testing.T, path, version, rest string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("#!/bin/sh\necho sallyport %s go1.26 linux/amd64\nexit\n%s", version, rest)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// config is the configuration to put a program of ours on m.
func config(t *testing.T, m *machine, version string) Config {
	t.Helper()
	program := writeProgram(t, filepath.Join(t.TempDir(), "ours"), version, strings.Repeat("# a long program\n", 100_000))
	return Config{Host: "desk", Exec: m.exec, Program: program, Version: version, OS: runtime.GOOS, Arch: runtime.GOARCH}
}

// names lists a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}

func TestInstall(t *testing.T) {
	m := &machine{home: t.TempDir()}
	cfg := config(t, m, "1.2.0")
	copied := 0
	cfg.Copying = func(int64) { copied++ }
	bin := filepath.Join(m.home, ".local", "bin")
	want := filepath.Join(bin, "sallyport")
	got, err := Install(t.Context(), cfg)
	if err != nil || got.Path != want || got.Kept != "" || got.InShell != "" {
		t.Fatalf("got %+v, %v, want %s", got, err, want)
	}
	fi, err := os.Stat(want)
	if err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v, want mode 755", fi.Mode(), err)
	}
	ours, _ := os.ReadFile(cfg.Program)
	if there, err := os.ReadFile(want); err != nil || string(there) != string(ours) {
		t.Errorf("another program is there: %v", err)
	}
	if got := names(t, bin); !slices.Equal(got, []string{"sallyport"}) {
		t.Errorf("%q are there, want sallyport alone", got)
	}
	// The same one again, this time in a PATH.
	m.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	got, err = Install(t.Context(), cfg)
	if err != nil || got.Kept != "1.2.0" || copied != 1 {
		t.Errorf("again: %+v, %v, copied %d times, want once", got, err, copied)
	}
}

// What is there is kept if it is as new, and wherever the shell finds it.
func TestInstallOverAnother(t *testing.T) {
	for _, tt := range []struct{ there, ours, kept string }{
		{"1.3.0", "1.2.0", "1.3.0"}, {"1.2.0", "1.2.0", "1.2.0"}, {"1.1.9", "1.2.0", ""}, {"1.2.0-rc.1", "1.2.0", ""},
		{"devel", "1.2.0", ""}, {"1.3.0", "devel", ""}, {"1.3.0", "", ""}, {"$(reboot)", "1.2.0", ""}, {"", "1.2.0", ""},
	} {
		for _, place := range []string{".local/bin", "elsewhere"} {
			t.Run(tt.there+" "+tt.ours+" "+place, func(t *testing.T) {
				m := &machine{home: t.TempDir()}
				m.env = []string{"PATH=" + filepath.Join(m.home, "elsewhere") + ":" + os.Getenv("PATH")}
				there := writeProgram(t, filepath.Join(m.home, place, "sallyport"), tt.there, "")
				got, err := Install(t.Context(), config(t, m, tt.ours))
				want := filepath.Join(m.home, ".local", "bin", "sallyport")
				if tt.kept != "" {
					want = there
				}
				if err != nil || got.Kept != tt.kept || got.Path != want {
					t.Errorf("got %+v, %v, want %q kept, and %s", got, err, tt.kept, want)
				}
			})
		}
	}
}

// Whatever breaks, what was there stays as it was, and no part of the new one is left.
func TestInstallThatBreaks(t *testing.T) {
	for name, breaks := range map[string]func(t *testing.T, m *machine, cfg *Config) (reason string){
		"the link": func(_ *testing.T, m *machine, _ *Config) string {
			m.cutAfter = 300_000
			return "only"
		},
		"the link, at the last byte": func(t *testing.T, m *machine, cfg *Config) string {
			fi, err := os.Stat(cfg.Program)
			if err != nil {
				t.Fatal(err)
			}
			m.cutAfter = int(fi.Size()) - 1
			return "only"
		},
		"the program": func(t *testing.T, _ *machine, cfg *Config) string {
			if err := os.WriteFile(cfg.Program, []byte("#!/bin/sh\necho wrong C library; exit 1\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			return "it does not run there: wrong C library"
		},
		"a hash": func(t *testing.T, m *machine, _ *Config) string {
			writeProgram(t, filepath.Join(m.home, "bad", "sha256sum"), "", "")
			m.env = []string{"PATH=" + filepath.Join(m.home, "bad") + ":" + os.Getenv("PATH")}
			return "are not those that were sent"
		},
		"the disk": func(t *testing.T, m *machine, _ *Config) string {
			m.env = []string{"PATH=" + filepath.Dir(writeFailing(t, filepath.Join(m.home, "bad", "head"))) + ":" + os.Getenv("PATH")}
			return "is the disk full?"
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{home: t.TempDir()}
			old := writeProgram(t, filepath.Join(m.home, ".local", "bin", "sallyport"), "0.1.0", "")
			cfg := config(t, m, "1.2.0")
			reason := breaks(t, m, &cfg)
			_, err := Install(t.Context(), cfg)
			if e, ok := errors.AsType[*FailedError](err); !ok || !strings.Contains(e.Error(), reason) {
				t.Errorf("got %v, want %q", err, reason)
			}
			out, err := exec.Command(old).Output()
			if err != nil || !strings.Contains(string(out), "0.1.0") {
				t.Errorf("the old one prints %s (%v)", out, err)
			}
			if got := names(t, filepath.Dir(old)); !slices.Equal(got, []string{"sallyport"}) {
				t.Errorf("%q are there, want sallyport alone", got)
			}
		})
	}
}

// writeFailing writes a program that fails.
func writeFailing(t *testing.T, path string) string {
	t.Helper()
	writeProgram(t, path, "", "")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInstallOnAnotherPlatform(t *testing.T) {
	m := &machine{home: t.TempDir()}
	uname := writeProgram(t, filepath.Join(m.home, "bad", "uname"), "", "")
	script := "#!/bin/sh\ncase $1 in -s) echo FreeBSD;; *) echo riscv64;; esac\n"
	if err := os.WriteFile(uname, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	m.env = []string{"PATH=" + filepath.Dir(uname) + ":" + os.Getenv("PATH")}
	_, err := Install(t.Context(), config(t, m, "1.2.0"))
	if e, ok := errors.AsType[*PlatformError](err); !ok || e.OS != "freebsd" || e.Arch != "riscv64" || e.Host != "desk" {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(m.home, ".local")); err == nil {
		t.Error("something was written")
	}
}

// A machine that runs another command than ours, and one whose shell prints a greeting.
func TestInstallWhereCommandsAreForced(t *testing.T) {
	m := &machine{home: t.TempDir()}
	cfg := config(t, m, "1.2.0")
	cfg.Exec = func(ctx context.Context, _ string) (io.ReadWriteCloser, error) { return m.exec(ctx, "echo hello") }
	_, err := Install(t.Context(), cfg)
	if e, ok := errors.AsType[*FailedError](err); !ok || e.Reason != "" {
		t.Errorf("a forced command: %v", err)
	}
	cfg.Exec = func(ctx context.Context, text string) (io.ReadWriteCloser, error) {
		return m.exec(ctx, "echo Welcome to sallyport-land; "+text)
	}
	if got, err := Install(t.Context(), cfg); err != nil || got.Path == "" {
		t.Errorf("a shell that greets: %+v, %v", got, err)
	}
}
