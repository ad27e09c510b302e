package session

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/sshtunnel"
)

// routes says how the requests of a session leave.
type routes struct {
	// upstream sends requests to the upstream's origin.
	upstream http.RoundTripper
	// signIn sends requests to every other origin.
	signIn http.RoundTripper
	// mayOpen reports whether the browser may be sent to u, which the server at by names.
	mayOpen func(by, u *url.URL) bool
	// realm names the profile and the route, for the key in the token store.
	realm Realm
}

// openRoutes builds the tunnel of --via, if there is one, and what sends requests. Session.Close
// ends them.
func (s *Session) openRoutes(ctx context.Context, cfg Config) (routes, error) {
	all, err := openRoots(cfg.Env, cfg.Settings.CAFile)
	if err != nil {
		return routes{}, err
	}
	certificate, err := openCertificate(cfg.Settings.Upstream, cfg.Log)
	if err != nil {
		return routes{}, err
	}
	r, err := s.openTransports(ctx, cfg, secure(all, certificate))
	if err != nil {
		return routes{}, err
	}
	ours := "sallyport/" + cmp.Or(cfg.Env.Version, "devel")
	s.cookies = newCookieJar(s.Upstream)
	r.upstream = &sender{
		next: r.upstream, userAgent: cmp.Or(s.Header.Get("User-Agent"), ours),
		cookies: s.cookies, certificate: certificate, toUpstream: true,
	}
	r.signIn = &sender{next: r.signIn, userAgent: ours, certificate: certificate}
	return r, nil
}

// openTransports is openRoutes without what the sender adds.
func (s *Session) openTransports(ctx context.Context, cfg Config, tls security) (routes, error) {
	settings := cfg.Settings
	direct := directTransport(cfg.Env, tls)
	s.closeIdleLater(direct)
	r := routes{upstream: direct, realm: Realm{Profile: settings.Profile}}
	if settings.Via == "" {
		if settings.OAuthRoute == "via" {
			return r, &cli.UsageError{
				Text:  "--oauth-route via needs --via HOST",
				Hints: []string{"name the SSH host with --via, or leave --oauth-route out"},
			}
		}
		s.nameRoute(&r, cfg, direct, nil)
		return r, nil
	}
	ssh := cfg.ssh()
	ssh.Purpose, ssh.AgentMissing, ssh.Early = PlainURL(s.Upstream), &s.AgentMissing, &s.Early
	tunnel, hosts, err := ssh.Tunnel(ctx, settings.Via)
	if err != nil {
		return r, err
	}
	s.Tunnel, s.Hops.Via = tunnel, s.Hops.namesOf(hosts)
	s.closers = append(s.closers, tunnel.Close)
	// The realm names the address and not the alias: the same alias may come to mean another
	// network.
	last := hosts[len(hosts)-1]
	r.realm.Via = net.JoinHostPort(last.HostName, strconv.Itoa(last.Port))
	dial := tunnel.DialContext
	if cfg.AtTerminal {
		dial = dialAtOnce(tunnel)
	}
	via := newTransport(dial, nil, tls)
	s.closeIdleLater(via)
	r.upstream = via
	s.nameRoute(&r, cfg, direct, via)
	return r, nil
}

// dialAtOnce is t.DialContext for a person at a terminal: a tunnel that does not come up at the
// first attempt is an error that says why, and not a wait for better times.
func dialAtOnce(t *sshtunnel.Tunnel) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if err := t.Connect(ctx); err != nil {
			return nil, err
		}
		return t.DialContext(ctx, network, addr)
	}
}

// nameRoute sets what carries the requests to the URLs that metadata and settings name. An
// authorization server is often public although the upstream is not, so by default direct comes
// first.
func (s *Session) nameRoute(r *routes, cfg Config, direct *transport, via http.RoundTripper) {
	p := policy{via: via != nil, route: cfg.Settings.OAuthRoute}
	named := newNamedRoute(p, s.Upstream, configuredOrigins(cfg.Settings.OAuth), direct, via)
	for _, t := range named.limited {
		s.closeIdleLater(t)
	}
	r.signIn, r.mayOpen = named, named.mayOpen
}

// closeIdleLater makes Close end the connections of t that no request uses.
func (s *Session) closeIdleLater(t *transport) {
	s.closers = append(s.closers, func() error { t.CloseIdleConnections(); return nil })
}

// configuredOrigins returns the origins of the endpoints that the settings give. The person has
// chosen them, so metadata may lead there, too.
func configuredOrigins(settings cli.OAuth) []string {
	var origins []string
	for _, text := range []string{
		settings.Issuer, settings.AuthorizationURL, settings.TokenURL, settings.IDPIssuer, settings.IDPTokenURL,
	} {
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			origins = append(origins, origin(u))
		}
	}
	return origins
}
