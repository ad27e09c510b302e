package oauthtest

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Proof is what a request's DPoP header shows.
type Proof struct {
	Thumbprint string // of its key, as cnf.jkt of a bound token
	ID, Nonce  string // its jti and nonce
}

// CheckProof verifies the DPoP proof (RFC 9449 section 4.3) of a request to target, a
// URL without query, that presents the token access, "" none.
func CheckProof(r *http.Request, target, access string, now time.Time) (Proof, error) {
	if len(r.Header.Values("DPoP")) != 1 {
		return Proof{}, errors.New("want one DPoP header")
	}
	token, err := jwt.ParseSigned(r.Header.Get("DPoP"), []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256})
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
		return Proof{}, errors.New("it is for " + claims.Method + " " + claims.Target + ", not for " + r.Method + " " + target)
	case claims.Issued == nil || now.Sub(claims.Issued.Time()).Abs() > time.Minute:
		return Proof{}, errors.New("iat is not now")
	case claims.Hash != hash:
		return Proof{}, errors.New("ath is not the token's")
	}
	return Proof{base64.RawURLEncoding.EncodeToString(sum), claims.ID, claims.Nonce}, nil
}

// proofLocked checks the proof of a request to target; false: the request is answered. A
// proof is good once and, with Knobs.Nonces, for the nonce of the last answer.
func (s *Server) proofLocked(w http.ResponseWriter, r *http.Request, target, access string, refuse func(code, why string)) (Proof, bool) {
	p, err := CheckProof(r, target, access, s.now())
	if s.knobs.Nonces {
		last := s.nonces[target]
		s.nonces[target] = s.secret("nonce-")
		w.Header().Set("DPoP-Nonce", s.nonces[target])
		if err == nil && p.Nonce != last {
			refuse("use_dpop_nonce", "another nonce is wanted")
			return p, false
		}
	}
	if err == nil && s.proofs[p.ID] {
		err = errors.New("it was shown before")
	}
	s.proofs[p.ID] = true
	if err != nil {
		refuse("invalid_dpop_proof", err.Error())
	}
	return p, err == nil
}
