package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"sallyport/oauth"
	"sallyport/oauth/tokenstore"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/sshconfig"
)

// way is all that lies between the MCP host and one upstream: the tunnel, the routes, the login.
type way struct {
	upstream *url.URL
	header   http.Header
	via      string            // as the person named it; "" direct
	tunnel   *sshtunnel.Tunnel // nil: direct
	callback *sshtunnel.Tunnel // to the workstation; nil: the callback is accepted here
	login    *oauth.Transport
	store    *tokenstore.Store // nil: nothing is kept
	key      string            // of this upstream in the store
	secrets  []string          // configured ones, for masking

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
	} else {
		rule := newNeighbours(direct, w.upstream, f.origins())
		w.closers = append(w.closers, closeIdle(rule.checked))
		authBase = rule
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
	config.AtTerminal = atTerminal
	config.Callback.Listen = func(ctx context.Context, addr string) (net.Listener, error) { return listen(ctx, "tcp", addr) }
	config.Offer = a.offerer(f, w.upstream)
	config.Callback.Retry = "To try again, close this tab and ask your MCP host once more, or type \"sallyport login\" with the same settings in a terminal."
	if w.login, err = oauth.New(config); err != nil {
		return &usageError{text: err.Error(), hints: []string{"sallyport --help lists the sign-in flags"}}
	}
	w.closers = append(w.closers, w.login.Close)
	w.store, w.key = config.Store, config.Key()
	return nil
}

// load returns what save kept of the last session with this upstream; nil: nothing.
func (w *way) load(name string) ([]byte, error) {
	if w.store == nil {
		return nil, nil
	}
	return w.store.Load(w.key + "/" + name)
}

// save keeps b for the next session with this upstream; a logout forgets it.
func (w *way) save(name string, b []byte) error {
	if w.store == nil {
		return nil
	}
	return w.store.Save(w.key+"/"+name, b)
}

func closeIdle(t interface{ CloseIdleConnections() }) func() error {
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
func (a *app) resolver(f sshFlags) *sshconfig.Resolver {
	r := &sshconfig.Resolver{
		UserFile: under(a.env.Home, ".ssh", "config"), SystemFile: "/etc/ssh/ssh_config",
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
func (a *app) openTunnel(ctx context.Context, place **sshtunnel.Tunnel, f sshFlags, destination string, atTerminal bool, w *way) ([]*sshconfig.Host, error) {
	resolver := a.resolver(f)
	hosts, err := resolver.Chain(ctx, destination)
	if err != nil {
		return nil, err
	}
	tunnel, err := sshtunnel.New(sshtunnel.Config{
		Chain:  func(ctx context.Context) ([]*sshconfig.Host, error) { return resolver.Chain(ctx, destination) },
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
