package session

import "testing"

func TestRealmRoundTrip(t *testing.T) {
	for want, realm := range map[string]Realm{
		"default direct":             {Profile: "default"},
		"default via bastion:22":     {Profile: "default", Via: "bastion:22"},
		"work via home direct":       {Profile: "work via home"},
		"a via b via [fd00::1]:2222": {Profile: "a via b", Via: "[fd00::1]:2222"},
		" direct":                    {},
	} {
		if got := realm.String(); got != want {
			t.Errorf("%+v prints %q, want %q", realm, got, want)
		}
		if got, ok := ParseRealm(want); got != realm || !ok {
			t.Errorf("%q is read as %+v, %t, want %+v", want, got, ok, realm)
		}
	}
	if got, ok := ParseRealm("something else"); ok {
		t.Errorf("another text is read as %+v", got)
	}
}

func TestRealmRoute(t *testing.T) {
	for want, realm := range map[string]Realm{"direct": {Profile: "p"}, "via bastion:22": {Profile: "p", Via: "bastion:22"}} {
		if got := realm.Route(); got != want {
			t.Errorf("%+v: got %q, want %q", realm, got, want)
		}
	}
}
