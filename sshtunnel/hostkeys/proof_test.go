//go:build !windows

package hostkeys

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
	"sallyport/sshtunnel/sshtest/openssh"
)

// A server that names keys which it does not prove to hold teaches us nothing.
func TestKeysWithoutProofAreNotLearned(t *testing.T) {
	mine, stolen := sshtest.NewKey(), sshtest.NewKey()
	strings1 := func(all ...[]byte) (b []byte) {
		for _, s := range all {
			b = append(b, ssh.Marshal(struct{ S []byte }{s})...)
		}
		return b
	}
	sign := func(c ssh.Conn, request string, by ssh.Signer, key ssh.PublicKey) []byte {
		sig, err := by.Sign(zeroes{}, ssh.Marshal(struct {
			R    string
			S, K []byte
		}{request, c.SessionID(), key.Marshal()}))
		if err != nil {
			t.Fatal(err)
		}
		return ssh.Marshal(sig)
	}
	honest := func(c ssh.Conn) (bool, []byte) {
		return true, strings1(sign(c, proveRequest, stolen, stolen.PublicKey()))
	}
	for _, tt := range []struct {
		name    string
		notice  []byte
		prove   func(c ssh.Conn) (bool, []byte)
		learned bool
	}{
		{"proof", nil, honest, true},
		{"refused", nil, func(ssh.Conn) (bool, []byte) { return false, nil }, false},
		{"of another key", nil, func(c ssh.Conn) (bool, []byte) {
			return true, strings1(sign(c, proveRequest, mine, stolen.PublicKey()))
		}, false},
		{"of another text", nil, func(c ssh.Conn) (bool, []byte) {
			return true, strings1(sign(c, hostKeysRequest, stolen, stolen.PublicKey()))
		}, false},
		{"none", nil, func(ssh.Conn) (bool, []byte) { return true, nil }, false},
		{"junk", nil, func(ssh.Conn) (bool, []byte) { return true, []byte("\x00\x00\x00\x09junk") }, false},
		{"junk inside", nil, func(ssh.Conn) (bool, []byte) { return true, strings1([]byte("junk")) }, false},
		{"key told twice", strings1(mine.PublicKey().Marshal(), stolen.PublicKey().Marshal(), stolen.PublicKey().Marshal()), honest, false},
		{"notice of junk", []byte("\x00\x00\x00\x09junk"), honest, false},
		{"too many keys", strings1(make([][]byte, maxServerKeys+1)...), honest, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "known_hosts")
			old := "web " + keyLine(mine.PublicKey()) + "\n"
			writeFile(t, file, old)
			client, server := sshPair(t, mine)
			check := &Verifier{log: testLog(t), allowed: defaultAlgorithms, updatable: true,
				host: &sshconfig.Host{Alias: "web", HostName: "web", Port: 22, UserKnownHostsFiles: []string{file}, UpdateHostKeys: "yes"}}
			go func() { // ends with the connection
				for r := range server.reqs {
					r.Reply(tt.prove(server.Conn))
				}
			}()
			notice := tt.notice
			if notice == nil {
				notice = strings1(mine.PublicKey().Marshal(), stolen.PublicKey().Marshal())
			}
			rest := check.HandleUpdates(client.Conn, client.reqs, nil)
			for _, name := range []string{hostKeysRequest, hostKeysRequest, "another"} {
				if _, _, err := server.Conn.SendRequest(name, false, notice); err != nil {
					t.Fatal(err)
				}
			}
			if r := <-rest; r.Type != "another" {
				t.Errorf("passed on: %s", r.Type)
			}
			read := func() string {
				b, _ := os.ReadFile(file)
				return string(b)
			}
			if tt.learned {
				openssh.Eventually(t, "the key is learned", func() bool { return read() == old+"web "+keyLine(stolen.PublicKey())+"\n" })
			}
			client.Conn.Close()
			for range rest { // closed after the update has ended
			}
			if changed := read() != old; changed != tt.learned {
				t.Errorf("known_hosts: %q", read())
			}
		})
	}
}
