package sshconfig

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// What nobody knows, and what does not concern a host, is no reason to refuse the host. It is told
// once, with its line, if the line applies.
func TestStrangeNamesAndValuesAreSkipped(t *testing.T) {
	const policy = "mlkem1024nistp384-sha384" // of a distribution's policy file
	tests := []struct {
		name, config string
		told         []string // each is in one line of the log, and nothing else is told
	}{
		{"an unknown algorithm", "Host web\n KexAlgorithms " + policy + ",curve25519-sha256\n", []string{policy}},
		{"an unknown algorithm added", "HostKeyAlgorithms +ssh-rsa,ssh-dss\n", []string{"ssh-dss"}},
		{"an unknown algorithm put first", "Ciphers ^3des\n", []string{"3des"}},
		{"an unknown pattern of keys", "PubkeyAcceptedAlgorithms ssh-ed25519,ssh-frodo*\n", []string{"ssh-frodo*"}},
		{"a pattern where none may be", "MACs hmac-sha2-256,hmac-md*\n", []string{"hmac-md*"}},
		{"an unknown algorithm taken away", "Ciphers -twofish*,3des\n", nil},
		{"two unknown algorithms", "CASignatureAlgorithms x,y,ssh-ed25519\n", []string{`\"x\"`, `\"y\"`}},
		{"algorithms of another host", "Host old\n Ciphers 3des\n MACs bogus\n HostKeyAlgorithms +ssh-dss\n", nil},
		{"algorithms for what we do not do", "HostbasedAcceptedAlgorithms ssh-dss\n", []string{"ssh-dss"}},
		{"an unknown keyword", "UseKeychain yes\n", []string{"usekeychain"}},
		{"an unknown keyword of another host", "Host old\n UseKeychain yes\n", nil},
		{"a strange value without effect", "Tunnel sideways\n", []string{"sideways"}},
		{"a strange value of another host", "Host old\n StrictHostKeyChecking perhaps\n Port x\n AddressFamily 4\n", nil},
		{"no value for another host", "Host old\n User\n Port\n", nil},
		{"an open quote of another host", "Host old\n User \"x\n", nil},
		{"too many values of another host", "Match host old\n Port 22 23\n", nil},
		{"forwards that ssh would not take", "LocalForward 80\n", []string{"localforward"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := configResolver(t, tt.config+"Host web\n User alice\n")
			var log strings.Builder
			r.Log = slog.New(slog.NewTextHandler(&log, nil))
			for range 2 {
				h, err := r.Resolve(t.Context(), "web")
				if err != nil || h.User != "alice" {
					t.Fatalf("Resolve = %+v, %v", h, err)
				}
			}
			lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
			if log.Len() == 0 {
				lines = nil
			}
			if len(lines) != len(tt.told) {
				t.Fatalf("log = %q, want %d lines", log.String(), len(tt.told))
			}
			for i, want := range tt.told {
				if !strings.Contains(lines[i], want) || !strings.Contains(lines[i], "line=") || !strings.Contains(lines[i], r.UserFile) {
					t.Errorf("log line = %q, want %q with its place", lines[i], want)
				}
			}
		})
	}
}

// A list of which only unknown names are left refuses the hosts that it applies to, and no other.
func TestListOfUnknownNamesRefusesItsHost(t *testing.T) {
	r := configResolver(t, "Host old\n Ciphers 3des,blowfish-cbc\n")
	if _, err := r.Resolve(t.Context(), "web"); err != nil {
		t.Errorf("another host: %v", err)
	}
	_, err := r.Resolve(t.Context(), "old")
	if fault, ok := errors.AsType[*Error](err); !ok || fault.Line != 2 || !strings.Contains(fault.Msg, "blowfish-cbc") {
		t.Errorf("error = %v, want an Error for line 2 with the names", err)
	}
}

// An empty list allows nothing. It must not be taken for an unset one, which allows the defaults.
func TestListThatIsTakenAwayIsEmpty(t *testing.T) {
	r := configResolver(t, "PubkeyAcceptedAlgorithms -*\nMACs -*\n")
	h, err := r.Resolve(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if h.PubkeyAcceptedAlgorithms == nil || len(h.PubkeyAcceptedAlgorithms) > 0 || h.MACs == nil || len(h.MACs) > 0 {
		t.Errorf("lists = %q, %q, want both empty and not nil", h.PubkeyAcceptedAlgorithms, h.MACs)
	}
	if h.Ciphers != nil {
		t.Errorf("Ciphers = %q, want nil", h.Ciphers)
	}
}

// The defaults are those of OpenSSH 10.6: SHA-1 signs nothing, and a composite ML-DSA key goes
// last.
func TestDefaultAlgorithms(t *testing.T) {
	for keyword, absent := range map[string]string{
		"Ciphers": "3des-cbc", "MACs": "hmac-sha1-96", "KexAlgorithms": "diffie-hellman-group14-sha1",
		"HostKeyAlgorithms": "ssh-rsa", "PubkeyAcceptedAlgorithms": "ssh-rsa", "CASignatureAlgorithms": "ssh-rsa",
	} {
		list := DefaultAlgorithms(keyword)
		if len(list) < 6 || slices.Contains(list, absent) {
			t.Errorf("%s = %q, which must not have %s", keyword, list, absent)
		}
		for _, name := range list {
			if openSSH10.find(strings.ToLower(keyword), name) == nil {
				t.Errorf("%s: default %s is not known", keyword, name)
			}
		}
	}
	keys := DefaultAlgorithms("hostkeyalgorithms")
	if last := keys[len(keys)-1]; last != "ssh-mldsa44-ed25519" || !slices.Contains(keys, "ssh-mldsa44-ed25519-cert") {
		t.Errorf("HostKeyAlgorithms = %q", keys)
	}
	if list := DefaultAlgorithms("User"); list != nil {
		t.Errorf("a keyword that is no list has %q", list)
	}
}

// Since 10.6, ssh refuses dollars and backslashes in users that do not stand as they are in a file.
func TestUserNames(t *testing.T) {
	tests := []struct {
		name, config, destination, option string
		want                              string // "" is a refusal
	}{
		{name: "literal in the file", config: `User CORP\alice`, destination: "web", want: `CORP\alice`},
		{name: "dollar in the file", config: "User svc$", destination: "web", want: "svc$"},
		{name: "typed with a backslash", destination: `CORP\alice@web`},
		{name: "typed with a dollar", destination: "svc$@web"},
		{name: "URI", destination: "ssh://svc%24@web"},
		{name: "typed with two @", destination: "alice@corp.example@web", want: "alice@corp.example"},
		{name: "typed with a percent", destination: "%u@web", want: "%u"},
		{name: "typed with a control character", destination: "a\x1bb@web"},
		{name: "typed with a tab and a dash", destination: "a\t-b@web"},
		{name: "option", destination: "web", option: `User=CORP\alice`},
		{name: "option with a dash", destination: "web", option: "User=-x"},
		{name: "option with a token", destination: "web", option: "User=%u", want: "me"},
		{name: "variable in the file", config: "User ${WHO}", destination: "web"},
		{name: "token in the file", config: "User x%h", destination: "web", want: "xweb"},
		{name: "file over which a typed one wins", config: "User $", destination: "bob@web", want: "bob"},
		{name: "literal in a block of the jump host", config: "Host web\n ProxyJump gate\nHost gate\n User CORP\\g", destination: "web", want: "me"},
		{name: "jump host's URI", config: "Host web\n ProxyJump ssh://g%40corp@gate", destination: "web", want: "me"},
		{name: "jump host's spelling", config: "Host web\n ProxyJump CORP\\g@gate", destination: "web"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := configResolver(t, tt.config+"\n")
			r.Getenv = func(name string) string { return map[string]string{"WHO": `CORP\alice`}[name] }
			if tt.option != "" {
				r.Options = []string{tt.option}
			}
			chain, err := r.Chain(t.Context(), tt.destination)
			got := ""
			if err == nil {
				got = chain[len(chain)-1].User
			}
			if got != tt.want {
				t.Errorf("user = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// The names of -J are checked when it is read, and those of ProxyJump in a file when the hop is
// used.
func TestJumpHostsOfTheCommandLine(t *testing.T) {
	for _, jump := range []string{"a;b", "-x", "bad`x`@gate", "gate,u$@b", "ssh://u%5cv@gate"} {
		r := configResolver(t, "")
		r.Jump = jump
		if h, err := r.Resolve(t.Context(), "web"); err == nil {
			t.Errorf("-J %s: %+v, want a refusal", jump, h.ProxyJump)
		}
		r = configResolver(t, "ProxyJump "+jump+"\n")
		if _, err := r.Resolve(t.Context(), "web"); err != nil {
			t.Errorf("ProxyJump %s: %v, want it read", jump, err)
		}
		if chain, err := r.Chain(t.Context(), "web"); err == nil {
			t.Errorf("ProxyJump %s: chain of %d hops, want a refusal", jump, len(chain))
		}
	}
}

// A zone is a part of an address, wherever the address may stand.
func TestZones(t *testing.T) {
	const zoned = "fe80::1%eth0"
	tests := []struct{ name, config, destination, jump string }{
		{name: "destination", destination: zoned},
		{name: "destination with a user", destination: "me@" + zoned},
		{name: "destination with a port", destination: "[" + zoned + "]:22"},
		{name: "URI", destination: "ssh://me@[" + zoned + "]:22"},
		{name: "URI with an encoded zone", destination: "ssh://[fe80::1%25eth0]"},
		{name: "ProxyJump with a URI", config: "Host web\n ProxyJump ssh://[fe80::1%25eth0]/", destination: "web"},
		{name: "HostName", config: "HostName " + zoned, destination: "web"},
		{name: "HostName as ssh wants it", config: "HostName fe80::1%%eth0", destination: "web"},
		{name: "ProxyJump", config: "Host web\n ProxyJump me@[" + zoned + "]:22", destination: "web"},
		{name: "ProxyJump as ssh wants it", config: "Host web\n ProxyJump [fe80::1%%eth0]:22", destination: "web"},
		{name: "HostName of a jump host", config: "Host web\n ProxyJump gate\nHost gate\n HostName " + zoned, destination: "web"},
		{name: "-J", destination: "web", jump: "[" + zoned + "]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := configResolver(t, tt.config+"\n")
			r.Jump = tt.jump
			chain, err := r.Chain(t.Context(), tt.destination)
			if err != nil {
				t.Fatal(err)
			}
			if got := chain[0]; got.HostName != zoned || got.Port != 22 || got.User != "me" {
				t.Errorf("first host = %s@%s:%d, want me@%s:22", got.User, got.HostName, got.Port, zoned)
			}
		})
	}
}

// ConnectTimeout 0 and none both mean that the person wants none, against our own default.
func TestConnectTimeoutOfNone(t *testing.T) {
	for config, want := range map[string]bool{
		"": false, "ConnectTimeout 0": true, "ConnectTimeout none": true, "ConnectTimeout 9": true, "Host old\n ConnectTimeout 0": false,
	} {
		h, err := configResolver(t, config+"\n").Resolve(t.Context(), "web")
		if err != nil || h.ConnectTimeoutSet != want {
			t.Errorf("%q: set = %v, %v, want %v", config, h.ConnectTimeoutSet, err, want)
		}
	}
}

// A file that is included for another host cannot refuse this one, unless it includes itself.
func TestIncludeForAnotherHost(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		refused    bool
	}{
		{"a file that others may write", "User x\n", 0o622, false},
		{"a criterion that nobody knows", "Match weather rain\n User x\n", 0o600, false},
		{"an open quote", "Match host \"x\n", 0o600, false},
		{"a bad value", "Port x\n", 0o600, false},
		{"itself, twice", "Include INNER\nInclude INNER\n", 0o600, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && tt.mode != 0o600 {
				return // there is no such mode
			}
			inner := filepath.Join(t.TempDir(), "inner")
			if err := os.WriteFile(inner, []byte(strings.ReplaceAll(tt.text, "INNER", inner)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(inner, tt.mode); err != nil {
				t.Fatal(err)
			}
			r := configResolver(t, "Host old\n Include "+inner+"\nHost *\n User alice\n")
			h, err := r.Resolve(t.Context(), "web")
			if (err != nil) != tt.refused || err == nil && h.User != "alice" {
				t.Errorf("Resolve = %+v, %v, want a refusal: %v", h, err, tt.refused)
			}
			if _, err := r.Resolve(t.Context(), "old"); err == nil {
				t.Error("the host that it is for is not refused")
			}
		})
	}
}
