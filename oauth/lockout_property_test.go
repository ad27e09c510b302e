package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/oauthtest"
	"sallyport/oauth/tokenstore"
)

// lockoutVariable chooses the seeds of TestNobodyIsEverLockedOut, as FIRST or FIRST:COUNT. One seed
// prints its whole story.
const lockoutVariable = "SALLYPORT_LOCKOUT_SEEDS"

// ordinarySeeds is how many seeds a run without the variable tries.
const ordinarySeeds = 100

// TestNobodyIsEverLockedOut: whatever a login server and the upstream answer, in whatever order, as
// soon as they have healed, a person at a terminal signs in without signing out, and a process that
// ran all the time serves by itself.
func TestNobodyIsEverLockedOut(t *testing.T) {
	t.Parallel()
	first, count := uint64(1), ordinarySeeds
	if v := os.Getenv(lockoutVariable); v != "" {
		if n, _ := fmt.Sscanf(v, "%d:%d", &first, &count); n == 1 {
			count = 1
		}
	}
	var calls, answers atomic.Int64
	t.Run("seeds", func(t *testing.T) {
		for seed := first; seed < first+uint64(count); seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				p := newOrdeal(seed)
				w, err := p.play(t)
				calls.Add(int64(w.calls))
				answers.Add(int64(w.answers()))
				if count == 1 {
					t.Logf("%s\n%s", p, w.log.String())
				}
				if err != nil {
					small, why := p.shrink(t, err)
					t.Errorf("seed %d: %v\nthe least that fails so: %v\n%s", seed, err, why, small)
				}
			})
		}
	})
	t.Logf("%d seeds from %d: %d calls, %d answers of login servers and upstreams", count, first, calls.Load(), answers.Load())
}

// ordeal is what one seed puts a person through.
type ordeal struct {
	Home oauthtest.Home
	// Knobs are indices of knobChoices.
	Knobs  []int
	Phases []phase
	// Waits says that the process that ran all the time is tried after the healing. Otherwise a
	// person at a terminal starts another.
	Waits bool
}

// phase is a time in which the servers follow the same rules.
type phase struct {
	Rules   []oauthtest.Rule
	Actions []string
}

// String returns the ordeal as JSON.
func (p ordeal) String() string {
	b, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		panic(err)
	}
	return string(b)
}

// knobChoices are knobs that a correct server may have at any time.
var knobChoices = []func(*oauthtest.Knobs){
	func(k *oauthtest.Knobs) { k.KeepRefresh = true },
	func(k *oauthtest.Knobs) { k.NoRefresh = true },
	func(k *oauthtest.Knobs) { k.Lifetime = 40 * time.Second },
	func(k *oauthtest.Knobs) { k.ExpiresIn = "" },
	func(k *oauthtest.Knobs) { k.AuthMethods = []string{"client_secret_basic"} },
	func(k *oauthtest.Knobs) { k.NoIss = true },
	func(k *oauthtest.Knobs) { k.OneRedirect = true },
	func(k *oauthtest.Knobs) { k.Scopes = []string{"offline_access", "tools"} },
	func(k *oauthtest.Knobs) { k.ResourceScopes = []string{"tools"} },
	func(k *oauthtest.Knobs) { k.NoChallenge = true },
	func(k *oauthtest.Knobs) { k.DPoP, k.NoChallenge = true, false }, // somebody has to say so
	func(k *oauthtest.Knobs) { k.RequirePush = true },
	func(k *oauthtest.Knobs) { k.DeviceOnly = true },
}

// Actions of a phase.
const (
	actCall       = "call"
	actBackground = "background call"
	actSignIn     = "sign in"
	actTerminal   = "sign in at a terminal"
	actGiveUp     = "sign in at a terminal, and give up"
	actLost       = "the database is lost"
	actRestart    = "restart"
	actSecond     = "another process calls"
	actRevoke     = "access tokens are revoked"
	actRevokeAll  = "all tokens are revoked"
	actForget     = "clients are forgotten"
	actAway       = "the person is away"
	actThere      = "the person is there"
	actSleep      = "sleep " // a duration follows
)

var (
	actions = []string{actCall, actCall, actCall, actCall, actBackground, actSignIn, actTerminal, actGiveUp, actRestart, actSecond,
		actRevoke, actRevokeAll, actForget, actLost, actAway, actThere, actThere,
		actSleep + "1s", actSleep + "31s", actSleep + "11m", actSleep + "61m", actSleep + "61m", actSleep + "6h"}
	places = []oauthtest.Place{oauthtest.Anywhere, oauthtest.ResourceMetadata, oauthtest.ServerMetadata, oauthtest.Register,
		oauthtest.Authorize, oauthtest.Token, oauthtest.Token, oauthtest.Refresh, oauthtest.Refresh, oauthtest.Device,
		oauthtest.Revoke, oauthtest.Push, oauthtest.Upstream, oauthtest.Upstream}
	statuses = []int{200, 201, 202, 204, 301, 302, 303, 307, 308, 400, 400, 400, 401, 401, 403, 403, 404, 405, 406, 407, 408, 409, 410,
		413, 415, 422, 425, 429, 431, 451, 500, 501, 502, 503, 504, 507, 511, 521, 599}
	types = []string{"", "", "", "application/json", "text/html", "text/plain", "application/x-www-form-urlencoded",
		"application/problem+json", "text/event-stream", "nonsense"}
	bodies = []string{"", " ", "{}", "[]", "null", "0", `""`, "{", "\x00\xff", "\ufeff{}", "error=invalid_grant", "access_token=x",
		"<html><body>no</body></html>", "no", `{"error":{}}`, `{"error":null}`, `{"error":7}`, `{"errors":["x"]}`, `{"ok":false,"error":"x"}`,
		`{"error":"invalid_grant"}`, `{"error":"invalid_client"}`, `{"error":"invalid_request"}`, `{"error":"unauthorized_client"}`,
		`{"error":"server_error"}`, `{"error":"temporarily_unavailable"}`, `{"error":"invalid_target"}`, `{"error":"invalid_scope"}`,
		`{"error":"access_denied"}`, `{"error":"slow_down"}`, `{"error":"authorization_pending"}`, `{"error":"expired_token"}`,
		`{"error":"use_dpop_nonce"}`, `{"error":"invalid_dpop_proof"}`, `{"error":"invalid_token"}`, `{"error":"invalid_redirect_uri"}`,
		`{"error":"invalid_client_metadata"}`, `{"error":"invalid_request","error_description":"resource: AADSTS9010010"}`,
		`{"client_id":"wrong"}`, `{"client_id":"wrong","client_secret":"s","client_secret_expires_at":1}`, `{"access_token":"wrong","token_type":"Bearer"}`,
		`{"access_token":"wrong","token_type":"Bearer","refresh_token":"wrong","expires_in":99999999}`, `{"access_token":"wrong","expires_in":1}`,
		"$answer", "$answer", "\ufeff$answer", `{"data":$answer}`, "$metadata",
		`{"resource":"$upstream","authorization_servers":["$down"]}`, `{"resource":"$upstream","authorization_servers":["https://proxy.test"]}`,
		`{"issuer":"$issuer","authorization_endpoint":"$down/a","token_endpoint":"$down/t","code_challenge_methods_supported":["S256"]}`}
	members = []string{"resource", "authorization_servers", "scopes_supported", "issuer", "authorization_endpoint", "token_endpoint",
		"registration_endpoint", "revocation_endpoint", "device_authorization_endpoint", "pushed_authorization_request_endpoint",
		"require_pushed_authorization_requests", "code_challenge_methods_supported", "token_endpoint_auth_methods_supported",
		"authorization_response_iss_parameter_supported", "dpop_signing_alg_values_supported", "dpop_bound_access_tokens_required", "client_id",
		"client_secret", "client_secret_expires_at", "redirect_uris", "token_endpoint_auth_method", "access_token", "token_type", "expires_in",
		"refresh_token", "scope", "id_token", "device_code", "user_code", "verification_uri", "interval", "request_uri"}
	values = []string{"null", "0", "1", "-1", "1e300", "true", "false", `""`, `"x"`, `"0"`, "[]", "{}", `["x"]`, `["none"]`, `["private_key_jwt"]`,
		`"DPoP"`, `"Bearer"`, `"$issuer"`, `"$issuer/"`, `"$down"`, `"$down/x"`, `["$down"]`, `"http://as.test/x"`, `"https://proxy.test/token"`,
		`"https://tokens.test/token"`, `"$issuer/nowhere"`, `"99999999999"`, `["S256"]`, `["ES256"]`, `["plain"]`, `"a\nb"`}
	conditions = []string{"bearer=live", "bearer=young", "bearer=none", "bearer=dead", "!bearer=none", "resource", "access=live", "scope",
		"http=GET", "!header.Dpop", "client_secret", "path~.well-known"}
	redirects = []string{"$issuer/login", "$issuer${request.path}", "http://portal.test/", "https://tokens.test${request.path}", "$down/x", "/login",
		"${request.redirect_uri}?error=access_denied&state=${request.state}&iss=$issuer", "${request.redirect_uri}?error=server_error",
		"${request.redirect_uri}?code=wrong&state=${request.state}&iss=$issuer", "${request.redirect_uri}?code=wrong&state=wrong",
		"${request.redirect_uri}?error=invalid_target&state=${request.state}&iss=$issuer", "${request.redirect_uri}?state=${request.state}"}
	challengeTexts = []string{"Bearer", `Bearer error="invalid_token"`, `Bearer error="insufficient_scope"`, `Bearer error="insufficient_scope", scope="tools"`,
		`Bearer error="insufficient_scope", scope="never"`, `DPoP algs="ES256"`, `DPoP error="use_dpop_nonce"`, `DPoP error="invalid_dpop_proof"`,
		`Bearer resource_metadata="$down/x"`, `Bearer resource_metadata="$origin/nowhere"`, "Basic", "Negotiate, Bearer scope=never"}
	delays = []time.Duration{time.Second, 10 * time.Second, 40 * time.Second, 2 * time.Minute, 10 * time.Minute}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// newOrdeal returns the ordeal of a seed.
func newOrdeal(seed uint64) ordeal {
	r := rand.New(rand.NewPCG(seed, 11))
	p := ordeal{Waits: r.IntN(2) == 0}
	p.Home = pick(r, []oauthtest.Home{{}, {}, {}, {Path: "/tenant"}, {Path: "/"}, {Upstream: true}})
	for i := range knobChoices {
		if r.IntN(len(knobChoices)) == 0 {
			p.Knobs = append(p.Knobs, i)
		}
	}
	if r.IntN(2) == 0 { // half of the people are signed in before anything goes wrong
		p.Phases = append(p.Phases, phase{Actions: []string{actCall, pick(r, actions)}})
	}
	for range 1 + r.IntN(4) {
		var ph phase
		for range 1 + r.IntN(4) {
			ph.Rules = append(ph.Rules, newRule(r))
		}
		for range 2 + r.IntN(6) {
			ph.Actions = append(ph.Actions, pick(r, actions))
		}
		p.Phases = append(p.Phases, ph)
	}
	return p
}

// newRule returns any rule.
func newRule(r *rand.Rand) oauthtest.Rule {
	rule := oauthtest.Rule{At: pick(r, places), Acts: r.IntN(3) == 0}
	if r.IntN(4) == 0 {
		rule.When = []string{pick(r, conditions)}
	}
	rule.Times, rule.Skip = pick(r, []int{0, 0, 0, 1, 2, 5}), pick(r, []int{0, 0, 0, 0, 1, 3})
	switch r.IntN(10) {
	case 0:
		rule.Reset = true
	case 1:
		rule.Redirect = pick(r, redirects)
		rule.Status = pick(r, []int{0, 301, 302, 303, 307, 308})
	case 2:
		rule.Truncate, rule.Acts = 1+r.IntN(200), true
	case 3, 4:
		rule.Set = map[string]string{pick(r, members): pick(r, values)}
		if r.IntN(3) == 0 {
			rule.Set[pick(r, members)] = pick(r, values)
		}
	case 5:
		rule.Drop = []string{pick(r, members)}
	default:
		rule.Status, rule.Body, rule.Type = pick(r, statuses), pick(r, bodies), pick(r, types)
	}
	if r.IntN(6) == 0 {
		rule.Delay = pick(r, delays)
	}
	if rule.At == oauthtest.Upstream && r.IntN(2) == 0 {
		rule.Header = map[string]string{"WWW-Authenticate": pick(r, challengeTexts)}
	} else if r.IntN(8) == 0 {
		rule.Header = map[string]string{pick(r, []string{"Retry-After", "DPoP-Nonce", "Content-Encoding", "Connection"}): pick(r, []string{"1", "gzip", "close", "-5"})}
	}
	return rule
}

// sufferer is the world of one ordeal.
type sufferer struct {
	*field
	// running is the process that runs all the time, until a restart.
	running *Transport
	others  []*Transport
	away    atomic.Bool
	// lost says that the server has forgotten clients. It may show that on its login page alone.
	lost  bool
	calls int
}

// answers is how many requests the servers answered.
func (w *sufferer) answers() (n int) {
	for _, at := range append([]oauthtest.Place{oauthtest.Elsewhere}, slices.Compact(slices.Clone(places))...) {
		n += w.as.Asked(at)
	}
	return n
}

// play plays the ordeal in a bubble of its own, and returns what is wrong at its end.
func (p ordeal) play(t *testing.T) (w *sufferer, err error) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w = &sufferer{field: newField(t, p.Home)}
		defer w.end()
		if w.store, err = tokenstore.Open(dir+"/state", dir+"/config", tokenstore.Keyring{}, w.logger()); err != nil {
			return
		}
		w.as.Set(p.turn)
		w.running = w.start(nil)
		for _, ph := range p.Phases {
			w.as.Play(ph.Rules...)
			for _, what := range ph.Actions {
				w.act(t, what)
			}
		}
		w.as.Play()
		w.away.Store(false)
		w.Write([]byte("HEALED\n"))
		if p.Waits {
			err = w.servesByItself()
		} else {
			err = w.signsInAtTerminal(t.Context())
		}
		if found := w.leaks(); found != nil && err == nil {
			err = fmt.Errorf("the log holds the secrets %q", found)
		}
	})
	return w, err
}

func (p ordeal) turn(k *oauthtest.Knobs) {
	for _, i := range p.Knobs {
		knobChoices[i](k)
	}
}

// start starts a process.
func (w *sufferer) start(change func(*Config)) *Transport {
	return w.transport(func(c *Config) {
		c.Offer = func(ctx context.Context, p Prompt) {
			if w.away.Load() {
				w.Write([]byte("a page nobody looks at\n"))
				return
			}
			w.person(ctx, p)
		}
		if change != nil {
			change(c)
		}
	})
}

func (w *sufferer) end() {
	w.running.Close()
	for _, tr := range w.others {
		tr.Close()
	}
	w.net.Close()
}

// act does one action of a phase. Whatever fails is no fault yet.
func (w *sufferer) act(t *testing.T, what string) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	var err error
	switch what {
	case actCall:
		w.calls++
		err = w.call(w.running)
	case actSecond:
		w.calls++
		w.others = append(w.others, w.start(nil))
		err = w.call(w.others[len(w.others)-1])
	case actBackground:
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, w.upstream.String(), nil)
		var resp *http.Response
		if resp, err = w.running.Background().RoundTrip(req); err == nil {
			resp.Body.Close()
		}
	case actSignIn:
		err = w.running.SignIn(ctx)
	case actTerminal, actGiveUp:
		if what == actGiveUp {
			ctx, cancel = context.WithTimeout(ctx, 40*time.Second)
			defer cancel()
		}
		tr := w.start(func(c *Config) { c.AtTerminal = true })
		err = tr.SignIn(ctx)
		tr.Close()
	case actRestart:
		w.running.Close()
		w.running = w.start(nil)
	case actRevoke:
		w.as.RevokeAccess()
	case actRevokeAll:
		w.as.RevokeAll()
	case actForget, actLost:
		w.as.ForgetClients()
		w.lost = true
		if what == actLost {
			w.as.RevokeAll()
		}
	case actAway, actThere:
		w.away.Store(what == actAway)
	default:
		d, parseErr := time.ParseDuration(strings.TrimPrefix(what, actSleep))
		if parseErr != nil {
			panic(parseErr)
		}
		time.Sleep(d)
	}
	fmt.Fprintf(w, "%s: %v\n", strings.ToUpper(what), err)
}

// signsInAtTerminal: a person starts a process in order to sign in, at once. There is one excuse: a
// server that has forgotten our client may show that on its login page and nowhere else. The person
// who sees it stops the process, and the next one has to do better.
func (w *sufferer) signsInAtTerminal(ctx context.Context) error {
	err := w.signsInWithPatience(ctx, 40*time.Second)
	if w.lost && (errors.Is(err, ErrNotCompleted) || errors.Is(err, context.DeadlineExceeded)) {
		fmt.Fprintf(w, "ONCE MORE: %v\n", err)
		err = w.signsInWithPatience(ctx, time.Hour)
	}
	return err
}

func (w *sufferer) signsInWithPatience(ctx context.Context, patience time.Duration) error {
	before := w.pages()
	tr := w.start(func(c *Config) { c.AtTerminal = true })
	defer tr.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := tr.SignIn(ctx); err != nil {
		return fmt.Errorf("at the terminal: %w", err)
	}
	if err := w.callWithin(ctx, tr); err != nil {
		return fmt.Errorf("after the sign-in at the terminal: %w", err)
	}
	if got := w.pages() - before; got > 1 {
		return fmt.Errorf("%d login pages for the sign-in at the terminal", got)
	}
	return nil
}

// servesByItself: the process that ran all the time serves again, once its brakes have ended.
func (w *sufferer) servesByItself() (err error) {
	time.Sleep(61 * time.Minute)
	before := w.pages()
	for range 3 {
		time.Sleep(3 * time.Minute)
		if errors.Is(err, ErrHeldBack) {
			time.Sleep(time.Hour)
		}
		if err = w.call(w.running); err == nil {
			break
		}
		fmt.Fprintf(w, "STILL: %v\n", err)
	}
	if err != nil {
		return fmt.Errorf("the process that ran all the time: %w", err)
	}
	if got := w.pages() - before; got > 2 {
		return fmt.Errorf("%d login pages until the process served again", got)
	}
	return nil
}

// shrink returns an ordeal that fails in the same way and is as small as taking parts away makes
// it.
func (p ordeal) shrink(t *testing.T, err error) (ordeal, error) {
	kind := kindOf(err)
	for again := true; again; {
		again = false
		for _, smaller := range p.parts() {
			if _, e := smaller.play(t); e != nil && kindOf(e) == kind {
				p, err, again = smaller, e, true
				break
			}
		}
	}
	return p, err
}

// kindOf tells failures apart.
func kindOf(err error) string {
	return strings.SplitN(err.Error(), ":", 2)[0] + " " + codeOf(errors.Unwrap(err))
}

// parts returns the ordeals that lack one part of p.
func (p ordeal) parts() (all []ordeal) {
	for i := range p.Knobs {
		q := p
		q.Knobs = slices.Delete(slices.Clone(p.Knobs), i, i+1)
		all = append(all, q)
	}
	for i, ph := range p.Phases {
		with := func(other ...phase) {
			q := p
			q.Phases = slices.Concat(p.Phases[:i], other, p.Phases[i+1:])
			all = append(all, q)
		}
		with()
		for j := range ph.Rules {
			with(phase{slices.Delete(slices.Clone(ph.Rules), j, j+1), ph.Actions})
		}
		for j := range ph.Actions {
			with(phase{ph.Rules, slices.Delete(slices.Clone(ph.Actions), j, j+1)})
		}
	}
	return all
}
