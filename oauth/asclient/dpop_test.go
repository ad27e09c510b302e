package asclient

import (
	"errors"
	"testing"
)

func TestProofKeyFor(t *testing.T) {
	known, _ := NewKey([]string{"ES256"})
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
