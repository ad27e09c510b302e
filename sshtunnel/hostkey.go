package sshtunnel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// hostKeyCheck verifies the host key of one hop by the rules of OpenSSH's check_host_key.
type hostKeyCheck struct {
	host    *Host
	ask     func(Question) (string, error)
	log     *slog.Logger
	entries []knownEntry

	accepted ssh.PublicKey // by this connection; shown again at each rekeying
}

func newHostKeyCheck(h *Host, ask func(Question) (string, error), log *slog.Logger) *hostKeyCheck {
	warn := func(file string, err error) {
		log.Warn("known_hosts not read", "hop", h.Alias, "file", file, "err", err)
	}
	files := slices.Concat(h.UserKnownHostsFiles, h.GlobalKnownHostsFiles)
	return &hostKeyCheck{host: h, ask: ask, log: log, entries: loadKnownHosts(files, warn)}
}

// name is what the host is called in known_hosts.
func (c *hostKeyCheck) name() string {
	if c.host.HostKeyAlias != "" {
		return strings.ToLower(c.host.HostKeyAlias) // without the port
	}
	return hostPort(c.host.HostName, c.host.Port)
}

// names are the names that are looked up, in order. A bare entry also serves for another port.
func (c *hostKeyCheck) names() []string {
	names := []string{c.name()}
	if c.host.HostKeyAlias == "" && c.host.Port != 22 && c.host.Port != 0 {
		names = append(names, hostPort(c.host.HostName, 0))
	}
	return names
}

// hostKeyAlgorithms are the algorithms accepted where the user names none, in order.
// ed25519 goes first: some servers (old dropbear) falter at the others.
var hostKeyAlgorithms = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// algorithms returns what to ask the server for: first what known_hosts can verify, or else a
// server with several keys would show one that is not known (OpenSSH's order_hostkeyalgs).
func (c *hostKeyCheck) algorithms() []string {
	list := hostKeyAlgorithms
	if c.host.HostKeyAlgorithms != nil {
		list = supported(c.host.HostKeyAlgorithms, ssh.SupportedAlgorithms().HostKeys, ssh.InsecureAlgorithms().HostKeys)
	}
	for _, name := range c.names() {
		known := map[string]bool{}
		for _, e := range c.entries {
			switch {
			case !e.matches(name) || e.marker == markerRevoked:
			case e.marker == markerCA:
				known["cert"] = true
			default:
				known[e.key.Type()] = true
			}
		}
		if len(known) == 0 {
			continue
		}
		verifiable := func(algo string) bool {
			if isCertAlgo(algo) {
				return known["cert"]
			}
			return known[keyTypeOf(algo)]
		}
		first, rest := partition(list, verifiable)
		return append(first, rest...)
	}
	// Nothing is known: no certificate can be verified, and its plain key is what would be noted.
	plain, certs := partition(list, func(a string) bool { return !isCertAlgo(a) })
	return append(plain, certs...)
}

func isCertAlgo(algo string) bool { return strings.Contains(algo, "-cert-v0") }

// keyTypeOf returns the type of key behind a plain signature algorithm (RFC 8332).
func keyTypeOf(algo string) string {
	if algo == ssh.KeyAlgoRSASHA256 || algo == ssh.KeyAlgoRSASHA512 {
		return ssh.KeyAlgoRSA
	}
	return algo
}

func partition(list []string, first func(string) bool) (yes, no []string) {
	for _, s := range list {
		if first(s) {
			yes = append(yes, s)
		} else {
			no = append(no, s)
		}
	}
	return yes, no
}

// supported keeps of list what x/crypto implements, in the user's order.
func supported(list []string, have ...[]string) []string {
	all := slices.Concat(have...)
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !slices.Contains(all, s) })
}

type keyStatus int

const (
	keyNew keyStatus = iota
	keyOK
	keyChanged
	keyRevoked
)

// lookup compares key with what is known about name (check_hostkeys_by_key_or_type).
func (c *hostKeyCheck) lookup(name string, key ssh.PublicKey) (keyStatus, []KnownKey) {
	cert, isCert := key.(*ssh.Certificate)
	status := keyNew
	var known []KnownKey
	for i := range c.entries {
		e := &c.entries[i]
		if !e.matches(name) {
			continue
		}
		switch e.marker {
		case markerRevoked:
			if sameKey(e.key, key) || isCert && (sameKey(e.key, cert.Key) || sameKey(e.key, cert.SignatureKey)) {
				return keyRevoked, []KnownKey{e.known()}
			}
		case markerCA:
			if isCert && sameKey(e.key, cert.SignatureKey) {
				status = keyOK
			}
		default:
			// A line of a plain key says nothing about a certificate, and an authority's key
			// shown as a plain key is not trusted.
			if isCert {
				continue
			}
			if sameKey(e.key, key) {
				status = keyOK
			} else {
				known = append(known, e.known())
				if status == keyNew {
					status = keyChanged
				}
			}
		}
	}
	return status, known
}

// check decides about the key that the server proved to hold.
func (c *hostKeyCheck) check(key ssh.PublicKey) error {
	if c.accepted != nil && sameKey(c.accepted, key) {
		return nil // rekeying: nobody is asked twice
	}
	err := c.verify(key)
	if err == nil {
		c.accepted = key
	}
	return err
}

func (c *hostKeyCheck) verify(shown ssh.PublicKey) error {
	name := c.name()
	fail := &HostKeyError{Hop: c.host.Alias, Host: name, Type: shown.Type(), Fingerprint: fingerprint(shown)}
	if err := c.checkRevokedFile(shown); err != nil {
		fail.Revoked = true
		if !errors.Is(err, errRevoked) {
			fail.Err = err // cannot tell: fail closed, as OpenSSH does
		} else {
			fail.Known = []KnownKey{{File: c.host.RevokedHostKeys, Line: err.(*revokedError).line, Type: fail.Type, Fingerprint: fail.Fingerprint}}
		}
		return fail
	}
	key := shown
	for {
		status, known := c.lookup(name, key)
		if status == keyNew && len(c.names()) > 1 {
			// Without the port; a different key there says nothing about this port.
			if s, k := c.lookup(c.names()[1], key); s == keyOK || s == keyRevoked {
				status, known = s, k
			}
		}
		cert, isCert := key.(*ssh.Certificate)
		switch status {
		case keyRevoked:
			fail.Revoked, fail.Known = true, known
			return fail
		case keyOK:
			if !isCert {
				return nil
			}
			err := c.checkCert(cert)
			if err == nil {
				return nil
			}
			fail.CertErr = err.Error()
		case keyChanged:
			// StrictHostKeyChecking=no would let OpenSSH go on with passwords disabled. We have
			// no such half-trusted state: whoever sits there would still see all the traffic.
			fail.Changed, fail.Known = true, known
			return fail
		}
		if !isCert {
			return c.unknown(fail, key)
		}
		// No authority vouches for the certificate: the plain key in it may still be known.
		key = cert.Key
	}
}

// checkCert checks a certificate whose authority is known (sshkey_cert_check_host).
func (c *hostKeyCheck) checkCert(cert *ssh.Certificate) error {
	if cert.CertType != ssh.HostCert {
		return errors.New("not a host certificate")
	}
	allowed := c.host.CASignatureAlgorithms
	if allowed == nil {
		allowed = caSignatureAlgorithms
	}
	if !slices.Contains(allowed, cert.Signature.Format) {
		return fmt.Errorf("signed with %q, which CASignatureAlgorithms does not allow", clip(cert.Signature.Format))
	}
	principal := strings.ToLower(c.host.HostName)
	if c.host.HostKeyAlias != "" {
		principal = strings.ToLower(c.host.HostKeyAlias)
	}
	// No critical option is defined for hosts: CheckCert refuses all.
	if err := new(ssh.CertChecker).CheckCert(principal, cert); err != nil {
		return errors.New(clip(strings.TrimPrefix(err.Error(), "ssh: ")))
	}
	return nil
}

// caSignatureAlgorithms is OpenSSH's default: no SHA-1.
var caSignatureAlgorithms = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// maxHostKeyQuestions bounds how often a person who does not answer yes, no or the fingerprint is asked.
const maxHostKeyQuestions = 3

// unknown decides about a key of which nothing is known, by StrictHostKeyChecking.
func (c *hostKeyCheck) unknown(fail *HostKeyError, key ssh.PublicKey) error {
	fail.Unknown, fail.Type, fail.Fingerprint = true, key.Type(), ssh.FingerprintSHA256(key)
	switch c.host.StrictHostKeyChecking {
	case "no", "off", "accept-new":
		c.log.Warn("host key added", "hop", c.host.Alias, "host", fail.Host, "type", fail.Type, "fingerprint", fail.Fingerprint)
		c.remember(fail.Host, key)
		return nil
	case "yes":
		return fail
	}
	question := fmt.Sprintf("The authenticity of host '%s' can't be established.\n%s key fingerprint is %s.\n"+
		"Are you sure you want to continue connecting (yes/no/[fingerprint])? ", fail.Host, displayType(key.Type()), fail.Fingerprint)
	for range maxHostKeyQuestions {
		answer, err := c.ask(Question{Hop: c.host.Alias, Kind: "host-key", Prompt: question, Echo: true})
		if err != nil {
			fail.NeedsPerson = errors.Is(err, ErrNoPerson) && !c.host.BatchMode
			if !errors.Is(err, ErrNoPerson) {
				fail.Err = err
			}
			return fail
		}
		switch answer = strings.TrimSpace(answer); {
		case strings.EqualFold(answer, "yes"), answer == fail.Fingerprint:
			c.remember(fail.Host, key)
			return nil
		case strings.EqualFold(answer, "no"):
			return fail
		}
		question = "Please type 'yes', 'no' or the fingerprint: "
	}
	return fail
}

// remember adds an accepted key to the first of the user's files. That it cannot be written does
// not undo the person's decision.
func (c *hostKeyCheck) remember(name string, key ssh.PublicKey) {
	if len(c.host.UserKnownHostsFiles) == 0 {
		return
	}
	file := c.host.UserKnownHostsFiles[0]
	if err := appendKnownHost(file, name, key, c.host.HashKnownHosts); err != nil {
		c.log.Warn("host key not added", "hop", c.host.Alias, "file", file, "err", err)
	}
}

var errRevoked = errors.New("revoked")

type revokedError struct{ line int }

func (e *revokedError) Error() string        { return "revoked" }
func (e *revokedError) Is(target error) bool { return target == errRevoked }

// checkRevokedFile looks key up in RevokedHostKeys, a list of public keys. A key revocation list
// (binary, ssh-keygen(1)) is not understood yet: every key then fails, none is let pass unchecked.
func (c *hostKeyCheck) checkRevokedFile(key ssh.PublicKey) error {
	if c.host.RevokedHostKeys == "" || c.host.RevokedHostKeys == "none" {
		return nil
	}
	f, err := os.Open(c.host.RevokedHostKeys)
	if err != nil {
		return fmt.Errorf("RevokedHostKeys: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(io.LimitReader(f, maxKnownHosts))
	if magic, _ := r.Peek(6); string(magic) == "SSHKRL" {
		return fmt.Errorf("RevokedHostKeys %s: key revocation lists are not supported, only lists of public keys", c.host.RevokedHostKeys)
	}
	candidates := []ssh.PublicKey{key}
	if cert, ok := key.(*ssh.Certificate); ok {
		candidates = []ssh.PublicKey{cert.Key, cert.SignatureKey}
	}
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if revoked, _, _, _, perr := ssh.ParseAuthorizedKey(line); perr == nil {
			for _, k := range candidates {
				if sameKey(k, revoked) {
					return &revokedError{line: n}
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("RevokedHostKeys: %w", err)
		}
	}
}

// fingerprint is that of the plain key, also for a certificate, as ssh prints it.
func fingerprint(key ssh.PublicKey) string {
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key
	}
	return ssh.FingerprintSHA256(key)
}

// displayType is how ssh calls a type of key: ED25519, ECDSA, RSA.
func displayType(t string) string {
	switch {
	case t == ssh.KeyAlgoED25519:
		return "ED25519"
	case strings.HasPrefix(t, "ecdsa-"):
		return "ECDSA"
	case t == ssh.KeyAlgoRSA:
		return "RSA"
	}
	return t
}
