package oauth

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// record is what the token store keeps about one account.
type record struct {
	// Upstream and Realm are those of the Config.
	Upstream string `json:"upstream"`
	Realm    string `json:"realm,omitempty"`
	// Server issued everything below.
	Server server `json:"server,omitzero"`
	// Resource is the resource parameter (RFC 8707) as it was sent. It is empty if none was.
	Resource string `json:"resource,omitempty"`
	// Client is our dynamic registration at Server. It is zero without one.
	Client client `json:"client,omitzero"`
	Token  token  `json:"token,omitzero"`
	// ProofKey is the private key that tokens from Server are bound to (RFC 9449). It is nil if the
	// upstream takes Bearer tokens.
	ProofKey *jose.JSONWebKey `json:"proof_key,omitempty"`
	// Asked lists the scopes that Token was asked for.
	Asked []string `json:"asked,omitempty"`
	// Given is the hash of the one-shot inputs of the Config that were used up.
	Given string    `json:"seed,omitempty"`
	Saved time.Time `json:"saved,omitzero"`
}

// standing is what we know about how good the current token is.
type standing int

const (
	// fromStore: the token is from an earlier run or from another process.
	fromStore standing = iota
	// fromRefresh: it was just refreshed, and the upstream has not accepted it yet.
	fromRefresh
	// fromSignIn: it was just signed in for, and the upstream has not accepted it yet.
	fromSignIn
	// accepted: the upstream took it.
	accepted
)

// credentials holds the record of our account: one copy in memory, one in the store, which other
// processes change as well. Its methods may be called concurrently; only the flight under way
// changes the record, apart from reload.
type credentials struct {
	cfg *Config
	// key is the record's name in the store.
	key string

	mu       sync.Mutex
	rec      record
	standing standing
	// loadWarning is the text of the last load error that was logged.
	loadWarning string
}

// current returns the record and the standing of its token.
func (c *credentials) current() (record, standing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec, c.standing
}

// set makes rec the current record.
func (c *credentials) set(rec record, s standing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rec, c.standing = rec, s
}

// satisfies reports whether the current token is what n needs.
func (c *credentials) satisfies(n need) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.satisfiesLocked(n)
}

func (c *credentials) satisfiesLocked(n need) bool {
	k := c.rec.Token
	return k.Access != "" && k.Access != n.instead && !k.expired(c.cfg.now()) && subset(n.stepUp, c.rec.Asked)
}

// renewable reports whether a token can be had without a challenge and without a person.
func (c *credentials) renewable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg.unattended() {
		return c.cfg.Endpoints.TokenURL != "" || c.rec.Token.Access != ""
	}
	return c.rec.Token.Refresh != "" || c.inputsUnusedLocked()
}

// inputsUnused reports whether the Config has one-shot inputs that were not used up yet.
func (c *credentials) inputsUnused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inputsUnusedLocked()
}

func (c *credentials) inputsUnusedLocked() bool {
	given := c.cfg.givenHash()
	return given != "" && c.rec.Given != given
}

// accept notes that the upstream took the token access. It reports whether access is the current
// token, and whether it is fresh from a sign-in and was never accepted before.
func (c *credentials) accept(access string) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if access == "" || access != c.rec.Token.Access {
		return false
	}
	first = c.standing == fromSignIn
	c.standing = accepted
	return first
}

// secrets returns the secrets of the record. Some may be empty.
func (c *credentials) secrets() []string {
	rec, _ := c.current()
	return []string{rec.Token.Access, rec.Token.Refresh, rec.Client.Secret}
}

// registeredAt returns the client that an earlier login registered at s, with that login's DPoP key.
// It is zero if there is none.
func (c *credentials) registeredAt(s server) client {
	rec, _ := c.current()
	if rec.Server.id() != s.id() {
		return client{}
	}
	found := rec.Client
	found.proofKey = rec.ProofKey
	return found
}

// lock takes the store's lock of our record and reads the record again. Under the lock it is the
// newest of all processes, and its refresh token is ours alone to use. The caller must unlock.
func (c *credentials) lock(ctx context.Context) (rec record, unlock func(), err error) {
	lock := c.cfg.Store.Lock(c.key)
	if err := lock.Wait(ctx); err != nil {
		return record{}, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reloadLocked()
	return c.rec, lock.Unlock, nil
}

// save writes rec to the disk. The caller holds the lock of the store.
func (c *credentials) save(rec record) {
	rec.Saved = c.cfg.now()
	b, err := json.Marshal(rec)
	if err == nil {
		err = c.cfg.Store.Save(c.key, b)
	}
	if err != nil {
		c.cfg.Log.Warn("token could not be stored", "err", err)
	}
}

// update changes the record of f's server, writes it to the disk, then makes it current. It first
// drops the tokens and the registration of another server.
func (c *credentials) update(ctx context.Context, f finding, s standing, change func(*record)) error {
	rec, unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if rec.Server.id() != f.server.id() {
		rec = record{}
	}
	rec.Upstream, rec.Realm, rec.Given = c.cfg.Upstream.String(), c.cfg.Realm, c.cfg.givenHash()
	rec.Server, rec.Resource = f.server, c.cfg.resourceOf(f)
	change(&rec)
	c.save(rec)
	c.set(rec, s)
	return nil
}

// forgetClient drops the registration of a client that its server has forgotten.
func (c *credentials) forgetClient(ctx context.Context, f finding, gone client) {
	err := c.update(ctx, f, fromStore, func(r *record) {
		if r.Client.ID == gone.ID {
			r.Client = client{}
		}
	})
	c.cfg.Log.Info("client registration forgotten", "host", hostOf(f.server.TokenEndpoint), "err", err)
}

// reload takes what the store holds now.
func (c *credentials) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reloadLocked()
}

// adopt takes what the store holds now and reports whether it satisfies n. followed says that the
// caller waited for another process's sign-in. A token that comes from it counts as our own: if the
// upstream refuses it, another sign-in would not help.
func (c *credentials) adopt(n need, followed bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.rec.Token.Access
	c.reloadLocked()
	if !c.satisfiesLocked(n) {
		return false
	}
	if followed && c.rec.Token.Access != before {
		c.standing = fromSignIn
	}
	return true
}

// reloadLocked takes the stored record, or the part of it that the Config has not outdated. If the
// store has no record any more, it forgets ours.
func (c *credentials) reloadLocked() {
	if !c.cfg.persistent() {
		return
	}
	b, err := c.cfg.Store.Load(c.key)
	if err != nil {
		if err.Error() != c.loadWarning {
			c.cfg.Log.Warn("stored token is not used", "err", err)
		}
		c.loadWarning = err.Error()
		return // an unreadable store is no sign-out: what is in memory still holds
	}
	if b == nil && c.rec.Upstream != "" {
		c.rec, c.standing = record{}, fromStore // another process signed out
	}
	var rec record
	if b == nil || json.Unmarshal(b, &rec) != nil || rec.Upstream != c.cfg.Upstream.String() {
		return
	}
	if c.cfg.Endpoints.TokenURL != "" && rec.Server.TokenEndpoint != c.cfg.Endpoints.TokenURL {
		return // the record is of another server
	}
	given := c.cfg.givenHash()
	if given != "" && rec.Given != given || c.cfg.Scope != "" && !subset(strings.Fields(c.cfg.Scope), rec.Asked) {
		rec.Token, rec.Asked = token{}, nil
	}
	if rec.Token.Access != c.rec.Token.Access {
		c.standing = fromStore
	}
	c.rec = rec
}

// persistError says why the tokens in use are not on the disk. It is nil if they are, if there are
// none, or if the Config asks for memory only.
func (c *credentials) persistError() error {
	if !c.cfg.persistent() {
		return nil
	}
	return c.cfg.Store.Unsaved(c.key)
}

// saveNote stores v beside the record, under the record's key and name. An error is logged only.
func (c *credentials) saveNote(name string, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		err = c.cfg.Store.Save(c.key+name, b)
	}
	if err != nil {
		c.cfg.Log.Warn("state of the sign-in could not be stored", "err", err)
	}
}

// loadNote reads into v what saveNote stored. v stays as it is if there is nothing to read.
func (c *credentials) loadNote(name string, v any) {
	b, err := c.cfg.Store.Load(c.key + name)
	if err == nil && b != nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		c.cfg.Log.Debug("state of the sign-in is not used", "err", err)
	}
}
