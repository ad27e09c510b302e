package session

import "strings"

// Realm names one of the person's accounts of an upstream. Its text is part of the key in the token
// store, so what it prints must not change.
type Realm struct {
	// Profile is the name of --profile.
	Profile string
	// Via is host:port of the last hop. It is empty if requests leave directly.
	Via string
}

// directSuffix and viaInfix follow the profile in the text of a realm.
const directSuffix, viaInfix = " direct", " via "

// String prints "PROFILE direct" or "PROFILE via HOST:PORT".
func (r Realm) String() string {
	if r.Via == "" {
		return r.Profile + directSuffix
	}
	return r.Profile + viaInfix + r.Via
}

// Route prints "direct" or "via HOST:PORT".
func (r Realm) Route() string {
	if r.Via == "" {
		return strings.TrimSpace(directSuffix)
	}
	return strings.TrimSpace(viaInfix) + " " + r.Via
}

// ParseRealm reads what String printed. It returns false for any other text.
func ParseRealm(text string) (Realm, bool) {
	if profile, ok := strings.CutSuffix(text, directSuffix); ok {
		return Realm{Profile: profile}, true
	}
	// A profile may contain the infix, but an address cannot. So the last one counts.
	if i := strings.LastIndex(text, viaInfix); i >= 0 {
		return Realm{Profile: text[:i], Via: text[i+len(viaInfix):]}, true
	}
	return Realm{}, false
}
