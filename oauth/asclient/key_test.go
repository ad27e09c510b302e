package asclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestChooseAlgorithm(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, configured, ofKey string
		supported               []string
		want                    string
	}{
		{"the usual one", "", "", nil, "RS256"},
		{"of those the server supports", "", "", []string{"ES256", "PS512", "PS256"}, "PS256"},
		{"of none of them", "", "", []string{"ES256"}, "RS256"},
		{"as the key says", "", "RS512", []string{"PS256"}, "RS512"},
		{"as configured", "PS384", "RS512", nil, "PS384"},
		{"not with this key", "ES256", "", nil, ""},
	} {
		text, err := jose.JSONWebKey{Key: private, Algorithm: tt.ofKey}.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		key, err := ParseKey(string(text), tt.configured)
		got := ""
		if err == nil {
			got, err = key.chooseAlgorithm(tt.supported)
		}
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: got %q, %v", tt.name, got, err)
		}
	}
}

func TestClientKeyThatIsNone(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := jose.JSONWebKey{Key: private.Public()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"garbage-0451", "{\"kty\":\"oct\",\"k\":\"garbage-0451\"}", "{garbage-0451", string(public),
		"-----BEGIN PRIVATE KEY-----\nZ2FyYmFnZS0wNDUx\n-----END PRIVATE KEY-----\n"} {
		if _, err := ParseKey(text, ""); err == nil || strings.Contains(err.Error(), "0451") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}
