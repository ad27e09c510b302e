package oauth

import (
	"errors"
	"fmt"

	"sallyport/oauth/asclient"
)

// ErrNotCompleted is beneath an asclient.SignInError when nobody finished the login in time.
var ErrNotCompleted = errors.New("nobody completed the login in time")

// ErrHeldBack is beneath an asclient.SignInError when several login pages in a row led to nothing:
// for a while only [Transport.SignIn] opens another.
var ErrHeldBack = errors.New("several login pages led to no sign-in, no other is opened until asked for")

// ErrNoSignIn is returned by Deliver when no sign-in waits for that callback.
var ErrNoSignIn = errors.New("no sign-in waits for this callback")

// ErrClosed is returned once the Transport is closed.
var ErrClosed = errors.New("sign-in is closed")

// isRefused reports whether err is a SignInError that waiting cannot mend.
func isRefused(err error) bool {
	e, ok := errors.AsType[*asclient.SignInError](err)
	return ok && e.Refused
}

// LoginRequiredError reports that a person has to log in and NonInteractive forbids to ask.
type LoginRequiredError struct {
	Upstream string // without query
	Err      error  // why what was given did not do; nil: nothing was
}

func (e *LoginRequiredError) Error() string {
	s := "login needed for " + e.Upstream
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *LoginRequiredError) Unwrap() error { return e.Err }

// TokenRefusedError reports that the upstream refuses a token that it has just been
// given after a new sign-in; another sign-in would not help.
type TokenRefusedError struct {
	Upstream    string // without query
	Code        string // error of the challenge, "invalid_token"; "" none
	Description string // error_description of the challenge, secrets masked, cut
}

func (e *TokenRefusedError) Error() string {
	s := "the new token is refused by " + e.Upstream + " (status 401)"
	if e.Code != "" {
		s += ": " + asclient.QuoteCode(e.Code)
	}
	if e.Description != "" {
		s += ": " + asclient.Quote(e.Description)
	}
	return s
}

// PortBusyError reports a callback address that another process holds.
type PortBusyError struct {
	Addr    string // "127.0.0.1:53682"
	PID     int    // the holder; 0 unknown
	Command string // the holder's command name; "" unknown
	Err     error
}

func (e *PortBusyError) Error() string {
	s := "callback address " + e.Addr + " is in use"
	if e.PID != 0 {
		s += fmt.Sprintf(" by process %d %s", e.PID, asclient.Quote(e.Command))
	}
	return s
}

func (e *PortBusyError) Unwrap() error { return e.Err }
