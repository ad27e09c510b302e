package asclient

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Key is a private key that signs for us: that of a client which authenticates by private_key_jwt,
// or that which tokens are bound to by DPoP. It marshals to a JSON Web Key, the private part
// included. Printed it shows "[hidden]".
type Key struct{ jwk jose.JSONWebKey }

// ParseKey reads a client's private key: a JSON Web Key (RFC 7517), or PEM of PKCS #8, PKCS #1 or
// SEC 1. alg is the algorithm to sign with; empty leaves it to the key and the server. The errors
// hold nothing of the key.
func ParseKey(text, alg string) (*Key, error) {
	jwk, err := parseJWK([]byte(text))
	if err != nil {
		return nil, err
	}
	if alg != "" {
		jwk.Algorithm = alg
	}
	k := &Key{jwk}
	_, err = k.chooseAlgorithm(nil)
	return k, err
}

var errNoKey = errors.New("the client key is neither a JSON Web Key nor PEM with a private RSA, EC or Ed25519 key")

func parseJWK(text []byte) (jose.JSONWebKey, error) {
	rest := bytes.TrimSpace(text)
	if bytes.HasPrefix(rest, []byte("{")) {
		var jwk jose.JSONWebKey
		if jwk.UnmarshalJSON(rest) != nil || !jwk.Valid() || jwk.IsPublic() || len(algorithms(jwk)) == 0 {
			return jwk, errors.New("the client key is not a private RSA, EC or Ed25519 JSON Web Key")
		}
		return jwk, nil
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return jose.JSONWebKey{}, errNoKey
		}
		for _, parse := range []func([]byte) (any, error){
			x509.ParsePKCS8PrivateKey,
			func(b []byte) (any, error) { return x509.ParsePKCS1PrivateKey(b) },
			func(b []byte) (any, error) { return x509.ParseECPrivateKey(b) },
		} {
			private, err := parse(block.Bytes)
			if jwk := (jose.JSONWebKey{Key: private}); err == nil && len(algorithms(jwk)) > 0 {
				return jwk, nil
			}
		}
	}
}

// newKey makes a key for one of algs, which a peer names. It reports false if we know none of them.
func newKey(algs []string) (*Key, bool) {
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
		return &Key{jose.JSONWebKey{Key: private, Algorithm: alg}}, err == nil
	}
	return nil, false
}

// String hides the key.
func (*Key) String() string { return Hidden }

// GoString hides the key from %#v.
func (*Key) GoString() string { return Hidden }

// MarshalJSON returns the JSON Web Key, the private part included.
func (k *Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.jwk) }

// UnmarshalJSON reads what MarshalJSON made.
func (k *Key) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &k.jwk) }

// Thumbprint returns the key's SHA-256 thumbprint (RFC 7638), which dpop_jkt (RFC 9449 section 10)
// binds an authorization code to.
func (k *Key) Thumbprint() string {
	sum, err := k.jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "" // every key of newKey has one
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

// algorithms lists what a key can sign with (RFC 7518 section 3.1, RFC 8037), the usual one first.
func algorithms(jwk jose.JSONWebKey) []string {
	switch k := jwk.Key.(type) {
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

// chooseAlgorithm returns the algorithm to sign with: the key's own if it names one, else the usual
// one of those that the server supports. A nil supported means that the server does not say.
func (k *Key) chooseAlgorithm(supported []string) (string, error) {
	able := algorithms(k.jwk)
	if alg := k.jwk.Algorithm; alg != "" {
		if !slices.Contains(able, alg) {
			return "", fmt.Errorf("the client key cannot sign with %s, but with one of %q", Quote(alg), able)
		}
		return alg, nil
	}
	for _, alg := range able {
		if slices.Contains(supported, alg) {
			return alg, nil
		}
	}
	return able[0], nil
}

// sign makes a JWT of claims whose header names the key by its ID.
func (k *Key) sign(alg, typ string, claims map[string]any) (string, error) {
	return signJWT(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: k.jwk}, typ, false, claims)
}

// signEmbedded makes a JWT of claims whose header holds the public key.
func (k *Key) signEmbedded(typ string, claims map[string]any) (string, error) {
	with := jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.jwk.Algorithm), Key: k.jwk.Key}
	return signJWT(with, typ, true, claims)
}

func signJWT(with jose.SigningKey, typ string, embed bool, claims map[string]any) (string, error) {
	options := (&jose.SignerOptions{EmbedJWK: embed}).WithType(jose.ContentType(typ))
	signer, err := jose.NewSigner(with, options)
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}

// hashOf returns the base64url of the SHA-256 of text.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
