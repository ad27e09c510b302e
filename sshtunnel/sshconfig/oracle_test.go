//go:build linux

package sshconfig

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// oracle is the OpenSSH client that is installed, or the one that SALLYPORT_SSH names.
type oracle struct {
	t       *testing.T
	ssh     string
	version string // OpenSSH_10.5p1
	release release
}

// modern tells whether the oracle knows what came with OpenSSH 10: tokens in User, Include with
// variables.
func (o *oracle) modern() bool {
	var major int
	_, err := fmt.Sscanf(o.version, "OpenSSH_%d.", &major)
	return err == nil && major >= 10
}

// missing ends a test that needs a part that is not there.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs "+format, args...)
	}
	t.Skipf("needs "+format, args...)
}

// namespaceVariable marks the copy of the test that runs in a mount namespace of its own.
const namespaceVariable = "SALLYPORT_TEST_NAMESPACE"

// inNamespace runs the calling test again in a private mount namespace, where its files can lie on
// the home directory and /etc/ssh: ssh asks the user database, not $HOME. It returns false in the
// outer run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) != "" {
		return true
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		missing(t, "unshare(1)")
	}
	if os.Getuid() != 0 || exec.CommandContext(t.Context(), unshare, "-m", "true").Run() != nil {
		missing(t, "root, to have a mount namespace")
	}
	t.Parallel() // the copies do not see each other
	args := []string{"-m", os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"}
	cmd := exec.CommandContext(t.Context(), unshare, args...)
	cmd.Env = append(os.Environ(), namespaceVariable+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("in the namespace: %v", err)
	}
	return false
}

func newOracle(t *testing.T) *oracle {
	t.Helper()
	ssh := os.Getenv("SALLYPORT_SSH")
	if ssh == "" {
		var err error
		if ssh, err = exec.LookPath("ssh"); err != nil {
			missing(t, "an OpenSSH client")
		}
	}
	o := &oracle{t: t, ssh: ssh}
	out, err := exec.CommandContext(t.Context(), ssh, "-V").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	o.version = regexp.MustCompile(`^OpenSSH_[0-9.]+p?[0-9]*`).FindString(string(out))
	// What differs by release and is no rule is asked of the oracle.
	plain, err := o.run([]string{"-F", "none", "host"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.release = release{
		version: o.version, identityFiles: plain["identityfile"],
		defaults: make(map[string]string), known: make(map[string]string),
	}
	queries := map[string]string{
		"ciphers": "cipher", "macs": "mac", "kexalgorithms": "kex", "hostkeyalgorithms": "HostKeyAlgorithms",
		"hostbasedacceptedalgorithms": "HostKeyAlgorithms", "pubkeyacceptedalgorithms": "HostKeyAlgorithms",
		"casignaturealgorithms": "sig",
	}
	if o.modern() {
		queries["casignaturealgorithms"] = "key-ca-sign"
	}
	for keyword, query := range queries {
		names, err := exec.CommandContext(t.Context(), ssh, "-Q", query).Output()
		if err != nil {
			t.Fatal(err)
		}
		o.release.known[keyword] = strings.Join(strings.Fields(string(names)), ",")
		o.release.defaults[keyword] = plain[keyword][0]
	}
	t.Logf("oracle: %s", o.version)
	return o
}

// settingsByKeyword is what `ssh -G` or WriteTo printed: the values of each keyword, in order.
type settingsByKeyword map[string][]string

func parseSettings(text string) settingsByKeyword {
	out := make(settingsByKeyword)
	for line := range strings.Lines(text) {
		keyword, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		keyword = strings.ToLower(keyword)
		out[keyword] = append(out[keyword], value)
	}
	return out
}

// refusal is what ssh said when it refused.
type refusal string

func (r refusal) Error() string { return string(r) }

// run runs `ssh -G`.
func (o *oracle) run(args, env []string) (settingsByKeyword, error) {
	cmd := exec.CommandContext(o.t.Context(), o.ssh, append([]string{"-G"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, refusal(strings.TrimSpace(errs.String()))
	}
	return parseSettings(out.String()), nil
}

// notCompared are keywords that `ssh -G` prints and we do not, as they mean nothing to us or
// vary with how OpenSSH was built.
var notCompared = regexp.MustCompile(`^(gssapi.*|securitykeyprovider|xauthlocation|ipqos)$`)

// differences compares all keywords.
func (o *oracle) differences(want, got settingsByKeyword) []string {
	var diffs []string
	all := make(settingsByKeyword)
	for _, m := range []settingsByKeyword{want, got} {
		for k := range m {
			all[k] = nil
		}
	}
	for k := range all {
		switch {
		case notCompared.MatchString(k):
			continue
		case !o.modern() && want[k] == nil && len(got[k]) == 1:
			// Keywords of OpenSSH 10 that 9.2 does not print.
			switch k {
			case "warnweakcrypto", "obscurekeystroketiming", "channeltimeout", "revokedhostkeys", "tag":
				continue
			}
		case k == "streamlocalbindmask": // up to 10.5 the last line wins, wherever it stands
			continue
		case !o.modern() && k == "forwardx11trusted": // the default of Debian's build
			continue
		case !o.modern() && k == "serveraliveinterval" && fmt.Sprint(want[k], want["batchmode"]) == "[300] [yes]": // Debian's, too
			continue
		}
		if fmt.Sprintf("%q", want[k]) != fmt.Sprintf("%q", got[k]) {
			diffs = append(diffs, fmt.Sprintf("%s: ssh has %q, we have %q", k, want[k], got[k]))
		}
	}
	return diffs
}

// sandbox is the home and /etc/ssh of the namespace.
type sandbox struct{ home, etc string }

// newSandbox mounts empty directories over the home directory and /etc/ssh.
func newSandbox(t *testing.T) sandbox {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := sandbox{home: u.HomeDir, etc: "/etc/ssh"}
	for _, dir := range []string{s.home, s.etc} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "mount", "--bind", t.TempDir(), dir).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v: %s", err, out)
		}
		t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	}
	return s
}

// fill replaces the contents by files of an archive, named home/... and etc/...
func (s sandbox) fill(t *testing.T, files map[string]string) {
	t.Helper()
	for _, dir := range []string{s.home, s.etc} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range files {
		var path string
		if rest, ok := strings.CutPrefix(name, "home/"); ok {
			path = filepath.Join(s.home, rest)
		} else if rest, ok := strings.CutPrefix(name, "etc/"); ok {
			path = filepath.Join(s.etc, rest)
		} else {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// resolver reads the sandbox as the oracle does.
func (s sandbox) resolver(t *testing.T, rel *release, env []string) *Resolver {
	return &Resolver{
		UserFile: s.home + "/.ssh/config", SystemFile: s.etc + "/ssh_config",
		Getenv: func(name string) string {
			for _, v := range env {
				if value, ok := strings.CutPrefix(v, name+"="); ok {
					return value
				}
			}
			return os.Getenv(name)
		},
		Log: configLog(t), system: system{release: rel},
	}
}

// printed is what WriteTo prints for a destination.
func printed(t *testing.T, r *Resolver, destination string) (settingsByKeyword, error) {
	h, err := r.Resolve(t.Context(), destination)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	n, err := h.WriteTo(&out)
	if err != nil || n != int64(out.Len()) {
		t.Fatalf("WriteTo = %d, %v; want %d, nil", n, err, out.Len())
	}
	return parseSettings(out.String()), nil
}
