package oauth

import (
	"context"
	"net"
	"slices"

	"sallyport/oauth/asclient"
)

// client is who we are at one authorization server: the configured client or one that was registered.
// A record keeps a registered one.
type client struct {
	asclient.Registration
	Dynamic bool `json:"dynamic,omitempty"`

	// fresh says that the login under way registered it.
	fresh bool
}

// fixedClient returns the client that needs no registration at s, if there is one.
func (t *Transport) fixedClient(s asclient.Server) (client, bool) {
	var c client
	switch {
	case t.cfg.ClientID != "":
		c.Credentials = asclient.Credentials{ID: t.cfg.ClientID, Secret: string(t.cfg.ClientSecret), Key: t.clientKey}
	case t.cfg.ClientMetadataURL != "" && s.TakesMetadataDocument:
		c.Credentials = asclient.Credentials{ID: t.cfg.ClientMetadataURL, Method: asclient.AuthNone, Key: t.clientKey}
	default:
		return c, false
	}
	return c, true
}

// clientOf returns the client that rec's tokens were granted to.
func (t *Transport) clientOf(rec record) client {
	c, ok := t.fixedClient(rec.Server)
	if !ok {
		c = rec.Client
	}
	c.ProofKey = rec.ProofKey
	return c
}

// clientFor returns the client for f's server whose redirect URI is redirect, which is empty for the
// device grant. It registers one if it must. known is the registration of an earlier run at this
// server, or zero.
func (t *Transport) clientFor(ctx context.Context, f asclient.Finding, known client, redirect string) (client, error) {
	if c, ok := t.fixedClient(f.Server); ok {
		return c, nil
	}
	if known.Dynamic && known.Fits(redirect, t.now()) {
		return known, nil
	}
	r, err := t.as.Register(ctx, f, t.cfg.ClientName, t.redirectURIs(redirect))
	if err != nil {
		return client{}, err
	}
	return client{Registration: r, Dynamic: true}, nil
}

// redirectURIs lists redirect and those of the other callback addresses, so that a
// busy port needs no new registration.
func (t *Transport) redirectURIs(redirect string) []string {
	if redirect == "" {
		return nil
	}
	all := []string{redirect}
	if t.cfg.RedirectURI != "" {
		return all
	}
	for _, a := range t.cfg.CallbackAddrs {
		_, port, _ := net.SplitHostPort(a)
		if uri := loopbackURL(a, port, callbackPath); port != "0" && !slices.Contains(all, uri) {
			all = append(all, uri)
		}
	}
	return all
}
