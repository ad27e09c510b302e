package hostkeys

import (
	"errors"
	"fmt"
	"strings"

	"sallyport/sshtunnel/display"
)

// ErrNoPerson is what an Asker returns where nobody can be asked.
var ErrNoPerson = errors.New("nobody is there to answer")

// KnownKey is a key that a line of a file speaks about.
type KnownKey struct {
	// File is the file, or for a line that KnownHostsCommand printed, KnownHostsCommand-HOSTNAME or
	// KnownHostsCommand-ADDRESS.
	File string `json:"file"`
	// Line counts from 1; it is 0 for a key revocation list, which has no lines.
	Line int `json:"line,omitempty"`
	// Type is the type of the key, such as ssh-ed25519.
	Type string `json:"type,omitempty"`
	// Fingerprint is SHA256:... of the key.
	Fingerprint string `json:"fingerprint,omitempty"`
}

// String returns FILE:LINE, or FILE if there is no line.
func (k KnownKey) String() string {
	if k.Line == 0 {
		return k.File
	}
	return fmt.Sprintf("%s:%d", k.File, k.Line)
}

// Error says that the key that a server showed is not to be trusted. Exactly one of Changed,
// Revoked, Unknown and Short is set.
type Error struct {
	// Hop is the alias of the host.
	Hop string `json:"hop,omitempty"`
	// Host is the name that was looked up: host, [host]:port, or the HostKeyAlias.
	Host string `json:"host"`

	// Type is the type of the key that the server showed, and Fingerprint its SHA256:...
	// fingerprint. For a certificate the fingerprint is that of the key in it.
	Type        string `json:"type,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`

	// Changed means that other keys are known for the host.
	Changed bool `json:"changed,omitempty"`
	// Revoked means that the key, or the authority that signed it, is revoked. It is also set where
	// that cannot be checked; Err then says why.
	Revoked bool `json:"revoked,omitempty"`
	// Unknown means that nothing is known about the key.
	Unknown bool `json:"unknown,omitempty"`
	// Short means that RequiredRSASize wants a longer RSA key. Err says how long it is.
	Short bool `json:"short,omitempty"`
	// Known holds the keys that are known, if Changed, and the line that revokes, if Revoked.
	Known []KnownKey `json:"known,omitempty"`

	// CertErr says why a certificate was not accepted, before its plain key was looked up; "" is no
	// reason.
	CertErr string `json:"cert_err,omitempty"`
	// NeedsPerson is true for an unknown key about which a person would have been asked, had one
	// been there.
	NeedsPerson bool `json:"needs_person,omitempty"`
	// Err is a further cause, such as a list of revoked keys that cannot be read. It may be nil.
	Err error `json:"-"`
}

// Error tells all that the fields know, in one line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "host key of %s", e.Host)
	switch {
	case e.Revoked && len(e.Known) == 0:
		fmt.Fprintf(&b, " is refused, because nobody can tell whether it is revoked: %s %s", e.Type, e.Fingerprint)
	case e.Revoked:
		fmt.Fprintf(&b, " is revoked by %s: %s %s", e.Known[0], e.Type, e.Fingerprint)
	case e.Changed:
		fmt.Fprintf(&b, " has changed: got %s %s", e.Type, e.Fingerprint)
		for _, k := range e.Known {
			fmt.Fprintf(&b, ", %s has %s %s", k, k.Type, k.Fingerprint)
		}
		if command := e.Remedy(); command != "" {
			fmt.Fprintf(&b, "; if the change is legitimate: %s", command)
		}
	case e.Short:
		fmt.Fprintf(&b, " is too short: %s %s", e.Type, e.Fingerprint)
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

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Remedy returns the command that accepts the key, for a person who is sure of it; "" if no command
// does.
func (e *Error) Remedy() string {
	switch {
	case e.Changed && len(e.Known) > 0 && !strings.HasPrefix(e.Known[0].File, commandFile):
		return fmt.Sprintf("ssh-keygen -f %s -R %s", display.ShellQuote(e.Known[0].File), display.ShellQuote(e.Host))
	case e.Unknown:
		return "ssh " + display.ShellQuote(e.Hop)
	}
	return ""
}
