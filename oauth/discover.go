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
	// Finding holds the resource, the server, and in Tried each URL that was asked for, the
	// upstream first.
	asclient.Finding
}

// Discover asks for everything that a sign-in with cfg would ask for before it registers a client:
// the upstream's challenge, the resource's metadata and the authorization server's. It signs nobody
// in and stores nothing. The Discovery comes beside an error too: its Tried says how far it got.
// The errors are those of New and of a sign-in's discovery.
func Discover(ctx context.Context, cfg Config) (Discovery, error) {
	var d Discovery
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return d, err
	}
	as := cfg.requests()
	challenge, asked, err := as.AskUpstream(ctx)
	d.Challenge, d.Tried = challenge, asked
	if err != nil {
		return d, err
	}
	hint := ""
	if challenge != nil {
		hint = challenge.Metadata
	}
	f, err := cfg.discover(ctx, as, hint, !cfg.unattended())
	f.Tried = append(asked, f.Tried...)
	d.Finding = f
	return d, err
}

// DiscoverServer asks for the metadata of the authorization server issuer, as Discover does, and
// asks nothing of the upstream, which may be out of reach. The errors are those of Discover.
func DiscoverServer(ctx context.Context, cfg Config, issuer string) (Discovery, error) {
	cfg.Endpoints.Issuer = issuer
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return Discovery{}, err
	}
	f, err := cfg.requests().FindServer(ctx, asclient.Finding{})
	return Discovery{Finding: f}, err
}

// discover finds the upstream's resource and its authorization server. hint is the URL of the
// resource metadata that a challenge named; it may be empty. authorize says that the authorization
// endpoint is needed as well. Endpoints that the Config gives replace discovered ones.
func (c *Config) discover(ctx context.Context, as *asclient.Client, hint string, authorize bool,
) (f asclient.Finding, err error) {
	given := c.Endpoints
	complete := given.TokenURL != "" && (given.AuthorizationURL != "" || !authorize) && c.Grant != GrantDeviceCode
	if given.NoDiscovery && !complete {
		return f, &asclient.DiscoveryError{What: "endpoints: discovery is off and they are not given"}
	}
	if c.atProvider {
		f.Resource.Servers = []string{given.Issuer}
	} else if !given.NoDiscovery {
		f, err = as.FindResource(ctx, hint)
		if complete && err != nil && ctx.Err() == nil {
			// The metadata would only tell the scopes and the resource, which may not be needed.
			c.Log.Info("resource metadata is not used", "host", c.Upstream.Host, "err", err)
		} else if err != nil {
			return f, err
		}
	}
	if complete {
		f.Server.Source = asclient.FromConfig
	} else if f, err = as.FindServer(ctx, f); err != nil {
		return f, err
	} else if c.atProvider && f.Server.FoundAt != "" && !f.Server.IsTemplate() {
		// Its ID tokens name that issuer, so an assertion made of them is not the provider's.
		return f, &asclient.SignInError{Stage: asclient.StageDiscovery, Server: given.Issuer, Code: asclient.CodeIssuerMismatch,
			Refused: true, Description: "metadata is of issuer " + f.Server.Issuer}
	}
	if given.TokenURL != "" {
		f.Server.TokenEndpoint = given.TokenURL
		if given.Issuer == "" {
			f.Server = f.Server.Confined() // what the person gave is for this endpoint
		}
	}
	if given.AuthorizationURL != "" {
		f.Server.AuthorizationEndpoint = given.AuthorizationURL
	}
	if f.Server.TokenEndpoint == "" {
		return f, f.Missing("token endpoint") // every grant needs it, so nobody is asked to log in
	}
	return f, nil
}
