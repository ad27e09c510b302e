package relay

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"

	"sallyport/relay/rawjson"
)

// credentials tell one Authorization header from another. They are zero if there was none.
type credentials [sha256.Size]byte

// credentialsOf returns those of the request that resp answers, as it was sent.
func credentialsOf(resp *http.Response) (c credentials) {
	if resp.Request != nil && resp.Request.Header.Get("Authorization") != "" {
		c = sha256.Sum256([]byte(resp.Request.Header.Get("Authorization")))
	}
	return c
}

// kindSet is a set of kinds of requests, as kindOf names them. It holds maxKinds at most. Its
// methods may be called concurrently.
type kindSet struct {
	mu    sync.Mutex
	kinds map[string]bool
}

const maxKinds = 64

// has reports whether the kind of a request is in the set.
func (s *kindSet) has(m rawjson.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kinds) > 0 && s.kinds[kindOf(m.Raw)]
}

// set puts the kind of a request into the set, or takes it out.
func (s *kindSet) set(m rawjson.Message, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !in && len(s.kinds) == 0:
	case !in:
		delete(s.kinds, kindOf(m.Raw))
	case len(s.kinds) < maxKinds:
		if s.kinds == nil {
			s.kinds = make(map[string]bool)
		}
		s.kinds[kindOf(m.Raw)] = true
	}
}

// endsSession reports whether resp, which answers m, says that the server does not know sess any
// more. A 401 or 403 need not say so: a server may answer it to requests of this kind in any
// session. If a new session has not helped before, or if only the token is another one than at
// initialize, a ping in sess shows whether the session is there. The body can still be read.
func (h *legacyHTTP) endsSession(ctx context.Context, sess upstreamSession, m rawjson.Message, resp *http.Response) bool {
	otherToken := resp.StatusCode == http.StatusForbidden && sess.id != "" && !hasBearerChallenge(resp) &&
		sess.opener != (credentials{}) && credentialsOf(resp) != sess.opener
	if resp.StatusCode/100 == 2 {
		h.unhelped.set(m, false)
	}
	switch lost := h.lost(sess, resp); {
	case lost && (resp.StatusCode != http.StatusUnauthorized || !h.unhelped.has(m)):
		return true
	case lost || otherToken:
		return !h.answersPing(ctx, sess)
	}
	return false
}

// noteOutcome notes whether m, which resp answers, was helped by the new session sess.
func (h *legacyHTTP) noteOutcome(sess upstreamSession, m rawjson.Message, resp *http.Response) {
	switch {
	case resp.StatusCode/100 == 2:
		h.unhelped.set(m, false)
	case resp.StatusCode == http.StatusUnauthorized && sess.id != "":
		h.unhelped.set(m, true)
	}
}

// answersPing reports whether the server takes a ping in sess.
func (h *legacyHTTP) answersPing(ctx context.Context, sess upstreamSession) bool {
	ctx, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	resp, err := h.post(ctx, new(phase), sess, requestLine(rawjson.Quote("sallyport-"+rand.Text()), "ping", nil))
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode/100 == 2
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
