package sshconfig

import (
	"fmt"
	"strings"

	"sallyport/sshtunnel/display"
)

// release holds what differs from one release of OpenSSH to the next without being a rule.
type release struct {
	// version is what Match version sees.
	version string
	// identityFiles are the defaults of IdentityFile.
	identityFiles []string
	// defaults holds, by keyword, the list of algorithms where the keyword is unset.
	defaults map[string]string
	// known holds, by keyword, all names of algorithms, in the order in which patterns find them.
	known map[string]string
}

// openSSH10 is the release whose rules we follow (myproposal.h and `ssh -Q` of 10.6).
var openSSH10 = release{
	version: "OpenSSH_10.6p1",
	identityFiles: []string{
		"~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ecdsa_sk",
		"~/.ssh/id_ed25519", "~/.ssh/id_ed25519_sk", "~/.ssh/id_mldsa44_ed25519",
	},
	defaults: map[string]string{
		"ciphers": "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com," +
			"aes128-ctr,aes192-ctr,aes256-ctr",
		"macs": "umac-64-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com," +
			"hmac-sha2-512-etm@openssh.com,hmac-sha1-etm@openssh.com,umac-64@openssh.com,umac-128@openssh.com," +
			"hmac-sha2-256,hmac-sha2-512,hmac-sha1",
		"kexalgorithms": "mlkem768x25519-sha256,sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com," +
			"curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521," +
			"diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512," +
			"diffie-hellman-group14-sha256",
		"hostkeyalgorithms":           defaultKeyAlgorithms,
		"hostbasedacceptedalgorithms": defaultKeyAlgorithms,
		"pubkeyacceptedalgorithms":    defaultKeyAlgorithms,
		"casignaturealgorithms": "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521," +
			"sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com,webauthn-sk-ecdsa-sha2-nistp256@openssh.com," +
			"rsa-sha2-512,rsa-sha2-256,ssh-mldsa44-ed25519",
	},
	known: map[string]string{
		"ciphers": "3des-cbc,aes128-cbc,aes192-cbc,aes256-cbc,aes128-ctr,aes192-ctr,aes256-ctr," +
			"aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com",
		"macs": "hmac-sha1,hmac-sha1-96,hmac-sha2-256,hmac-sha2-512,hmac-md5,hmac-md5-96," +
			"umac-64@openssh.com,umac-128@openssh.com,hmac-sha1-etm@openssh.com,hmac-sha1-96-etm@openssh.com," +
			"hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-md5-etm@openssh.com," +
			"hmac-md5-96-etm@openssh.com,umac-64-etm@openssh.com,umac-128-etm@openssh.com",
		"kexalgorithms": "diffie-hellman-group1-sha1,diffie-hellman-group14-sha1,diffie-hellman-group14-sha256," +
			"diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group-exchange-sha1," +
			"diffie-hellman-group-exchange-sha256,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521," +
			"mlkem768nistp256-sha256,curve25519-sha256,curve25519-sha256@libssh.org,sntrup761x25519-sha512," +
			"sntrup761x25519-sha512@openssh.com,mlkem768x25519-sha256",
		"hostkeyalgorithms":           knownKeyAlgorithms,
		"hostbasedacceptedalgorithms": knownKeyAlgorithms,
		"pubkeyacceptedalgorithms":    knownKeyAlgorithms,
		"casignaturealgorithms": "ssh-ed25519,sk-ssh-ed25519@openssh.com,ssh-mldsa44-ed25519," +
			"ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,sk-ecdsa-sha2-nistp256@openssh.com," +
			"webauthn-sk-ecdsa-sha2-nistp256@openssh.com,ssh-rsa,rsa-sha2-256,rsa-sha2-512",
	},
}

// These lists serve for several keywords about keys.
const (
	defaultKeyAlgorithms = "ssh-ed25519-cert-v01@openssh.com,ecdsa-sha2-nistp256-cert-v01@openssh.com," +
		"ecdsa-sha2-nistp384-cert-v01@openssh.com,ecdsa-sha2-nistp521-cert-v01@openssh.com," +
		"sk-ssh-ed25519-cert-v01@openssh.com,sk-ecdsa-sha2-nistp256-cert-v01@openssh.com," +
		"webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com,rsa-sha2-512-cert-v01@openssh.com," +
		"rsa-sha2-256-cert-v01@openssh.com,ssh-mldsa44-ed25519-cert,ssh-ed25519,ecdsa-sha2-nistp256," +
		"ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com," +
		"webauthn-sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256,ssh-mldsa44-ed25519"
	knownKeyAlgorithms = "ssh-ed25519,ssh-ed25519-cert-v01@openssh.com,sk-ssh-ed25519@openssh.com," +
		"sk-ssh-ed25519-cert-v01@openssh.com,ssh-mldsa44-ed25519,ssh-mldsa44-ed25519-cert," +
		"ecdsa-sha2-nistp256,ecdsa-sha2-nistp256-cert-v01@openssh.com,ecdsa-sha2-nistp384," +
		"ecdsa-sha2-nistp384-cert-v01@openssh.com,ecdsa-sha2-nistp521,ecdsa-sha2-nistp521-cert-v01@openssh.com," +
		"sk-ecdsa-sha2-nistp256@openssh.com,sk-ecdsa-sha2-nistp256-cert-v01@openssh.com," +
		"webauthn-sk-ecdsa-sha2-nistp256@openssh.com,webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com," +
		"ssh-rsa,ssh-rsa-cert-v01@openssh.com,rsa-sha2-256,rsa-sha2-256-cert-v01@openssh.com," +
		"rsa-sha2-512,rsa-sha2-512-cert-v01@openssh.com"
)

// DefaultAlgorithms returns the list of algorithms that OpenSSH uses where a keyword, such as
// Ciphers, is unset. It is nil for any other keyword. The caller may change it.
func DefaultAlgorithms(keyword string) []string {
	list := openSSH10.defaults[strings.ToLower(keyword)]
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// takesPatterns tells whether the names in a keyword's list may be patterns. OpenSSH looks up
// ciphers, MACs and key exchanges by equality. After a '-' all names may be patterns.
func takesPatterns(keyword string) bool {
	return keyword != "ciphers" && keyword != "macs" && keyword != "kexalgorithms"
}

// find returns the known algorithms that a name or a pattern stands for.
func (rel *release) find(keyword, name string) (found []string) {
	for known := range strings.SplitSeq(rel.known[keyword], ",") {
		if known == name || takesPatterns(keyword) && matchPattern(known, name) {
			found = append(found, known)
		}
	}
	return found
}

// assembleAlgorithms applies the + - ^ forms to the default list and resolves patterns
// (kex_assemble_names of OpenSSH). The order of the result is the order of preference in the key
// exchange (RFC 4253 section 7.1). Names that the release does not know are left out and returned
// as unknown: the lists of distributions and of other releases have such. It is an error if nothing
// else is in the list. Only the form with - may leave an empty list.
func (rel *release) assembleAlgorithms(keyword, list string) (assembled string, unknown []string, err error) {
	def := rel.defaults[keyword]
	var wanted []string
	switch {
	case list == "":
		return def, nil, nil
	case list[0] == '-':
		var remaining []string
		for name := range strings.SplitSeq(def, ",") {
			if matchList(name, list[1:], false) != 1 {
				remaining = append(remaining, name)
			}
		}
		return strings.Join(remaining, ","), nil, nil
	case list[0] == '+':
		wanted = strings.Split(def+","+list[1:], ",")
	case list[0] == '^':
		wanted = strings.Split(list[1:]+","+def, ",")
	default:
		wanted = strings.Split(list, ",")
	}
	var out []string
	seen := make(map[string]bool)
	for _, name := range wanted {
		if name == "" {
			continue
		}
		// Only the form with - takes names away.
		if strings.HasPrefix(name, "!") {
			return "", nil, fmt.Errorf("negated algorithm %q", display.Cut(name))
		}
		found := rel.find(keyword, name)
		if found == nil {
			unknown = append(unknown, name)
		}
		for _, known := range found {
			if !seen[known] {
				seen[known] = true
				out = append(out, known)
			}
		}
	}
	if len(out) == 0 {
		return "", unknown, fmt.Errorf("no algorithm of %q is known", display.Cut(list))
	}
	return strings.Join(out, ","), unknown, nil
}
