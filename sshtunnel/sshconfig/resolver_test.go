package sshconfig

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// configLog writes to the log of the test.
func configLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// configResolver reads text as the user's file. It knows no environment, and runs nothing.
func configResolver(t testing.TB, text string) *Resolver {
	t.Helper()
	home := t.TempDir()
	file := filepath.Join(home, "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Resolver{
		UserFile: file, Home: home, User: "me", UID: "1000", LocalHostname: "here.example", Log: configLog(t),
		system: system{
			run:    func(context.Context, string) (bool, error) { return false, nil },
			lookup: func(context.Context, string) (string, error) { return "", nil },
		},
	}
}

func TestChain(t *testing.T) {
	tests := []struct {
		name, config, destination, jump string
		options                         []string
		want                            []string // user@host:port, first dialed first
	}{
		{
			name:        "no jump",
			config:      "Host web\n HostName web.corp\n Port 2022\n User alice\n",
			destination: "web",
			want:        []string{"alice@web.corp:2022"},
		}, {
			name:        "each hop has its own block",
			config:      "Host web\n ProxyJump b\n User w\nHost b\n ProxyJump a\n Port 23\nHost a\n User ann\n",
			destination: "web",
			want:        []string{"ann@a:22", "me@b:23", "w@web:22"},
		}, {
			name:        "of a list only the first hop's own jump counts",
			config:      "Host web\n ProxyJump a,b\nHost a\n ProxyJump x\nHost b\n ProxyJump y\n",
			destination: "web",
			want:        []string{"me@x:22", "me@a:22", "me@b:22", "me@web:22"},
		}, {
			name:        "options and -J do not pass to hops",
			config:      "Host a\n User ann\n",
			destination: "web", jump: "a", options: []string{"User=bob", "Port 99"},
			want: []string{"ann@a:22", "bob@web:99"},
		}, {
			name:        "user and port of the hop's spelling win",
			config:      "Host web\n ProxyJump u@h:1,ssh://v@c:2\nHost h\n User x\n Port 3\n",
			destination: "web",
			want:        []string{"u@h:1", "v@c:2", "me@web:22"},
		}, {
			name:        "tokens in a jump",
			config:      "Host web\n ProxyJump %r@gw-%n\n User alice\n",
			destination: "web",
			want:        []string{"alice@gw-web:22", "alice@web:22"},
		}, {
			name:        "a hop of a pattern that would send it through itself",
			config:      "Host bastion\n ProxyJump none\nHost *\n ProxyJump bastion\n",
			destination: "web",
			want:        []string{"me@bastion:22", "me@web:22"},
		}, {
			name:        "destination with user and port",
			config:      "Host web\n User x\n Port 3\n",
			destination: "bob@web:2222",
			want:        []string{"bob@web:2222"},
		}, {
			name: "ssh URI", destination: "ssh://bob%2bx;fingerprint=y@web:2222/",
			want: []string{"bob+x@web:2222"},
		}, {
			name: "IPv6", destination: "bob@2001:db8::1", want: []string{"bob@[2001:db8::1]:22"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := configResolver(t, tt.config)
			r.Jump, r.Options = tt.jump, tt.options
			chain, err := r.Chain(t.Context(), tt.destination)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, h := range chain {
				got = append(got, target{host: h.HostName, user: h.User, port: h.Port}.String())
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("chain = %q, want %q", got, tt.want)
			}
		})
	}
}

// What ssh refuses is refused, and the error names the line at fault.
func TestWhatSSHRefusesIsRefused(t *testing.T) {
	tests := []struct {
		name, config, destination string
		line                      int
		msg                       string
	}{
		{"jump loop", "Host a\n ProxyJump b\nHost b\n ProxyJump a\n", "a", 2, "loop"},
		{"endless jumps", "Host *\n ProxyJump x%h\n", "a", 2, "loop"},
		{"jumps that double", "Host *\n ProxyJump %h%h\n", "a", 2, "longer"},
		{"own jump host", "Host a\n ProxyJump a\n", "a", 2, "loop"},
		{"extra argument", "Host a\n Port 22 23\n", "a", 2, "too many arguments"},
		{"open quote", "User \"a\n", "a", 1, "quote"},
		{"bad value", "Host a\n Port x\n", "a", 2, "bad port"},
		{"open quote in a block that does not match", "Host b\n\nMatch \"x\nHost a\n", "a", 3, "quote"},
		{"no algorithm that we know", "Host a\n Ciphers aes999,mlkem\n", "a", 2, "aes999"},
		{"no argument", "\nUser\n", "a", 2, "no argument"},
		{"byte order mark", "\ufeffHost a\n", "a", 1, "byte order mark"},
		{"match", "Match bogus x\n", "a", 1, "bogus"},
		{"refused connection", "Host a\n RefuseConnection \"closed for today\"\n", "a", 2, "closed for today"},
		{"shell in host", "", "a;b", 0, "not allowed"},
		{"option as host", "", "-oProxyCommand=x", 0, "not allowed"},
		{"option as user", "", "-x@a", 0, "not allowed"},
		{"shell in user", "", "$(x)@a", 0, "not allowed"},
		{"shell in hop", "Host a\n ProxyJump b`x`\n", "a", 2, "not allowed"},
		{"variable that is not set", "IdentityAgent ${NOPE}\n", "a", 1, "NOPE"},
		{"unknown token", "ControlPath %z\n", "a", 1, "%z"},
		{"include loop", "Include CONFIG\n", "a", 0, "deep"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := configResolver(t, tt.config)
			if strings.Contains(tt.config, "CONFIG") {
				text := strings.ReplaceAll(tt.config, "CONFIG", r.UserFile)
				if err := os.WriteFile(r.UserFile, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := r.Chain(t.Context(), tt.destination)
			got, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error = %v, want an Error", err)
			}
			if got.Line != tt.line || !strings.Contains(got.Error(), tt.msg) {
				t.Errorf("error = %q (line %d), want %q at line %d", got, got.Line, tt.msg, tt.line)
			}
			if tt.line > 0 && got.File != r.UserFile {
				t.Errorf("file = %q, want %q", got.File, r.UserFile)
			}
		})
	}
}

func TestUnknownKeywordIsAWarning(t *testing.T) {
	r := configResolver(t, "UseKeychain yes\nIgnoreUnknown Foo*\nFooBar x\nUser alice\n")
	var log strings.Builder
	r.Log = slog.New(slog.NewTextHandler(&log, nil))
	for range 2 {
		h, err := r.Resolve(t.Context(), "web")
		if err != nil || h.User != "alice" {
			t.Fatalf("Resolve = %+v, %v", h, err)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "usekeychain") {
		t.Errorf("log = %q, want one warning about usekeychain", log.String())
	}
	r.Options = []string{"Usr=bob"}
	if _, err := r.Resolve(t.Context(), "web"); err == nil {
		t.Error("an unknown keyword in -o is not refused")
	}
}

// No text makes the Resolver panic, and an error is always an Error. Nothing is run or looked up.
func FuzzResolver(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "web", "User=x")
	}
	f.Add("Match host a exec \"x\" final\n ProxyJump a,ssh://b@[::1]:2\nLocalForward [::1]:80 /x\\:y", "ssh://u@h:1", "Port 1")
	dir := f.TempDir()
	file := filepath.Join(dir, "config")
	f.Fuzz(func(t *testing.T, text, destination, option string) {
		if strings.Contains(strings.ToLower(text), "include") {
			return // it could lead to any file of this machine
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := &Resolver{
			UserFile: file, Options: []string{option}, Home: dir, User: "me", UID: "1", LocalHostname: "here",
			system: system{
				run:    func(context.Context, string) (bool, error) { return len(text)%2 == 0, nil },
				lookup: func(_ context.Context, name string) (string, error) { return name, nil },
				addrs:  func() ([]netip.Addr, error) { return nil, nil },
			},
		}
		chain, err := r.Chain(t.Context(), destination)
		if err != nil {
			if c, ok := errors.AsType[*Error](err); !ok || strings.Contains(c.Msg, "two ways") || strings.Contains(c.Msg, "lines were read") {
				t.Fatalf("error = %v (%T)", err, err)
			}
			return
		}
		for _, h := range chain {
			if !validHost(h.Alias) || h.Port < 1 || h.Port > 65535 || len(h.ProxyJump) > 0 && h.ProxyCommand != "" {
				t.Fatalf("host = %+v", h)
			}
		}
	})
}
