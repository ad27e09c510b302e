package asclient

import (
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// maxRegistrations is how often a registration is tried, each time with less. One with the device
// grant beside another does not count.
const maxRegistrations = 3

// registration is what one registration request asks for (RFC 7591 section 2).
type registration struct {
	redirects, scopes []string
	// others are the remaining members.
	others map[string]any
	// device says that the client is for the device grant, which is not the default.
	device bool
	// beside says that it is for the device grant beside the default one.
	beside bool
}

// fullRegistration asks for everything that makes a native application (RFC 8252).
func fullRegistration(c *Client, s Server, app Application) registration {
	method := AuthNone // a native application keeps no secret from its user
	if len(s.AuthMethods) > 0 && !slices.Contains(s.AuthMethods, AuthNone) {
		method = Credentials{Secret: "one"}.method(s, c)
	}
	q := registration{redirects: app.Redirects, device: len(app.Redirects) == 0, others: map[string]any{
		"client_name":                app.Name,
		"application_type":           "native",
		"grant_types":                []string{grantTypeCode, grantTypeRefresh},
		"response_types":             []string{"code"},
		"token_endpoint_auth_method": method,
	}}
	if len(app.Scopes) > 0 {
		q.scopes = app.Scopes
	}
	switch {
	case q.device:
		q.redirects = []string{}
		q.others["grant_types"], q.others["response_types"] = []string{grantTypeDevice, grantTypeRefresh}, []string{}
	case app.Device:
		q.beside, q.others["grant_types"] = true, []string{grantTypeCode, grantTypeRefresh, grantTypeDevice}
	}
	return q
}

// body returns the request's JSON.
func (q registration) body() string {
	all := map[string]any{"redirect_uris": q.redirects}
	for name, value := range q.others {
		all[name] = value
	}
	if len(q.scopes) > 0 {
		all["scope"] = strings.Join(q.scopes, " ")
	}
	b, _ := json.Marshal(all) // strings cannot fail
	return string(b)
}

func (q registration) equal(other registration) bool { return reflect.DeepEqual(q, other) }

// grants returns the grant types without that of refresh tokens, which some servers give anyway.
func (q registration) grants() []string {
	if q.device {
		return []string{grantTypeDevice}
	}
	return []string{grantTypeCode}
}

// clone returns a copy that can be changed.
func (q registration) clone() registration {
	others := make(map[string]any, len(q.others))
	for name, value := range q.others {
		others[name] = value
	}
	q.others = others
	return q
}

// without returns q without what a refusal objects to. It reports false if the words name nothing.
func (q registration) without(err *SignInError) (registration, bool) {
	leaner := q.clone()
	mentions := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return names(err.words(), word) || names(err.Code, word) })
	}
	if mentions("application_type", "application type") {
		delete(leaner.others, "application_type")
	}
	if mentions("refresh_token", "grant_types", "grant_type", "grant types", "grant type", "offline", "device_code", "device code") {
		leaner.others["grant_types"], leaner.beside = q.grants(), false
	}
	if mentions("scope", "scopes", "clientscope", "clientscopes", "invalid_scope") {
		leaner.scopes = nil
	}
	if mentions("response_types", "response_type", "response types", "response type") {
		delete(leaner.others, "response_types")
	}
	if mentions("client_name", "client name") {
		delete(leaner.others, "client_name")
	}
	if mentions("token_endpoint_auth_method", "auth method", "authentication method", "public client", "public clients", "none") {
		delete(leaner.others, "token_endpoint_auth_method")
	}
	if len(q.redirects) > 1 && mentions("redirect_uri", "redirect_uris", "redirect uri", "redirect uris", CodeRedirectURI) {
		leaner.redirects = q.redirects[:1]
	}
	return leaner, !leaner.equal(q)
}

// least returns q with what a good registration needs. The authentication method stays unless the
// server has objected to it: without it, the client would be one with a secret.
func (q registration) least() registration {
	leaner := q.clone()
	leaner.redirects, leaner.scopes = q.redirects[:min(len(q.redirects), 1)], nil
	delete(leaner.others, "application_type")
	delete(leaner.others, "response_types")
	delete(leaner.others, "grant_types")
	leaner.beside = false
	if q.device {
		leaner.others["grant_types"] = q.grants()
	}
	return leaner
}

// bare returns q with nothing but a name and a redirect URI, which every schema has.
func (q registration) bare() registration {
	leaner := q.least()
	delete(leaner.others, "token_endpoint_auth_method")
	return leaner
}

// withoutBeside returns q without the device grant beside the default one.
func (q registration) withoutBeside() registration {
	leaner := q.clone()
	leaner.others["grant_types"], leaner.beside = []string{grantTypeCode, grantTypeRefresh}, false
	return leaner
}

// besideMayBeWhy reports whether a registration may have failed because of the device grant beside
// the default one: the answer names it, or names nothing and is none that means something else.
func (q registration) besideMayBeWhy(err *SignInError) bool {
	if !q.beside || err.Err != nil || err.RetryAfter > 0 {
		return false
	}
	if leaner, named := q.without(err); named {
		return !leaner.beside
	}
	switch err.Status {
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusTooManyRequests:
		return false
	}
	return err.Status/100 != 3
}

// leanerAfter returns the registration to try after a refusal. last says that it is the last try.
// It reports false if no other try may help, because the refusal is about us and not about what the
// request holds, or is an error of the moment.
func (q registration) leanerAfter(err *SignInError, last bool) (registration, bool) {
	if q.besideMayBeWhy(err) {
		return q.withoutBeside(), true
	}
	if !err.Refused && !crashed(err) || err.Err != nil {
		return q, false
	}
	leaner, named := q.without(err)
	switch {
	case named && !last:
	case closed(err):
		return q, false
	case last && strict(err):
		leaner = q.bare()
	default:
		if leaner = q.least(); leaner.equal(q) && !aboutRedirect(err) {
			leaner = q.bare()
		}
	}
	return leaner, !leaner.equal(q)
}

// crashed reports whether a server failed as those do that meet a member which they do not know.
// Some of them run where a crash is answered with 502, in JSON.
func crashed(err *SignInError) bool {
	return err.Status == http.StatusInternalServerError || err.Status == http.StatusBadGateway && !err.Page && err.Description != ""
}

// strict reports whether a refusal is that of a schema which takes no members but its own.
func strict(err *SignInError) bool {
	return slices.ContainsFunc([]string{"unrecognized", "unknown", "unexpected", "extra", "additional", "extra_forbidden", "forbidden",
		"not permitted", "not allowed", "should not exist", "additionalproperties"}, func(word string) bool { return names(err.words(), word) })
}

// closed reports whether a server registers nobody without its operator: it wants a token or a
// software statement, or refuses everybody.
func closed(err *SignInError) bool {
	if !err.Refused || err.Page {
		return false
	}
	switch strings.ToLower(err.Code) {
	case "invalid_software_statement", "unapproved_software_statement", "invalid_token", "access_denied", "unauthorized",
		"registration_not_supported", "unsupported_operation", "not_supported":
		return true
	case CodeRedirectURI, "invalid_client_metadata":
		return false
	}
	switch err.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return true
	}
	return slices.ContainsFunc([]string{"initial access token", "software statement", "software_statement"},
		func(words string) bool { return names(err.words(), words) })
}

// aboutRedirect reports whether a refusal is about the redirect URI.
func aboutRedirect(err *SignInError) bool {
	mentions := func(word string) bool { return names(err.words(), word) || names(err.Code, word) }
	return slices.ContainsFunc([]string{"redirect_uri", "redirect_uris", "redirect uri", "redirect uris", "redirect url",
		"redirect urls", "callback url", CodeRedirectURI, "localhost", "127.0.0.1", "loopback"}, mentions)
}

// named returns err with the code that says what can be done about it.
func named(err *SignInError) *SignInError {
	was := err.Code
	if err.Status/100 == 3 {
		err.Code, err.Refused = CodeNoClient, true
		err.Description = cut("the server has moved its registration: " + cmp.Or(err.Description, "it answers with a redirect"))
		return err
	}
	switch {
	case closed(err):
		err.Code = CodeNoClient
	case err.Refused && aboutRedirect(err):
		err.Code = CodeRedirectURI
	}
	if err.Code != was && was != CodeBadReply && !strings.Contains(err.Description, was) {
		err.Description = cut(strings.TrimSuffix(was+": "+err.Description, ": "))
	}
	if err.Code == CodeNoClient && err.Description == "" {
		err.Description = "the server registers no client without its operator"
	}
	return err
}
