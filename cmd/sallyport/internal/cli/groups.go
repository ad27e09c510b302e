package cli

import "github.com/alecthomas/kong"

// Common belongs to every command that reads settings.
type Common struct {
	Config   string `placeholder:"FILE" help:"JSON file of settings." from:"MCP_PROXY_CONFIG"`
	LogLevel string `group:"log" enum:"trace,debug,info,warn,error,fatal" default:"warn" placeholder:"LEVEL" help:"Least level to log: trace, debug, info, warn, error or fatal." from:"LOG_LEVEL" field:"log.level"`
	LogFile  string `group:"log" placeholder:"FILE" help:"File to log to besides stderr; it rotates." field:"log.file"`
}

// common lets Parse find the settings of the log in any command.
func (c Common) common() Common { return c }

// Remote describes one upstream, the route to it, and how to sign in there.
type Remote struct {
	Route    `group:"ssh"`
	Store    `group:"files"`
	Callback `group:"callback"`
	OAuth    `group:"oauth"`
	Browser  `group:"callback"`
	Upstream `group:"upstream"`
}

// SSH says how ssh_config is read.
type SSH struct {
	Jump          string        `short:"J" placeholder:"HOSTS" help:"Jump hosts, as ssh -J." field:"ssh.jump"`
	SSHConfig     string        `name:"ssh-config" short:"F" placeholder:"FILE" help:"File to read in place of your ssh_config files, as ssh -F; none reads no file." field:"ssh.config"`
	SSHOption     []string      `name:"ssh-option" short:"o" sep:"none" placeholder:"KEY=VALUE" help:"Option of ssh_config, as ssh -o; may be repeated." field:"ssh.options"`
	ControlMaster ControlMaster `default:"auto" placeholder:"=WHEN" help:"Use your running ControlMaster if a host's ControlPath answers (ssh -S ... -W): =on always, as without a value; =auto where that spares you a question, a push or a touch; =off never." field:"ssh.controlMaster"`
	Sharing
}

// Sharing says how long one SSH connection serves all processes of this user.
type Sharing struct {
	// Share is auto or off. The zero value is off: only a command line shares.
	Share     string  `enum:"auto,off" default:"auto" placeholder:"HOW" help:"auto: all sallyports of yours on this machine use one SSH connection to a bastion; off: each dials its own." field:"ssh.share"`
	ShareIdle Seconds `default:"10m" placeholder:"DUR" help:"How long that connection stays up unused; 0 keeps it; a number without a unit is seconds." field:"ssh.shareIdle"`
	ShareMax  Seconds `default:"8h" placeholder:"DUR" help:"How old that connection grows before a new login; 0 sets no limit; a number without a unit is seconds." field:"ssh.shareMax"`
}

// Route says how requests leave this machine.
type Route struct {
	// Via is the SSH host in front of the upstream. If it is empty, requests leave directly.
	Via string `placeholder:"HOST" help:"Reach the upstream through HOST: an alias of ssh_config, [user@]host[:port] or ssh://." field:"ssh.via"`
	SSH
	// OAuthRoute is the route to authorization servers: auto, via or direct.
	OAuthRoute string `name:"oauth-route" enum:"auto,via,direct" default:"auto" placeholder:"ROUTE" help:"Route to authorization servers: via, direct, or auto, which is direct and uses via only if the direct dial fails." field:"oauth2.route"`
}

// Store says where tokens are kept.
type Store struct {
	StateDir   string `placeholder:"DIR" help:"Where tokens and registrations are kept." from:"SALLYPORT_STATE_DIR,OAUTH2_TOKEN_CACHE_DIR" field:"oauth2.tokenCacheDir"`
	TokenStore string `enum:"auto,keyring,file,memory" default:"auto" placeholder:"KIND" help:"Where the key of the stored tokens lies: auto, keyring or file; memory stores nothing." field:"oauth2.tokenStore"`
}

// Callback says where the callback of a login is accepted, and for how long.
type Callback struct {
	CallbackVia     string  `placeholder:"HOST" help:"Bring the login to the browser of HOST, your workstation: by a sallyport there, or else by a remote forward." field:"ssh.callbackVia"`
	CallbackPort    Ports   `default:"53682" placeholder:"N[,N]" help:"Port of the callback; 0 takes any free one; a list is tried in order." from:"OAUTH2_CALLBACK_PORT" field:"oauth2.callbackPort"`
	CallbackHost    string  `default:"127.0.0.1" placeholder:"ADDR" help:"Loopback address of the callback, or localhost; in a container also 0.0.0.0, for a published port." from:"OAUTH2_CALLBACK_HOST" field:"oauth2.callbackHost"`
	CallbackTimeout Seconds `default:"300s" placeholder:"DUR" help:"How long a login may take; a number without a unit is seconds." from:"OAUTH2_CALLBACK_TIMEOUT_SECONDS" field:"oauth2.callbackTimeoutSeconds"`
}

// OAuth says how to sign in.
type OAuth struct {
	Grant string `enum:"auto,authorization_code,client_credentials,device_code,jwt_bearer,enterprise_managed,none" default:"auto" placeholder:"NAME" help:"How to get a token: auto, authorization_code, client_credentials, device_code, jwt_bearer, enterprise_managed or none." from:"OAUTH2_GRANT" field:"oauth2.grant"`
	Client
	Assertion
	Request
	Predecessor
}

// Client is the client that is registered at the authorization server.
type Client struct {
	ClientID          string `placeholder:"ID" help:"ID of a client that the authorization server knows already." from:"OAUTH2_CLIENT_ID" field:"oauth2.clientId"`
	ClientSecret      string `placeholder:"SECRET" help:"The client's secret; safer in the variable or a file." from:"OAUTH2_CLIENT_SECRET" field:"oauth2.clientSecret"`
	ClientSecretFile  string `placeholder:"FILE" help:"File that holds the client's secret." field:"oauth2.clientSecretFile"`
	ClientMetadataURL string `name:"client-metadata-url" placeholder:"URL" help:"URL of the client ID metadata document." from:"OAUTH2_CLIENT_METADATA_URL" field:"oauth2.clientMetadataUrl"`
	ClientKey         string `placeholder:"FILE" help:"Private key, PEM or JWK, that authenticates the client (private_key_jwt)." field:"oauth2.clientKey"`
	ClientKeyAlg      string `placeholder:"ALG" help:"Algorithm of that key: RS256, PS256, ES256, EdDSA, ..." field:"oauth2.clientKeyAlg"`
}

// Assertion is what the grants jwt_bearer and enterprise_managed show.
type Assertion struct {
	AssertionFile       string `placeholder:"FILE" help:"File with the JWT of jwt_bearer; it is read again for each token." field:"oauth2.assertionFile"`
	IDPIssuer           string `name:"idp-issuer" placeholder:"URL" help:"Identity provider of enterprise_managed: you sign in there once for all its upstreams." field:"oauth2.idpIssuer"`
	IDPTokenURL         string `name:"idp-token-url" placeholder:"URL" help:"Token endpoint of the identity provider, if its metadata is not to be used." field:"oauth2.idpTokenUrl"`
	IDPClientID         string `name:"idp-client-id" placeholder:"ID" help:"Client ID at the identity provider." field:"oauth2.idpClientId"`
	IDPClientSecret     string `name:"idp-client-secret" placeholder:"SECRET" help:"Secret of that client; safer in the variable or a file." field:"oauth2.idpClientSecret"`
	IDPClientSecretFile string `name:"idp-client-secret-file" placeholder:"FILE" help:"File that holds that secret." field:"oauth2.idpClientSecretFile"`
	IDTokenFile         string `name:"id-token-file" placeholder:"FILE" help:"File with an ID token for that client, so that you need not sign in at the identity provider; it is read again for each token." field:"oauth2.idTokenFile"`
}

// Request says what is asked of the authorization server, and for which of the person's accounts.
type Request struct {
	Issuer    string `placeholder:"URL" help:"Authorization server that you vouch for: its metadata is used, whatever the upstream names, and secrets go to no other server." field:"oauth2.issuer"`
	PKCE      string `name:"pkce" enum:"require,assume" default:"require" placeholder:"HOW" help:"require, or assume, which uses S256 even if the server's metadata does not mention PKCE." field:"oauth2.pkce"`
	Profile   string `default:"default" placeholder:"NAME" help:"Keeps several accounts of one upstream apart." field:"oauth2.profile"`
	Scope     string `placeholder:"SCOPES" help:"Scopes to ask for, separated by spaces." from:"OAUTH2_SCOPE" field:"oauth2.scope"`
	Resource  string `placeholder:"URI" help:"Resource parameter to send (RFC 8707), whatever the metadata names; none sends none." from:"OAUTH2_RESOURCE" field:"oauth2.resource"`
	Audience  string `placeholder:"NAME" help:"Audience parameter of the token request." from:"OAUTH2_AUDIENCE" field:"oauth2.audience"`
	AuthStyle string `enum:",body,header" default:"" placeholder:"STYLE" help:"How the client sends its secret: body or header." from:"OAUTH2_AUTH_STYLE" field:"oauth2.authStyle"`
	// AuthorizeParam holds parameters as NAME=VALUE. AuthorizeParams reads them.
	AuthorizeParam []string `sep:"none" placeholder:"NAME=VALUE" help:"Parameter to add to the URL of the login page, such as prompt=consent; may be repeated." field:"oauth2.authorizeParams"`
	Bearer         string   `enum:"access,id" default:"access" placeholder:"KIND" help:"Token to send to the upstream: access, or id for an upstream that takes only ID tokens." field:"oauth2.bearer"`
}

// Predecessor holds the sign-in settings of mcp-oauth2-proxy that have a variable and no visible
// flag.
type Predecessor struct {
	// TokenURL is the token endpoint. It counts more than the metadata.
	TokenURL string `name:"token-url" hidden:"" from:"OAUTH2_TOKEN_URL" field:"oauth2.tokenUrl"`
	// AuthorizationURL is the authorization endpoint. It counts more than the metadata.
	AuthorizationURL string `name:"authorization-url" hidden:"" from:"OAUTH2_AUTHORIZATION_URL" field:"oauth2.authorizationUrl"`
	// RedirectURI is a redirect URI that is registered already. If it is empty, one is made of
	// CallbackHost and CallbackPort.
	RedirectURI string `name:"redirect-uri" hidden:"" from:"OAUTH2_REDIRECT_URI" field:"oauth2.redirectUri"`
	// AuthorizationCode is a code that somebody else obtained. It is used once.
	AuthorizationCode string `hidden:"" from:"OAUTH2_AUTHORIZATION_CODE" field:"oauth2.authorizationCode"`
	// CodeVerifier is the PKCE verifier (RFC 7636) of that code.
	CodeVerifier string `hidden:"" from:"OAUTH2_CODE_VERIFIER" field:"oauth2.codeVerifier"`
	// RefreshToken is a refresh token that somebody else obtained. The stored one is tried first.
	RefreshToken string `hidden:"" from:"OAUTH2_REFRESH_TOKEN" field:"oauth2.refreshToken"`
	// Interactive permits logins. Without it, a sign-in that needs a person fails.
	Interactive bool `hidden:"" default:"true" negatable:"" from:"OAUTH2_INTERACTIVE" field:"oauth2.interactive"`
	// RefreshSkew is how long before its expiry a token is refreshed. 0 means not before it.
	RefreshSkew Seconds `hidden:"" default:"30s" from:"OAUTH2_REFRESH_SKEW_SECONDS" field:"oauth2.refreshSkewSeconds"`
	// ExtraParams are added to authorization and token requests.
	ExtraParams StringMap `hidden:"" from:"OAUTH2_EXTRA_PARAMS" field:"oauth2.extraParams"`
	// Discovery permits requests for metadata. Without it, only the endpoints above are used.
	Discovery bool `hidden:"" default:"true" negatable:"" from:"DISCOVERY_ENABLED" field:"discovery.enabled"`
}

// Browser says how the person's browser is started.
type Browser struct {
	Browser   string `placeholder:"CMD" help:"Command that opens a browser; %s stands for the link." from:"BROWSER" field:"oauth2.browser"`
	NoBrowser bool   `name:"no-browser" help:"Print the link and start no browser." field:"oauth2.noBrowser"`
}

// Upstream is the MCP server, and what requests to it need besides a token.
type Upstream struct {
	// URL is the argument. It counts more than UpstreamURL, the variable's and the file's value.
	URL string `arg:"" optional:"" help:"The upstream MCP endpoint, its real URL ($UPSTREAM_URL)."`
	// UpstreamURL is the value of the variable or the file. It has no flag of its own in --help.
	UpstreamURL       string   `name:"upstream-url" hidden:"" from:"UPSTREAM_URL" field:"upstream.url"`
	CAFile            string   `name:"ca-file" group:"files" placeholder:"FILE" help:"PEM certificates added to the system's roots." field:"upstream.caFile"`
	ClientCert        string   `group:"files" placeholder:"FILE" help:"PEM certificate to show to the upstream and the authorization server (mutual TLS); it is read again when it changes." field:"upstream.clientCert"`
	ClientCertKey     string   `group:"files" placeholder:"FILE" help:"Private key of that certificate, if it is in another file." field:"upstream.clientCertKey"`
	Header            []string `sep:"none" placeholder:"'NAME: VALUE'" help:"Extra upstream header; $${VARIABLE} is expanded; may be repeated." field:"upstream.headers"`
	HeaderFile        string   `placeholder:"FILE" help:"File of such headers, one on a line; # begins a comment." field:"upstream.headerFile"`
	AllowInsecureHTTP bool     `name:"allow-insecure-http" help:"Permit cleartext http to a host that is not loopback." from:"ALLOW_INSECURE_HTTP" field:"allowInsecureHttp"`
}

// Relay says how the MCP session is carried. Only the proxy uses it.
type Relay struct {
	Transport  string       `enum:"auto,http,sse" default:"auto" placeholder:"KIND" help:"Transport of the upstream: auto, http (Streamable HTTP) or sse (HTTP+SSE of 2024-11-05)." field:"upstream.transport"`
	IgnoreTool []string     `sep:"none" placeholder:"PATTERN" help:"Tools to hide and to refuse; * stands for any characters; may be repeated." field:"upstream.ignoreTools"`
	PinTools   bool         `help:"Remember the tools as they are at the first use, and hide what is changed or new until sallyport tools --accept." field:"upstream.pinTools"`
	AuditLog   string       `group:"log" placeholder:"FILE" help:"File that gets a JSON line for each call: time, tool, outcome, duration; no arguments." field:"log.audit"`
	Timeout    Milliseconds `default:"300s" placeholder:"DUR" help:"How long a call may take without progress; a number without a unit is milliseconds." from:"UPSTREAM_TIMEOUT_MS" field:"upstream.timeoutMs"`
	KeepAlive  Interval     `default:"0s" placeholder:"DUR" help:"Send an MCP ping after this time without a message, 1s or more, if the upstream's revision has pings; 0 sends none; a number without a unit is seconds." field:"upstream.keepAlive"`
	// ServerStream permits the GET stream, on which a server sends without being asked.
	ServerStream bool `hidden:"" default:"true" negatable:"" from:"UPSTREAM_OPEN_SERVER_STREAM" field:"upstream.openServerStream"`
	// ProtocolVersion is the header MCP-Protocol-Version until the server has negotiated one.
	ProtocolVersion string `hidden:"" from:"UPSTREAM_PROTOCOL_VERSION" field:"upstream.protocolVersion"`
}

// flagGroups are the headings of --help.
var flagGroups = []kong.Group{
	{Key: "ssh", Title: "SSH"},
	{Key: "callback", Title: "Browser and callback"},
	{Key: "oauth", Title: "Sign-in"},
	{Key: "upstream", Title: "Upstream"},
	{Key: "files", Title: "Files"},
	{Key: "log", Title: "Log"},
}
