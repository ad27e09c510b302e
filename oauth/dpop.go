package oauth

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// DPoP (RFC 9449) binds a token to a key of ours: who copies the token alone has nothing.
// It is used where the resource asks for it, by the scheme of its challenge or in its
// metadata. That an authorization server offers it is not enough: several do so by
// default, in front of resources that know Bearer only.

const (
	typeDPoP   = "DPoP"           // token_type, and the scheme of Authorization
	needsNonce = "use_dpop_nonce" // error code, RFC 9449 sections 8 and 9

	maxNonce        = 1 << 10 // bytes of a nonce that is kept
	maxNonceReplays = 2       // of one request: another one may have used the nonce up meanwhile
)

// proofKeyFor returns the key for tokens from f's server, that of an earlier login if
// known has one; nil: plain Bearer tokens do.
func (t *Transport) proofKeyFor(f finding, n need, known *jose.JSONWebKey) (*jose.JSONWebKey, error) {
	algs := f.server.ProofAlgs
	must := f.resource.ProofRequired || n.challenge.dpop && !n.challenge.bearer
	asked := must || n.challenge.dpop || known != nil || len(f.resource.ProofAlgs) > 0
	if !asked || !must && known == nil && len(algs) == 0 {
		return nil, nil
	}
	if len(algs) == 0 { // endpoints given by configuration, or metadata that omits it
		algs = []string{"ES256"}
	}
	if len(f.resource.ProofAlgs) > 0 {
		algs = slices.DeleteFunc(slices.Clone(algs), func(a string) bool { return !slices.Contains(f.resource.ProofAlgs, a) })
	}
	if known != nil && slices.Contains(algs, known.Algorithm) {
		return known, nil
	}
	key, ok := newProofKey(algs)
	if !ok && must {
		return nil, &SignInError{Stage: StageDiscovery, Server: f.server.name(), Code: CodeNoProof, Refused: true,
			Description: "DPoP is required, with none of ES256, EdDSA, PS256 and RS256"}
	}
	if !ok {
		return nil, nil
	}
	return &key, nil
}

// proofFor makes the proof (RFC 9449 section 4.2) of one request; access is the token
// that goes with it, "" none.
func (t *Transport) proofFor(key *jose.JSONWebKey, method string, u *url.URL, access string) (string, error) {
	target := *u
	target.User, target.RawQuery, target.ForceQuery, target.Fragment = nil, "", false, ""
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": target.String(), "iat": t.cfg.now().Unix()}
	if access != "" {
		sum := sha256.Sum256([]byte(access))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	t.mu.Lock()
	nonce := t.nonces[origin(u).String()]
	t.mu.Unlock()
	if nonce != "" {
		claims["nonce"] = nonce
	}
	return signJWT(*key, key.Algorithm, "dpop+jwt", true, claims)
}

// keepNonce remembers the nonce that an answer gives for the next proof (RFC 9449
// section 8.2); any answer may. It reports whether there is one.
func (t *Transport) keepNonce(u *url.URL, h http.Header) bool {
	nonce := h.Get("DPoP-Nonce")
	if nonce == "" || len(nonce) > maxNonce {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nonces == nil {
		t.nonces = make(map[string]string)
	}
	t.nonces[origin(u).String()] = nonce
	return true
}

// send sends req with the token, and with a proof where that is bound to a key. An
// answer that only asks for another nonce is not handed on, if the body can be sent again.
func (t *Transport) send(req *http.Request, body io.ReadCloser, access string) (*http.Response, error) {
	rec, _ := t.creds.current()
	key, bound := rec.ProofKey, rec.Token.Type == typeDPoP
	if access == "" || !bound || key == nil {
		return t.cfg.Base.RoundTrip(withToken(req, body, access))
	}
	for try := 0; ; try++ {
		r := withToken(req, body, access)
		proof, err := t.proofFor(key, r.Method, r.URL, access)
		if err != nil {
			if body != nil {
				body.Close()
			}
			return nil, err
		}
		r.Header.Set("Authorization", typeDPoP+" "+access)
		r.Header.Set("DPoP", proof)
		resp, err := t.cfg.Base.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		fresh := t.keepNonce(r.URL, resp.Header)
		again := resp.StatusCode == http.StatusUnauthorized && tokenChallenge(resp.Header)["error"] == needsNonce
		if !fresh || !again || try == maxNonceReplays || !repeatable(req) {
			return resp, nil
		}
		detach(resp)
		resp.Body.Close()
		if req.GetBody != nil {
			if body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// postProven posts form to an endpoint of s, with a proof if c has a key, and once more with
// the nonce that is then asked for.
func (t *Transport) postProven(ctx context.Context, endpoint string, s server, c client, form url.Values) (answer, error) {
	if c.proofKey == nil {
		return t.postForm(ctx, endpoint, s, c, form, "")
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return answer{}, errMalformed(endpoint)
	}
	for try := 0; ; try++ {
		proof, err := t.proofFor(c.proofKey, http.MethodPost, u, "")
		if err != nil {
			return answer{}, err
		}
		a, err := t.postForm(ctx, endpoint, s, c, form, proof)
		if err != nil {
			return a, err
		}
		if fresh := t.keepNonce(u, a.header); !fresh || try == maxNonceReplays || a.oauthError().Code != needsNonce {
			return a, nil
		}
	}
}

// thumbprint is the dpop_jkt (RFC 9449 section 10) that binds a code to the key too.
func thumbprint(key *jose.JSONWebKey) string {
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "" // as every key of newProofKey has one
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

// schemes reports which kinds of token a 401 asks for.
func schemes(h http.Header) (bearer, dpop bool) {
	for _, c := range parseChallenges(h.Values("WWW-Authenticate")) {
		bearer = bearer || c.scheme == "bearer"
		dpop = dpop || c.scheme == strings.ToLower(typeDPoP)
	}
	return bearer, dpop
}
