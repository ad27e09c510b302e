package hostkeys

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/sshconfig"
)

// An Asker puts a question to a person. The error wraps ErrNoPerson where nobody is there.
type Asker func(ctx context.Context, prompt string) (answer string, err error)

// Config says what a Verifier works with.
type Config struct {
	Host   *sshconfig.Host
	Getenv func(string) string // for ${NAME} in KnownHostsCommand; nil: such a name is an error
	Log    *slog.Logger        // nil discards
}

// Verifier verifies the host key of one connection by the rules of OpenSSH's check_host_key.
// It is used from one goroutine.
type Verifier struct {
	host    *sshconfig.Host
	ip      netip.Addr // what was dialed; the zero Addr where another hop or ProxyCommand did
	getenv  func(string) string
	log     *slog.Logger
	algos   []string     // what HostKeyAlgorithms allow, in the user's order
	entries []knownEntry // of all files, and of KnownHostsCommand for choosing the algorithms

	accepted ssh.PublicKey // by this connection; shown again at each rekeying
	voucher  Voucher       // for accepted
	// updatable: UpdateHostKeys may follow. The key is one of the user's own file, or the person has just accepted it.
	updatable bool
}

// New reads what is known about a host. ctx bounds KnownHostsCommand, whose failure is the error.
func New(ctx context.Context, cfg Config) (*Verifier, error) {
	h := cfg.Host
	c := &Verifier{host: h, getenv: cfg.Getenv, log: cfg.Log, algos: hostKeyAlgorithms}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if h.HostKeyAlgorithms != nil {
		c.algos = supported(h.HostKeyAlgorithms)
	}
	warn := func(file string, err error) {
		c.log.Warn("known_hosts not read", "hop", h.Alias, "file", file, "err", err)
	}
	c.entries = append(loadKnownHosts(h.UserKnownHostsFiles, fromUser, warn), loadKnownHosts(h.GlobalKnownHostsFiles, fromGlobal, warn)...)
	if c.orderIsGiven() {
		return c, nil
	}
	extra, err := c.runKnownHostsCommand(ctx, "ORDER", c.name(), nil)
	c.entries = append(c.entries, extra...)
	return c, err
}

// DialedDirectly tells the Verifier the address that was dialed. It is not called where another hop or a ProxyCommand
// leads to the host. Without it, CheckHostIP and NoHostAuthenticationForLocalhost do nothing.
func (c *Verifier) DialedDirectly(addr net.Addr) {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		c.ip = tcp.AddrPort().Addr().Unmap()
	}
}

// name is what the host is called in known_hosts.
func (c *Verifier) name() string {
	if c.host.HostKeyAlias != "" {
		return strings.ToLower(c.host.HostKeyAlias) // without the port
	}
	return hostPort(c.host.HostName, c.host.Port)
}

type keyStatus int

const (
	keyNew keyStatus = iota
	keyOK
	keyChanged
	keyRevoked
)

// finding is what the entries of a name say about a key.
type finding struct {
	status keyStatus
	entry  *knownEntry // keyOK: the line
	known  []KnownKey  // keyChanged: the other keys; keyRevoked: the line
}

// lookup compares key with what is known about name (check_hostkeys_by_key_or_type).
func (c *Verifier) lookup(entries []knownEntry, name string, key ssh.PublicKey) finding {
	cert, isCert := key.(*ssh.Certificate)
	var f finding
	for i := range entries {
		e := &entries[i]
		if !e.matches(name) {
			continue
		}
		switch {
		case e.marker == markerRevoked:
			if samePlainKey(e.key, key) || isCert && samePlainKey(e.key, cert.SignatureKey) {
				return finding{status: keyRevoked, known: []KnownKey{e.known()}}
			}
		// An authority's key shown as a plain key is not trusted, and a line of a plain key says
		// nothing about a certificate.
		case isCert != (e.marker == markerCA) || f.status == keyOK:
		case isCert && samePlainKey(e.key, cert.SignatureKey), !isCert && SameKey(e.key, key):
			f = finding{status: keyOK, entry: e}
		case !isCert:
			f.status, f.known = keyChanged, append(f.known, e.known())
		}
	}
	return f
}

// Verify decides about the key that the server proved to hold, and says what vouched for it. An unknown key is put to
// the person by ask, where StrictHostKeyChecking wants it; a nil ask, as BatchMode, means that nobody is there. ctx bounds
// KnownHostsCommand and the question.
//
// The error is an *Error, or tells why KnownHostsCommand failed. A key that was accepted once is accepted at each
// rekeying without another look.
func (c *Verifier) Verify(ctx context.Context, key ssh.PublicKey, ask Asker) (Voucher, error) {
	if c.accepted != nil && SameKey(c.accepted, key) {
		return c.voucher, nil // rekeying: nobody is asked twice
	}
	if ask == nil || c.host.BatchMode {
		ask = func(context.Context, string) (string, error) { return "", ErrNoPerson }
	}
	v := &verification{Verifier: c, ctx: ctx, ask: ask, voucher: Voucher{Type: key.Type(), Fingerprint: Fingerprint(key)}}
	if err := v.verify(key); err != nil {
		return Voucher{}, err
	}
	c.accepted, c.voucher = key, v.voucher
	return c.voucher, nil
}

// verification is one call of Verify.
type verification struct {
	*Verifier
	ctx     context.Context
	ask     Asker
	voucher Voucher // Source, File and Line are set when the key is accepted
}

// vouchedBy notes the line that vouches for the key.
func (c *verification) vouchedBy(e *knownEntry) {
	c.voucher.File, c.voucher.Line, c.voucher.Authority = e.file, e.line, e.marker == markerCA
	switch e.source {
	case fromUser:
		c.voucher.Source = SourceUserFile
	case fromGlobal:
		c.voucher.Source = SourceGlobalFile
	case fromCommand:
		c.voucher.Source = SourceCommand
	}
}

func (c *verification) verify(shown ssh.PublicKey) error {
	name := c.name()
	fail := &Error{Hop: c.host.Alias, Host: name, Type: shown.Type(), Fingerprint: Fingerprint(shown)}
	if err := c.checkRevoked(shown, fail); err != nil {
		return err
	}
	if c.host.NoHostAuthenticationForLocalhost && c.host.HostKeyAlias == "" && c.ip.IsLoopback() {
		c.voucher.Source = SourceLocalhost
		return nil
	}
	files := slices.DeleteFunc(slices.Clone(c.entries), func(e knownEntry) bool { return e.source == fromCommand })
	extra, err := c.runKnownHostsCommand(c.ctx, "HOSTNAME", name, shown)
	if err != nil {
		return err
	}
	entries := slices.Concat(files, extra)
	address, err := c.newAddressCheck(files, shown)
	if err != nil {
		return err
	}
	for key := shown; ; {
		cert, isCert := key.(*ssh.Certificate)
		f := c.lookup(entries, name, key)
		if !c.permitted(key) { // only the plain key of a certificate may be not
			fail.Err = errors.New("HostKeyAlgorithms do not allow the plain key of its certificate")
			fail.Unknown = true
			return fail
		}
		switch f.status {
		case keyRevoked:
			fail.Revoked, fail.Known = true, f.known
			return fail
		case keyOK:
			c.vouchedBy(f.entry)
			if !isCert {
				onIP := address.lookup(key)
				c.updatable = f.entry.source == fromUser && (onIP.entry == nil || onIP.entry.source != fromGlobal)
				if onIP.status == keyNew && address.name != "" && f.entry.source != fromCommand {
					c.remember(key, address.name)
				}
				return address.confirm(fail, onIP)
			}
			err := c.checkCert(cert)
			if err == nil {
				return nil
			}
			fail.CertErr = err.Error()
		case keyChanged:
			// StrictHostKeyChecking=no lets ssh go on with passwords and forwards disabled. With
			// ExitOnForwardFailure, as for ssh -W and for us, it ends there, too.
			fail.Changed, fail.Known = true, f.known
			fail.Err = address.spoofed(key, f)
			return fail
		case keyNew:
			switch bare := c.lookupBare(files, key); bare.status {
			case keyOK:
				c.vouchedBy(bare.entry)
				return nil
			case keyRevoked:
				if slices.Contains([]string{"no", "off"}, c.host.StrictHostKeyChecking) { // as where it has changed
					fail.Revoked, fail.Known = true, bare.known
					return fail
				}
				// Revoked there only says that it does not serve from there; ssh warns, and goes on as well.
				c.log.Warn("host key is revoked under the name without port", "hop", c.host.Alias, "host", name, "file", bare.known[0].String())
			}
		}
		if !isCert {
			onIP := address.lookup(key)
			names := []string{name}
			if address.name != "" && onIP.status == keyNew {
				names = append(names, address.name)
			}
			if err := c.unknown(fail, key, entries, names); err != nil {
				return err
			}
			return address.confirm(fail, onIP)
		}
		// No authority vouches for the certificate: the plain key in it may still be known.
		key = cert.Key
	}
}

// lookupBare looks key up under the name without a port. An entry there serves for every port; another key there says
// nothing about this one. A certificate that does not serve is tried as its plain key.
func (c *Verifier) lookupBare(files []knownEntry, key ssh.PublicKey) finding {
	if c.host.HostKeyAlias != "" || c.host.Port == 22 || c.host.Port == 0 {
		return finding{}
	}
	f := c.lookup(files, hostPort(c.host.HostName, 0), key)
	if cert, ok := key.(*ssh.Certificate); ok && f.status != keyRevoked {
		if f.status == keyOK && c.checkCert(cert) == nil {
			return f
		}
		if !c.permitted(cert.Key) {
			return finding{}
		}
		return c.lookupBare(files, cert.Key)
	}
	return f
}

// checkCert checks a certificate whose authority is known (sshkey_cert_check_host).
func (c *Verifier) checkCert(cert *ssh.Certificate) error {
	if cert.CertType != ssh.HostCert {
		return errors.New("not a host certificate")
	}
	allowed := c.host.CASignatureAlgorithms
	if allowed == nil {
		allowed = caSignatureAlgorithms
	}
	if !slices.Contains(allowed, cert.Signature.Format) {
		return fmt.Errorf("signed with %q, which CASignatureAlgorithms does not allow", display.Cut(cert.Signature.Format))
	}
	principal := strings.ToLower(c.host.HostName)
	if c.host.HostKeyAlias != "" {
		principal = strings.ToLower(c.host.HostKeyAlias)
	}
	// No critical option is defined for hosts: CheckCert refuses all.
	if err := new(ssh.CertChecker).CheckCert(principal, cert); err != nil {
		return errors.New(display.Cut(strings.TrimPrefix(err.Error(), "ssh: ")))
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

// unrecordable are characters of a host name that would mean something else in known_hosts.
const unrecordable = "@?*#[]|'\"\\"

// unknown decides about a key of which nothing is known, by StrictHostKeyChecking, and notes it
// under names if it is accepted.
func (c *verification) unknown(fail *Error, key ssh.PublicKey, entries []knownEntry, names []string) error {
	fail.Unknown, fail.Type, fail.Fingerprint = true, key.Type(), ssh.FingerprintSHA256(key)
	if len(c.host.UserKnownHostsFiles) == 0 || strings.ContainsAny(c.host.HostName, unrecordable) {
		// What cannot be noted would be asked again and again; ssh refuses it whatever the mode.
		fail.Err = errors.New("there is no UserKnownHostsFile that could hold it")
		return fail
	}
	switch c.host.StrictHostKeyChecking {
	case "no", "off", "accept-new":
		c.voucher = Voucher{Source: SourcePolicy, Type: c.voucher.Type, Fingerprint: c.voucher.Fingerprint}
		c.remember(key, names...)
		return nil
	case "yes":
		return fail
	}
	yes, err := c.askYes(c.question(fail, key, entries), fail.Fingerprint)
	if err != nil {
		fail.NeedsPerson = errors.Is(err, ErrNoPerson) && !c.host.BatchMode
		if !errors.Is(err, ErrNoPerson) {
			fail.Err = err
		}
		return fail
	}
	if !yes {
		return fail
	}
	c.voucher = Voucher{Source: SourcePerson, Type: c.voucher.Type, Fingerprint: c.voucher.Fingerprint}
	c.remember(key, names...)
	c.updatable = true
	return nil
}

// maxOtherNames is how many names under which the key is known, too, are shown.
const maxOtherNames = 8

// question is what ssh asks about an unknown key.
func (c *Verifier) question(fail *Error, key ssh.PublicKey, entries []knownEntry) string {
	var b strings.Builder
	at := "<no hostip for proxy command>"
	if c.ip.IsValid() {
		at = hostPort(c.ip.String(), c.host.Port)
	}
	end := "."
	var others []string
	for i := range entries {
		e := &entries[i]
		switch here := e.matches(fail.Host); {
		case e.marker != "":
		case here: // of another type, or it would not be unknown
			end = "\nbut keys of different type are already known for this host."
		case SameKey(e.key, key):
			hosts := display.Cut(display.Printable(e.hosts))
			if strings.HasPrefix(hosts, "|") {
				hosts = "[hashed name]"
			}
			others = append(others, fmt.Sprintf("    %s:%d: %s\n", e.file, e.line, hosts))
		}
	}
	fmt.Fprintf(&b, "The authenticity of host '%s (%s)' can't be established%s\n", fail.Host, at, end)
	fmt.Fprintf(&b, "%s key fingerprint is: %s\n", displayType(key.Type()), fail.Fingerprint)
	if len(others) == 0 {
		b.WriteString("This key is not known by any other names.\n")
	} else {
		b.WriteString("This host key is known by the following other names/addresses:\n")
		b.WriteString(strings.Join(others[:min(len(others), maxOtherNames)], ""))
		if more := len(others) - maxOtherNames; more > 0 {
			fmt.Fprintf(&b, "    (%d additional names omitted)\n", more)
		}
	}
	b.WriteString("Are you sure you want to continue connecting (yes/no/[fingerprint])? ")
	return b.String()
}

// askYes asks until the answer is yes, no or, unless it is "", the fingerprint.
func (c *verification) askYes(question, fingerprint string) (bool, error) {
	again := "Please type 'yes' or 'no': "
	if fingerprint != "" {
		again = "Please type 'yes', 'no' or the fingerprint: "
	}
	for range maxHostKeyQuestions {
		answer, err := c.ask(c.ctx, question)
		if err != nil {
			return false, err
		}
		switch answer = strings.TrimSpace(answer); {
		case strings.EqualFold(answer, "yes"), fingerprint != "" && answer == fingerprint:
			return true, nil
		case strings.EqualFold(answer, "no"), answer == "":
			return false, nil
		}
		question = again
	}
	return false, nil
}

// remember adds an accepted key to the first of the user's files. That it cannot be written does
// not undo the decision.
func (c *verification) remember(key ssh.PublicKey, names ...string) {
	if len(c.host.UserKnownHostsFiles) == 0 {
		return
	}
	file := c.host.UserKnownHostsFiles[0]
	facts := []any{"hop", c.host.Alias, "host", strings.Join(names, ","), "type", key.Type(), "fingerprint", ssh.FingerprintSHA256(key), "file", file}
	if err := appendKnownHost(c.ctx, file, key, c.host.HashKnownHosts, names...); err != nil {
		c.log.Warn("host key not added", append(facts, "err", err)...)
		return
	}
	c.log.Warn("host key added", facts...)
}

// Fingerprint returns the SHA-256 fingerprint of a key as ssh prints it; of a certificate, that of the key in it.
func Fingerprint(key ssh.PublicKey) string {
	return ssh.FingerprintSHA256(PlainKey(key))
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
