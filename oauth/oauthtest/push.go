package oauthtest

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// pushed is an authorization request that waits for its browser.
type pushed struct {
	params  url.Values
	expires time.Time
}

// Pushed returns the last pushed authorization request.
func (s *Server) Pushed() url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastPush
}

// push is RFC 9126 section 2.
func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	s.stats.Pushes++
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	if r.ParseForm() != nil {
		fail(w, http.StatusBadRequest, "invalid_request", "form")
		return
	}
	f, key := r.PostForm, ""
	s.lastPush = f
	if s.knobs.DPoP || r.Header.Get("DPoP") != "" {
		p, ok := s.proofLocked(w, r, strings.TrimSuffix(s.Issuer, "/")+"/par", "", func(code, why string) { fail(w, http.StatusBadRequest, code, why) })
		if !ok {
			return
		}
		key = p.Thumbprint
	}
	c := s.client(r)
	switch {
	case c == nil:
		fail(w, http.StatusUnauthorized, "invalid_client", "unknown client or wrong authentication")
	case s.knobs.PushError != "":
		fail(w, http.StatusBadRequest, s.knobs.PushError, "you sent "+f.Get("state"))
	case f.Get("client_id") != c.ID || f.Has("request_uri") || f.Get("dpop_jkt") != key:
		fail(w, http.StatusBadRequest, "invalid_request", "not an authorization request of this client")
	default:
		uri, life := s.secret("urn:ietf:params:oauth:request_uri:"), s.knobs.PushLife
		if life == 0 {
			life = time.Minute
		}
		s.pushed[uri] = pushed{f, s.now().Add(life)}
		reply(w, http.StatusCreated, map[string]any{"request_uri": uri, "expires_in": int(life / time.Second)})
	}
}

// pushedLocked returns the parameters that an authorize request with q refers to, once;
// nil: there are none, or q holds more than that.
func (s *Server) pushedLocked(q url.Values) url.Values {
	uri := q.Get("request_uri")
	p, ok := s.pushed[uri]
	delete(s.pushed, uri)
	if !ok || len(q) != 2 || q.Get("client_id") != p.params.Get("client_id") || !s.now().Before(p.expires) {
		return nil
	}
	return p.params
}
