package hostkeys

import "fmt"

// Source says what vouched for an accepted key.
type Source string

const (
	// SourceUserFile means a line of a UserKnownHostsFile.
	SourceUserFile Source = "UserKnownHostsFile"
	// SourceGlobalFile means a line of a GlobalKnownHostsFile.
	SourceGlobalFile Source = "GlobalKnownHostsFile"
	// SourceCommand means a line that KnownHostsCommand printed.
	SourceCommand Source = "KnownHostsCommand"
	// SourcePerson means that a person was asked, and accepted the key.
	SourcePerson Source = "person"
	// SourcePolicy means that the key was unknown, and that StrictHostKeyChecking accepts such
	// keys.
	SourcePolicy Source = "StrictHostKeyChecking"
	// SourceLocalhost means that NoHostAuthenticationForLocalhost turned the check off.
	SourceLocalhost Source = "NoHostAuthenticationForLocalhost"
)

// Voucher says why the key of a server was accepted.
type Voucher struct {
	Source Source
	// Authority is true where the line is of a certificate authority, which has signed the server's
	// key.
	Authority bool
	// File and Line are the line of the key or of its authority. For SourceCommand, File is
	// KnownHostsCommand-HOSTNAME and Line counts the lines that the command printed. For a Source
	// that is no line, File is "" and Line is 0.
	File string
	Line int
	// Type is the type of the key that the server showed, such as ssh-ed25519.
	Type string
	// Fingerprint is SHA256:... of that key; for a certificate, it is that of the key in it.
	Fingerprint string
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
