package asclient

import (
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// EndsRefreshToken reports whether the answer to a refresh says that this refresh token will never
// work again. Every answer of the 4xx class says so, whatever its words are, but for these:
//
//   - 407, which is a proxy's, and 408, 425 and 429;
//   - words or fields that ask us to slow down, or to come back later: see Undecided;
//   - 404 without an OAuth error, which is a gateway's that has no server behind it at the moment;
//   - an HTML page, which a firewall sends (but not with 400, 401 or 410, with which a login server
//     or its framework sends pages, too).
//
// An answer of status 200 that holds an error in place of a token says so as well, unless that
// error means "later". A status of 500 and above, or no answer, never does.
func (e *SignInError) EndsRefreshToken() bool {
	if e.Stage != StageRefresh {
		return false
	}
	switch {
	case e.Status/100 == 2:
		return e.Refused && e.Err == nil
	case e.Status/100 != 4, e.askedTooOften(), unavailable(e.Code), e.Nowhere():
		return false
	}
	switch e.Status {
	case http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusGone:
		return true
	}
	return !e.Page
}

// Undecided reports whether the answer to a refresh neither grants a token nor says that the
// refresh token is dead, but may come from a server that says it no better. Such an answer is a
// success without a token, a redirect as to a login page, or a refusal with the words for "later".
// A 404 that is no OAuth answer is one as well: the endpoint may be back soon, or may have moved.
// Any other HTML page is not one, because gateways send it, nor is an answer of the 5xx class.
func (e *SignInError) Undecided() bool {
	if e.Stage == StageRefresh && e.Err == nil && e.Nowhere() {
		return true
	}
	if e.Stage != StageRefresh || e.Err != nil || e.Page || e.EndsRefreshToken() || e.askedTooOften() {
		return false
	}
	return e.Status/100 == 2 || e.Status/100 == 3 || e.Status/100 == 4 && unavailable(e.Code)
}

// Nowhere reports whether an answer is a 404 without an OAuth error. The gateways before a server
// send it while the server is being replaced, and servers do for a path that they do not have.
// Words about a token or a client, which name no path, are an OAuth error in words of its own.
func (e *SignInError) Nowhere() bool {
	words := e.words()
	mentioned := func(word string) bool { return names(words, word) }
	about := slices.ContainsFunc([]string{"token", "refresh_token", "client", "client_id", "grant"}, mentioned) && !strings.Contains(words, "/")
	oauthError := e.standard && isCode(e.Code) && e.Code != CodeBadReply
	return e.Status == http.StatusNotFound && !oauthError && !about
}

// ObjectsTo reports whether a refusal may be about one parameter of the request, so that the same
// request without it may succeed. It does if its words name the parameter, or if its code says no
// more than that something is wrong with the request. For "resource" (RFC 8707), invalid_target and
// some codes of Entra ID count as well.
func (e *SignInError) ObjectsTo(parameter string) bool {
	return e.refusesRequest() && (isInvalidRequest(e.Code) || e.mentions(parameter))
}

// Names reports whether a refusal is about one parameter of the request by its words, and not
// perhaps by its code alone as with ObjectsTo. Words such as "the resource was not found" do not
// count, unless the code, or a status of 400 or 422, says that it is about the request.
func (e *SignInError) Names(parameter string) bool {
	aboutRequest := isInvalidRequest(e.Code) || e.Status == http.StatusBadRequest || e.Status == http.StatusUnprocessableEntity
	switch strings.ToLower(e.Code) {
	case "invalid_target", "invalid_resource":
		aboutRequest = true
	case "invalid_grant", "invalid_client", "unauthorized_client", "access_denied", "invalid_scope":
		aboutRequest = e.Stage != StageAuthorize && e.namesEntraResource()
	}
	return aboutRequest && e.refusesRequest() && e.mentions(parameter)
}

func isInvalidRequest(code string) bool {
	return strings.ReplaceAll(strings.ToLower(code), " ", "_") == "invalid_request"
}

// refusesRequest reports whether e is a server's refusal that may be about what the request holds:
// an answer, or a redirect of the browser, which has no status.
func (e *SignInError) refusesRequest() bool {
	refusal := e.Status/100 == 4 || e.Refused && (e.Status/100 == 2 || e.Status == 0 && e.Stage == StageAuthorize && e.Err == nil)
	return refusal && e.Status != http.StatusTooManyRequests && !e.Page && !e.TooEarly()
}

// mentions reports whether the code or the words of a refusal name a parameter.
func (e *SignInError) mentions(parameter string) bool {
	if names(e.Code, parameter) || names(e.words(), parameter) {
		return true
	}
	if parameter != "resource" {
		return false
	}
	code := strings.ToLower(e.Code)
	return code == "invalid_target" || code == "invalid_resource" || e.namesEntraResource()
}

// namesEntraResource reports whether an error of Entra ID is about the resource parameter.
func (e *SignInError) namesEntraResource() bool {
	entra := func(number string) bool { return names(e.words(), "AADSTS"+number) || names(e.Code, "AADSTS"+number) }
	return slices.ContainsFunc(entraResource, entra)
}

// aboutClient reports whether a refusal may be about how the client showed itself. It does if it
// says so, or if it is a 401 whose code is not about anything else.
func (e *SignInError) aboutClient() bool {
	if !e.Refused && !(e.Page && e.Status == http.StatusUnauthorized) { // a framework sends such a page, and no firewall
		return false
	}
	switch code := strings.ToLower(e.Code); code {
	case "invalid_client":
		return true
	case CodeBadReply, "invalid_request", "unauthorized", "unauthorized_client", "authentication_failed", "bad_request",
		"invalid_credentials", "invalid_client_credentials", "incorrect_client_credentials", "invalid_client_secret", "invalid_client_id":
		return e.Status == http.StatusUnauthorized || code != CodeBadReply && code != "invalid_request" && code != "bad_request" ||
			slices.ContainsFunc(clientWords, func(word string) bool { return names(e.words(), word) })
	}
	return false
}

// clientWords are about how a client shows itself.
var clientWords = []string{"client_id", "client_secret", "client id", "client secret", "client authentication",
	"client credentials", "authorization header", "basic auth", "basic authentication"}

// entraResource are the numbers of Entra ID's errors that are about the resource parameter: it
// does not match the scopes, it is not supported, or it is not known.
var entraResource = []string{"9010010", "901002", "500011", "50001"}

// TooEarly reports whether a refresh was refused because the access token has not expired yet. Then
// both tokens are still good, provided that the access token really has not expired. If it has, the
// caller asks EndsRefreshToken instead.
func (e *SignInError) TooEarly() bool {
	if e.Stage != StageRefresh || e.Status/100 == 5 || e.Status == 0 {
		return false
	}
	if e.Status == http.StatusTooEarly {
		return true
	}
	text := strings.ToLower(e.Code + " " + e.words())
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && r != '\'' }), " ")
	within := func(words string) bool { return strings.Contains(text, words) }
	aboutRefresh := within("refresh token") && !within("access token")
	return !aboutRefresh && slices.ContainsFunc(earlyWords, within) && !slices.ContainsFunc(adviceWords, within)
}

// earlyWords are how servers say that the access token still lives.
var earlyWords = []string{
	"not expired", "not yet expired", "hasn't expired", "isn't expired", "not been expired", "has yet to expire",
	"not expire yet", "token still valid", "token is still valid", "token is still active", "token still active",
	"token is not due", "too early", "unexpired access", "only be used after", "used only after", "wait until the access token",
}

// adviceWords are how servers tell what a good token would be like, as in "make sure that the token
// has not expired".
var adviceWords = []string{"make sure", "ensure", "verify", "check", "must be"}

// UnknownClient reports whether an error says that the server does not know our client. The code
// invalid_client says so, and in a redirect unauthorized_client does, too. If the code says nothing
// of its own, the words count, as in "Client not found".
func (e *SignInError) UnknownClient() bool {
	if e.Status >= http.StatusInternalServerError || e.Page {
		return false
	}
	code := strings.ToLower(e.Code)
	switch code {
	case "invalid_client", "unknown_client", "client_not_found", "invalid_client_id":
		return true
	case "unauthorized_client":
		return e.Stage == StageAuthorize || unknownClientIn(e.words())
	case "", CodeBadReply, "invalid_request", "bad_request", "not_found", "unauthorized":
		return unknownClientIn(e.words())
	}
	return false
}

// unknownClientIn reports whether text says that a client is not known.
func unknownClientIn(text string) bool {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && r != '_' && r != '\'' })
	for i, w := range words {
		if w != "client" && w != "client_id" && w != "clientid" && w != "application" {
			continue
		}
		around := " " + strings.Join(words[max(i-3, 0):min(i+9, len(words))], " ") + " "
		within := func(phrase string) bool { return strings.Contains(around, phrase) }
		if slices.ContainsFunc(unknownWords, within) || i > 0 && words[i-1] == "invalid" {
			return true
		}
	}
	return false
}

// unknownWords are how servers say that they do not know a client.
var unknownWords = []string{" unknown ", " not found ", " not registered ", " unregistered ", " no such ", " not exist ", "n't exist ",
	" unrecognized ", " unrecognised ", " not recognized ", " not recognised ", " not known ", " no longer "}

// words returns all that the server said: more than Description, which is cut.
func (e *SignInError) words() string { return e.Description + " " + e.allWords }

// names reports whether text has the word, in any case. Letters, digits and underscores make up a
// word.
func names(text, word string) bool {
	text, word = strings.ToLower(text), strings.ToLower(word)
	for from := 0; ; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return false
		}
		i += from
		from = i + len(word)
		if !inWord(text, i-1) && !inWord(text, from) {
			return true
		}
	}
}

// inWord reports whether the byte at i is part of a word.
func inWord(text string, i int) bool {
	return i >= 0 && i < len(text) && (text[i] == '_' || text[i] >= 'a' && text[i] <= 'z' || text[i] >= '0' && text[i] <= '9')
}

// momentary reports whether an error code says "later", not "no".
func momentary(code string) bool {
	switch strings.ToLower(code) {
	case "server_error", "internal_error", "internal_server_error", "fatal_error":
		return true
	}
	return unavailable(code) || rateLimited(code)
}

// unavailable reports whether an error code says that the server is away for a while.
func unavailable(code string) bool {
	switch strings.ToLower(code) {
	case "temporarily_unavailable", "service_unavailable", "request_timeout", "timeout":
		return true
	}
	return false
}

// rateLimited reports whether an error code says that we ask too often.
func rateLimited(code string) bool {
	plain := strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(code))
	plain = strings.TrimSuffix(strings.TrimSuffix(plain, "exception"), "error")
	switch plain {
	case "slowdown", "ratelimited", "ratelimit", "ratelimiting", "ratelimitexceeded", "userratelimitexceeded", "overrequestratelimit",
		"toomanyrequests", "throttled", "throttling", "requestthrottled", "limitexceeded", "requestlimitexceeded", "overloaded":
		return true
	}
	return false
}

// saysTooOften reports whether the words of a refusal say that we ask too often. Some servers say
// so beside a code that says "no", such as access_denied.
func saysTooOften(words string) bool {
	words = strings.ToLower(words)
	return slices.ContainsFunc(limitWords, func(phrase string) bool { return strings.Contains(words, phrase) })
}

// limitWords are how servers say that we ask too often. The last two are numbers of Entra ID.
var limitWords = []string{"too many requests", "rate limit", "ratelimit", "rate exceeded", "request limit", "throttled", "throttling",
	"aadsts50196", "aadsts90055"}

// askedTooOften reports whether the server says that we ask too often, or asks us to wait.
func (e *SignInError) askedTooOften() bool {
	return rateLimited(e.Code) || e.RetryAfter > 0 || saysTooOften(e.words())
}
