package asclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
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

func TestKeyIsReadAndHidden(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	const parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
	for _, text := range []string{
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
		parameters + string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})),
	} {
		key, err := ParseKey(text, "")
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		again := new(Key)
		if err := json.Unmarshal(b, again); err != nil || again.Thumbprint() != key.Thumbprint() {
			t.Errorf("%s is read as another key, %v", b, err)
		}
		shown := fmt.Sprintf("%v %+v %#v %s", key, key, key, key) + fmt.Sprint(Credentials{Secret: "0451"}, Token{Access: "0451"})
		if strings.ContainsAny(shown, "0123456789") {
			t.Errorf("shown: %s", shown)
		}
	}
}
