package hostkeys

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// addressName returns what the address is called in known_hosts, and "" where CheckHostIP is not to
// be done.
func (v *Verifier) addressName() string {
	if !v.host.CheckHostIP || !v.ip.IsValid() || v.ip.IsLoopback() {
		return ""
	}
	name := hostPort(v.ip.String(), v.host.Port)
	if name == strings.ToLower(v.host.HostName) {
		return ""
	}
	return name
}

// addressCheck is CheckHostIP: if the address is known, the key must be that of the address, too.
type addressCheck struct {
	d *decision
	// name is the address as known_hosts has it; "" turns the check off.
	name    string
	entries []knownEntry
}

// newAddressCheck prepares the check. ssh does none for a certificate, not even when the plain key
// in it is what counts.
func (d *decision) newAddressCheck(shown ssh.PublicKey) (addressCheck, error) {
	a := addressCheck{d: d}
	if _, isCert := shown.(*ssh.Certificate); isCert || d.addressName() == "" {
		return a, nil
	}
	a.name = d.addressName()
	printed, err := d.runKnownHostsCommand(d.ctx, "ADDRESS", a.name, shown)
	a.entries = append(slices.Clip(d.files), printed...)
	return a, err
}

// lookup compares a key with what is known about the address.
func (a *addressCheck) lookup(key ssh.PublicKey) finding {
	if a.name == "" {
		return finding{}
	}
	return lookup(a.entries, a.name, key)
}

// confirm decides about a key that is right for the name, by what is known about the address.
func (a *addressCheck) confirm(onIP finding) error {
	d := a.d
	if onIP.status != keyChanged || d.host.StrictHostKeyChecking == "no" {
		return nil
	}
	offending := onIP.known[len(onIP.known)-1]
	if d.host.StrictHostKeyChecking == "ask" || d.host.StrictHostKeyChecking == "" {
		yes, err := d.askYes(fmt.Sprintf("Warning: the %s host key for '%s' differs from the key for the IP address '%s'\n"+
			"Offending key for IP in %s:%d\nAre you sure you want to continue connecting (yes/no)? ",
			displayType(d.fail.Type), d.fail.Host, a.name, offending.File, offending.Line), "")
		if err == nil && yes {
			return nil
		}
	}
	d.updatable = false
	return &Error{
		Hop: d.fail.Hop, Host: a.name, Type: d.fail.Type, Fingerprint: d.fail.Fingerprint, Changed: true, Known: onIP.known,
		Err: fmt.Errorf("it is the key of %s, but another key is known for its address (CheckHostIP)", d.fail.Host),
	}
}

// explainChange says more about a changed key, where the address tells something else than the
// name.
func (a *addressCheck) explainChange(key ssh.PublicKey, onName finding) error {
	if a.name == "" {
		return nil
	}
	state := ""
	switch onIP := a.lookup(key); onIP.status {
	case keyNew:
		state = "unknown"
	case keyKnown:
		state = "unchanged"
	case keyChanged:
		last := onIP.known[len(onIP.known)-1]
		if last.Fingerprint == onName.known[len(onName.known)-1].Fingerprint {
			return nil
		}
		state = "different (" + last.String() + ")"
	default:
		return nil
	}
	return errors.New("the key for the IP address " + a.name + " is " + state +
		": DNS may be forged, or name and key changed together")
}
