package explain

import (
	"strings"
	"testing"

	"sallyport/sshtunnel"
)

// Where the host has not passed the agent on, the words say so, and waiting may help. Otherwise
// they are as they were.
func TestForgottenAgent(t *testing.T) {
	way := func(way string) func() string { return func() string { return way } }
	refused := []string{"publickey SHA256:abc (FILE)"}
	for _, tt := range []struct {
		name        string
		tried       []string
		way         func() string
		share       string
		needsPerson bool
		has, hasNot string
		kind        string
		isFinal     bool
	}{
		{"an encrypted key", nil, way("do this"), "auto", true, "no agent of yours was found; do this", "ssh-add", KindSSHPerson, false},
		{"an encrypted key, shared", nil, way(""), "auto", true, "its shared connection then serves the proxies", "SSH_AUTH_SOCK", KindSSHPerson, false},
		{"an encrypted key, alone", nil, nil, "off", true, "load the key into the agent: ssh-add", "shared connection", KindSSHPerson, false},
		{"no key at all", nil, way("do this"), "auto", false, "no agent of yours was found; do this", "ssh -v", KindSSHPerson, false},
		{"a refused key and no agent", refused, way("do this"), "auto", false, "check User and IdentityFile, and ~/.ssh/authorized_keys there\nor an agent has the right key: ", "without a passphrase", KindSSHAuth, false},
		{"a refused key", refused, way(""), "auto", false, "ssh -v", "SSH_AUTH_SOCK", KindSSHAuth, true},
	} {
		x := Explainer{AgentWay: tt.way}
		x.Settings.Share = tt.share
		e := x.Error(&sshtunnel.AuthError{Hop: "bastion", User: "u", Tried: tt.tried, NeedsPerson: tt.needsPerson})
		got := strings.Join(e.Hints, "\n")
		if !strings.Contains(got, tt.has) || strings.Contains(got, tt.hasNot) || e.Kind != tt.kind || (e.Final != nil) != tt.isFinal || e.Status != StatusSSHAuth {
			t.Errorf("%s: %+v", tt.name, e)
		}
	}
}
