package session

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/oauth"
)

// retryText stands on the page of a failed sign-in.
const retryText = "To try again, close this tab and ask your MCP host once more, or type \"sallyport login\" with the same settings in a terminal."

// signInConfig returns the settings of the sign-in. The caller adds the realm, the routes and the
// identity provider. The error is a *cli.UsageError, or it comes from the token store's files.
func signInConfig(cfg Config, upstream *url.URL, header http.Header) (oauth.Config, error) {
	settings := cfg.Settings
	secret, err := clientSecret(settings.Client)
	if err != nil {
		return oauth.Config{}, err
	}
	key, err := secretFile("client key", "client-key", settings.ClientKey)
	if err != nil {
		return oauth.Config{}, err
	}
	// The callback carries a code in cleartext http, so it must not leave the machine (RFC 8252
	// section 8.3).
	if err := checkCallbackHost(settings.CallbackHost, cfg.Env); err != nil {
		return oauth.Config{}, err
	}
	grant := settings.Grant
	// The header is the person's own credential. A token would replace it.
	if header.Get("Authorization") != "" {
		grant = oauth.GrantNone
	}
	authorizeParams, err := settings.AuthorizeParams()
	if err != nil {
		return oauth.Config{}, err
	}
	store, err := cfg.openStore()
	if err != nil {
		return oauth.Config{}, err
	}
	return oauth.Config{
		Upstream: upstream, Grant: grant,
		Client: oauth.ClientConfig{
			ID: settings.ClientID, Secret: secret, Key: key, KeyAlg: settings.ClientKeyAlg,
			MetadataURL: settings.ClientMetadataURL, AuthStyle: settings.AuthStyle,
			Certificate: settings.ClientCert != "",
		},
		Endpoints: oauth.Endpoints{
			Issuer: settings.Issuer, AuthorizationURL: settings.AuthorizationURL, TokenURL: settings.TokenURL,
			NoDiscovery: !settings.Discovery, AssumePKCE: settings.PKCE == "assume",
		},
		Scope: settings.Scope, Resource: settings.Resource, Audience: settings.Audience,
		ExtraParams: settings.ExtraParams, AuthorizeParams: authorizeParams, Bearer: settings.Bearer,
		Given: oauth.Given{
			AuthorizationCode: oauth.Secret(settings.AuthorizationCode), CodeVerifier: oauth.Secret(settings.CodeVerifier),
			RefreshToken: oauth.Secret(settings.RefreshToken),
		},
		Kind:        kindOf,
		Assertion:   assertion(settings.OAuth),
		RefreshSkew: refreshSkew(settings.RefreshSkew), NonInteractive: !settings.Interactive,
		Callback: oauth.CallbackConfig{
			RedirectURI: settings.RedirectURI, Addrs: callbackPorts(settings).Addrs(settings.CallbackHost),
			Timeout: time.Duration(settings.CallbackTimeout), Retry: retryText, Printable: cfg.Printable,
		},
		AllowInsecureHTTP: settings.AllowInsecureHTTP,
		AtTerminal:        cfg.AtTerminal,
		Store:             store, Log: cfg.Log,
	}, nil
}

// morePorts is how many ports after the default one are tried.
const morePorts = 4

// callbackPorts returns the ports to try. A client that is registered for each login may use any
// port (RFC 8252 section 7.3), so the default port is followed by more. Ports that the person has
// chosen, and those of a client with fixed redirect URIs, stay as they are. On the workstation of
// --callback-via any port is the last resort.
func callbackPorts(settings cli.Remote) cli.Ports {
	ports := settings.CallbackPort
	if !slices.Equal(ports, cli.Ports{cli.DefaultCallbackPort}) || settings.ClientID != "" || settings.ClientMetadataURL != "" {
		return ports
	}
	for i := range morePorts {
		ports = append(slices.Clone(ports), cli.DefaultCallbackPort+i+1)
	}
	if settings.CallbackVia != "" { // another user of the workstation may have taken all of them
		ports = append(ports, 0)
	}
	return ports
}

// kindOf names the kind of a request of MCP: its method, and the tool or prompt that it is for.
func kindOf(req *http.Request) string {
	if req.GetBody == nil {
		return ""
	}
	body, err := req.GetBody()
	if err != nil {
		return ""
	}
	defer body.Close()
	var message struct {
		Method string `json:"method"`
		Params struct {
			Name string `json:"name"`
		} `json:"params"`
	}
	if json.NewDecoder(body).Decode(&message) != nil {
		return ""
	}
	return message.Method + " " + message.Params.Name
}

// refreshSkew returns the duration as oauth takes it. There a negative one means none, and 0 the
// default; in the settings 0 means none.
func refreshSkew(s cli.Seconds) time.Duration {
	if s == 0 {
		return -1
	}
	return time.Duration(s)
}

// clientSecret returns the secret of the settings. The value itself counts more than a file.
func clientSecret(settings cli.Client) (oauth.Secret, error) {
	if settings.ClientSecret != "" || settings.ClientSecretFile == "" {
		return oauth.Secret(settings.ClientSecret), nil
	}
	return secretFile("client secret", "client-secret-file", settings.ClientSecretFile)
}

// identityProvider returns the settings of the identity provider. Its realm is the profile alone: a
// person has one sign-in there, whichever route leads to an upstream.
func identityProvider(settings cli.OAuth) (oauth.IdentityProvider, error) {
	secret := oauth.Secret(settings.IDPClientSecret)
	if secret == "" {
		var err error
		if secret, err = secretFile("identity provider's client secret", "idp-client-secret-file", settings.IDPClientSecretFile); err != nil {
			return oauth.IdentityProvider{}, err
		}
	}
	return oauth.IdentityProvider{
		Issuer: settings.IDPIssuer, TokenURL: settings.IDPTokenURL, ClientID: settings.IDPClientID, ClientSecret: secret,
		Realm: settings.Profile,
	}, nil
}

// assertion returns the function that reads what jwt_bearer and enterprise_managed show. It returns
// nil if no file is named. The file is read for each sign-in, because its JWT expires and something
// else renews it.
func assertion(settings cli.OAuth) func() (oauth.Secret, error) {
	what, flag, path := "assertion", "assertion-file", settings.AssertionFile
	if settings.Grant == oauth.GrantEnterpriseManaged {
		what, flag, path = "ID token", "id-token-file", settings.IDTokenFile
	}
	if path == "" {
		return nil
	}
	return func() (oauth.Secret, error) { return secretFile(what, flag, path) }
}

// secretFile reads a file that holds nothing but a secret. The argument what names the secret for
// people. An empty path returns an empty secret.
func secretFile(what, flag, path string) (oauth.Secret, error) {
	if path == "" {
		return "", nil
	}
	text, err := readSmallFile(path)
	if err != nil {
		return "", &cli.UsageError{
			Text:  what + " file: " + err.Error(),
			Hints: []string{"--" + flag + " names a file that holds nothing but the " + what},
		}
	}
	return oauth.Secret(strings.TrimSpace(text)), nil
}

// maxSmallFile is how long a file may be that a flag names, in bytes.
const maxSmallFile = 64 << 10

// readSmallFile returns the text of a file. A longer one is an error.
func readSmallFile(path string) (string, error) {
	text, err := cli.ReadFile(path, maxSmallFile)
	return string(text), err
}
