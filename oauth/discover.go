package oauth

import (
	"context"

	"sallyport/oauth/asclient"
)

// Discovery is what Discover learned.
type Discovery struct {
	// Challenge is what the upstream asks for. It is nil if the upstream asks for no token, or was
	// not reached.
	Challenge *asclient.Challenge
	// Finding holds the resource, the server, and in Tried each URL that was asked for, the upstream
	// first.
	asclient.Finding
}

// Discover asks for everything that a sign-in with cfg would ask for before it registers a client:
// the upstream's challenge, the resource's metadata and the authorization server's. It signs nobody
// in and stores nothing. The Discovery comes beside an error too: its Tried says how far it got. The
// errors are those of New and of a sign-in's discovery.
func Discover(ctx context.Context, cfg Config) (Discovery, error) {
	var d Discovery
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return d, err
	}
	as := cfg.client()
	challenge, asked, err := as.AskUpstream(ctx)
	d.Challenge, d.Tried = challenge, asked
	if err != nil {
		return d, err
	}
	hint := ""
	if challenge != nil {
		hint = challenge.Metadata
	}
	f, err := discover(ctx, &cfg, as, hint, !cfg.unattended())
	f.Tried = append(asked, f.Tried...)
	d.Finding = f
	return d, err
}

// client returns what sends cfg's requests to authorization servers.
func (c *Config) client() *asclient.Client {
	as := &asclient.Client{Upstream: c.Upstream, Base: c.Base, Other: c.AuthBase, AllowHTTP: c.AllowInsecureHTTP,
		ExtraParams: c.ExtraParams, Log: c.Log}
	switch c.AuthStyle {
	case AuthStyleHeader:
		as.SecretMethod = asclient.AuthBasic
	case AuthStyleBody:
		as.SecretMethod = asclient.AuthPost
	}
	return as
}

// discover finds the upstream's resource and authorization server, or takes the endpoints that are
// configured. hint is the URL of the resource metadata that a challenge named; it may be empty. code
// says that the authorization endpoint is needed as well.
func discover(ctx context.Context, c *Config, as *asclient.Client, hint string, code bool) (asclient.Finding, error) {
	given := c.TokenURL != "" && (c.AuthorizationURL != "" || !code) && c.Grant != GrantDeviceCode
	var f asclient.Finding
	if c.NoDiscovery && !given {
		return f, &asclient.DiscoveryError{What: "endpoints: discovery is off and they are not given"}
	}
	var err error
	if !c.NoDiscovery {
		f, err = as.FindResource(ctx, hint)
		if given && err != nil && ctx.Err() == nil {
			// Only scope and resource are missed, and these may well not be needed.
			c.Log.Info("resource metadata is not used", "host", c.Upstream.Host, "err", err)
		} else if err != nil {
			return f, err
		}
	}
	if given {
		f.Server.Source = asclient.FromConfig
	} else if f, err = as.FindServer(ctx, f); err != nil {
		return f, err
	}
	if c.TokenURL != "" {
		f.Server.TokenEndpoint = c.TokenURL
	}
	if c.AuthorizationURL != "" {
		f.Server.AuthorizationEndpoint = c.AuthorizationURL
	}
	return f, nil
}

// discover is the discovery of a sign-in.
func (t *Transport) discover(ctx context.Context, hint string, code bool) (asclient.Finding, error) {
	return discover(ctx, &t.cfg, t.as, hint, code)
}

// identityProvider returns the identity provider's token endpoint, given or discovered.
func (t *Transport) identityProvider(ctx context.Context) (asclient.Server, error) {
	if t.cfg.IDPTokenURL != "" {
		return asclient.Server{Issuer: t.cfg.IDPIssuer, TokenEndpoint: t.cfg.IDPTokenURL, Source: asclient.FromConfig}, nil
	}
	f := asclient.Finding{Resource: asclient.Resource{ID: t.cfg.IDPIssuer, Servers: []string{t.cfg.IDPIssuer}}}
	f, err := t.as.FindServer(ctx, f)
	if err != nil {
		return asclient.Server{}, err
	}
	if f.Server.TokenEndpoint == "" {
		return asclient.Server{}, f.Missing("token endpoint")
	}
	return f.Server, nil
}
