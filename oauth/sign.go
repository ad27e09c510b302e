package oauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// parseClientKey reads a private key: a JSON Web Key (RFC 7517), or PEM of PKCS #8,
// PKCS #1 or SEC 1. Its errors hold nothing of the key.
func parseClientKey(text Secret) (jose.JSONWebKey, error) {
	rest := bytes.TrimSpace([]byte(text))
	if bytes.HasPrefix(rest, []byte("{")) {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(rest) != nil || !key.Valid() || key.IsPublic() || len(algorithms(key)) == 0 {
			return key, errors.New("the client key is not a private RSA, EC or Ed25519 JSON Web Key")
		}
		return key, nil
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return jose.JSONWebKey{}, errors.New("the client key is neither a JSON Web Key nor PEM with a private RSA, EC or Ed25519 key")
		}
		for _, parse := range []func([]byte) (any, error){
			x509.ParsePKCS8PrivateKey,
			func(b []byte) (any, error) { return x509.ParsePKCS1PrivateKey(b) },
			func(b []byte) (any, error) { return x509.ParseECPrivateKey(b) },
		} {
			private, err := parse(block.Bytes)
			if key := (jose.JSONWebKey{Key: private}); err == nil && len(algorithms(key)) > 0 {
				return key, nil
			}
		}
	}
}

// algorithms lists what key can sign with (RFC 7518 section 3.1, RFC 8037), the usual
// one first.
func algorithms(key jose.JSONWebKey) []string {
	switch k := key.Key.(type) {
	case *rsa.PrivateKey:
		return []string{"RS256", "PS256", "RS384", "RS512", "PS384", "PS512"}
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			return []string{"ES256"}
		case elliptic.P384():
			return []string{"ES384"}
		case elliptic.P521():
			return []string{"ES512"}
		}
	case ed25519.PrivateKey:
		return []string{"EdDSA"}
	}
	return nil
}

// chooseAlgorithm returns the one to sign with: as configured, as the key itself says,
// else the usual one of those that the server supports (nil: it does not say).
func chooseAlgorithm(key jose.JSONWebKey, configured string, supported []string) (string, error) {
	able := algorithms(key)
	for _, want := range []string{configured, key.Algorithm} {
		if want == "" {
			continue
		}
		if !slices.Contains(able, want) {
			return "", fmt.Errorf("the client key cannot sign with %q, but with one of %q", cut(want), able)
		}
		return want, nil
	}
	for _, alg := range able {
		if slices.Contains(supported, alg) {
			return alg, nil
		}
	}
	return able[0], nil
}

// newProofKey makes a key for one of algs, which a peer names; false if we know none.
func newProofKey(algs []string) (jose.JSONWebKey, bool) {
	var private crypto.PrivateKey
	var err error
	for _, alg := range []string{"ES256", "EdDSA", "PS256", "RS256"} {
		if !slices.Contains(algs, alg) {
			continue
		}
		switch alg {
		case "ES256":
			private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		case "EdDSA":
			_, private, err = ed25519.GenerateKey(rand.Reader)
		default:
			private, err = rsa.GenerateKey(rand.Reader, 2048)
		}
		return jose.JSONWebKey{Key: private, Algorithm: alg}, err == nil
	}
	return jose.JSONWebKey{}, false
}

// signJWT signs claims with key. embed: the header holds
// the public key, instead of its ID.
func signJWT(key jose.JSONWebKey, alg, typ string, embed bool, claims map[string]any) (string, error) {
	options := (&jose.SignerOptions{EmbedJWK: embed}).WithType(jose.ContentType(typ))
	with := jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key.Key}
	if !embed {
		with.Key = key
	}
	signer, err := jose.NewSigner(with, options)
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}
