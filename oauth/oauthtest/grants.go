package oauthtest

import (
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// AddAssertion makes the server take a JWT: as a workload's assertion, or as the ID
// token of a token exchange.
func (s *Server) AddAssertion(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.assertions[text] = true
	s.secrets = append(s.secrets, text)
}

// ForgetAssertions makes the server refuse what AddAssertion made it take.
func (s *Server) ForgetAssertions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.assertions)
}

// Exchanged returns the last token exchange request.
func (s *Server) Exchanged() url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exchanged
}

// Polls returns when a device grant's token was asked for.
func (s *Server) Polls() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.polls
}

// clientAssertion authenticates by private_key_jwt (RFC 7523 section 3); each is good once.
func (s *Server) clientAssertion(f url.Values) *Client {
	text := f.Get("client_assertion")
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA})
	if err != nil || f.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		return nil
	}
	s.secrets = append(s.secrets, text)
	c := s.clients[f.Get("client_id")]
	if c == nil || c.Key == nil || c.KeyAlg != "" && token.Headers[0].Algorithm != c.KeyAlg {
		return nil
	}
	var claims jwt.Claims
	want := jwt.Expected{Issuer: c.ID, Subject: c.ID, AnyAudience: jwt.Audience{s.Issuer}, Time: s.now()}
	if token.Claims(c.Key, &claims) != nil || claims.ValidateWithLeeway(want, 0) != nil || claims.Expiry == nil || claims.ID == "" || s.proofs[claims.ID] {
		return nil
	}
	s.proofs[claims.ID] = true
	return c
}

// device is RFC 8628 section 3.1.
func (s *Server) device(w http.ResponseWriter, r *http.Request) {
	s.stats.Devices++
	c := s.client(r)
	if c == nil {
		fail(w, http.StatusUnauthorized, "invalid_client", "")
		return
	}
	alive, code := true, s.secret("device-")
	s.codes[code] = &grant{client: c.ID, resource: r.PostFormValue("resource"), scope: r.PostFormValue("scope"), family: &alive}
	uri := s.Issuer + "/device"
	reply(w, http.StatusOK, map[string]any{
		"device_code": code, "user_code": "WDJB-MJHT", "verification_uri": uri, "verification_uri_complete": uri + "?user_code=WDJB-MJHT",
		"expires_in": 600, "interval": 3,
	})
}

// deviceToken is RFC 8628 section 3.4.
func (s *Server) deviceToken(w http.ResponseWriter, c *Client, f url.Values, key string) {
	s.polls = append(s.polls, time.Now())
	g := s.codes[f.Get("device_code")]
	if g == nil || g.client != c.ID || g.spent {
		fail(w, http.StatusBadRequest, "invalid_grant", "device code")
		return
	}
	if len(s.knobs.DeviceAnswers) > 0 {
		code := s.knobs.DeviceAnswers[0]
		s.knobs.DeviceAnswers = s.knobs.DeviceAnswers[1:]
		fail(w, http.StatusBadRequest, code, "")
		return
	}
	g.spent, g.key = true, key
	s.issue(w, *g, true)
}

// exchange is RFC 8693 section 2.1, for an identity assertion that Takes then knows.
func (s *Server) exchange(w http.ResponseWriter, f url.Values) {
	s.exchanged = f
	const idToken, idJAG = "urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:id-jag"
	if !s.assertions[f.Get("subject_token")] || f.Get("subject_token_type") != idToken || f.Get("requested_token_type") != idJAG {
		fail(w, http.StatusBadRequest, "invalid_grant", "subject token "+f.Get("subject_token"))
		return
	}
	jag := s.secret("jag-")
	if s.Takes != nil {
		s.Takes.AddAssertion(jag)
	}
	reply(w, http.StatusOK, map[string]any{"access_token": jag, "issued_token_type": idJAG, "token_type": "N_A", "expires_in": 300})
}
