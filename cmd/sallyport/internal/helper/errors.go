package helper

import (
	"errors"
	"fmt"
)

// ErrNoHelper says that no helper is there, or that none can hold a login.
var ErrNoHelper = errors.New("no helper is there")

// CarryError says that HOST lets us have no socket there in either way.
type CarryError struct {
	// Host is HOST as the person typed it.
	Host string
	// Exec says why no command runs on HOST.
	Exec error
	// Forward says why no Unix socket is forwarded.
	Forward error
}

// Error says why both ways failed.
func (e *CarryError) Error() string {
	return fmt.Sprintf("%s lets logins reach this machine in neither way: no command runs there (%v), and no Unix socket is forwarded (%v)", e.Host, e.Exec, e.Forward)
}

// Unwrap returns the two reasons.
func (e *CarryError) Unwrap() []error { return []error{e.Exec, e.Forward} }

// MissingError says that commands run on HOST, and that no sallyport that runs was found there.
type MissingError struct {
	// Host is HOST as the person typed it.
	Host string
	// Program is the file of a sallyport that does not run there, and Status the exit status of the
	// shell that tried. It is empty if there is no such file. It is the peer's.
	Program string
	Status  int
	// System is what `uname -sm` prints there, such as "Linux x86_64". It may be empty.
	System string
}

// Error names HOST, and the program that does not run.
func (e *MissingError) Error() string {
	if e.Program != "" {
		return fmt.Sprintf("the sallyport on %s does not run there: %.200q, exit status %d", e.Host, e.Program, e.Status)
	}
	return fmt.Sprintf("no sallyport was found on %s", e.Host)
}

// OldError says that the sallyport on HOST knows nothing of helpers.
type OldError struct {
	// Host is HOST as the person typed it.
	Host string
	// Version is that of the sallyport there. It is empty if it did not say.
	Version string
}

// Error names HOST.
func (e *OldError) Error() string {
	if e.Version != "" {
		return fmt.Sprintf("the sallyport on %s has version %s, which cannot work together with this one", e.Host, e.Version)
	}
	return fmt.Sprintf("the sallyport on %s is too old to bring its logins here", e.Host)
}

// FarEndError says why the sallyport on HOST could not serve there.
type FarEndError struct {
	// Host is HOST as the person typed it.
	Host string
	// Text is what it said. It is the peer's.
	Text string
}

// Error quotes the peer.
func (e *FarEndError) Error() string {
	return fmt.Sprintf("the sallyport on %s says: %.200q", e.Host, e.Text)
}

// ProofError says that a way to HOST was granted, and that nothing came through it.
type ProofError struct {
	// Host is HOST as the person typed it.
	Host string
	// Way is what was tried.
	Way Way
	// Mask says that the socket has rights that make it useless, which StreamLocalBindMask of the
	// sshd on HOST sets.
	Mask bool
	// Err is what happened.
	Err error
}

// errOpenSocket says that a socket on HOST is not for this user alone.
var errOpenSocket = errors.New("other users there may connect to it, so no login uses it")

// Error names the way.
func (e *ProofError) Error() string {
	if e.Mask {
		return fmt.Sprintf("%s grants a socket (%s) that is of no use: %v", e.Host, e.Way, e.Err)
	}
	return fmt.Sprintf("%s grants a socket (%s), but nothing comes through it: %v", e.Host, e.Way, e.Err)
}

// Unwrap returns Err.
func (e *ProofError) Unwrap() error { return e.Err }
