package asclient

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
)

const (
	needsNonce = "use_dpop_nonce" // error code, RFC 9449 sections 8 and 9
	maxNonce   = 1 << 10          // bytes of a nonce that is kept
)

// MaxNonceReplays is how often a request is sent again because another nonce is asked for. It may
// take two, because another request may have used up the nonce meanwhile.
const MaxNonceReplays = 2

// ChooseProofKey returns the key that tokens from f's server are to be bound to, or nil if plain
// Bearer tokens will do. known is the key of an earlier login, nil if there is none; it is kept
// where the server takes it.
//
// A key is used where the resource asks for it, by its challenge or in its metadata. That an
// authorization server offers DPoP is not enough: several do so by default, in front of resources
// that know Bearer only. DPoP that is required with algorithms that we do not know is refused with
// CodeNoProof.
func ChooseProofKey(f Finding, ch Challenge, known *Key) (*Key, error) {
	algs := f.Server.ProofAlgs
	must := f.Resource.ProofRequired || ch.DPoP && !ch.Bearer
	if ch.Bearer && !ch.DPoP && len(f.Resource.ProofAlgs) == 0 && !must {
		known = nil // the resource may have asked for it once, and does no more
	}
	asked := must || ch.DPoP || known != nil || len(f.Resource.ProofAlgs) > 0
	if !asked || !must && known == nil && len(algs) == 0 {
		return nil, nil
	}
	if len(algs) == 0 { // endpoints given by configuration, or metadata that omits it
		algs = []string{"ES256"}
	}
	if len(f.Resource.ProofAlgs) > 0 {
		algs = slices.DeleteFunc(slices.Clone(algs), func(a string) bool { return !slices.Contains(f.Resource.ProofAlgs, a) })
	}
	if known != nil && slices.Contains(algs, known.jwk.Algorithm) {
		return known, nil
	}
	key, ok := newKey(algs)
	if !ok && must {
		return nil, &SignInError{Stage: StageDiscovery, Server: f.Server.Name(), Code: CodeNoProof, Refused: true,
			Description: "DPoP is required, with none of ES256, EdDSA, PS256 and RS256"}
	}
	if !ok {
		return nil, nil
	}
	return key, nil
}

// Proof makes the proof of one request (RFC 9449 section 4.2), for its DPoP field. access is the
// token that goes with it; empty means none. It holds the last nonce of u's origin.
func (c *Client) Proof(key *Key, method string, u *url.URL, access string) (string, error) {
	target := *u
	target.User, target.RawQuery, target.ForceQuery, target.Fragment = nil, "", false, ""
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": target.String(), "iat": c.now().Unix()}
	if access != "" {
		claims["ath"] = hashOf(access)
	}
	if nonce, ok := c.memory.nonces.Load(origin(u)); ok {
		claims["nonce"] = nonce
	}
	return key.signEmbedded("dpop+jwt", claims)
}

// KeepNonce remembers the nonce that an answer from u gives for the next proof (RFC 9449 section
// 8.2). Any answer may give one. It reports whether this one does.
func (c *Client) KeepNonce(u *url.URL, h http.Header) bool {
	nonce := h.Get("DPoP-Nonce")
	if nonce == "" || len(nonce) > maxNonce {
		return false
	}
	c.memory.nonces.Store(origin(u), nonce)
	return true
}

// WantsNonce reports whether an upstream's answer only asks for a proof with another nonce.
func WantsNonce(resp *http.Response) bool {
	return resp.StatusCode == http.StatusUnauthorized && ReadChallenge(resp.Header).Error == needsNonce
}
