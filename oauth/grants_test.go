package oauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/oauth/oauthtest"

	"github.com/go-jose/go-jose/v4"

	"sallyport/oauth/asclient"
)

// pemKey is private as PEM of PKCS #8.
func pemKey(t *testing.T, private any) Secret {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func TestPrivateKeyJWT(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec := newECKey(t)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jose.JSONWebKey{Key: rsaKey, KeyID: "k1", Algorithm: "PS256"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		key     Secret
		public  any
		alg     string // configured
		wantAlg string
	}{
		{"EC", pemKey(t, ec), ec.Public(), "", "ES256"},
		{"EC, SEC 1 after its parameters", Secret("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n") +
			Secret(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})), ec.Public(), "", "ES256"},
		{"RSA", pemKey(t, rsaKey), rsaKey.Public(), "", "RS256"},
		{"RSA, PKCS #1", Secret(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})), rsaKey.Public(), "", "RS256"},
		{"RSA as configured", pemKey(t, rsaKey), rsaKey.Public(), "PS256", "PS256"},
		{"JWK says it", Secret(jwk), rsaKey.Public(), "", "PS256"},
		{"Ed25519", pemKey(t, edKey), edKey.Public(), "EdDSA", "EdDSA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.as.AddClient(oauthtest.Client{ID: "robot", Key: &jose.JSONWebKey{Key: tt.public}, KeyAlg: tt.wantAlg})
			w.as.Set(func(k *oauthtest.Knobs) { k.AuthMethods = []string{asclient.AuthPrivateKey} })
			tr := w.transport(func(c *Config) {
				c.Grant, c.Client.ID, c.Client.Key, c.Client.KeyAlg = GrantClientCredentials, "robot", tt.key, tt.alg
			})
			w.mustPost(tr)
			w.as.RevokeAccess()
			w.mustPost(tr) // with an assertion of its own
			w.wantStats(oauthtest.Stats{ClientCredentials: 2})
			w.noSecrets()
		})
	}
}

func TestWorkloadIdentity(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"workload", ""} {
		w := newWorld(t)
		w.as.AddClient(oauthtest.Client{ID: "workload"})
		w.as.AddAssertion("jwt-1")
		w.as.AddAssertion("jwt-2")
		reads := 0
		tr := w.transport(func(c *Config) {
			c.Grant, c.Client.ID = GrantJWTBearer, id
			c.Assertion = func() (Secret, error) { reads++; return Secret("jwt-" + string(rune('0'+reads))), nil }
		})
		w.mustPost(tr)
		w.as.RevokeAccess()
		w.mustPost(tr)
		w.wantStats(oauthtest.Stats{Assertions: 2})
		w.as.RevokeAccess()
		_, err := w.post(tr, "x") // the third one is not known
		if e, ok := errors.AsType[*asclient.SignInError](err); !ok || !e.Refused || e.Code != "invalid_grant" {
			t.Errorf("got %v", err)
		}
		w.wantStats(oauthtest.Stats{Assertions: 3}) // neither tried again nor by another grant
		w.noSecrets(err.Error())
	}
}

func TestAssertionThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone := errors.New("no such file")
	for _, want := range []error{gone, nil} { // nil: it is empty
		_, err := w.post(w.transport(func(c *Config) {
			c.Grant, c.Assertion = GrantJWTBearer, func() (Secret, error) { return "", want }
		}), "x")
		if e, ok := errors.AsType[*asclient.SignInError](err); !ok || !e.Refused || e.Code != asclient.CodeNoAssertion || want != nil && !errors.Is(err, want) {
			t.Errorf("got %v", err)
		}
	}
	w.wantStats(oauthtest.Stats{})
}

func TestEnterpriseManaged(t *testing.T) {
	t.Parallel()
	for _, discovered := range []bool{true, false} {
		w := newWorld(t)
		server := httptest.NewServer(nil)
		defer server.Close()
		idp := oauthtest.New(server.URL+"/tenant", "")
		server.Config.Handler = idp
		idp.Takes = w.as
		idp.AddAssertion("id-token")
		w.as.AddClient(oauthtest.Client{ID: "agent", Secret: "agent-secret", Method: asclient.AuthBasic})
		w.as.Set(func(k *oauthtest.Knobs) { k.ResourceScopes = []string{"tools"} })
		tr := w.transport(func(c *Config) {
			c.Grant, c.Client.ID, c.Client.Secret, c.IDP.ClientID = GrantEnterpriseManaged, "agent", "agent-secret", "agent-at-idp"
			c.Assertion = func() (Secret, error) { return "id-token", nil }
			c.ExtraParams = map[string]string{"tenant": "7"} // the authorization server's alone
			if c.IDP.Issuer = idp.Issuer; !discovered {
				c.IDP.TokenURL = idp.Issuer + "/token"
			}
		})
		w.mustPost(tr)
		w.wantStats(oauthtest.Stats{Assertions: 1})
		q := idp.Exchanged()
		for name, want := range map[string]string{"audience": w.as.Issuer, "resource": w.upstream.String(), "scope": "tools", "client_id": "agent-at-idp", "tenant": ""} {
			if got := q.Get(name); got != want {
				t.Errorf("exchange: %s is %q, want %q", name, got, want)
			}
		}
		idp.Set(func(k *oauthtest.Knobs) { k.TokenError = "invalid_grant" })
		w.as.RevokeAccess()
		_, err := w.post(tr, "x")
		if e, ok := errors.AsType[*asclient.SignInError](err); !ok || !e.Refused || e.Stage != asclient.StageExchange || e.Code != "invalid_grant" {
			t.Errorf("got %v", err)
		}
		w.noSecrets(err.Error())
	}
}

func TestIdentityProviderOfAnotherIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as.AddClient(oauthtest.Client{ID: "agent", Secret: "s"})
	other := httptest.NewServer(http.HandlerFunc(w.as.ServeHTTP)) // its metadata names w.as
	defer other.Close()
	_, err := w.post(w.transport(func(c *Config) {
		c.Grant, c.Client.ID, c.Client.Secret, c.IDP.ClientID, c.IDP.Issuer = GrantEnterpriseManaged, "agent", "s", "agent", other.URL
		c.Assertion = func() (Secret, error) { return "id-token", nil }
	}), "x")
	if e, ok := errors.AsType[*asclient.SignInError](err); !ok || e.Code != asclient.CodeIssuerMismatch {
		t.Errorf("got %v", err)
	}
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		methods []string
		change  func(*Config, *world)
	}{
		{"discovered basic", []string{"client_secret_basic"}, func(*Config, *world) {}},
		{"discovered post", []string{"client_secret_post"}, func(*Config, *world) {}},
		{"given token URL", nil, func(c *Config, w *world) { c.Endpoints.TokenURL = w.as.Issuer + "/token" }},
		{"given, no discovery", nil, func(c *Config, w *world) {
			c.Endpoints.TokenURL, c.Endpoints.NoDiscovery, c.Resource = w.as.Issuer+"/token", true, w.upstream.String()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			method := ""
			if tt.methods != nil {
				method = tt.methods[0]
			}
			w.as.AddClient(oauthtest.Client{ID: "robot", Secret: "p:%+ ü", Method: method})
			w.as.Set(func(k *oauthtest.Knobs) { k.AuthMethods = tt.methods; k.NoRefresh = true })
			tr := w.transport(func(c *Config) {
				c.Grant, c.Client.ID, c.Client.Secret = GrantClientCredentials, "robot", "p:%+ ü"
				tt.change(c, w)
			})
			w.mustPost(tr)
			w.as.RevokeAccess()
			w.mustPost(tr)
			w.advance(2 * time.Hour)
			w.mustPost(tr)
			w.wantStats(oauthtest.Stats{ClientCredentials: 3})
			w.noSecrets()
		})
	}
}

// A client that the server refuses is not shown to it again at once, whatever the requests are.
func TestRefusedClientOfAnUnattendedGrant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newField(t, oauthtest.Home{})
		defer f.net.Close()
		f.as.AddClient(oauthtest.Client{ID: "me", Secret: "right"})
		tr := f.transport(func(c *Config) {
			c.Grant, c.Client.ID, c.Client.Secret = GrantClientCredentials, "me", "wrong"
			c.Client.AuthStyle = AuthStyleBody
		})
		defer tr.Close()
		for range 600 { // ten minutes
			if err := f.call(tr); codeOf(err) != "invalid_client" {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Second)
		}
		if got := f.as.Asked(oauthtest.Token); got < 5 || got > 8 {
			t.Errorf("the wrong secret was sent %d times in ten minutes", got)
		}
		before := f.as.Asked(oauthtest.Token)
		if err := tr.SignIn(t.Context()); err == nil || f.as.Asked(oauthtest.Token) != before+1 {
			t.Errorf("a person asks: got %v after %d requests", err, f.as.Asked(oauthtest.Token)-before)
		}
		f.as.AddClient(oauthtest.Client{ID: "me", Secret: "wrong"})
		time.Sleep(6 * time.Minute)
		if err := f.call(tr); err != nil {
			t.Errorf("the server was set right: got %v", err)
		}
	})
}
