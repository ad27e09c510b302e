package hostkeys

import (
	"errors"
	"fmt"
	"strings"

	"sallyport/sshtunnel/display"
)

// ErrNoPerson is what an Asker returns where nobody can be asked.
var ErrNoPerson = errors.New("nobody is there to answer")

// KnownKey is a host key that known_hosts holds for a host, or RevokedHostKeys revokes.
type KnownKey struct {
	File        string // or what printed the line: KnownHostsCommand-HOSTNAME, KnownHostsCommand-ADDRESS
	Line        int    // 0 in a key revocation list
	Type        string // ssh-ed25519 ...
	Fingerprint string // SHA256:...
}

// String says where the key is written.
func (k KnownKey) String() string {
	if k.Line == 0 {
		return k.File
	}
	return fmt.Sprintf("%s:%d", k.File, k.Line)
}

// Error says that the key a server showed is not to be trusted. Exactly one of Changed,
// Revoked and Unknown is set.
type Error struct {
	Hop  string // alias
	Host string // the name that was looked up: host, [host]:port, or the HostKeyAlias

	Type        string // of the key that the server showed
	Fingerprint string // SHA256:... of that key

	Changed bool       // other keys are known for this host
	Revoked bool       // the key, or its authority, is revoked, or Err hinders to tell
	Unknown bool       // nothing is known about this host
	Known   []KnownKey // Changed: the keys known; Revoked: where that is written

	CertErr     string // why a certificate was not accepted before its plain key was looked up; "" none
	NeedsPerson bool   // Unknown, and nobody was there to be asked
	Err         error  // a cause besides, such as an unreadable list of revoked keys; may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "host key of %s", e.Host)
	switch {
	case e.Revoked && len(e.Known) == 0:
		fmt.Fprintf(&b, " is refused, for it cannot be told whether it is revoked: %s %s", e.Type, e.Fingerprint)
	case e.Revoked:
		b.WriteString(" is revoked")
		if len(e.Known) > 0 {
			fmt.Fprintf(&b, " by %s", e.Known[0])
		}
		fmt.Fprintf(&b, ": %s %s", e.Type, e.Fingerprint)
	case e.Changed:
		fmt.Fprintf(&b, " has changed: got %s %s", e.Type, e.Fingerprint)
		for _, k := range e.Known {
			fmt.Fprintf(&b, ", %s has %s %s", k, k.Type, k.Fingerprint)
		}
		if cmd := e.Remedy(); cmd != "" {
			fmt.Fprintf(&b, "; if the change is legitimate: %s", cmd)
		}
	default:
		fmt.Fprintf(&b, " is not known: %s %s", e.Type, e.Fingerprint)
		if e.NeedsPerson {
			fmt.Fprintf(&b, "; accept it in a terminal: %s", e.Remedy())
		}
	}
	if e.CertErr != "" {
		fmt.Fprintf(&b, " (its certificate: %s)", e.CertErr)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Remedy is the command that mends it, once the person is sure; "" where there is none.
func (e *Error) Remedy() string {
	switch {
	case e.Changed && len(e.Known) > 0 && !strings.HasPrefix(e.Known[0].File, commandFile):
		return fmt.Sprintf("ssh-keygen -f %s -R %s", display.ShellQuote(e.Known[0].File), display.ShellQuote(e.Host))
	case e.Unknown:
		return "ssh " + display.ShellQuote(e.Hop)
	}
	return ""
}

func (e *Error) Unwrap() error { return e.Err }
