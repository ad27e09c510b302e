package sshtunnel

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
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

// AlgorithmError says that there is no algorithm that both the server and we can use (RFC 4253
// section 7.1).
type AlgorithmError struct {
	// Keyword is that of ssh_config which lists the algorithms in question, such as KexAlgorithms.
	Keyword string `json:"keyword"`
	// Ours are those that ssh_config allows, as far as they are implemented here. If none is, all
	// of them are named.
	Ours []string `json:"ours,omitempty"`
	// Theirs are what the server offers, as it names them. They are empty if the server was not
	// asked, because nothing that ssh_config allows is implemented here.
	Theirs []string `json:"theirs,omitempty"`
	// Possible are those of Theirs that are implemented here, and that ssh_config does not allow.
	// OpenSSH calls most of them weak.
	Possible []string `json:"possible,omitempty"`
}

// Error names what the server offers. The names are printable and cut to a limit.
func (e *AlgorithmError) Error() string {
	if len(e.Theirs) == 0 && len(e.Ours) == 0 {
		return e.Keyword + " leaves no algorithm"
	}
	if len(e.Theirs) == 0 {
		return fmt.Sprintf("none of %s %q is implemented here", e.Keyword, display.Cut(strings.Join(e.Ours, ",")))
	}
	return fmt.Sprintf("no algorithm in common: of %s, the server offers only %q", e.Keyword, display.Cut(strings.Join(e.Theirs, ",")))
}

// noneImplemented is the error of a list that leaves nothing to offer.
func noneImplemented(keyword string, list []string) error {
	return &AlgorithmError{Keyword: keyword, Ours: list}
}

// mismatch makes an AlgorithmError of that of x/crypto. It returns nil if err is another one.
func mismatch(err error) error {
	e, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err)
	if !ok {
		return nil
	}
	good, old := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	out := &AlgorithmError{Ours: e.SupportedAlgorithms, Theirs: e.RequestedAlgorithms}
	var have []string
	switch { // x/crypto tells what was negotiated in words only
	case strings.HasSuffix(e.What, "cipher"):
		out.Keyword, have = "Ciphers", slices.Concat(good.Ciphers, old.Ciphers)
	case strings.HasSuffix(e.What, "MAC"):
		out.Keyword, have = "MACs", slices.Concat(good.MACs, old.MACs)
	case strings.HasSuffix(e.What, "host key"):
		out.Keyword, have = "HostKeyAlgorithms", slices.Concat(good.HostKeys, old.HostKeys)
	case strings.HasSuffix(e.What, "key exchange"):
		out.Keyword, have = "KexAlgorithms", slices.Concat(good.KeyExchanges, old.KeyExchanges, []string{keyExchangeLibSSH})
	default:
		out.Keyword = "Compression"
	}
	out.Possible = implemented(out.Theirs, have)
	return out
}
