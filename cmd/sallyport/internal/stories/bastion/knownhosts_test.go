//go:build linux

package bastion_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// Eight proxies write into one known_hosts at once: first each adds the key that it met, then, by
// UpdateHostKeys, the server's other one, which rewrites the file. No line is lost.
func TestKnownHostsOfManyProcesses(t *testing.T) {
	t.Parallel()
	upstream := machines.StartMCP(t, nil)
	for _, hash := range []string{"no", "yes"} {
		t.Run("HashKnownHosts "+hash, func(t *testing.T) {
			t.Parallel()
			const mine = "# mine\n\nelsewhere ssh-ed25519 not-a-key\nno newline at the end"
			known := machines.WriteKnownHosts(t, mine)
			var sites []*machines.PlainSite
			for range 8 {
				_, second := machines.NewKey(t, machines.OpenDir(t), "second")
				server := machines.StartSSHD(t, machines.SSHDOptions{Config: []string{"HostKey " + second}})
				sites = append(sites, &machines.PlainSite{SSHD: server, Upstream: upstream})
			}
			for i, strict := range []string{"accept-new", "yes"} {
				var hosts []*machines.Host
				for _, s := range sites {
					hosts = append(hosts, machines.StartHost(t, s.Command(t, "-o", "UserKnownHostsFile="+known,
						"-o", "StrictHostKeyChecking="+strict, "-o", "UpdateHostKeys=yes", "-o", "HashKnownHosts="+hash), nil))
				}
				awaitKeys(t, known, (i+1)*len(sites))
				for _, host := range hosts {
					host.Close(t)
				}
			}
			checkKnownHosts(t, known, mine, hash == "yes", sites)
		})
	}
}

// awaitKeys waits until a known_hosts file has that many whole keys.
func awaitKeys(t *testing.T, known string, want int) {
	t.Helper()
	count := func() int { return strings.Count(machines.ReadFile(t, known), " ssh-ed25519 AAAA") }
	machines.Poll(t, func() bool { return count() >= want }, "keys in "+known)
}

// checkKnownHosts wants the lines of before, two keys of each server, and no file beside.
func checkKnownHosts(t *testing.T, known, before string, hashed bool, sites []*machines.PlainSite) {
	t.Helper()
	keygen := machines.NeedProgram(t, "ssh-keygen", "openssh-client")
	text := machines.ReadFile(t, known)
	if rest, ok := strings.CutPrefix(text, before+"\n"); !ok || strings.Count(rest, "\n") != 2*len(sites) {
		t.Errorf("known_hosts:\n%s", text)
	}
	for _, s := range sites {
		out, err := exec.Command(keygen, "-f", known, "-F", "["+s.SSHD.Host+"]:"+s.SSHD.Port).Output()
		if n := strings.Count(string(out), " ssh-ed25519 "); err != nil || n != 2 {
			t.Errorf("ssh-keygen finds %d keys of port %s, want 2: %v", n, s.SSHD.Port, err)
		}
	}
	if n := strings.Count(text, "|1|"); n != map[bool]int{false: 0, true: 2 * len(sites)}[hashed] {
		t.Errorf("%d hashed lines", n)
	}
	left, _ := filepath.Glob(filepath.Dir(known) + "/*")
	for _, file := range left {
		if file != known && file != known+".old" {
			t.Errorf("%s is left behind", file)
		}
	}
}
