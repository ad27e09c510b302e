package oauth

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"sallyport/oauth/asclient"
)

// record is what the store keeps of one key.
type record struct {
	Upstream string          `json:"upstream"`
	Realm    string          `json:"realm,omitempty"`
	Server   asclient.Server `json:"server,omitzero"`
	Resource string          `json:"resource,omitempty"` // as sent
	Client   client          `json:"client,omitzero"`    // dynamic registration at Server
	Token    asclient.Token  `json:"token,omitzero"`

	ProofKey *asclient.Key `json:"proof_key,omitempty"` // that tokens from Server are bound to, private; nil: the resource takes Bearer tokens

	Asked []string  `json:"asked,omitempty"` // scopes that the token was asked for
	Seed  string    `json:"seed,omitempty"`  // hash of the one-shot inputs that were spent
	Saved time.Time `json:"saved,omitzero"`
}

// hold takes the store's lock of our key and reads the record again: under the lock it
// is the newest of all processes, and its refresh token ours alone to spend.
func (t *Transport) hold(ctx context.Context) (rec record, unlock func(), err error) {
	lock := t.cfg.Store.Lock(t.key)
	if err := lock.Wait(ctx); err != nil {
		return record{}, nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reloadLocked()
	return t.rec, lock.Unlock, nil
}

// take makes rec the current record. Only the flight calls it.
func (t *Transport) take(rec record, p proof) {
	t.mu.Lock()
	t.rec, t.proof = rec, p
	t.mu.Unlock()
}

// save makes rec durable, under hold.
func (t *Transport) save(rec record) {
	rec.Saved = t.now()
	b, err := json.Marshal(rec)
	if err == nil {
		err = t.cfg.Store.Save(t.key, b)
	}
	if err != nil {
		t.cfg.Log.Warn("token could not be stored", "err", err)
	}
}

// keeps reports whether there are tokens to be stored at all.
func (t *Transport) keeps() bool { return !t.cfg.unattended() && t.cfg.Grant != GrantNone }

// PersistError says why the tokens in use are not on the disk, and end with this process: nil if
// they are, if there are none, or if memory was asked for.
func (t *Transport) PersistError() error {
	if !t.keeps() {
		return nil
	}
	return t.cfg.Store.Unsaved(t.key)
}

func (t *Transport) reload() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reloadLocked()
}

// reloadLocked takes the stored record, unless the configuration has outdated it, and
// forgets one that the store has no more.
func (t *Transport) reloadLocked() {
	if !t.keeps() {
		return
	}
	b, err := t.cfg.Store.Load(t.key)
	if err != nil {
		if err.Error() != t.loadErr {
			t.cfg.Log.Warn("stored token is not used", "err", err)
		}
		t.loadErr = err.Error()
		return // no logout: what is known here still holds
	}
	if b == nil && t.rec.Upstream != "" {
		t.rec, t.proof = record{}, stored // a logout elsewhere
	}
	var rec record
	if b == nil || json.Unmarshal(b, &rec) != nil || rec.Upstream != t.cfg.Upstream.String() {
		return
	}
	if t.cfg.TokenURL != "" && rec.Server.TokenEndpoint != t.cfg.TokenURL {
		return // another server
	}
	seed := t.cfg.seed()
	if seed != "" && rec.Seed != seed || t.cfg.Scope != "" && !subset(strings.Fields(t.cfg.Scope), rec.Asked) {
		rec.Token, rec.Asked = asclient.Token{}, nil
	}
	if rec.Token.Access != t.rec.Token.Access {
		t.proof = stored
	}
	t.rec = rec
}

// commit changes the record of f's server, stores it, then makes it current. Tokens
// and registration of another server are dropped first.
func (t *Transport) commit(ctx context.Context, f asclient.Finding, p proof, change func(*record)) error {
	rec, unlock, err := t.hold(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if rec.Server.ID() != f.Server.ID() {
		rec = record{}
	}
	rec.Upstream, rec.Realm, rec.Server, rec.Resource, rec.Seed = t.cfg.Upstream.String(), t.cfg.Realm, f.Server, t.resourceOf(f), t.cfg.seed()
	change(&rec)
	t.save(rec)
	t.take(rec, p)
	return nil
}

func (t *Transport) forgetClient(ctx context.Context, f asclient.Finding, c client) {
	err := t.commit(ctx, f, stored, func(r *record) {
		if r.Client.ID == c.ID {
			r.Client = client{}
		}
	})
	t.cfg.Log.Info("client registration forgotten", "host", f.Server.Host(), "err", err)
}
