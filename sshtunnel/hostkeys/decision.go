package hostkeys

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/crypto/ssh"
)

// decision is one call of Verify.
type decision struct {
	*Verifier
	ctx context.Context
	ask Asker

	// files are the lines of the files, and entries those and what KnownHostsCommand printed for
	// this key.
	files, entries []knownEntry
	address        addressCheck

	// voucher becomes complete when the key is accepted, and fail when it is refused.
	voucher Voucher
	fail    *Error
}

// verify decides about the key that the server showed.
func (d *decision) verify(shown ssh.PublicKey) error {
	if err := CheckRSALength(shown, d.host.RequiredRSASize); err != nil {
		d.fail.Short, d.fail.Err = true, err
		return d.fail
	}
	if err := d.checkRevoked(shown); err != nil {
		return err
	}
	if d.host.NoHostAuthenticationForLocalhost && d.host.HostKeyAlias == "" && d.ip.IsLoopback() {
		d.voucher.Source = SourceLocalhost
		return nil
	}
	if err := d.gather(shown); err != nil {
		return err
	}
	for key := shown; ; {
		decided, err := d.decide(key)
		if decided || err != nil {
			return err
		}
		// No authority vouches for the certificate. The plain key in it may still be known.
		key = PlainKey(key)
	}
}

// gather collects the lines that may speak about the key.
func (d *decision) gather(shown ssh.PublicKey) error {
	printedForOrder := func(e knownEntry) bool { return e.source == SourceCommand }
	if d.files = d.known; slices.ContainsFunc(d.known, printedForOrder) {
		d.files = slices.DeleteFunc(slices.Clone(d.known), printedForOrder)
	}
	printed, err := d.runKnownHostsCommand(d.ctx, "HOSTNAME", d.name(), shown)
	if err != nil {
		return err
	}
	d.entries = append(slices.Clip(d.files), printed...)
	d.address, err = d.newAddressCheck(shown)
	return err
}

// decide compares one key with what is known. It decides about each plain key. About a certificate
// it does not decide if no line speaks for it.
func (d *decision) decide(key ssh.PublicKey) (decided bool, err error) {
	cert, isCert := key.(*ssh.Certificate)
	if !d.permits(key) { // that can only be the plain key of a certificate
		d.fail.Unknown = true
		d.fail.Err = errors.New("HostKeyAlgorithms does not allow the plain key of its certificate")
		return true, d.fail
	}
	found := lookup(d.entries, d.name(), key)
	switch found.status {
	case keyRevoked:
		return true, d.revokedBy(found)
	case keyKnown:
		if !isCert {
			return true, d.acceptKnown(key, found.entry)
		}
		err := d.checkCert(cert)
		if err == nil {
			d.vouchedBy(found.entry)
			return true, nil
		}
		d.fail.CertErr = err.Error()
	case keyChanged:
		// With StrictHostKeyChecking=no, ssh goes on without passwords and forwards. With
		// ExitOnForwardFailure, as for ssh -W and for us, it ends here, too.
		d.fail.Changed, d.fail.Known = true, found.known
		d.fail.Err = d.address.explainChange(key, found)
		return true, d.fail
	case keyNew:
		if decided, err := d.decideByBareName(key); decided {
			return true, err
		}
	}
	if isCert {
		return false, nil
	}
	return true, d.decideUnknown(key)
}

// revokedBy refuses the key because of the line that was found.
func (d *decision) revokedBy(found finding) error {
	d.fail.Revoked, d.fail.Known = true, found.known
	return d.fail
}

// vouchedBy notes the line that vouches for the key.
func (d *decision) vouchedBy(e *knownEntry) {
	d.voucher.Source, d.voucher.Authority = e.source, e.marker == markerCA
	d.voucher.File, d.voucher.Line = e.file, e.line
}

// acceptKnown accepts a plain key that a line of the host's name holds, unless CheckHostIP objects.
func (d *decision) acceptKnown(key ssh.PublicKey, e *knownEntry) error {
	d.vouchedBy(e)
	onIP := d.address.lookup(key)
	d.updatable = e.source == SourceUserFile && (onIP.entry == nil || onIP.entry.source != SourceGlobalFile)
	if onIP.status == keyNew && d.address.name != "" && e.source != SourceCommand {
		d.remember(key, d.address.name)
	}
	return d.address.confirm(onIP)
}

// decideByBareName looks for the key under the host's name without a port. An entry there serves
// for every port. Another key there says nothing about this one, so the key then stays undecided.
func (d *decision) decideByBareName(key ssh.PublicKey) (decided bool, err error) {
	switch found := d.lookupBare(key); found.status {
	case keyKnown:
		d.vouchedBy(found.entry)
		return true, nil
	case keyRevoked:
		if slices.Contains([]string{"no", "off"}, d.host.StrictHostKeyChecking) { // as for a changed key
			return true, d.revokedBy(found)
		}
		// Under the bare name, a revoked key only is no known one. ssh warns and goes on, too.
		d.log.Warn("host key is revoked under the name without port", "hop", d.host.Alias, "host", d.name(),
			"file", found.known[0].String())
	}
	return false, nil
}

// lookupBare looks for a key under the host's name without a port. A certificate that does not
// serve is tried as its plain key.
func (d *decision) lookupBare(key ssh.PublicKey) finding {
	if d.host.HostKeyAlias != "" || d.host.Port == 22 || d.host.Port == 0 {
		return finding{} // the bare name was looked up already
	}
	found := lookup(d.files, hostPort(d.host.HostName, 0), key)
	cert, isCert := key.(*ssh.Certificate)
	if !isCert || found.status == keyRevoked {
		return found
	}
	if found.status == keyKnown && d.checkCert(cert) == nil {
		return found
	}
	if !d.permits(cert.Key) {
		return finding{}
	}
	return d.lookupBare(cert.Key)
}
