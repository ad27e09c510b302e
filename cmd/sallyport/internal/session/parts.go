package session

import (
	"context"
	"net"
	"net/http"

	"sallyport/oauth"
	"sallyport/sshtunnel/sshconfig"
)

// Parts is what a session was made from. Its methods take single steps of what the session does,
// and each ends with its context. They may be called concurrently until the session is closed.
type Parts struct {
	// ssh made the tunnels, and signIn the sign-in.
	ssh    SSH
	signIn oauth.Config
}

// Grant is the grant of the settings. It is oauth.GrantNone also if the settings hold the person's
// own credentials.
func (p *Parts) Grant() string { return p.signIn.Grant }

// Bare sends requests to the upstream without a token, and returns every answer as it comes.
func (p *Parts) Bare() http.RoundTripper { return p.signIn.Base }

// Discover asks for everything that a sign-in would ask for before it registers a client, and
// signs nobody in (oauth.Discover).
func (p *Parts) Discover(ctx context.Context) (oauth.Discovery, error) {
	return oauth.Discover(ctx, p.signIn)
}

// DiscoverServer asks for the metadata of a login server alone (oauth.DiscoverServer).
func (p *Parts) DiscoverServer(ctx context.Context, issuer string) (oauth.Discovery, error) {
	return oauth.DiscoverServer(ctx, p.signIn, issuer)
}

// ListenForCallback binds the callback's port as a login would (oauth.ListenForCallback).
func (p *Parts) ListenForCallback(ctx context.Context) (net.Listener, string, error) {
	return oauth.ListenForCallback(ctx, p.signIn)
}

// SharedSockets returns the sockets of the shared connections of a chain.
func (p *Parts) SharedSockets(ctx context.Context, chain []*sshconfig.Host) []string {
	return p.ssh.Shares(ctx, chain).SocketsOf(chain)
}
