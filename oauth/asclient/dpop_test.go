package asclient

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sallyport/oauth/oauthtest"
	"strconv"
	"strings"
	"testing"
)

func TestProofKeyFor(t *testing.T) {
	known, _ := newKey([]string{"ES256"})
	for _, tt := range []struct {
		name      string
		resource  Resource
		algs      []string // of the authorization server
		challenge Challenge
		known     bool
		want      string // algorithm; "" Bearer; "refused"
	}{
		{"nobody asks", Resource{}, nil, Challenge{Bearer: true}, false, ""},
		{"offered only", Resource{}, []string{"ES256"}, Challenge{Bearer: true}, false, ""},
		{"challenge", Resource{}, []string{"ES256"}, Challenge{DPoP: true}, false, "ES256"},
		{"challenge of both kinds, offered", Resource{}, []string{"ES256"}, Challenge{DPoP: true, Bearer: true}, false, "ES256"},
		{"challenge of both kinds, not offered", Resource{}, nil, Challenge{DPoP: true, Bearer: true}, false, ""},
		{"resource metadata", Resource{ProofAlgs: []string{"EdDSA"}}, []string{"ES256", "EdDSA"}, Challenge{}, false, "EdDSA"},
		{"required by resource metadata", Resource{ProofRequired: true}, nil, Challenge{}, false, "ES256"},
		{"required, in no way we know", Resource{ProofRequired: true}, []string{"ES256K"}, Challenge{}, false, "refused"},
		{"wanted, in no way we know", Resource{ProofAlgs: []string{"ES256K"}}, []string{"ES256"}, Challenge{}, false, ""},
		{"as before", Resource{}, []string{"ES256"}, Challenge{}, true, "known"},
		{"as before, the server says nothing", Resource{}, nil, Challenge{}, true, "known"},
		{"Bearer alone in place of before", Resource{}, []string{"ES256"}, Challenge{Bearer: true}, true, ""},
		{"Bearer alone, metadata as before", Resource{ProofAlgs: []string{"ES256"}}, nil, Challenge{Bearer: true}, true, "known"},
		{"not as before", Resource{}, []string{"EdDSA"}, Challenge{}, true, "EdDSA"},
	} {
		f := Finding{Resource: tt.resource, Server: Server{ProofAlgs: tt.algs}}
		var before *Key
		if tt.known {
			before = known
		}
		key, err := ChooseProofKey(f, tt.challenge, before)
		got := ""
		switch e, ok := errors.AsType[*SignInError](err); {
		case ok && e.Code == CodeNoProof && e.Refused:
			got = "refused"
		case key == known:
			got = "known"
		case key != nil:
			got = key.jwk.Algorithm
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestProofHoldsTheRequest(t *testing.T) {
	for _, alg := range []string{"ES256", "EdDSA", "PS256", "RS256"} {
		c := testClient(t, nil)
		key, ok := newKey([]string{"HS256", alg})
		if !ok {
			t.Fatal(alg)
		}
		u := &url.URL{Scheme: "https", Host: "h", Path: "/mcp", RawQuery: "x=1", Fragment: "f"}
		c.KeepNonce(u, http.Header{"Dpop-Nonce": {"n1"}})
		proof, err := c.Proof(key, http.MethodGet, u, "token")
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, u.String(), nil)
		r.Header.Set("DPoP", proof)
		got, err := oauthtest.CheckProof(r, "https://h/mcp", "token", start)
		if err != nil || got.Nonce != "n1" || got.Thumbprint != key.Thumbprint() {
			t.Errorf("%s: got %+v, %v", alg, got, err)
		}
	}
}

func TestNonceIsThatOfTheOrigin(t *testing.T) {
	c := testClient(t, nil)
	ours, theirs := &url.URL{Scheme: "https", Host: "h"}, &url.URL{Scheme: "https", Host: "as.example"}
	for _, tt := range []struct {
		nonce string
		want  bool
	}{{"", false}, {strings.Repeat("x", maxNonce+1), false}, {"n1", true}} {
		if got := c.KeepNonce(ours, http.Header{"Dpop-Nonce": {tt.nonce}}); got != tt.want {
			t.Errorf("a nonce of %d bytes is kept: %t", len(tt.nonce), got)
		}
	}
	key, _ := newKey([]string{"ES256"})
	proof, err := c.Proof(key, http.MethodPost, theirs, "")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "https://as.example", nil)
	r.Header.Set("DPoP", proof)
	if got, err := oauthtest.CheckProof(r, "https://as.example", "", start); err != nil || got.Nonce != "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The server refuses a proof without its last nonce, and a proof that it has seen.
func TestBoundTokensWithNonces(t *testing.T) {
	for _, push := range []bool{false, true} {
		as, c := newServer(t, func(k *oauthtest.Knobs) {
			k.DPoP, k.Nonces, k.ProofAlgs, k.RequirePush = true, true, []string{"ES256"}, push
		})
		f := find(t, c)
		who := register(t, c, f)
		var err error
		if who.ProofKey, err = ChooseProofKey(f, Challenge{DPoP: true}, nil); err != nil || who.ProofKey == nil {
			t.Fatal(err)
		}
		k := login(t, c, f, who)
		if k.Type != TypeDPoP || as.Authorized().Get("dpop_jkt") != who.ProofKey.Thumbprint() {
			t.Errorf("got a token of type %q for the key %q", k.Type, as.Authorized().Get("dpop_jkt"))
		}
		if k, err = c.Refresh(t.Context(), f.Server, who, k, f.Resource.ID); err != nil {
			t.Error(err)
		}
		who.ProofKey, _ = newKey([]string{"ES256"})
		if _, err = c.Refresh(t.Context(), f.Server, who, k, f.Resource.ID); err == nil {
			t.Error("another key will do")
		}
	}
}

func TestServerThatIsNeverContentWithANonce(t *testing.T) {
	asked := 0
	c := testClient(t, func(*http.Request) (*http.Response, error) {
		asked++
		return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{"Dpop-Nonce": {strconv.Itoa(asked)}},
			Body: io.NopCloser(strings.NewReader(`{"error":"use_dpop_nonce"}`))}, nil
	})
	key, _ := newKey([]string{"ES256"})
	_, err := c.ClientCredentials(t.Context(), Server{TokenEndpoint: "https://as.example/t"}, Credentials{ProofKey: key}, Wanted{})
	if e, ok := errors.AsType[*SignInError](err); !ok || e.Code != needsNonce || asked != 1+MaxNonceReplays {
		t.Errorf("got %v after %d requests", err, asked)
	}
}
