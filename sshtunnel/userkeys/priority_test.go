//go:build !windows

package userkeys

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sallyport/sshtunnel/sshtest/openssh"
)

// listAgent has a list of keys, and nothing else.
type listAgent struct {
	agent.Agent
	keys []*agent.Key
}

func (a listAgent) List() ([]*agent.Key, error) { return a.keys, nil }

// Among the keys of the agent that no file names, certificates of security keys that need no touch
// come first, and those that need a PIN behind the other certificates. The order was recorded from
// `ssh -Z` of OpenSSH 10.5. SALLYPORT_SSH names such an ssh, which is asked again.
func TestPriorityOfCertificates(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	openssh.WriteKey(t, at("ca"), "")
	certify := func(name string, options ...string) {
		openssh.Run(t, "ssh-keygen", slices.Concat([]string{"-q", "-s", at("ca"), "-I", name, "-n", "me"}, options, []string{at(name) + ".pub"})...)
	}
	for _, name := range []string{"touched", "untouched", "verified", "both"} {
		pub := writeTokenKey(t, at(name), skTouch)
		os.WriteFile(at(name)+".pub", ssh.MarshalAuthorizedKey(pub), 0o600)
	}
	openssh.WriteKey(t, at("plain"), "")
	certify("plain")
	certify("touched")
	certify("untouched", "-O", "no-touch-required")
	certify("verified", "-O", "verify-required")
	certify("both", "-O", "verify-required", "-O", "no-touch-required")
	held := listAgent{Agent: agent.NewKeyring()}
	for _, name := range []string{"plain", "verified-cert", "both-cert", "plain-cert", "touched-cert", "untouched", "untouched-cert"} {
		pub := openssh.ReadPublicKey(t, at(name)+".pub")
		held.keys = append(held.keys, &agent.Key{Format: pub.Type(), Blob: pub.Marshal(), Comment: name})
	}
	want := []string{"untouched-cert", "plain-cert", "touched-cert", "verified-cert", "both-cert", "plain", "untouched"}
	sock := agentSocket(t, func(c net.Conn) { agent.ServeAgent(held, c) })
	var r report
	c := r.config(host(), "")
	c.Agent = open(t, sock)
	var got []string
	for _, k := range Collect(c) {
		got = append(got, strings.TrimPrefix(k.Label, "agent: "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q; %q", got, want, r.notes)
	}
	program := os.Getenv("SALLYPORT_SSH")
	if program == "" {
		return
	}
	out, err := exec.CommandContext(t.Context(), program, "-F", "none", "-Z", "-o", "IdentityFile=none", "-o", "IdentityAgent="+sock, "x").Output()
	if err != nil {
		t.Fatal(err)
	}
	var judged []string
	for line := range strings.Lines(string(out)) {
		judged = append(judged, strings.Fields(line)[0])
	}
	if !slices.Equal(judged, want) {
		t.Errorf("ssh -Z: %q\n%s", judged, out)
	}
}
