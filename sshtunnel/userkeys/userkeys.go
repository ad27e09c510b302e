// Package userkeys finds the keys that a user may log in to an SSH server with: those of the agent
// and those of files.
//
// Collect returns them in the order in which OpenSSH 10.6 offers them. A passphrase is asked for at
// the first signature with a key, that is, only after the server has accepted the key.
// AddKeysToAgent is done then, too. RSA keys sign with SHA-2, unless PubkeyAcceptedAlgorithms names
// ssh-rsa, which means SHA-1.
//
// # Files
//
// A private key may be in OpenSSH's own format with any cipher of ssh-keygen -Z, in PKCS #8
// (encrypted by PBES2 with AES or 3DES, and PBKDF2 or scrypt), or in the older PEM. What surrounds
// the key, such as a byte order mark, carriage returns or other text, does not matter. A file that
// cannot be read is named with its cause and the command that helps. If its public half is known,
// from the file or from the .pub file beside it, it still selects a key of the agent. A private key
// of ours that others may read is not used, as with ssh.
//
// # The agent
//
// Each server needs an Agent of its own, because Bind ties the connection to one session
// (session-bind@openssh.com, OpenSSH's PROTOCOL.agent). The agent then knows the server that a
// signature is for, and lets keys be used that are limited to it (ssh-add -h). An agent that fails
// is an *AgentError. It is waited for only so long.
//
// # Security keys
//
// The file of a FIDO key holds only a handle. OpenSSH's ssh-sk-helper speaks with the token, by the
// middleware of SecurityKeyProvider, where OpenSSH is installed. The person is told to touch the
// token, and asked for its PIN if it wants one.
package userkeys

import (
	"context"
	"log/slog"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
)

// Key is one key that may be offered.
type Key struct {
	// Label is the file that names the key, or "agent: " and the key's comment.
	Label string
	// Signer signs with the key. It may ask for a passphrase. It is nil until Open for a file that
	// does not tell its public key without one.
	Signer ssh.Signer
	// InAgent says that the agent signs.
	InAgent bool

	// open returns the key with its Signer. It is nil if the key has one.
	open func() (Key, bool)
}

// Open makes the key ready to be offered. It may ask for a passphrase. ok is false if the key is
// not to be offered; Note has then been told why.
func (k Key) Open() (opened Key, ok bool) {
	if k.open == nil {
		return k, true
	}
	return k.open()
}

// Wait says what a person has to do, outside of us, before there is a signature.
type Wait struct {
	// Text tells the person what to do. It is one line, and "" if the agent lists its keys.
	Text string
	// Certain says that the person has to act. If not, the agent signs, which may need nobody.
	Certain bool
}

// Config says for which server keys are collected. All functions are called from the goroutine that
// calls Collect, Open or a Signer.
type Config struct {
	// Host is the server's configuration.
	Host *sshconfig.Host
	// ServerVersion is the server's identification (RFC 4253 section 4.2). It tells which faults of
	// its release are to be got around. "" is none with faults.
	ServerVersion string
	// Agent is nil if there is none.
	Agent *Agent
	// Getenv looks up SSH_SK_PROVIDER, SSH_SK_HELPER and the variable that SecurityKeyProvider
	// names. If it is nil, none is set.
	Getenv func(string) string
	// Context ends when nobody waits for a signature any more. If it is nil, that is never.
	Context context.Context
	// Ask puts a question to the person. The kind is passphrase or add-key. The error wraps
	// hostkeys.ErrNoPerson if nobody is there.
	Ask func(kind, prompt string, echo bool) (string, error)
	// Log gets the outcome of AddKeysToAgent.
	Log *slog.Logger

	// Wait is told that a signature may wait for a person, and returns a function that is called
	// when it does so no more. It may be nil.
	Wait func(Wait) (over func())
	// Note is told what cannot be offered, and why.
	Note func(text string)
	// AgentFailed is told why the agent's keys are not known. Its error is an *AgentError.
	AgentFailed func(err error)
	// NeedsPerson is called when a person or the agent could have helped with a key.
	NeedsPerson func()
	// SignFailed is told why a key that the server has accepted does not sign. If the agent
	// refused, the error is an *AgentError.
	SignFailed func(err error)

	// helperDirs stands for the directories in which ssh-sk-helper is looked for. It is for tests.
	helperDirs []string
}
