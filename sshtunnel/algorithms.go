package sshtunnel

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
)

// keyExchangeLibSSH is the older name of curve25519-sha256. x/crypto implements it, and does not
// list it. Some servers know only this one.
const keyExchangeLibSSH = "curve25519-sha256@libssh.org"

// setAlgorithms applies Ciphers, MACs and KexAlgorithms. For unset ones it takes OpenSSH's
// defaults, and not those of x/crypto, which have weaker algorithms and lack others. It leaves out
// what x/crypto does not implement. A list of the user's may name the insecure ones, too.
func setAlgorithms(c *ssh.ClientConfig, h *sshconfig.Host) error {
	if len(c.HostKeyAlgorithms) == 0 {
		return noneImplemented("HostKeyAlgorithms", h.HostKeyAlgorithms)
	}
	good, old := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	c.Ciphers = implemented(h.Ciphers, good.Ciphers, old.Ciphers)
	if h.Ciphers == nil {
		c.Ciphers = defaultCiphers()
	}
	if len(c.Ciphers) == 0 {
		return noneImplemented("Ciphers", h.Ciphers)
	}
	exchanges := orDefault(h.KexAlgorithms, "KexAlgorithms")
	c.KeyExchanges = implemented(exchanges, good.KeyExchanges, old.KeyExchanges, []string{keyExchangeLibSSH})
	if len(c.KeyExchanges) == 0 {
		return noneImplemented("KexAlgorithms", h.KexAlgorithms)
	}
	c.MACs = implemented(orDefault(h.MACs, "MACs"), good.MACs, old.MACs)
	if len(c.MACs) > 0 {
		return nil
	}
	// A cipher that authenticates by itself needs no MAC.
	c.Ciphers = implemented(c.Ciphers, []string{ssh.CipherChaCha20Poly1305, ssh.CipherAES128GCM, ssh.CipherAES256GCM})
	if len(c.Ciphers) == 0 {
		return noneImplemented("MACs", h.MACs)
	}
	c.MACs = []string{"none"} // x/crypto drops the name; it would take its own defaults for an empty list
	return nil
}

// defaultCiphers returns OpenSSH's default ciphers in the order of x/crypto. aes128-gcm comes first
// there, because x/crypto has no fast code for chacha20. To OpenSSH they are equally good.
func defaultCiphers() []string {
	return implemented(ssh.SupportedAlgorithms().Ciphers, sshconfig.DefaultAlgorithms("Ciphers"))
}

// orDefault returns the list of the user, or OpenSSH's default if there is none.
func orDefault(list []string, keyword string) []string {
	if list == nil {
		return sshconfig.DefaultAlgorithms(keyword)
	}
	return list
}

// implemented returns the names of list that one of the lists have holds, in the order of list.
func implemented(list []string, have ...[]string) []string {
	all := slices.Concat(have...)
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !slices.Contains(all, s) })
}

// noneImplemented is the error of a list that leaves nothing to offer.
func noneImplemented(keyword string, list []string) error {
	return fmt.Errorf("none of %s %q is implemented here", keyword, strings.Join(list, ","))
}
