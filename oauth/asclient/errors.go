package asclient

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Stages of a sign-in, as SignInError.Stage names them.
const (
	// StageDiscovery is the search for metadata.
	StageDiscovery = "discovery"
	// StageRegister is dynamic client registration.
	StageRegister = "register"
	// StageAuthorize is the person's part, up to the callback or to the approval of a device code.
	StageAuthorize = "authorize"
	// StageToken is a request to the token endpoint, for all grants but a refresh.
	StageToken = "token"
	// StageRefresh is a request to the token endpoint with a refresh token.
	StageRefresh = "refresh"
	// StageExchange is the request to the identity provider's token endpoint that exchanges an ID
	// token for an assertion.
	StageExchange = "exchange"
	// StageRevoke is the revocation of a token.
	StageRevoke = "revoke"
)

// Codes of SignInError.Code that are ours. Every other code is the server's OAuth error code.
const (
	// CodePKCE: the metadata does not promise PKCE with S256.
	CodePKCE = "pkce_unsupported"
	// CodeIssuerMismatch: a redirect (RFC 9207) or metadata names another issuer.
	CodeIssuerMismatch = "issuer_mismatch"
	// CodeIssuerChanged: the upstream names another server than the one that configured credentials
	// are for. Package oauth sets it.
	CodeIssuerChanged = "issuer_changed"
	// CodeResourceMismatch: the resource metadata is that of another resource.
	CodeResourceMismatch = "resource_mismatch"
	// CodeInsecureURL: a peer names a URL that is not used, because it is cleartext or no URL that
	// could be requested.
	CodeInsecureURL = "insecure_url"
	// CodeNoClient: no client ID is given, and none can be registered, or the server lets nobody
	// register without its operator.
	CodeNoClient = "no_client"
	// CodeRedirectURI: the server does not register our redirect URI. This is the code of RFC 7591,
	// and stands for other codes whose words say the same. Some servers take no address such as
	// 127.0.0.1, but the name localhost.
	CodeRedirectURI = "invalid_redirect_uri"
	// CodeNoAssertion: the caller's assertion or ID token cannot be read. Package oauth sets it.
	CodeNoAssertion = "no_assertion"
	// CodeNoProof: DPoP is required with algorithms that we do not know.
	CodeNoProof = "dpop_unsupported"
	// CodeBadReply: an answer is not one that OAuth knows.
	CodeBadReply = "bad_reply"
)

// SignInError reports a sign-in that a server, a person or our own rules ended.
type SignInError struct {
	// Stage is one of the Stage constants.
	Stage string
	// Server is the issuer or the endpoint, without its query.
	Server string
	// Status is the HTTP status of the answer. It is 0 if none came.
	Status int
	// Code is the server's OAuth error code or one of the Code constants. It may be empty.
	Code string
	// Description is what the server or our rule says, with secrets masked and cut to 200 bytes.
	Description string
	// Refused says that waiting does not help: the server or the person said no, or our rules
	// forbid to go on.
	Refused bool
	// Page says that the answer was an HTML page, as firewalls and gateways send it.
	Page bool
	// OtherMethod is set if the server refused the client, and then took it by the other method of
	// client authentication, AuthBasic or AuthPost, but refused the code, which the first request
	// had spent. With that method the next sign-in may succeed. It is empty otherwise.
	OtherMethod string
	// Cleartext says of CodeInsecureURL that the URL is not used only because it is http.
	Cleartext bool
	// RetryAfter is how long the server asks us to wait. It is 0 if it does not say.
	RetryAfter time.Duration
	// Err is the error beneath. It may be nil.
	Err error

	// allWords is more of the server's words than Description has, for the methods that judge them.
	allWords string
	// standard says that the answer was about an error and nothing else, as OAuth's are.
	standard bool
}

// Error returns one line.
func (e *SignInError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sign-in at %s: %s", cut(e.Server), e.Stage)
	if e.Code != "" {
		fmt.Fprintf(&b, ": %s", QuoteCode(e.Code))
	}
	if e.Description != "" {
		fmt.Fprintf(&b, ": %s", Quote(e.Description))
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, " (status %d)", e.Status)
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, ": the server asks to wait for %v", e.RetryAfter.Round(time.Second))
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns the error beneath.
func (e *SignInError) Unwrap() error { return e.Err }

// Steps of discovery, as Attempt.Step names them.
const (
	// StepChallenge is a request to the upstream without a token.
	StepChallenge = "challenge"
	// StepResource is a request for the upstream's resource metadata.
	StepResource = "resource metadata"
	// StepServer is a request for an authorization server's metadata.
	StepServer = "authorization server metadata"
)

// Attempt is one URL that discovery tried.
type Attempt struct {
	// Step is one of the Step constants.
	Step string `json:",omitempty"`
	// URL is what was asked for, without its query.
	URL string
	// Status is the HTTP status of the answer. It is 0 if none came.
	Status int
	// Reason says why the URL was not requested, why no answer came, or why an answer of status 200
	// is not used. It is empty for an answer that is used, and for one whose status says enough.
	Reason string
}

// String returns the URL and, in parentheses, what came of it.
func (a Attempt) String() string {
	if a.Reason != "" {
		return a.URL + " (" + a.Reason + ")"
	}
	return a.URL + " (" + strconv.Itoa(a.Status) + ")"
}

// DiscoveryError reports metadata that is missing or cannot be read.
type DiscoveryError struct {
	// What is missing, as in "authorization server metadata of https://as.example".
	What string
	// Tried holds what was asked for, in order.
	Tried []Attempt
	// Err is the error beneath, as of the network. It may be nil.
	Err error
}

// Error returns one line with everything that was tried.
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

// Unwrap returns the error beneath.
func (e *DiscoveryError) Unwrap() error { return e.Err }
