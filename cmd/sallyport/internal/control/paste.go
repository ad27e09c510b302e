package control

import (
	"net/url"
	"slices"
	"strings"
)

// NoCallbackError says that a text that a person has pasted is not the callback of a login. It does
// not repeat the text, which may hold a secret.
type NoCallbackError struct {
	// IsLoginPage says that it is the address of the login page, where the login begins.
	IsLoginPage bool
	// Lacks is "code" or "state", if that is missing in an address that may be a callback. It is
	// empty if the text is no address at all.
	Lacks string
}

func (e *NoCallbackError) Error() string {
	switch {
	case e.IsLoginPage:
		return "this is the address of the login page, and not of the page that comes after it"
	case e.Lacks != "":
		return "this address is not that of a finished login: it has no " + e.Lacks
	}
	return "this is not the address of a page"
}

// callbackParams are the parameters of a callback: RFC 6749 section 4.1.2, and RFC 9207.
var callbackParams = []string{"code", "state", "error", "iss"}

// ParseCallback returns the callback URL in a text that a person has pasted. The text is the
// address that the browser shows, with or without its beginning, or "code=... state=...", or the
// code and the state alone. The last two are returned as a URL of nothing but a query. The error is
// a *NoCallbackError.
func ParseCallback(text string) (*url.URL, error) {
	text = strings.Trim(strings.TrimSpace(text), "\"'<>`")
	words := strings.Fields(text)
	var callback *url.URL
	var err error
	switch {
	case len(words) == 0 || len(text) > maxCallback/2: // JSON may double it
		return nil, &NoCallbackError{}
	case strings.Contains(words[0], "?") || strings.Contains(words[0], "://"):
		// A terminal or a mail may have wrapped the address.
		callback, err = parseAddress(strings.Join(words, ""))
	case slices.ContainsFunc(callbackParams, func(name string) bool { return strings.HasPrefix(words[0], name+"=") }):
		callback = &url.URL{RawQuery: strings.Join(words, "&")}
	case len(words) == 2:
		callback = &url.URL{RawQuery: url.Values{"code": words[:1], "state": words[1:]}.Encode()}
	default:
		return nil, &NoCallbackError{}
	}
	if err != nil {
		return nil, &NoCallbackError{}
	}
	callback.Fragment, callback.User = "", nil
	return callback, checkCallback(callback.Query())
}

// parseAddress parses an address. Some browsers hide the scheme.
func parseAddress(text string) (*url.URL, error) {
	before, _, _ := strings.Cut(text, "?")
	if !strings.Contains(before, "://") && before != "" && before[0] != '/' {
		text = "http://" + text
	}
	return url.Parse(text)
}

// checkCallback reports what is missing in the query of a callback (RFC 6749 section 4.1.2).
func checkCallback(query url.Values) error {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return query.Get(name) != "" })
	}
	switch {
	case !has("code", "error") && has("client_id", "request_uri"):
		return &NoCallbackError{IsLoginPage: true}
	case !has("code", "error"):
		return &NoCallbackError{Lacks: "code"}
	case !has("state"):
		return &NoCallbackError{Lacks: "state"}
	}
	return nil
}

// NotTakenError says that no login on this machine waits for a callback.
type NotTakenError struct {
	// Waiting are the processes whose sign-in is pending. The callback is of none of their logins.
	Waiting []Status
	// Idle are the processes that run here and whose sign-in is not pending.
	Idle []Status
	// Old are those whose version takes no callback.
	Old []Status
}

func (e *NotTakenError) Error() string {
	if len(e.Waiting) == 0 {
		return "no login waits for a callback on this machine"
	}
	return "the callback belongs to no login that waits here: that login is over, or waits on another machine"
}

// LoginFailedError says that a login has its callback, and has failed.
type LoginFailedError struct {
	// Problem is why, in the words of the process that ran the login.
	Problem
}

func (e *LoginFailedError) Error() string { return e.Text }
