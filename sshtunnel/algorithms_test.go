package sshtunnel

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

// What is offered without any configuration is in OpenSSH's default lists, and all of them that
// x/crypto implements is offered.
func TestDefaultAlgorithmsAreThoseOfOpenSSH(t *testing.T) {
	c := &ssh.ClientConfig{HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}}
	if err := setAlgorithms(c, &sshconfig.Host{}); err != nil {
		t.Fatal(err)
	}
	wantCiphers := "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr"
	wantExchanges := "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384," +
		"ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group14-sha256"
	wantMACs := "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512,hmac-sha1"
	for _, l := range []struct {
		keyword string
		got     []string
		want    string
	}{{"Ciphers", c.Ciphers, wantCiphers}, {"KexAlgorithms", c.KeyExchanges, wantExchanges}, {"MACs", c.MACs, wantMACs}} {
		if got := strings.Join(l.got, ","); got != l.want {
			t.Errorf("%s = %s, want %s", l.keyword, got, l.want)
		}
		defaults := sshconfig.DefaultAlgorithms(l.keyword)
		if extra := slices.DeleteFunc(slices.Clone(l.got), func(s string) bool { return slices.Contains(defaults, s) }); len(extra) > 0 {
			t.Errorf("%s offers %q, which ssh does not", l.keyword, extra)
		}
	}
}

func TestListsOfAlgorithms(t *testing.T) {
	const gcm = "aes128-gcm@openssh.com"
	tests := []struct {
		name               string
		host               sshconfig.Host
		ciphers, kex, macs string // "" is not looked at
		err                string
	}{
		{
			name:    "insecure ones that the user names",
			host:    sshconfig.Host{Ciphers: []string{"3des-cbc", "aes128-cbc"}, KexAlgorithms: []string{"diffie-hellman-group1-sha1", "diffie-hellman-group-exchange-sha1"}, MACs: []string{"hmac-sha1-96"}},
			ciphers: "3des-cbc,aes128-cbc", kex: "diffie-hellman-group1-sha1,diffie-hellman-group-exchange-sha1", macs: "hmac-sha1-96",
		},
		{name: "the older name of curve25519 alone", host: sshconfig.Host{KexAlgorithms: []string{keyExchangeLibSSH}}, kex: keyExchangeLibSSH},
		{name: "what is not implemented", host: sshconfig.Host{KexAlgorithms: []string{"sntrup761x25519-sha512", "curve25519-sha256"}}, kex: "curve25519-sha256"},
		{name: "no cipher", host: sshconfig.Host{Ciphers: []string{"aes256-cbc"}}, err: `none of Ciphers "aes256-cbc"`},
		{name: "an empty list of ciphers", host: sshconfig.Host{Ciphers: []string{}}, err: "Ciphers leaves no algorithm"},
		{name: "no key exchange", host: sshconfig.Host{KexAlgorithms: []string{"diffie-hellman-group18-sha512"}}, err: "none of KexAlgorithms"},
		{name: "no MAC, and ciphers that need none", host: sshconfig.Host{MACs: []string{"umac-64@openssh.com"}, Ciphers: []string{"aes256-ctr", gcm}}, ciphers: gcm, macs: "none"},
		{name: "an empty list of MACs", host: sshconfig.Host{MACs: []string{}}, macs: "none"},
		{name: "no MAC, and a cipher that needs one", host: sshconfig.Host{MACs: []string{"umac-64@openssh.com"}, Ciphers: []string{"aes256-ctr"}}, err: "none of MACs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &ssh.ClientConfig{HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}}
			err := setAlgorithms(c, &tt.host)
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error = %v, want %q", err, tt.err)
			}
			for _, l := range []struct {
				got  []string
				want string
			}{{c.Ciphers, tt.ciphers}, {c.KeyExchanges, tt.kex}, {c.MACs, tt.macs}} {
				if got := strings.Join(l.got, ","); err == nil && l.want != "" && got != l.want {
					t.Errorf("list = %s, want %s", got, l.want)
				}
			}
		})
	}
}

// The host key algorithms without configuration are in OpenSSH's default list, too.
func TestDefaultHostKeyAlgorithmsAreThoseOfOpenSSH(t *testing.T) {
	keys, err := hostkeys.New(t.Context(), hostkeys.Config{Host: &sshconfig.Host{HostName: "web", Port: 22}})
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(slices.Values(keys.Algorithms()))
	want := slices.Sorted(slices.Values(implemented(ssh.SupportedAlgorithms().HostKeys, sshconfig.DefaultAlgorithms("HostKeyAlgorithms"))))
	if !slices.Equal(got, want) {
		t.Errorf("algorithms = %q, want %q", got, want)
	}
}
