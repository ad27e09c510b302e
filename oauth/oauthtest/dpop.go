package oauthtest

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Proof is what a request's DPoP header shows.
type Proof struct {
	// Thumbprint is that of its key, as in cnf.jkt of a bound token.
	Thumbprint string
	// ID and Nonce are its jti and nonce.
	ID, Nonce string
}

// CheckProof verifies the DPoP proof (RFC 9449 section 4.3) of a request to target, a URL without
// query. access is the token that the request presents. It is empty for a request without one.
func CheckProof(r *http.Request, target, access string, now time.Time) (Proof, error) {
	if len(r.Header.Values("DPoP")) != 1 {
		return Proof{}, errors.New("want one DPoP header")
	}
	algs := []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256}
	token, err := jwt.ParseSigned(r.Header.Get("DPoP"), algs)
	if err != nil {
		return Proof{}, err
	}
	head := token.Headers[0]
	if head.ExtraHeaders[jose.HeaderType] != "dpop+jwt" || head.JSONWebKey == nil || !head.JSONWebKey.IsPublic() {
		return Proof{}, errors.New("header is not that of a proof")
	}
	var claims struct {
		ID     string           `json:"jti"`
		Method string           `json:"htm"`
		Target string           `json:"htu"`
		Issued *jwt.NumericDate `json:"iat"`
		Hash   string           `json:"ath"`
		Nonce  string           `json:"nonce"`
	}
	if err := token.Claims(head.JSONWebKey, &claims); err != nil {
		return Proof{}, err
	}
	hash := ""
	if access != "" {
		sum := sha256.Sum256([]byte(access))
		hash = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	sum, err := head.JSONWebKey.Thumbprint(crypto.SHA256)
	if err != nil {
		return Proof{}, err
	}
	switch {
	case claims.ID == "":
		return Proof{}, errors.New("no jti")
	case claims.Method != r.Method || claims.Target != target:
		return Proof{}, fmt.Errorf("it is for %s %s, not for %s %s", claims.Method, claims.Target, r.Method, target)
	case claims.Issued == nil || now.Sub(claims.Issued.Time()).Abs() > time.Minute:
		return Proof{}, errors.New("iat is not now")
	case claims.Hash != hash:
		return Proof{}, errors.New("ath is not the token's")
	}
	return Proof{base64.RawURLEncoding.EncodeToString(sum), claims.ID, claims.Nonce}, nil
}

// checkProof checks the proof of a request to target, under the server's lock. A proof is good once
// and, with Knobs.Nonces, only with the nonce of the last answer.
func checkProof(s *Server, w http.ResponseWriter, r *http.Request, target, access string) (Proof, *refusal) {
	p, err := CheckProof(r, target, access, s.now())
	if s.knobs.Nonces {
		last := s.book.nonces[target]
		s.book.nonces[target] = s.book.secret("nonce-")
		w.Header().Set("DPoP-Nonce", s.book.nonces[target])
		if err == nil && p.Nonce != last {
			return p, &refusal{"use_dpop_nonce", "another nonce is wanted"}
		}
	}
	if err == nil && s.book.used[p.ID] {
		err = errors.New("it was shown before")
	}
	s.book.used[p.ID] = true
	if err != nil {
		return p, &refusal{"invalid_dpop_proof", err.Error()}
	}
	return p, nil
}

// proofKey returns the thumbprint of the key that tokens are to be bound to. It is empty for a
// request without a proof. False: the proof is wrong, and the request is answered.
func (c call) proofKey(endpoint string) (thumbprint string, ok bool) {
	if !c.knobs.DPoP && c.r.Header.Get("DPoP") == "" {
		return "", true
	}
	p, refused := checkProof(c.Server, c.w, c.r, c.at(endpoint), "")
	if refused != nil {
		c.fail(http.StatusBadRequest, refused.code, refused.why)
		return "", false
	}
	return p.Thumbprint, true
}
