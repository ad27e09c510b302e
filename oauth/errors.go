package oauth

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Stages of a sign-in, as SignInError.Stage names them.
const (
	StageDiscovery = "discovery" // metadata
	StageRegister  = "register"  // dynamic client registration
	StageAuthorize = "authorize" // the browser's part, up to the callback
	StageToken     = "token"     // the token endpoint: code, client credentials
	StageRefresh   = "refresh"   // the token endpoint: refresh token
	StageExchange  = "exchange"  // the identity provider's token endpoint: ID token for an assertion
	StageRevoke    = "revoke"
)

// Codes of SignInError.Code that are ours; all others are the server's OAuth error codes.
const (
	CodePKCE             = "pkce_unsupported"  // metadata without code_challenge_methods_supported, or without S256
	CodeIssuerMismatch   = "issuer_mismatch"   // iss (RFC 9207) or metadata of another issuer
	CodeResourceMismatch = "resource_mismatch" // resource metadata of another resource
	CodeInsecureURL      = "insecure_url"      // metadata names a URL that we will not use
	CodeNoClient         = "no_client"         // no client ID given and no way to register one
	CodeNoAssertion      = "no_assertion"      // the caller's assertion or ID token cannot be had
	CodeNoProof          = "dpop_unsupported"  // DPoP is required in a way that we do not know
	CodeBadReply         = "bad_reply"         // an answer that is none of OAuth's
)

// ErrNotCompleted is beneath a SignInError when nobody finished the login in time.
var ErrNotCompleted = errors.New("nobody completed the login in time")

// ErrHeldBack is beneath a SignInError when several login pages in a row led to nothing:
// for a while only [Transport.SignIn] opens another.
var ErrHeldBack = errors.New("several login pages led to no sign-in, no other is opened until asked for")

// ErrNoSignIn is returned by Deliver when no sign-in waits for that callback.
var ErrNoSignIn = errors.New("no sign-in waits for this callback")

// ErrClosed is returned once the Transport is closed.
var ErrClosed = errors.New("sign-in is closed")

// SignInError reports a sign-in that a server, a person or our own rules ended.
type SignInError struct {
	Stage       string // one of Stage...
	Server      string // issuer or endpoint, without query
	Status      int    // HTTP status; 0 none
	Code        string // OAuth error code or one of Code...; "" none
	Description string // the server's, secrets masked, cut
	Refused     bool   // waiting cannot mend it: the server or the person said no, or our rules forbid it
	Err         error  // what is beneath; nil none
}

func (e *SignInError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sign-in at %s: %s", cut(e.Server), e.Stage)
	if e.Code != "" {
		fmt.Fprintf(&b, ": %s", plain(e.Code))
	}
	if e.Description != "" {
		fmt.Fprintf(&b, ": %s", quote(e.Description))
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, " (status %d)", e.Status)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

func (e *SignInError) Unwrap() error { return e.Err }

// isRefused reports whether err is a SignInError that waiting cannot mend.
func isRefused(err error) bool {
	e, ok := errors.AsType[*SignInError](err)
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
		s += ": " + plain(e.Code)
	}
	if e.Description != "" {
		s += ": " + quote(e.Description)
	}
	return s
}

// Attempt is one metadata URL that was tried.
type Attempt struct {
	URL    string // without query
	Status int    // 0: no answer
	Reason string // why an answer of status 200 does not do; "" none
}

func (a Attempt) String() string {
	if a.Reason != "" {
		return a.URL + " (" + a.Reason + ")"
	}
	return a.URL + " (" + strconv.Itoa(a.Status) + ")"
}

// DiscoveryError reports metadata that is missing or cannot be read.
type DiscoveryError struct {
	What  string    // "authorization server metadata of https://as.example"
	Tried []Attempt // in order
	Err   error     // what is beneath; nil none
}

func (e *DiscoveryError) Error() string {
	s, sep := "no "+e.What, ": tried "
	for _, a := range e.Tried {
		s += sep + a.String()
		sep = ", "
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *DiscoveryError) Unwrap() error { return e.Err }

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
		s += fmt.Sprintf(" by process %d %s", e.PID, quote(e.Command))
	}
	return s
}

func (e *PortBusyError) Unwrap() error { return e.Err }

const maxPeerText = 200 // bytes of a peer's text in an error

// cut limits a peer's text.
func cut(s string) string {
	if len(s) <= maxPeerText {
		return s
	}
	n := maxPeerText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

func quote(s string) string { return strconv.Quote(cut(s)) }

// plain leaves a well-formed error code (RFC 6749 section 5.2) unquoted.
func plain(code string) string {
	for _, r := range code {
		if r <= ' ' || r > '~' || r == '"' || r == '\\' {
			return quote(code)
		}
	}
	return cut(code)
}
