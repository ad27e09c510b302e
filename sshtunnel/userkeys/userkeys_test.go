//go:build !windows

package userkeys

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest/openssh"
)

// report is what Collect and its signers tell.
type report struct {
	notes       []string
	needsPerson bool
	failed      error
	asked       int
}

// config returns a Config whose person gives an answer; "" means that nobody is there.
func (r *report) config(h *sshconfig.Host, answer string) Config {
	return Config{
		Host: h,
		Ask: func(kind, prompt string, echo bool) (string, error) {
			r.asked++
			if answer == "" {
				return "", hostkeys.ErrNoPerson
			}
			return answer, nil
		},
		Log:         slog.New(slog.DiscardHandler),
		Note:        func(s string) { r.notes = append(r.notes, s) },
		NeedsPerson: func() { r.needsPerson = true },
		SignFailed:  func(err error) { r.failed = err },
	}
}

func host(files ...string) *sshconfig.Host {
	return &sshconfig.Host{IdentityFiles: files, IdentityFilesSet: true, PubkeyAuthentication: true, NumberOfPasswordPrompts: 3}
}

func labels(keys []Key) (names []string) {
	for _, k := range keys {
		names = append(names, filepath.Base(k.Label))
	}
	return names
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"good", "open", "alone"} {
		openssh.WriteKey(t, path(name), "")
	}
	os.Chmod(path("open"), 0o644)
	os.Remove(path("alone"))
	os.WriteFile(path("garbage"), []byte("garbage"), 0o600)
	for _, tt := range []struct {
		file string
		keys []string
		note string // the end of one; "" none
	}{
		{"good", []string{"good"}, ""},
		{"open", nil, "chmod 600 " + path("open")},
		{"alone", nil, "a public key whose private key no agent holds"},
		{"garbage", nil, "no key found"},
		{"missing", nil, "no such file or directory"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			var r report
			keys := Collect(r.config(host(path(tt.file)), ""))
			if got := labels(keys); !slices.Equal(got, tt.keys) {
				t.Errorf("keys %q, want %q", got, tt.keys)
			}
			if all := strings.Join(r.notes, "; "); (tt.note == "") != (all == "") || !strings.HasSuffix(all, tt.note) {
				t.Errorf("notes %q, want %q", all, tt.note)
			}
		})
	}
}

// The passphrase is asked for at the first signature, and once.
func TestPassphraseIsAskedForAtTheFirstSignature(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	pub := openssh.WriteKey(t, file, "secret").PublicKey()
	for _, tt := range []struct {
		name, answer string
		batch        bool
		ok, person   bool
		asked        int
	}{
		{name: "right", answer: "secret", ok: true, asked: 1},
		{name: "wrong", answer: "guess", asked: 3},
		{name: "nobody", person: true, asked: 1},
		{name: "BatchMode", answer: "secret", batch: true, person: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r report
			h := host(file)
			h.BatchMode = tt.batch
			keys := Collect(r.config(h, tt.answer))
			if len(keys) != 1 || r.asked != 0 {
				t.Fatalf("%d keys, asked %d times", len(keys), r.asked)
			}
			for range 2 {
				sig, err := keys[0].Signer.Sign(nil, []byte("data"))
				if (err == nil) != tt.ok || tt.ok && pub.Verify([]byte("data"), sig) != nil {
					t.Fatalf("got %v", err)
				}
				if !errors.Is(r.failed, err) {
					t.Errorf("told %v, want %v", r.failed, err)
				}
				if !tt.ok {
					break
				}
			}
			if r.asked != tt.asked || r.needsPerson != tt.person {
				t.Errorf("asked %d times, needs a person: %v", r.asked, r.needsPerson)
			}
		})
	}
}

func TestPubkeyAcceptedAlgorithms(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	openssh.WriteKey(t, file, "")
	for _, tt := range []struct {
		accepted []string
		want     int
	}{
		{nil, 1},
		{[]string{ssh.KeyAlgoED25519}, 1},
		{[]string{ssh.CertAlgoED25519v01, ssh.KeyAlgoRSASHA512}, 0},
	} {
		var r report
		h := host(file)
		h.PubkeyAcceptedAlgorithms = tt.accepted
		if keys := Collect(r.config(h, "")); len(keys) != tt.want || len(r.notes) != 1-tt.want {
			t.Errorf("%v: %d keys, want %d; %q", tt.accepted, len(keys), tt.want, r.notes)
		}
	}
}

func TestAddKeysToAgent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want addKeys
	}{
		{"", addKeys{}},
		{"no", addKeys{}},
		{"yes", addKeys{wanted: true}},
		{"ask", addKeys{wanted: true, ask: true}},
		{"confirm", addKeys{wanted: true, confirm: true}},
		{"3600", addKeys{wanted: true, lifetime: 3600}},
		{"confirm 3600", addKeys{wanted: true, confirm: true, lifetime: 3600}},
		{"99999999999", addKeys{}},
	} {
		if got := parseAddKeys(tt.text); got.wanted != tt.want.wanted || got.wanted && got != tt.want {
			t.Errorf("%q: got %+v, want %+v", tt.text, got, tt.want)
		}
	}
}
