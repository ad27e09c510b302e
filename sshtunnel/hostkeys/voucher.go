package hostkeys

import "fmt"

// Source says what vouched for an accepted key.
type Source string

const (
	SourceUserFile   Source = "UserKnownHostsFile"
	SourceGlobalFile Source = "GlobalKnownHostsFile"
	SourceCommand    Source = "KnownHostsCommand"
	// SourcePerson: a person was asked and accepted the key.
	SourcePerson Source = "person"
	// SourcePolicy: the key was unknown, and StrictHostKeyChecking accepts such keys.
	SourcePolicy Source = "StrictHostKeyChecking"
	// SourceLocalhost: the key was not checked, by NoHostAuthenticationForLocalhost.
	SourceLocalhost Source = "NoHostAuthenticationForLocalhost"
)

// Voucher says why the key of a server was accepted.
type Voucher struct {
	Source Source
	// Authority is true where the line is of a certificate authority, which has signed the server's key.
	Authority bool
	// File and Line are where the key or its authority is written. For SourceCommand, File is
	// KnownHostsCommand-HOSTNAME and Line counts the lines that the command printed. For the sources that are
	// no lines, File is "" and Line is 0.
	File string
	Line int
	// Type and Fingerprint are of the key that the server showed; for a certificate, the fingerprint is of the key in it.
	Type        string // ssh-ed25519 ...
	Fingerprint string // SHA256:...
}

// String says in a few words what vouched for the key.
func (v Voucher) String() string {
	switch {
	case v.File == "":
		return string(v.Source)
	case v.Authority:
		return fmt.Sprintf("%s:%d (certificate authority)", v.File, v.Line)
	default:
		return fmt.Sprintf("%s:%d", v.File, v.Line)
	}
}
