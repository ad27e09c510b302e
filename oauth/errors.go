package oauth

import (
	"errors"
	"fmt"
	"time"

	"sallyport/oauth/asclient"
)

// ErrNotCompleted is beneath an asclient.SignInError when nobody completed the login in time.
var ErrNotCompleted = errors.New("nobody completed the login in time")

// ErrHeldBack is beneath an asclient.SignInError after three login pages without a token that the
// upstream accepted, or after six in quick succession. For an hour, only [Transport.SignIn] and
// [Config.AtTerminal] show another.
var ErrHeldBack = errors.New("several login pages led to no sign-in that lasts, no other is opened until asked for")

// HeldBackError reports ErrHeldBack, and when it ends.
type HeldBackError struct {
	// Until is when the next login page may be shown without being asked for.
	Until time.Time
	// Last is how the last login failed. It is nil if that is not known, or if it did not fail.
	Last error
}

func (e *HeldBackError) Error() string {
	if e.Last != nil {
		return fmt.Sprintf("%v; the last one ended so: %v", ErrHeldBack, e.Last)
	}
	return ErrHeldBack.Error()
}

// Is reports whether target is ErrHeldBack.
func (e *HeldBackError) Is(target error) bool { return target == ErrHeldBack }

// RevocationError reports that a server did not revoke the tokens of a sign-out.
type RevocationError struct {
	// Kept says that the tokens are kept, so that the sign-out can be tried again.
	Kept bool
	// Err is why they were not revoked.
	Err error
}

func (e *RevocationError) Error() string { return "the tokens were not revoked: " + e.Err.Error() }
func (e *RevocationError) Unwrap() error { return e.Err }

// ErrNoSignIn is returned by [Transport.Deliver] if the callback does not belong to the last login.
var ErrNoSignIn = errors.New("no sign-in waits for this callback")

// ErrIncomplete is returned by [Transport.Deliver] if the parameters of a callback lack the iss
// that its server sends.
var ErrIncomplete = errors.New("the callback is not whole: this login server sends iss with it")

// ErrClosed is returned once the Transport is closed.
var ErrClosed = errors.New("sign-in is closed")

// isRefused reports whether err is a SignInError that waiting cannot mend.
func isRefused(err error) bool {
	e, ok := errors.AsType[*asclient.SignInError](err)
	return ok && e.Refused
}

// LoginRequiredError reports that a person has to log in, but Config.NonInteractive forbids it.
type LoginRequiredError struct {
	// Upstream is the upstream's URL without its query.
	Upstream string
	// Err says why there is no token without a person: how a one-shot input or the last refresh
	// token was refused. It is nil if nothing was refused.
	Err error
}

func (e *LoginRequiredError) Error() string {
	s := "login needed for " + e.Upstream
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the error beneath.
func (e *LoginRequiredError) Unwrap() error { return e.Err }

// TokenRefusedError reports that the upstream refuses a token that a new sign-in has brought, and
// went on to refuse it for some seconds. Another sign-in would most likely end the same way, so no
// request starts one for some minutes. Each request still tries the token.
type TokenRefusedError struct {
	// Upstream is the upstream's URL without its query.
	Upstream string
	// Status is the status of the upstream's answer.
	Status int
	// Code and Description are the error and the error_description of the upstream's challenge (RFC
	// 6750 section 3). Secrets are masked, and long texts are cut. Each may be empty.
	Code, Description string
}

func (e *TokenRefusedError) Error() string {
	s := fmt.Sprintf("the new token is refused by %s (status %d)", e.Upstream, e.Status)
	if e.Code != "" {
		s += ": " + asclient.QuoteCode(e.Code)
	}
	if e.Description != "" {
		s += ": " + asclient.Quote(e.Description)
	}
	return s
}

// PortBusyError reports that another process listens on a callback address.
type PortBusyError struct {
	// Addr is the address, such as "127.0.0.1:53682".
	Addr string
	// PID and Command are the other process and the name of its command. They are zero if the
	// system does not tell.
	PID     int
	Command string
	// User is who the port belongs to, if that is another user. It is empty if the system does not
	// tell.
	User string
	// Outgoing says that nobody listens there: the port is this side of an outgoing connection.
	Outgoing bool
	// Err is the system's error.
	Err error
}

func (e *PortBusyError) Error() string {
	s := "callback address " + e.Addr + " is in use"
	switch {
	case e.PID != 0:
		s += fmt.Sprintf(" by process %d %s", e.PID, asclient.Quote(e.Command))
	case e.Outgoing:
		s += " by an outgoing connection"
	case e.User != "":
		s += " by a process"
	}
	if e.User != "" {
		s += " of the user " + asclient.Quote(e.User)
	}
	return s
}

// Unwrap returns the system's error.
func (e *PortBusyError) Unwrap() error { return e.Err }
