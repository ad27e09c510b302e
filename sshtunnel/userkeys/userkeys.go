// Package userkeys finds the keys that a user may log in to an SSH server with: those of the agent
// and those of files.
//
// Collect returns them in the order in which OpenSSH offers them. A passphrase is asked for at the
// first signature with a key, that is, only after the server has accepted the key. AddKeysToAgent
// is done then, too. RSA keys sign with SHA-2 only. Security keys (FIDO) are used by the agent
// only.
package userkeys

import (
	"log/slog"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
)

// Key is one key that may be offered.
type Key struct {
	// Label is the file that names the key, or "agent: " and the key's comment.
	Label string
	// Signer signs with the key. It may ask for a passphrase.
	Signer ssh.Signer
	// InAgent says that the agent signs.
	InAgent bool
}

// Config says for which server keys are collected. All functions are called from the goroutine that
// calls Collect or a Signer.
type Config struct {
	// Host is the server's configuration.
	Host *sshconfig.Host
	// Agent is nil if there is none.
	Agent *Agent
	// Ask puts a question to the person. The kind is passphrase or add-key. The error wraps
	// hostkeys.ErrNoPerson if nobody is there.
	Ask func(kind, prompt string, echo bool) (string, error)
	// Log gets the outcome of AddKeysToAgent.
	Log *slog.Logger

	// Note is told what cannot be offered, and why.
	Note func(text string)
	// NeedsPerson is called when a person or the agent could have helped with a key.
	NeedsPerson func()
	// SignFailed is told why a key that the server has accepted does not sign.
	SignFailed func(err error)
}
