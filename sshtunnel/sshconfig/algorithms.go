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

// openSSH10 is the release whose rules we follow (myproposal.h and `ssh -Q` of 10.5).
var openSSH10 = release{
	version: "OpenSSH_10.5p1",
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
			"rsa-sha2-512,rsa-sha2-256",
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
		"casignaturealgorithms": "ssh-ed25519,sk-ssh-ed25519@openssh.com,ssh-mldsa44-ed25519@openssh.com," +
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
		"rsa-sha2-256-cert-v01@openssh.com,ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521," +
		"sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com,webauthn-sk-ecdsa-sha2-nistp256@openssh.com," +
		"rsa-sha2-512,rsa-sha2-256"
	knownKeyAlgorithms = "ssh-ed25519,ssh-ed25519-cert-v01@openssh.com,sk-ssh-ed25519@openssh.com," +
		"sk-ssh-ed25519-cert-v01@openssh.com,ssh-mldsa44-ed25519@openssh.com,ssh-mldsa44-ed25519-cert-v01@openssh.com," +
		"ecdsa-sha2-nistp256,ecdsa-sha2-nistp256-cert-v01@openssh.com,ecdsa-sha2-nistp384," +
		"ecdsa-sha2-nistp384-cert-v01@openssh.com,ecdsa-sha2-nistp521,ecdsa-sha2-nistp521-cert-v01@openssh.com," +
		"sk-ecdsa-sha2-nistp256@openssh.com,sk-ecdsa-sha2-nistp256-cert-v01@openssh.com," +
		"webauthn-sk-ecdsa-sha2-nistp256@openssh.com,webauthn-sk-ecdsa-sha2-nistp256-cert-v01@openssh.com," +
		"ssh-rsa,ssh-rsa-cert-v01@openssh.com,rsa-sha2-256,rsa-sha2-256-cert-v01@openssh.com," +
		"rsa-sha2-512,rsa-sha2-512-cert-v01@openssh.com"
)

// checkAlgorithms refuses names that OpenSSH does not know. Names of key algorithms may be
// patterns. A list that begins with '-' is not checked. It follows ciphers_valid, mac_valid,
// kex_names_valid and sshkey_names_valid2 of OpenSSH.
func (rel *release) checkAlgorithms(keyword, list string) error {
	if strings.HasPrefix(list, "-") {
		return nil
	}
	names := strings.Split(strings.TrimLeft(list[:1], "+^")+list[1:], ",")
	if names[0] == "" {
		return fmt.Errorf("bad algorithm list %q", display.Cut(list))
	}
	// OpenSSH looks the three kinds of names up by equality, and those of keys by pattern.
	patterns := keyword != "ciphers" && keyword != "macs" && keyword != "kexalgorithms"
	for _, name := range names {
		if name == "" { // OpenSSH does not look further either
			return nil
		}
		ok := false
		for known := range strings.SplitSeq(rel.known[keyword], ",") {
			if known == name || patterns && matchList(known, name, false) != 0 {
				ok = true
				break
			}
		}
		if !ok {
			return fmt.Errorf("unknown algorithm %q", display.Cut(name))
		}
	}
	return nil
}

// assembleAlgorithms applies the + - ^ forms to the default list and resolves patterns
// (kex_assemble_names of OpenSSH). The order of the result is the order of preference in the key
// exchange (RFC 4253 section 7.1).
func (rel *release) assembleAlgorithms(keyword, list string) (string, error) {
	def := rel.defaults[keyword]
	var wanted []string
	switch {
	case list == "":
		return def, nil
	case list[0] == '-':
		var remaining []string
		for name := range strings.SplitSeq(def, ",") {
			if matchList(name, list[1:], false) != 1 {
				remaining = append(remaining, name)
			}
		}
		return strings.Join(remaining, ","), nil
	case list[0] == '+':
		wanted = strings.Split(def+","+list[1:], ",")
	case list[0] == '^':
		wanted = strings.Split(list[1:]+","+def, ",")
	default:
		wanted = strings.Split(list, ",")
	}
	var out []string
	seen := make(map[string]bool)
	for _, pattern := range wanted {
		// Only the form with - takes names away.
		if strings.HasPrefix(pattern, "!") {
			return "", fmt.Errorf("negated algorithm %q", display.Cut(pattern))
		}
		for known := range strings.SplitSeq(rel.known[keyword], ",") {
			if !seen[known] && matchPattern(known, pattern) {
				seen[known] = true
				out = append(out, known)
			}
		}
	}
	if len(out) == 0 {
		return "", fmt.Errorf("no algorithm is left of %q", display.Cut(list))
	}
	return strings.Join(out, ","), nil
}
