package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"sallyport/oauth/asclient"
)

// record is what the token store keeps about one account.
type record struct {
	// Upstream and Realm are those of the Config.
	Upstream string `json:"upstream"`
	Realm    string `json:"realm,omitempty"`
	// Provider marks the account at an identity provider, whose URL is Upstream and whose token is
	// an ID token. It is nil for every other account. It is never changed, only replaced.
	Provider *providerUse `json:"identity_provider,omitempty"`
	// Remark is that of the Config that signed in.
	Remark json.RawMessage `json:"remark,omitempty"`
	// Server issued everything below.
	Server asclient.Server `json:"server,omitzero"`
	// Resource is the resource parameter (RFC 8707) as it was sent. It is empty if none was.
	Resource string `json:"resource,omitempty"`
	// Client is our dynamic registration at Server. It is zero without one.
	Client client         `json:"client,omitzero"`
	Token  asclient.Token `json:"token,omitzero"`
	// ProofKey is the private key that tokens from Server are bound to (RFC 9449). It is nil if the
	// upstream takes Bearer tokens.
	ProofKey *asclient.Key `json:"proof_key,omitempty"`
	// Asked lists the scopes that Token was asked for.
	Asked []string `json:"asked,omitempty"`
	// What the refreshes have taught, in the same JSON object.
	refreshing
	// Consent says whether Server grants a refresh token only with a new consent: consentNeeded or
	// consentUseless. It is empty if Server has granted one without, or was not asked for one.
	Consent string `json:"consent,omitempty"`
	// Given is the hash of the one-shot inputs of the Config that were used up.
	Given string    `json:"seed,omitempty"`
	Saved time.Time `json:"saved,omitzero"`
}

// Values of record.Consent.
const (
	// consentNeeded: a login without prompt=consent brought no refresh token.
	consentNeeded = "needed"
	// consentUseless: one with it brought none either.
	consentUseless = "useless"
)

// refreshing is what Server has said to refreshes.
type refreshing struct {
	// RefreshesWithoutResource says that Server refuses a refresh with the resource parameter, and
	// takes one without it.
	RefreshesWithoutResource bool `json:"refreshes_without_resource,omitempty"`
	// RefusedEarly says that Server refused to refresh Token before its access token had expired.
	// It is not asked again until then.
	RefusedEarly bool `json:"refused_early,omitempty"`
	// Undecided counts the refreshes of Token that led to neither a token nor a refusal, since
	// UndecidedSince.
	Undecided      int       `json:"undecided,omitempty"`
	UndecidedSince time.Time `json:"undecided_since,omitzero"`
	// RefreshedAt is when a refresh last brought a token. It is zero if none has since the sign-in.
	RefreshedAt time.Time `json:"refreshed_at,omitzero"`
	// Ended says how the server refused the last refresh token, in words for people. It is empty as
	// soon as there is a token again.
	Ended string `json:"ended,omitempty"`
}

// standing is what we know about how good the current token is.
type standing int

const (
	// fromStore: the token is from an earlier run or from another process.
	fromStore standing = iota
	// fromRefresh: it was just refreshed, and the upstream has not accepted it yet.
	fromRefresh
	// fromSignIn: a sign-in has just brought it, and the upstream has not accepted it yet.
	fromSignIn
	// refused: a sign-in has brought it, and the upstream refuses it.
	refused
	// accepted: the upstream has accepted it.
	accepted
)

// lately is how long ago a request may have been for the upstream to judge the next one alike.
const lately = 10 * time.Second

// accountRecord holds the record of our account: one copy in memory, one in the store, which other
// processes change as well. Its methods may be called concurrently; only the flight under way
// changes the record, apart from reload.
type accountRecord struct {
	cfg *Config
	// key is the record's name in the store.
	key string
	// notes are beside the record.
	notes notes

	mu       sync.Mutex
	rec      record
	standing standing
	// acceptedAt is when the upstream last accepted the token of rec. It is zero if it has not.
	acceptedAt time.Time
	// doubts is what this process holds against tokens of the account.
	doubts doubts
	// loadWarning is the text of the last load error that was logged.
	loadWarning string
}

// current returns the record and the standing of its token.
func (a *accountRecord) current() (record, standing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rec, a.standing
}

// set makes rec the current record.
func (a *accountRecord) set(rec record, s standing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if rec.Token.Access != a.rec.Token.Access {
		a.acceptedAt = time.Time{}
	}
	a.rec, a.standing = rec, s
}

// satisfies reports whether the current token is what n needs.
func (a *accountRecord) satisfies(n need) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.satisfiesLocked(n)
}

func (a *accountRecord) satisfiesLocked(n need) bool {
	k := a.rec.Token
	return k.Access != "" && k.Access != n.instead && !k.Expired(a.cfg.now()) && subset(n.stepUp, a.rec.Asked)
}

// refreshable reports whether r has a refresh token that its server may take now.
func (r record) refreshable(now time.Time) bool {
	waits := r.RefusedEarly && r.Token.Access != "" && !r.Token.Expired(now)
	return r.Token.Refresh != "" && r.Server.TokenEndpoint != "" && !waits
}

// renewable reports whether a token can be had without a challenge and without a person.
func (a *accountRecord) renewable() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.renewableLocked()
}

func (a *accountRecord) renewableLocked() bool {
	if a.cfg.unattended() {
		return a.cfg.Endpoints.TokenURL != "" || a.rec.Token.Access != ""
	}
	return a.rec.refreshable(a.cfg.now()) || a.inputsUnusedLocked()
}

// inputsUnused reports whether the Config has one-shot inputs that were not used up yet.
func (a *accountRecord) inputsUnused() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inputsUnusedLocked()
}

func (a *accountRecord) inputsUnusedLocked() bool {
	given := a.cfg.givenHash()
	return given != "" && a.rec.Given != given
}

// accept notes that the upstream has accepted the token access. It reports whether that is the
// current token, a sign-in has brought it, and it was never accepted before.
func (a *accountRecord) accept(access string) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if access == "" || access != a.rec.Token.Access {
		return false
	}
	first = a.standing == fromSignIn || a.standing == refused
	a.standing, a.acceptedAt = accepted, a.cfg.now()
	return first
}

// acceptedLately reports whether the upstream has accepted the token access a moment ago.
func (a *accountRecord) acceptedLately(access string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	age := a.cfg.now().Sub(a.acceptedAt)
	return access == a.rec.Token.Access && !a.acceptedAt.IsZero() && age >= 0 && age < lately
}

// refuse notes that the upstream refuses the token access, which a sign-in has brought.
func (a *accountRecord) refuse(access string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if access == a.rec.Token.Access && a.standing == fromSignIn {
		a.standing = refused
		a.doubts.noteRefusal(a.cfg.now())
	}
}

// secrets returns the secrets of the record. Some may be empty.
func (a *accountRecord) secrets() []string {
	rec, _ := a.current()
	return []string{rec.Token.Access, rec.Token.Refresh, rec.Client.Secret}
}

// registeredAt returns the client that an earlier login registered at s, with that login's DPoP
// key. It is zero if there is none.
func (a *accountRecord) registeredAt(s asclient.Server) client {
	rec, _ := a.current()
	if !rec.Server.SameAs(s) {
		return client{}
	}
	found := rec.Client
	found.ProofKey = rec.ProofKey
	return found
}

// needsConsent reports whether a login at s is to ask for a new consent.
func (a *accountRecord) needsConsent(s asclient.Server) bool {
	rec, _ := a.current()
	return rec.Consent == consentNeeded && rec.Server.ID() == s.ID()
}

// lock takes the store's lock of our record and reads the record again. Under the lock it is the
// newest of all processes, and its refresh token is ours alone to use. The caller must unlock.
func (a *accountRecord) lock(ctx context.Context) (rec record, unlock func(), err error) {
	lock := a.cfg.Store.Lock(a.key)
	if err := lock.Wait(ctx); err != nil {
		return record{}, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reloadLocked()
	return a.rec, lock.Unlock, nil
}

// ended says how the last refresh token was refused. It is nil if there is a token, or if none was
// refused.
func (a *accountRecord) ended() error {
	rec, _ := a.current()
	if rec.Ended == "" || rec.Token.Refresh != "" {
		return nil
	}
	return errors.New(rec.Ended)
}

// save writes rec to the disk. The caller holds the lock of the store.
func (a *accountRecord) save(rec record) {
	rec.Saved = a.cfg.now()
	b, err := json.Marshal(rec)
	if err == nil {
		err = a.cfg.Store.Save(a.key, b)
	}
	if err != nil {
		a.cfg.Log.Warn("token could not be stored", "err", err)
	}
}

// update changes the record of f's server, writes it to the disk, and then makes it current. If the
// record is of another server, its tokens and its registration are dropped first.
func (a *accountRecord) update(ctx context.Context, f asclient.Finding, s standing, change func(*record)) error {
	rec, unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if !rec.Server.SameAs(f.Server) {
		rec = record{}
	}
	if a.cfg.atProvider {
		rec.Provider = rec.Provider.of(a.cfg.Client)
	}
	rec.Upstream, rec.Realm, rec.Given = a.cfg.Upstream.String(), a.cfg.Realm, a.cfg.givenHash()
	rec.Server, rec.Resource = f.Server, a.cfg.resourceOf(f)
	change(&rec)
	a.save(rec)
	a.set(rec, s)
	return nil
}

// forgetClient drops the registration of a client that its server has forgotten.
func (a *accountRecord) forgetClient(ctx context.Context, f asclient.Finding, gone client) {
	err := a.update(ctx, f, fromStore, func(r *record) {
		if r.Client.ID == gone.ID {
			r.Client = client{}
		}
	})
	a.cfg.Log.Info("client registration forgotten", "host", f.Server.Host(), "err", err)
}

// reload takes what the store holds now.
func (a *accountRecord) reload() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reloadLocked()
}

// adopt takes what the store holds now and reports whether it satisfies n. followed says that the
// caller waited for another process's sign-in. A token that comes from it counts as our own: if the
// upstream refuses it, another sign-in would not help.
func (a *accountRecord) adopt(n need, followed bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.rec.Token.Access
	a.reloadLocked()
	if !a.satisfiesLocked(n) {
		return false
	}
	if followed && a.rec.Token.Access != before {
		a.standing = fromSignIn
	}
	return true
}

// reloadLocked takes the stored record, or the part of it that the Config has not outdated. If the
// store has no record any more, it forgets ours.
func (a *accountRecord) reloadLocked() {
	if !a.cfg.persistent() {
		return
	}
	b, err := a.cfg.Store.Load(a.key)
	if err != nil {
		if err.Error() != a.loadWarning {
			a.cfg.Log.Warn("stored token is not used", "err", err)
		}
		a.loadWarning = err.Error()
		return // an unreadable store is no sign-out: what is in memory still holds
	}
	if b == nil && a.rec.Upstream != "" {
		a.rec, a.standing, a.acceptedAt = record{}, fromStore, time.Time{} // another process signed out
	}
	var rec record
	if b == nil || json.Unmarshal(b, &rec) != nil || rec.Upstream != a.cfg.Upstream.String() || !a.cfg.takes(rec.Server) {
		return
	}
	given := a.cfg.givenHash()
	if given != "" && rec.Given != given || a.cfg.Scope != "" && !subset(strings.Fields(a.cfg.Scope), rec.Asked) {
		rec.Token, rec.Asked = asclient.Token{}, nil
	}
	if rec.Token.Access != a.rec.Token.Access {
		a.standing, a.acceptedAt = fromStore, time.Time{}
	}
	a.rec = rec
}

// takes reports whether the server s of a record may be used. It may unless the Config names
// another one.
func (c *Config) takes(s asclient.Server) bool {
	if c.Endpoints.TokenURL != "" && s.TokenEndpoint != c.Endpoints.TokenURL {
		return false
	}
	issuer := strings.TrimSuffix(c.Endpoints.Issuer, "/")
	return issuer == "" || s.Source == asclient.FromConfig || s.ID() == issuer
}

// outdated returns the stored record if the Config no longer takes the record's server. Otherwise
// it is zero.
func (a *accountRecord) outdated() (rec record) {
	if !a.cfg.persistent() {
		return record{}
	}
	b, err := a.cfg.Store.Load(a.key)
	if err != nil || b == nil || json.Unmarshal(b, &rec) != nil || a.cfg.takes(rec.Server) {
		return record{}
	}
	return rec
}

// persistError says why the tokens in use are not on the disk. It is nil if they are, if there are
// none, or if the Config asks for memory only.
func (a *accountRecord) persistError() error {
	if !a.cfg.persistent() {
		return nil
	}
	return a.cfg.Store.Unsaved(a.key)
}
