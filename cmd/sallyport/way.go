package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"sallyport/oauth"
	"sallyport/sshtunnel"

	"golang.org/x/net/http/httpguts"
)

// way is all that lies between the MCP host and one upstream: the tunnel, the routes, the login.
type way struct {
	upstream *url.URL
	header   http.Header
	via      string            // as the person named it; "" direct
	tunnel   *sshtunnel.Tunnel // nil: direct
	callback *sshtunnel.Tunnel // to the workstation; nil: the callback is accepted here
	login    *oauth.Transport
	secrets  []string // configured ones, for masking

	closers []func() error // in the order of construction
}

// newWay checks f and builds the parts, without touching the network. atTerminal says that a
// person typed the command. The caller closes the way.
func (a *app) newWay(ctx context.Context, f *upstreamFlags, atTerminal bool) (*way, error) {
	w := &way{via: f.Via}
	if err := w.build(ctx, a, f, atTerminal); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// build fills w; what it built before an error is left to Close.
func (w *way) build(ctx context.Context, a *app, f *upstreamFlags, atTerminal bool) (err error) {
	if w.upstream, err = f.endpoint(); err != nil {
		return err
	}
	if w.header, w.secrets, err = f.headers(a.env); err != nil {
		return err
	}
	roots, err := rootCAs(f.CAFile)
	if err != nil {
		return err
	}

	direct := directTransport(a.env, roots)
	w.closers = append(w.closers, closeIdle(direct))
	base, authBase := http.RoundTripper(direct), http.RoundTripper(direct)
	realm := f.Profile + " direct"
	if f.Via != "" {
		hosts, err := a.openTunnel(ctx, &w.tunnel, f.sshFlags, f.Via, atTerminal, w)
		if err != nil {
			return err
		}
		last := hosts[len(hosts)-1]
		realm = f.Profile + " via " + net.JoinHostPort(last.HostName, strconv.Itoa(last.Port))
		through := newTransport(w.tunnel.DialContext, nil, roots)
		w.closers = append(w.closers, closeIdle(through))
		base = through
		switch f.OAuthRoute {
		case "via":
			authBase = through
		case "auto":
			authBase = &directThenVia{direct: direct, via: through, viaOnly: map[string]bool{}}
		}
	} else if f.OAuthRoute == "via" {
		return &usageError{text: "--oauth-route via needs --via HOST", hints: []string{"name the SSH host with --via, or leave --oauth-route out"}}
	}

	listen := (&net.ListenConfig{}).Listen
	if f.CallbackVia != "" {
		flags := f.sshFlags
		if f.Via != "" { // -J and -o speak of --via
			flags.Jump, flags.SSHOption = "", nil
		}
		if _, err := a.openTunnel(ctx, &w.callback, flags, f.CallbackVia, atTerminal, w); err != nil {
			return err
		}
		listen = w.callback.Listen
	}
	config, err := f.oauthConfig(a, w, realm)
	if err != nil {
		return err
	}
	config.Base, config.AuthBase = base, authBase
	config.Listen = func(ctx context.Context, addr string) (net.Listener, error) { return listen(ctx, "tcp", addr) }
	config.Offer = a.offerer(f, w.upstream)
	if w.login, err = oauth.New(config); err != nil {
		return &usageError{text: err.Error(), hints: []string{"sallyport --help lists the sign-in flags"}}
	}
	w.closers = append(w.closers, w.login.Close)
	return nil
}

func closeIdle(t *http.Transport) func() error {
	return func() error { t.CloseIdleConnections(); return nil }
}

// Close ends everything, the last built part first.
func (w *way) Close() error {
	var errs []error
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = append(errs, w.closers[i]())
	}
	w.closers = nil
	return errors.Join(errs...)
}

// mask hides every secret in use.
func (w *way) mask(text string) string {
	for _, secret := range append(w.login.Secrets(), w.secrets...) {
		if len(secret) > 3 { // a shorter one would shred the text and name itself by its gaps
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}

// resolver reads ssh_config as flags say.
func (a *app) resolver(f sshFlags) *sshtunnel.Resolver {
	r := &sshtunnel.Resolver{
		UserFile: filepath.Join(a.env.Home, ".ssh", "config"), SystemFile: "/etc/ssh/ssh_config",
		Options: f.SSHOption, Jump: f.Jump,
		Home: a.env.Home, User: a.env.User, Getenv: a.env.Getenv, Log: a.log,
	}
	if runtime.GOOS == "windows" {
		r.SystemFile = filepath.Join(a.env.Getenv("ProgramData"), "ssh", "ssh_config")
	}
	switch f.SSHConfig {
	case "":
	case "none":
		r.UserFile, r.SystemFile = "", ""
	default:
		r.UserFile, r.SystemFile, r.UserFileRequired = f.SSHConfig, "", true
	}
	return r
}

// openTunnel resolves destination now, so that a wrong configuration is told at once, and puts a
// tunnel that has not dialed yet into place.
func (a *app) openTunnel(ctx context.Context, place **sshtunnel.Tunnel, f sshFlags, destination string, atTerminal bool, w *way) ([]*sshtunnel.Host, error) {
	resolver := a.resolver(f)
	hosts, err := resolver.Chain(ctx, destination)
	if err != nil {
		return nil, err
	}
	tunnel, err := sshtunnel.New(sshtunnel.Config{
		Chain:  func(ctx context.Context) ([]*sshtunnel.Host, error) { return resolver.Chain(ctx, destination) },
		Ask:    a.asker(atTerminal),
		Getenv: a.env.Getenv,
		Home:   a.env.Home,
		Log:    a.log,

		ControlMaster: f.ControlMaster,
	})
	if err != nil {
		return nil, err
	}
	*place = tunnel
	w.closers = append(w.closers, tunnel.Close)
	return hosts, nil
}

// endpoint is the upstream's URL, checked.
func (f *upstreamFlags) endpoint() (*url.URL, error) {
	text := cmp.Or(f.URL, f.UpstreamURL)
	hint := "sallyport [flags] https://HOST/PATH"
	if text == "" {
		return nil, &usageError{text: "no upstream URL", hints: []string{hint, "or set UPSTREAM_URL, or upstream.url in the settings file"}}
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &usageError{text: fmt.Sprintf("upstream %q is not an http or https URL", text), hints: []string{hint}}
	}
	if u.User != nil || u.Fragment != "" {
		return nil, &usageError{text: fmt.Sprintf("upstream %s: a user name, password or #fragment in the URL is not allowed", u.Redacted()), hints: []string{hint}}
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) && !f.AllowInsecureHTTP {
		return nil, &usageError{text: fmt.Sprintf("upstream %s is cleartext http to a host that is not loopback", u), hints: []string{"use https", "or accept that others can read the token: --allow-insecure-http"}}
	}
	return u, nil
}

// isLoopback accepts what means this host, or the last SSH host, to itself.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

func validHeaderName(name string) bool { return httpguts.ValidHeaderFieldName(name) }

// headers are the extra ones, with ${VARIABLE} expanded, and their values as secrets.
func (f *upstreamFlags) headers(env environment) (http.Header, []string, error) {
	header := http.Header{}
	var secrets []string
	for _, h := range f.Header {
		missing := ""
		value := os.Expand(escapeBareDollars(h.value), func(name string) string {
			if name == "$" {
				return "$"
			}
			if env.Getenv(name) == "" {
				missing = cmp.Or(missing, name)
			}
			return env.Getenv(name)
		})
		if missing != "" {
			return nil, nil, &usageError{text: fmt.Sprintf("header %s: variable %s is not set", h.name, missing), hints: []string{"set it where the MCP host starts sallyport (its \"env\" block)"}}
		}
		if !httpguts.ValidHeaderFieldValue(value) {
			return nil, nil, &usageError{text: fmt.Sprintf("header %s: the value holds a character that HTTP does not allow", h.name)}
		}
		header.Add(h.name, value)
		secrets = append(secrets, value)
		if scheme, credentials, ok := strings.Cut(value, " "); ok && strings.EqualFold(h.name, "Authorization") {
			_ = scheme
			secrets = append(secrets, credentials)
		}
	}
	return header, secrets, nil
}

// escapeBareDollars leaves only ${NAME} for os.Expand: a password may hold a $.
func escapeBareDollars(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte(s[i])
		if s[i] == '$' && (i+1 == len(s) || s[i+1] != '{') {
			b.WriteByte('$') // os.Expand calls back with "$" for "$$"
		}
	}
	return b.String()
}

// oauthConfig is the login's part of the settings.
func (f *upstreamFlags) oauthConfig(a *app, w *way, realm string) (oauth.Config, error) {
	secret, err := f.clientSecret()
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
		ClientID: f.ClientID, ClientSecret: secret, ClientMetadataURL: f.ClientMetadataURL,
		AuthorizationURL: f.AuthorizationURL, TokenURL: f.TokenURL, NoDiscovery: !f.Discovery,
		Scope: f.Scope, Resource: f.Resource, Audience: f.Audience,
		AuthStyle: f.AuthStyle, ExtraParams: f.ExtraParams, AssumePKCE: f.PKCE == "assume",
		RefreshSkew:       time.Duration(f.RefreshSkew),
		AuthorizationCode: oauth.Secret(f.AuthorizationCode), CodeVerifier: oauth.Secret(f.CodeVerifier), RefreshToken: oauth.Secret(f.RefreshToken),
		NonInteractive: !f.Interactive, RedirectURI: f.RedirectURI,
		CallbackAddrs:     f.CallbackPort.addrs(f.CallbackHost),
		CallbackTimeout:   time.Duration(f.CallbackTimeout),
		AllowInsecureHTTP: f.AllowInsecureHTTP,
		Store:             store, Log: a.log,
	}, nil
}

const maxSecretFile = 64 << 10

func (f *upstreamFlags) clientSecret() (oauth.Secret, error) {
	if f.ClientSecret != "" || f.ClientSecretFile == "" {
		return oauth.Secret(f.ClientSecret), nil
	}
	file, err := os.Open(f.ClientSecretFile)
	if err != nil {
		return "", &usageError{text: "client secret file: " + err.Error(), hints: []string{"--client-secret-file names a file that holds nothing but the secret"}}
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSecretFile))
	if err != nil {
		return "", &usageError{text: "client secret file: " + err.Error()}
	}
	return oauth.Secret(strings.TrimSpace(string(text))), nil
}

// openStore opens the token store; nil keeps tokens in memory only.
func (a *app) openStore(f *upstreamFlags) (*oauth.Store, error) {
	if f.TokenStore == "memory" {
		return nil, nil
	}
	dir := cmp.Or(f.StateDir, stateDir(a.env))
	keyDir := configDir(a.env)
	if dir == "" || keyDir == "" {
		return nil, &usageError{text: "no home directory to keep tokens in", hints: []string{"set HOME, or use --token-store memory"}}
	}
	store, err := oauth.OpenStore(dir, keyDir, a.log)
	if err != nil {
		a.log.Warn("tokens are kept in memory only", "err", err)
		return nil, nil
	}
	return store, nil
}

// stateDir is the system's place for state, and sallyport's folder there.
func stateDir(env environment) string {
	switch {
	case runtime.GOOS == "windows":
		return under(env.Getenv("LocalAppData"), "sallyport")
	case runtime.GOOS == "darwin":
		return under(env.Home, "Library", "Application Support", "sallyport")
	case filepath.IsAbs(env.Getenv("XDG_STATE_HOME")):
		return filepath.Join(env.Getenv("XDG_STATE_HOME"), "sallyport")
	}
	return under(env.Home, ".local", "state", "sallyport")
}

// configDir is the system's place for configuration, apart from stateDir wherever there are two.
func configDir(env environment) string {
	switch {
	case runtime.GOOS == "windows":
		return under(env.Getenv("AppData"), "sallyport")
	case runtime.GOOS == "darwin":
		return under(env.Home, "Library", "Preferences", "sallyport")
	case filepath.IsAbs(env.Getenv("XDG_CONFIG_HOME")):
		return filepath.Join(env.Getenv("XDG_CONFIG_HOME"), "sallyport")
	}
	return under(env.Home, ".config", "sallyport")
}

func under(base string, parts ...string) string {
	if base == "" {
		return ""
	}
	return filepath.Join(append([]string{base}, parts...)...)
}
