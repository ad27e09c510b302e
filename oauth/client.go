package oauth

import (
	"net"
	"slices"

	"sallyport/oauth/asclient"
)

// client is who we are at one authorization server: the configured client, or one that was
// registered there. A record keeps a registered one.
type client struct {
	asclient.Registration
	// Registered says that the client was registered dynamically (RFC 7591).
	Registered bool `json:"dynamic,omitempty"`

	// isNew says that the login under way registered it.
	isNew bool
}

// clients chooses who we are where that takes no registration.
type clients struct {
	cfg *Config
	// key signs for private_key_jwt (RFC 7523). It is nil for a client without a key.
	key *asclient.Key
}

func newClients(cfg *Config) (clients, error) {
	if cfg.Client.Key == "" {
		return clients{cfg: cfg}, nil
	}
	key, err := asclient.ParseKey(string(cfg.Client.Key), cfg.Client.KeyAlg)
	return clients{cfg, key}, err
}

// configured returns the client that needs no registration at s. It reports false if there is none.
func (l clients) configured(s asclient.Server) (client, bool) {
	var c client
	switch {
	case l.cfg.Client.ID != "":
		c.Credentials = asclient.Credentials{ID: l.cfg.Client.ID, Secret: string(l.cfg.Client.Secret), Key: l.key}
	case l.cfg.Client.MetadataURL != "" && s.TakesMetadataDocument:
		c.Credentials = asclient.Credentials{ID: l.cfg.Client.MetadataURL, Method: asclient.AuthNone, Key: l.key}
	default:
		return c, false
	}
	return c, true
}

// of returns the client that rec's tokens were granted to.
func (l clients) of(rec record) client {
	c, ok := l.configured(rec.Server)
	if !ok {
		c = rec.Client
	}
	c.ProofKey = rec.ProofKey
	return c
}

// redirectURIs returns redirect and those of the other callback addresses. A client that is
// registered for all of them need not register again when a port is busy. The device grant has no
// redirect URI: an empty redirect returns none.
func (l clients) redirectURIs(redirect string) []string {
	if redirect == "" {
		return nil
	}
	all := []string{redirect}
	if l.cfg.Callback.RedirectURI != "" {
		return all
	}
	for _, addr := range l.cfg.Callback.Addrs {
		_, port, _ := net.SplitHostPort(addr)
		if uri := loopbackURL(addr, port, callbackPath); port != "0" && !slices.Contains(all, uri) {
			all = append(all, uri)
		}
	}
	return all
}
