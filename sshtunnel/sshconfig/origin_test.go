package sshconfig

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// origins returns where each value of a Host was set, as KEYWORD VALUE: ORIGIN, without defaults.
// Paths are cut to the names of the files.
func origins(h *Host) string {
	var out strings.Builder
	for _, s := range h.Settings() {
		if s.Origin.Kind == FromDefault {
			continue
		}
		s.Origin.File = filepath.Base(s.Origin.File)
		out.WriteString(s.Keyword + " " + s.Value + ": " + s.Origin.String() + "\n")
	}
	return out.String()
}

func TestOriginOfEachValue(t *testing.T) {
	tests := []struct {
		name, destination string
		files             map[string]string // by name; "config" is the user's file, "system" the system's
		options           []string
		jump              string
		want              string
	}{
		{
			name: "the first line wins, the others add up", destination: "web",
			files: map[string]string{
				"config": "Host web\n\tUser alice\n\tIdentityFile /a\n\nHost *\n\tUser bob\n\tIdentityFile /b\n\tSendEnv A B\n",
				"system": "Compression yes\nIdentityFile /c\n",
			},
			want: `host web: command line
user alice: config:2
hostname web: command line
compression yes: system:1
identityfile /a: config:3
identityfile /b: config:7
identityfile /c: system:2
sendenv A: config:8
sendenv B: config:8
`,
		}, {
			name: "Include", destination: "web",
			files: map[string]string{
				"config": "# first\nInclude ~/more\nPort 22\n",
				"more":   "\n\nPort 2022\n",
			},
			want: `host web: command line
hostname web: command line
port 2022: more:3
`,
		}, {
			name: "Match", destination: "alice@web",
			files: map[string]string{
				"config": "Match user bob\n Port 1\nMatch user alice originalhost web\n Port 2\nMatch all\n Port 3\n",
			},
			want: `host web: command line
user alice: command line
hostname web: command line
port 2: config:4
`,
		}, {
			name: "-o, -J, and a URI", destination: "ssh://bob@web:99", options: []string{"User=carol", "BatchMode yes"}, jump: "gate",
			files: map[string]string{"config": "User dave\nProxyJump other\nBatchMode no\n"},
			want: `host web: command line
user carol: command line
hostname web: command line
port 99: command line
batchmode yes: command line
proxyjump gate: command line
`,
		}, {
			name: "HostName, and expanded values", destination: "web",
			files: map[string]string{"config": "HostName %h.example.org\nControlPath /run/%h\nHostKeyAlias WEB\nRekeyLimit 1G\n"},
			want: `host web: command line
hostname web.example.org: config:1
controlpath /run/web.example.org: config:2
hostkeyalias web: config:3
rekeylimit 1073741824 0: config:4
`,
		}, {
			name: "older names, lists of algorithms, forwards", destination: "web",
			files: map[string]string{"config": "KeepAlive no\nMACs -umac*,*sha1*,*512*\nLocalForward 8080 localhost:80\n"},
			want: `host web: command line
hostname web: command line
tcpkeepalive no: config:1
macs hmac-sha2-256-etm@openssh.com,hmac-sha2-256: config:2
localforward 8080 [localhost]:80: config:3
`,
		}, {
			name: "the second pass, with the canonical name", destination: "web",
			files: map[string]string{
				"config": "CanonicalizeHostname yes\nCanonicalDomains example.org\nHost web.example.org\n User alice\nMatch canonical\n Port 2022\n",
			},
			want: `host web: command line
user alice: config:4
hostname web.example.org: config:2
port 2022: config:6
canonicalizehostname true: config:1
canonicaldomains example.org: config:2
`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := configResolver(t, "")
			r.system.lookup = func(_ context.Context, name string) (string, error) { return strings.TrimSuffix(name, "."), nil }
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(r.Home, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r.SystemFile = filepath.Join(r.Home, "system")
			r.Options, r.Jump = tt.options, tt.jump
			h, err := r.Resolve(t.Context(), tt.destination)
			if err != nil {
				t.Fatal(err)
			}
			if got := origins(h); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// What a hop is called stands in the ProxyJump line that led to it.
func TestOriginOfAHop(t *testing.T) {
	r := configResolver(t, "Host web\n ProxyJump ann@gate:23\nHost gate\n Compression yes\n User bob\n")
	chain, err := r.Chain(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	gate := chain[0]
	for keyword, want := range map[string]string{"Host": ":2", "User": ":2", "port": ":2", "COMPRESSION": ":4", "batchmode": ""} {
		origin := gate.Origin(keyword)
		if want != "" {
			want = r.UserFile + want
		} else {
			want = "default"
		}
		if origin.String() != want {
			t.Errorf("%s comes from %v, want %s", keyword, origin, want)
		}
	}
}

func TestOriginTakesOlderNamesOfKeywords(t *testing.T) {
	r := configResolver(t, "PubkeyAcceptedKeyTypes ssh-ed25519\n")
	h, err := r.Resolve(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	for _, keyword := range []string{"PubkeyAcceptedKeyTypes", "PubkeyAcceptedAlgorithms"} {
		if got := h.Origin(keyword); got.Kind != FromFile || got.Line != 1 {
			t.Errorf("%s: %v", keyword, got)
		}
	}
}

// A fault that is found after reading names the line that set the value.
func TestFaultNamesItsOrigin(t *testing.T) {
	r := configResolver(t, "Host other\n ControlPath %x\n")
	r.Options = []string{"ControlPath=%y"}
	_, err := r.Resolve(t.Context(), "web")
	if want := `ssh configuration on the command line: controlpath: unknown token "%y"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	r.Options = nil
	_, err = r.Resolve(t.Context(), "other")
	if want := r.UserFile + `:2: controlpath: unknown token "%x"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
