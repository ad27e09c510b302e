package relay

import (
	"net/http"
	"strings"

	"sallyport/relay/rawjson"
)

// refusal is what a refused request shows of its session. The request has not run.
type refusal int

const (
	// noRefusal means that the request was not refused, or that sending it again does not help.
	noRefusal refusal = iota
	// sessionLost means that the server does not know the session. The request may be sent again in
	// another one.
	sessionLost
	// tokenRefused means that the token is at fault. The request may be sent again by Config.Send.
	tokenRefused
)

// refusal tells what the refusal resp of a request in sess shows. The body can still be read.
func (h *legacyHTTP) refusal(sess upstreamSession, resp *http.Response) refusal {
	switch {
	case h.lost(sess, resp):
		return sessionLost
	case h.cfg.InSession != nil && sess.id != "" && !sess.bySend && resp.StatusCode == http.StatusForbidden && hasBearerChallenge(resp):
		return tokenRefused
	}
	return noRefusal
}

// lost reports whether resp says that the server does not know sess any more. A server should say
// so with 404 (basic/transports, "Session Management"). The body can still be read.
//
// The status 410 means the same as 404. A 401 may mean it, too: the answer to initialize shows
// whether the token is at fault. A server that answers with any other status has to say it in
// words, and we believe those only of a session that has worked.
func (h *legacyHTTP) lost(sess upstreamSession, resp *http.Response) bool {
	inSession := sess.id != "" || sess.push != nil
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound, status == http.StatusGone:
		return inSession
	case status == http.StatusUnauthorized && sess.id != "":
		return true
	case status/100 != 4 && status/100 != 5:
		return false
	case status == http.StatusTooManyRequests, h.proven.Load() != int64(sess.number), sess.number == 0:
		return false
	case mediaType(resp.Header) == "text/html":
		return false // a gateway's page
	}
	words := refusalWords(resp)
	if resp.StatusCode == http.StatusBadRequest && inSession && strings.Contains(strings.ToLower(words), "session") {
		return true
	}
	return inSession && saysUnknownSession(words) || saysNotInitialized(words)
}

// refusalWords returns the words of the refusal resp: the message of the error in its body, or the
// body. The body can still be read.
func refusalWords(resp *http.Response) string {
	head := peek(resp, maxShown)
	switch e := rawjson.Member(head, "error"); {
	case len(e) > 0 && e[0] == '{':
		return rawjson.MemberText(e, "message")
	case len(e) > 0 && e[0] == '"':
		return rawjson.Text(e)
	}
	return string(head)
}

// deniesSession reports whether m, which came in a successful response to c, is an error that says
// that the server does not know sess any more. Some servers answer so. Their codes are among those
// that the specification leaves to servers, or the code of an invalid request.
func (h *legacyHTTP) deniesSession(sess upstreamSession, c *call, m rawjson.Message) bool {
	code := errorCode(m)
	if m.Kind != rawjson.Response || code != codeInvalid && (code > -32000 || code < -32099) ||
		rawjson.ValidID(m.ID) && !isAnswer(m, c.key) {
		return false
	}
	words := shortText(rawjson.Member(m.Raw, "error", "message"))
	return sess.id != "" && saysUnknownSession(words) || saysNotInitialized(words)
}

// The words of a server that does not know a session. Before the word "session", only words of
// aboutSession may stand, so "browser session not found" is not about ours. And one of unknownWords
// has to stand somewhere.
var (
	aboutSession = wordSet("mcp http streamable transport client server bad request unauthorized forbidden gone conflict error " +
		"no not valid active such invalid unknown expired stale missing unrecognized nonexistent terminated closed found " +
		"or and a an the your this that given provided specified requested for with has been is was existing " +
		"unable to could cannot find")
	unknownWords = wordSet("no not invalid unknown expired stale missing unrecognized nonexistent terminated closed required " +
		"gone lost doesn't isn't wasn't cannot unable ended")
)

func wordSet(list string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(list) {
		set[word] = true
	}
	return set
}

// saysUnknownSession reports whether a server's words say that it does not know the session.
func saysUnknownSession(words string) bool {
	named, unknown := false, false
	for word := range strings.FieldsSeq(strings.ToLower(words)) {
		word = strings.Trim(word, ".,:;!?\"'`()[]{}<>-")
		switch {
		case strings.HasPrefix(word, "session") || word == "mcp-session-id" || word == "mcp-session":
			named = true
		case !named && word != "" && !aboutSession[word]:
			return false
		}
		unknown = unknown || unknownWords[word]
	}
	return named && unknown
}

// saysNotInitialized reports whether a server's words say that it waits for an initialize. A server
// that was started anew says so, whether the request had a session id or not.
func saysNotInitialized(words string) bool {
	words = strings.ToLower(words)
	for _, what := range []string{"server", "session", "client", "connection", "transport"} {
		for _, verb := range []string{" not initialized", " is not initialized", " has not been initialized", " not yet initialized"} {
			if strings.Contains(words, what+verb) {
				return true
			}
		}
	}
	return strings.Contains(words, "request before initialization")
}

// hasBearerChallenge reports whether resp asks for a bearer token (RFC 6750, section 3).
func hasBearerChallenge(resp *http.Response) bool {
	for _, challenge := range resp.Header.Values("WWW-Authenticate") {
		for part := range strings.SplitSeq(challenge, ",") {
			scheme, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			if strings.EqualFold(scheme, "Bearer") {
				return true
			}
		}
	}
	return false
}
