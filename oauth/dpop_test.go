package oauth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/oauthtest"

	"sallyport/oauth/asclient"
)

func TestBoundTokens(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		knobs func(*oauthtest.Knobs)
	}{
		{"advertised", func(k *oauthtest.Knobs) { k.ProofAlgs = []string{"RS256", "ES256"} }},
		{"asked for by the challenge alone", func(*oauthtest.Knobs) {}},
		{"nonces", func(k *oauthtest.Knobs) { k.ProofAlgs, k.Nonces = []string{"ES256"}, true }},
		{"EdDSA", func(k *oauthtest.Knobs) { k.ProofAlgs = []string{"EdDSA"} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.as.Set(func(k *oauthtest.Knobs) { k.DPoP = true; tt.knobs(k) })
			tr := w.transport(nil)
			w.mustPost(tr)
			w.mustPost(tr)
			key := tr.account.rec.ProofKey.Thumbprint()
			if got := w.as.Authorized().Get("dpop_jkt"); got != key {
				t.Errorf("dpop_jkt is %q, want %q", got, key)
			}
			tr.Close()

			second := w.transport(func(c *Config) { c.NonInteractive = true }) // the second start has the key
			w.mustPost(second)
			w.advance(2 * time.Hour)
			w.mustPost(second)
			w.wantStats(oauthtest.Stats{Registrations: 1, Authorizations: 1, Codes: 1, Refreshes: w.as.Stats().Refreshes})
			w.as.RevokeAll() // a login without a challenge still knows that the resource wants DPoP
			w.advance(2 * time.Hour)
			third := w.transport(nil)
			w.mustPost(third)
			if got := third.account.rec.ProofKey.Thumbprint(); got != key {
				t.Error("another key than that of the first login")
			}
			w.noSecrets()
		})
	}
}

func TestNonceIsAskedForOnceOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.DPoP, k.Nonces, k.ProofAlgs = true, true, []string{"ES256"} })
	tr := w.transport(nil)
	w.mustPost(tr)
	before := w.as.Stats().Unauthorized
	for range 5 {
		w.mustPost(tr)
	}
	if got := w.as.Stats().Unauthorized - before; got != 0 {
		t.Errorf("%d requests were refused: the nonce of the answer before is not used", got)
	}
	if len(w.seen) != 6 {
		t.Errorf("upstream saw %q", w.seen)
	}
	if status, err := w.postInBackground(tr); err != nil || status != http.StatusOK {
		t.Errorf("Background: %d, %v", status, err)
	}
}

func (w *world) postInBackground(tr *Transport) (int, error) {
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.upstream.String(), nil)
	if err != nil {
		return 0, err
	}
	resp, err := tr.Background().RoundTrip(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// Several authorization servers offer DPoP in front of resources that know Bearer only.
func TestBearerWhereOnlyTheAuthorizationServerOffersDPoP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.Set(func(k *oauthtest.Knobs) { k.ProofAlgs = []string{"ES256"} })
	tr := w.transport(nil)
	w.mustPost(tr)
	if tr.account.rec.ProofKey != nil || tr.account.rec.Token.Type != "" {
		t.Error("the token is bound")
	}
}

func TestUnattendedGrantWithProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.AddClient(oauthtest.Client{ID: "robot", Secret: "s"})
	w.as.Set(func(k *oauthtest.Knobs) { k.DPoP, k.ProofAlgs = true, []string{"ES256"} })
	tr := w.transport(func(c *Config) { c.Grant, c.Client.ID, c.Client.Secret = GrantClientCredentials, "robot", "s" })
	w.mustPost(tr)
	w.as.RevokeAccess()
	w.mustPost(tr)
	w.wantStats(oauthtest.Stats{ClientCredentials: 2})
}

// A token that claims to be bound, without a proof of ours, is good for nothing.
func TestBoundTokenWithoutProofIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := w.transport(nil)
	as := tr.as.Other
	tr.as.Other = roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/token" {
			return reply(`{"access_token":"x","token_type":"DPoP"}`), nil
		}
		return as.RoundTrip(r)
	})
	_, err := w.post(tr, "x")
	if e, ok := errors.AsType[*asclient.SignInError](err); !ok || e.Code != asclient.CodeBadReply || !e.Refused {
		t.Errorf("got %v", err)
	}
}

func reply(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body))}
}

// An upstream that asked for bound tokens for a moment gets Bearer tokens again, also if its 401
// says nothing.
func TestUpstreamThatAsksForProofsNoMore(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprint("silent ", silent), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newField(t, oauthtest.Home{})
				defer f.net.Close()
				f.as.Play(oauthtest.Rule{At: oauthtest.Upstream, Status: 401, Header: map[string]string{"WWW-Authenticate": `DPoP error="use_dpop_nonce"`}})
				tr := f.transport(nil)
				if err := f.call(tr); err == nil {
					t.Error("the call is served")
				}
				tr.Close()
				if rec, _ := tr.account.current(); rec.ProofKey == nil {
					t.Error("the token is not bound")
				}
				f.as.Play()
				f.as.Set(func(k *oauthtest.Knobs) { k.NoChallenge = silent })
				person := f.transport(func(c *Config) { c.AtTerminal = true })
				defer person.Close()
				if err := person.SignIn(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := f.call(person); err != nil {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}
