package hostkeys

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// ipName is what the address is called in known_hosts, where CheckHostIP is to be done; else "".
func (c *Verifier) ipName() string {
	if !c.host.CheckHostIP || !c.ip.IsValid() || c.ip.IsLoopback() {
		return ""
	}
	if name := hostPort(c.ip.String(), c.host.Port); name != strings.ToLower(c.host.HostName) {
		return name
	}
	return ""
}

// addressCheck is CheckHostIP: the key must also be that of the address, if the address is known.
type addressCheck struct {
	c       *verification
	name    string // "" it is not done
	entries []knownEntry
}

func (c *verification) newAddressCheck(files []knownEntry, shown ssh.PublicKey) (*addressCheck, error) {
	a := &addressCheck{c: c}
	// ssh does it for no certificate, not even when the plain key in it is what counts.
	if _, isCert := shown.(*ssh.Certificate); isCert || c.ipName() == "" {
		return a, nil
	}
	a.name = c.ipName()
	extra, err := c.runKnownHostsCommand(c.ctx, "ADDRESS", a.name, shown)
	a.entries = slices.Concat(files, extra)
	return a, err
}

func (a *addressCheck) lookup(key ssh.PublicKey) finding {
	if a.name == "" {
		return finding{}
	}
	return a.c.lookup(a.entries, a.name, key)
}

// confirm decides about a key that is right for the name, by what is known about the address.
func (a *addressCheck) confirm(fail *Error, onIP finding) error {
	if onIP.status != keyChanged || a.c.host.StrictHostKeyChecking == "no" {
		return nil
	}
	k := onIP.known[len(onIP.known)-1]
	if a.c.host.StrictHostKeyChecking == "ask" || a.c.host.StrictHostKeyChecking == "" {
		yes, err := a.c.askYes(fmt.Sprintf("Warning: the %s host key for '%s' differs from the key for the IP address '%s'\n"+
			"Offending key for IP in %s:%d\nAre you sure you want to continue connecting (yes/no)? ",
			displayType(fail.Type), fail.Host, a.name, k.File, k.Line), "")
		if err == nil && yes {
			return nil
		}
	}
	a.c.updatable = false
	return &Error{Hop: fail.Hop, Host: a.name, Type: fail.Type, Fingerprint: fail.Fingerprint, Changed: true, Known: onIP.known,
		Err: fmt.Errorf("the key is the one of %s, and CheckHostIP finds another for its address", fail.Host)}
}

// spoofed tells more about a changed key, where the address says something else than the name.
func (a *addressCheck) spoofed(key ssh.PublicKey, onName finding) error {
	if a.name == "" {
		return nil
	}
	state := ""
	switch onIP := a.lookup(key); onIP.status {
	case keyNew:
		state = "unknown"
	case keyOK:
		state = "unchanged"
	case keyChanged:
		last := onIP.known[len(onIP.known)-1]
		if last.Fingerprint == onName.known[len(onName.known)-1].Fingerprint {
			return nil
		}
		state = fmt.Sprintf("different (%s:%d)", last.File, last.Line)
	default:
		return nil
	}
	return errors.New("the key for the IP address " + a.name + " is " + state + ": DNS may be forged, or name and key changed together")
}
