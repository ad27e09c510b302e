//go:build !windows

package hostkeys

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
)

func TestVoucherNamesWhatVouchedForTheKey(t *testing.T) {
	plain, authority := sshtest.NewKey(), sshtest.NewKey()
	cert := &ssh.Certificate{
		Key: sshtest.NewKey().PublicKey(), CertType: ssh.HostCert, ValidBefore: ssh.CertTimeInfinity, ValidPrincipals: []string{"web"},
	}
	if err := cert.SignCert(zeroes{}, authority); err != nil {
		t.Fatal(err)
	}
	line := func(key ssh.PublicKey) string { return keyLine(key) + "\n" }
	dir := t.TempDir()
	program := filepath.Join(dir, "command")
	writeProgram(t, program, "echo; echo 'web "+keyLine(plain.PublicKey())+"'")
	for _, tt := range []struct {
		name         string
		key          ssh.PublicKey
		user, global string
		edit         func(*sshconfig.Host)
		answer       string
		want         Voucher
		text         string
	}{
		{
			name: "the user's file", key: plain.PublicKey(), user: "# comment\n\nweb " + line(plain.PublicKey()),
			want: Voucher{Source: SourceUserFile, File: "user", Line: 3}, text: "user:3",
		}, {
			name: "the global file", key: plain.PublicKey(), user: "web ssh-junk\n", global: "web " + line(plain.PublicKey()),
			want: Voucher{Source: SourceGlobalFile, File: "global", Line: 1}, text: "global:1",
		}, {
			name: "the name without a port", key: plain.PublicKey(), user: "\nweb " + line(plain.PublicKey()),
			edit: func(h *sshconfig.Host) { h.Port = 2222 },
			want: Voucher{Source: SourceUserFile, File: "user", Line: 2}, text: "user:2",
		}, {
			name: "an authority", key: cert, user: "db x\n@cert-authority w* " + line(authority.PublicKey()),
			want: Voucher{Source: SourceUserFile, Authority: true, File: "user", Line: 2}, text: "user:2 (certificate authority)",
		}, {
			name: "the plain key of a certificate", key: cert, user: "web " + line(cert.Key),
			want: Voucher{Source: SourceUserFile, File: "user", Line: 1}, text: "user:1",
		}, {
			name: "a command", key: plain.PublicKey(), edit: func(h *sshconfig.Host) { h.KnownHostsCommand = program },
			want: Voucher{Source: SourceCommand, File: "KnownHostsCommand-HOSTNAME", Line: 2}, text: "KnownHostsCommand-HOSTNAME:2",
		}, {
			name: "a person", key: plain.PublicKey(), edit: func(h *sshconfig.Host) { h.StrictHostKeyChecking = "ask" }, answer: "yes",
			want: Voucher{Source: SourcePerson}, text: "person",
		}, {
			name: "accept-new", key: plain.PublicKey(), edit: func(h *sshconfig.Host) { h.StrictHostKeyChecking = "accept-new" },
			want: Voucher{Source: SourcePolicy}, text: "StrictHostKeyChecking",
		}, {
			name: "localhost", key: plain.PublicKey(), edit: func(h *sshconfig.Host) { h.NoHostAuthenticationForLocalhost = true },
			want: Voucher{Source: SourceLocalhost}, text: "NoHostAuthenticationForLocalhost",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			h := &sshconfig.Host{
				Alias: "web", HostName: "web", Port: 22, StrictHostKeyChecking: "yes",
				UserKnownHostsFiles: []string{filepath.Join(dir, "user")}, GlobalKnownHostsFiles: []string{filepath.Join(dir, "global")},
			}
			writeFile(t, h.UserKnownHostsFiles[0], tt.user)
			writeFile(t, h.GlobalKnownHostsFiles[0], tt.global)
			if tt.edit != nil {
				tt.edit(h)
			}
			v, err := New(t.Context(), Config{Host: h, Log: testLog(t)})
			if err != nil {
				t.Fatal(err)
			}
			v.DialedDirectly(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: h.Port})
			p := &person{}
			if tt.answer != "" {
				p.answers = []string{tt.answer}
			}
			got, err := v.Verify(t.Context(), tt.key, p.ask)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.TrimPrefix(got.String(), dir+"/")
			got.File = strings.TrimPrefix(got.File, dir+"/")
			tt.want.Type, tt.want.Fingerprint = tt.key.Type(), Fingerprint(tt.key)
			if got != tt.want || text != tt.text {
				t.Errorf("got %+v (%s), want %+v (%s)", got, text, tt.want, tt.text)
			}
			// A rekeying asks nobody, and gives the same answer, whatever the files say by now.
			os.Remove(h.UserKnownHostsFiles[0])
			again, err := v.Verify(t.Context(), tt.key, nil)
			again.File = strings.TrimPrefix(again.File, dir+"/")
			if err != nil || again != got {
				t.Errorf("at the rekeying: %+v, %v", again, err)
			}
		})
	}
}
