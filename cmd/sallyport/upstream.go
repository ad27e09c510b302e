package main

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"sallyport/oauth"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// endpoint is the upstream's URL, checked.
func (f *upstreamFlags) endpoint() (*url.URL, error) {
	text := cmp.Or(f.URL, f.UpstreamURL)
	hint := "sallyport [flags] https://HOST/PATH"
	if text == "" {
		return nil, &usageError{text: "no upstream URL", hints: []string{hint, "or set UPSTREAM_URL, or upstream.url in the settings file"}}
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &usageError{text: fmt.Sprintf("upstream %q is not an http or https URL", beforeQuery(text)), hints: []string{hint}}
	}
	if u.User != nil || u.Fragment != "" {
		return nil, &usageError{text: fmt.Sprintf("upstream %s: a user name, password or #fragment in the URL is not allowed", plainURL(u)), hints: []string{hint}}
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) && !f.AllowInsecureHTTP {
		return nil, &usageError{text: fmt.Sprintf("upstream %s is cleartext http to a host that is not loopback", plainURL(u)), hints: []string{"use https", "or accept that others can read the token: --allow-insecure-http"}}
	}
	return u, nil
}

// origins are those of the endpoints that the settings give.
func (f *upstreamFlags) origins() []string {
	var all []string
	for _, link := range []string{f.AuthorizationURL, f.TokenURL, f.IDPIssuer, f.IDPTokenURL} {
		if u, err := url.Parse(link); err == nil && u.Host != "" {
			all = append(all, u.Scheme+"://"+u.Host)
		}
	}
	return all
}

// isLoopback accepts what means this host, or the last SSH host, to itself.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// plainURL is u without what may hold a secret.
func plainURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

func beforeQuery(text string) string {
	before, _, _ := strings.Cut(text, "?")
	return before
}

var variableReference = regexp.MustCompile(`\$\{(\w+)\}`)

// headers are the extra ones, with ${VARIABLE} expanded, and their values as secrets. Errors name a
// header by its place, as the text may be a secret.
func (f *upstreamFlags) headers(env environment) (http.Header, []string, error) {
	h := &headerList{env: env, header: http.Header{}}
	for i, text := range f.Header {
		if err := h.add(fmt.Sprintf("header %d", i+1), text); err != nil {
			return nil, nil, err
		}
	}
	if f.HeaderFile != "" {
		text, err := readSmallFile(f.HeaderFile)
		if err != nil {
			return nil, nil, &usageError{text: "header file: " + err.Error(), hints: []string{"--header-file names a file with one 'Name: value' a line"}}
		}
		number := 0
		for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
			number++
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			if err := h.add(fmt.Sprintf("%s: line %d", f.HeaderFile, number), line); err != nil {
				return nil, nil, err
			}
		}
	}
	return h.header, h.secrets, nil
}

// headerList collects headers.
type headerList struct {
	env     environment
	header  http.Header
	secrets []string
}

// add takes 'Name: value' from place.
func (h *headerList) add(place, text string) error {
	name, value, ok := strings.Cut(text, ":")
	if name = strings.TrimSpace(name); !ok || !httpguts.ValidHeaderFieldName(name) {
		return &usageError{text: place + ": want 'Name: value'", hints: []string{"--header (SALLYPORT_HEADER, one a line), or a line of --header-file"}}
	}
	missing := ""
	value = variableReference.ReplaceAllStringFunc(strings.TrimSpace(value), func(reference string) string {
		variable := variableReference.FindStringSubmatch(reference)[1]
		if sensitive.MatchString(name) || sensitive.MatchString(variable) { // not USER or HOME, which children need
			h.env.Hide(variable)
		}
		if h.env.Getenv(variable) == "" {
			missing = cmp.Or(missing, variable)
		}
		return h.env.Getenv(variable)
	})
	if missing != "" {
		return &usageError{text: fmt.Sprintf("header %s: variable %s is not set", name, missing), hints: []string{"set it where the MCP host starts sallyport (its \"env\" block)"}}
	}
	if !httpguts.ValidHeaderFieldValue(value) {
		return &usageError{text: fmt.Sprintf("header %s: the value holds a character that HTTP does not allow", name)}
	}
	h.header.Add(name, value)
	h.secrets = append(h.secrets, value)
	if _, credentials, ok := strings.Cut(value, " "); ok && strings.EqualFold(name, "Authorization") {
		h.secrets = append(h.secrets, credentials)
	}
	return nil
}

// oauthConfig is the login's part of the settings.
func (f *upstreamFlags) oauthConfig(a *app, w *way, realm string) (oauth.Config, error) {
	secret, err := f.clientSecret()
	if err != nil {
		return oauth.Config{}, err
	}
	key, err := secretFile("client key", "client-key", f.ClientKey)
	if err != nil {
		return oauth.Config{}, err
	}
	if ip := net.ParseIP(strings.Trim(f.CallbackHost, "[]")); !isLoopback(f.CallbackHost) && (ip == nil || !ip.IsLoopback()) {
		return oauth.Config{}, &usageError{text: fmt.Sprintf("callback host %q is not loopback", f.CallbackHost), hints: []string{"use 127.0.0.1, [::1] or localhost; for a browser on another machine see --callback-via and sallyport callback"}}
	}
	grant := f.Grant
	if w.header.Get("Authorization") != "" {
		grant = "none"
	}
	store, err := a.openStore(f)
	if err != nil {
		return oauth.Config{}, err
	}
	return oauth.Config{
		Upstream: w.upstream, Realm: realm, Grant: grant,
		Client: oauth.ClientConfig{
			ID: f.ClientID, Secret: secret, Key: key, KeyAlg: f.ClientKeyAlg, MetadataURL: f.ClientMetadataURL, AuthStyle: f.AuthStyle,
		},
		Endpoints: oauth.Endpoints{
			AuthorizationURL: f.AuthorizationURL, TokenURL: f.TokenURL, NoDiscovery: !f.Discovery, AssumePKCE: f.PKCE == "assume",
		},
		Scope: f.Scope, Resource: f.Resource, Audience: f.Audience, ExtraParams: f.ExtraParams,
		Given: oauth.Given{
			AuthorizationCode: oauth.Secret(f.AuthorizationCode), CodeVerifier: oauth.Secret(f.CodeVerifier), RefreshToken: oauth.Secret(f.RefreshToken),
		},
		Assertion:   f.assertion(),
		IDP:         oauth.IdentityProvider{Issuer: f.IDPIssuer, TokenURL: f.IDPTokenURL, ClientID: f.IDPClientID},
		RefreshSkew: refreshSkew(f.RefreshSkew), NonInteractive: !f.Interactive,
		Callback: oauth.CallbackConfig{
			RedirectURI: f.RedirectURI, Addrs: f.CallbackPort.addrs(f.CallbackHost), Timeout: time.Duration(f.CallbackTimeout),
		},
		AllowInsecureHTTP: f.AllowInsecureHTTP,
		Store:             store, Log: a.log,
	}, nil
}

// refreshSkew words 0, which here means none, as oauth does.
func refreshSkew(s seconds) time.Duration {
	if s == 0 {
		return -1
	}
	return time.Duration(s)
}

func (f *upstreamFlags) clientSecret() (oauth.Secret, error) {
	if f.ClientSecret != "" || f.ClientSecretFile == "" {
		return oauth.Secret(f.ClientSecret), nil
	}
	return secretFile("client secret", "client-secret-file", f.ClientSecretFile)
}

// assertion reads what jwt_bearer and enterprise_managed are to show; nil where no file is named.
func (f *upstreamFlags) assertion() func() (oauth.Secret, error) {
	what, flag, path := "assertion", "assertion-file", f.AssertionFile
	if f.Grant == oauth.GrantEnterpriseManaged {
		what, flag, path = "ID token", "id-token-file", f.IDTokenFile
	}
	if path == "" {
		return nil
	}
	return func() (oauth.Secret, error) { return secretFile(what, flag, path) }
}

// secretFile reads a file that holds nothing but the secret what; path "" names none.
func secretFile(what, flag, path string) (oauth.Secret, error) {
	if path == "" {
		return "", nil
	}
	text, err := readSmallFile(path)
	if err != nil {
		return "", &usageError{text: what + " file: " + err.Error(), hints: []string{"--" + flag + " names a file that holds nothing but the " + what}}
	}
	return oauth.Secret(strings.TrimSpace(text)), nil
}

// maxSmallFile is the most that is read of a file that a flag names.
const maxSmallFile = 64 << 10

func readSmallFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSmallFile))
	return string(text), err
}
