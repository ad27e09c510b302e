package explain

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"sallyport/oauth"
	"sallyport/oauth/asclient"
	"sallyport/relay"
)

// upstreamRows explain the HTTP statuses of the upstream.
var upstreamRows = []row{
	onGiven(func(g given, e *relay.StatusError) Explanation {
		status := StatusFailed
		switch e.Status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			status = StatusUnreachable
		}
		return Explanation{Kind: KindStatus, Text: e.Error() + saidBy(e), Status: status, Hints: statusHints(g, e)}
	}),
	probeRow,
}

// probeRow explains what was asked of the upstream in vain. An error below it counts more.
func probeRow(_ given, err error) (Explanation, bool) {
	e, ok := errors.AsType[*relay.ProbeError](err)
	if !ok || e.Err != nil {
		return Explanation{}, false
	}
	return Explanation{Kind: KindOther, Text: e.Text, Hints: e.Hints, Status: StatusFailed}, true
}

// saidBy returns what the challenge of the answer says, as the end of a line.
func saidBy(e *relay.StatusError) string {
	c := challengeOf(e)
	switch {
	case c.Error == "":
		return ""
	case c.Scope != "":
		return ": " + asclient.QuoteCode(c.Error) + ", scope " + asclient.Quote(c.Scope)
	case c.Description != "":
		return ": " + asclient.QuoteCode(c.Error) + ": " + asclient.Quote(c.Description)
	}
	return ": " + asclient.QuoteCode(c.Error)
}

func challengeOf(e *relay.StatusError) asclient.Challenge {
	return asclient.ReadChallenge(http.Header{"Www-Authenticate": {e.Challenge}})
}

// statusHints says what to do about an upstream that answered with an error. It never speaks of an
// account that the request did not show.
func statusHints(g given, e *relay.StatusError) []string {
	switch e.Status {
	case http.StatusUnauthorized:
		if e.HadToken && !g.authorization() {
			return []string{"the upstream takes the sign-in for other requests, and refuses this one: signing in again does not help; " +
				"ask the operator of the upstream, or of the service behind this tool"}
		}
		return unauthorizedHints(g, "sallyport login URL, in a terminal, signs in")
	case http.StatusForbidden:
		return forbiddenHints(g, e)
	case http.StatusOK, http.StatusNotFound, http.StatusMethodNotAllowed:
		return []string{"check the URL: it has to be the MCP endpoint itself, with its path"}
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return []string{"the upstream does not understand the request: the beginning of its answer is in the data of this error"}
	case http.StatusProxyAuthRequired:
		return []string{"the HTTP proxy wants a name and a password: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT"}
	case http.StatusRequestEntityTooLarge:
		return []string{"the upstream does not take requests this large"}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if e.RetryAfter > 0 {
			return []string{fmt.Sprintf("the upstream is busy: ask again in %d s", int(e.RetryAfter/time.Second))}
		}
		return []string{"the upstream is busy: ask again later"}
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return []string{"a gateway does not reach the upstream: ask again later, or tell its operator"}
	}
	if e.Status >= http.StatusInternalServerError {
		return []string{"the upstream failed: ask again, or tell its operator"}
	}
	return nil
}

// unauthorizedHints says what to do if the upstream wants credentials that it did not get, or
// refuses those of the settings. The parameter otherwise is the hint if the settings have no such
// credentials.
func unauthorizedHints(g given, otherwise string) []string {
	switch {
	case g.authorization():
		return []string{"check --header Authorization; without it sallyport signs in"}
	case g.Grant == oauth.GrantNone:
		return []string{"leave out --grant none, and sallyport signs in; or give --header 'Authorization: ...'"}
	}
	return []string{otherwise}
}

// forbiddenHints says what to do about a 403.
func forbiddenHints(g given, e *relay.StatusError) []string {
	switch {
	case !e.HadToken && g.Grant == oauth.GrantNone:
		return []string{"the request had no token, because of --grant none; leave that out, and sallyport signs in where the server asks for it"}
	case !e.HadToken:
		return []string{"the request had no token, and the server asks for none: a firewall may keep you out, or the server wants a --header of its own"}
	case g.authorization():
		return []string{"the credentials of --header Authorization may not do this"}
	case challengeOf(e).Error == "insufficient_scope":
		return hints("the token has too little scope, and more was not granted: sallyport login URL, in a terminal, with another account, or ask the upstream's operator",
			unless(g.Scope == "", "does --scope name what the upstream wants?"))
	case e.Page:
		return []string{"a gateway or firewall before the upstream refuses: ask the operator, with the beginning of its page"}
	}
	return hints("the account that is signed in may not do this: ask the upstream's operator, or use another account: --profile NAME",
		unless(g.Scope != "", "if the operator names a scope for it: --scope 'A B'"))
}
