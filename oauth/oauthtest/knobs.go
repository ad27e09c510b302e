package oauthtest

import "time"

// Knobs make the server deviate from a correct one that grants everything, which the zero value is.
type Knobs struct {
	// Lifetime is that of access tokens. Zero is an hour.
	Lifetime time.Duration
	// ExpiresIn is what expires_in says. Nil is Lifetime in seconds, "" leaves it out, and every
	// other value is sent as it is.
	ExpiresIn any
	// Scopes is scopes_supported of the authorization server. Nil leaves it out.
	Scopes []string

	// AuthMethods is token_endpoint_auth_methods_supported. Nil is none, basic and post.
	AuthMethods []string
	// NoPKCE leaves code_challenge_methods_supported out of the metadata.
	NoPKCE bool
	// NoMetadata answers 404 for all metadata, and OpenIDOnly for that of RFC 8414.
	NoMetadata, OpenIDOnly bool
	// WrongIssuer is the issuer that the metadata names. Empty is the right one.
	WrongIssuer string
	// NoIss neither promises nor sends iss (RFC 9207).
	NoIss bool
	// WrongIss is the iss of the redirect. Empty is the right one.
	WrongIss string
	// MetadataDocument takes the URL of any client ID metadata document, which is not read.
	MetadataDocument bool

	// NoRegistration has no registration endpoint.
	NoRegistration bool
	// NumericIDs gives client IDs of digits only.
	NumericIDs bool
	// SecretAnyway is the authentication method of each client that asked for none. Such a client
	// gets a secret. Empty grants what was asked for.
	SecretAnyway string
	// TakesSecret is the method by which a secret must be shown, whatever the client was registered
	// for. RawBasic is one more. Empty is that of the registration.
	TakesSecret string
	// OneRedirect refuses a registration of more than one redirect URI.
	OneRedirect bool
	// Deny is the error code of the redirect, as in "access_denied". Empty grants.
	Deny string
	// TokenStatus is the status that the token endpoint answers, in HTML. Zero answers as usual.
	TokenStatus int
	// TokenError is the error code that the token endpoint answers. The description repeats the
	// secrets that were sent. RefreshError is the same for refreshes only.
	TokenError, RefreshError string
	// KeepRefresh does not replace a refresh token when it is used.
	KeepRefresh bool
	// NoRefresh grants no refresh token.
	NoRefresh bool
	// IDTokenLifetime is that of ID tokens, which are granted with the scope openid. Zero is an
	// hour. NoIDTokenAtRefresh leaves them out of the answer to a refresh.
	IDTokenLifetime    time.Duration
	NoIDTokenAtRefresh bool
	// ExchangeError is the error code that a token exchange gets, with ExchangeStatus or 400. The
	// description repeats the ID token.
	ExchangeError  string
	ExchangeStatus int
	// NoRevocation has no revocation endpoint.
	NoRevocation bool

	// RequirePush takes pushed authorization requests only (RFC 9126).
	RequirePush bool
	// PushLife is the lifetime of a request_uri. Zero is a minute.
	PushLife time.Duration
	// PushError is the error code that the endpoint for pushed requests answers. The description
	// repeats the state.
	PushError string

	// DeviceOnly has no authorization endpoint.
	DeviceOnly bool
	// NoDevice has no device authorization endpoint.
	NoDevice bool
	// DeviceWaits grants the token of a device only after the person has opened the verification
	// URI with the code, as verification_uri_complete has it. Each code is then another one.
	DeviceWaits bool
	// DeviceAnswers are the error codes that requests for a device's token get, one each, before
	// the token is granted.
	DeviceAnswers []string
	// DPoP makes the resource take bound tokens only (RFC 9449), and say so in its challenge.
	DPoP bool
	// ProofAlgs is dpop_signing_alg_values_supported of the authorization server. Nil leaves it
	// out.
	ProofAlgs []string
	// Nonces demands that each proof has the nonce of the answer before.
	Nonces bool

	// NoResourceMetadata answers 404 for the metadata of the resource.
	NoResourceMetadata bool
	// ResourceName is the resource that its metadata names. Empty is the right one.
	ResourceName string
	// ResourceScopes is scopes_supported of the resource metadata. Nil leaves it out.
	ResourceScopes []string
	// ChallengeScope is the scope of the resource's challenge. Empty leaves it out.
	ChallengeScope string
	// NoChallenge answers 401 without WWW-Authenticate.
	NoChallenge bool
	// RefuseTokens answers 401 to every token.
	RefuseTokens bool
	// NeedScope is a scope without which a token is answered 403 insufficient_scope.
	NeedScope string
}

// RawBasic is client_secret_basic of a server that does not decode the two parts.
const RawBasic = "raw"

// Stats counts what the server was asked.
type Stats struct {
	Registrations, Authorizations, Codes, Refreshes, ClientCredentials, Revocations int
	Assertions, Devices, Pushes, Exchanges                                          int
	// Unauthorized counts the 401 of the protected resource.
	Unauthorized int
}
