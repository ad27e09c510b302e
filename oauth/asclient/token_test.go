package asclient

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sallyport/oauth/oauthtest"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestLifetime(t *testing.T) {
	for in, want := range map[string]float64{
		"": 0, "null": 0, "0": 0, "-5": 0, `"x"`: 0, "{}": 0, "NaN": 0, "1e300": maxLifetime.Seconds(),
		`"60"`: 60, `" 60 "`: 60, "60": 60, "1.5": 1.5,
	} {
		if got := lifetimeIn(in); got != want {
			t.Errorf("expires_in %s: got %v, want %v", strconv.Quote(in), got, want)
		}
	}
}

func quoted(s string) json.RawMessage { b, _ := json.Marshal(s); return b }

// lifetimeIn returns the seconds of a document with that expires_in.
func lifetimeIn(value string) float64 {
	d, _ := readDocument([]byte(`{"expires_in":` + value + `}`))
	return d.lifetime("expires_in").Seconds()
}

func TestAccountOf(t *testing.T) {
	for claims, want := range map[string]string{
		`{"sub":"1","preferred_username":"ada"}`: "ada",
		`{"sub":"1"}`:                            "1",
		`{"sub":"1","email":"a\u001b[31m"}`:      "1",
		`{"sub":1}`:                              "1",
		`[]`:                                     "",
	} {
		if got := accountOf(quoted("x." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".y")); got != want {
			t.Errorf("%s: got %q, want %q", claims, got, want)
		}
	}
	for _, token := range []string{"", "a.b", "a.!.c", "..", "a.e30.c"} {
		if got := accountOf(quoted(token)); got != "" {
			t.Errorf("%q: got %q", token, got)
		}
	}
}

func TestCodeAndRefresh(t *testing.T) {
	_, c := newServer(t, func(*oauthtest.Knobs) {})
	f := find(t, c)
	who := register(t, c, f)
	k := login(t, c, f, who)
	if k.Access == "" || k.Refresh == "" || k.Type != "" || k.Scope != "tools" || !k.Obtained.Equal(start) || !k.Expiry.Equal(start.Add(time.Hour)) {
		t.Errorf("got %#v", k)
	}
	next, err := c.Refresh(t.Context(), f.Server, who, k, f.Resource.ID)
	if err != nil || next.Access == k.Access || next.Refresh == k.Refresh {
		t.Errorf("got %#v, %v", next, err)
	}
	if _, err := c.Refresh(t.Context(), f.Server, who, k, f.Resource.ID); err == nil { // it is spent
		t.Error("a refresh token was taken twice")
	} else if e, ok := errors.AsType[*SignInError](err); !ok || e.Stage != StageRefresh || e.Code != "invalid_grant" || !e.Refused {
		t.Errorf("got %v", err)
	}
}

func TestRefreshKeepsWhatTheAnswerLeavesOut(t *testing.T) {
	c := testClient(t, func(*http.Request) (*http.Response, error) { return reply(`{"access_token":"new"}`), nil })
	old := Token{Access: "old", Refresh: "rt", Scope: "tools", Account: "ada", Expiry: start}
	k, err := c.Refresh(t.Context(), Server{TokenEndpoint: "https://as.example/t"}, Credentials{}, old, "")
	if want := (Token{Access: "new", Refresh: "rt", Scope: "tools", Account: "ada", Obtained: start}); k != want || err != nil {
		t.Errorf("got %#v, want %#v, %v", k, want, err)
	}
}

func TestTokensThatAreNotUsed(t *testing.T) {
	for name, answer := range map[string]string{
		"none":                    `{}`,
		"another type":            `{"access_token":"x","token_type":"mac"}`,
		"bound without our proof": `{"access_token":"x","token_type":"DPoP"}`,
		"not for a header":        `{"access_token":"x\ny"}`,
		"no JSON":                 `<html>`,
	} {
		c := testClient(t, func(*http.Request) (*http.Response, error) { return reply(answer), nil })
		_, err := c.ClientCredentials(t.Context(), Server{TokenEndpoint: "https://as.example/t"}, Credentials{}, Wanted{})
		if e, ok := errors.AsType[*SignInError](err); !ok || e.Code != CodeBadReply {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNoTokenEndpoint(t *testing.T) {
	c := testClient(t, nil)
	_, err := c.ClientCredentials(t.Context(), Server{Issuer: testIssuer}, Credentials{}, Wanted{})
	if _, ok := errors.AsType[*DiscoveryError](err); !ok {
		t.Errorf("got %v", err)
	}
}

func TestTokenAge(t *testing.T) {
	k := Token{Obtained: start, Expiry: start.Add(time.Minute)}
	for _, tt := range []struct {
		after        time.Duration
		due, expired bool
	}{
		{-time.Hour, false, false}, // the clock was set back
		{29 * time.Second, false, false},
		{30 * time.Second, true, false}, // the second half of a short life
		{time.Minute, true, true},
	} {
		now := start.Add(tt.after)
		if k.Due(now, 45*time.Second) != tt.due || k.Expired(now) != tt.expired {
			t.Errorf("after %v: due %t, expired %t", tt.after, k.Due(now, 45*time.Second), k.Expired(now))
		}
	}
	if forever := (Token{Obtained: start}); forever.Due(start.Add(1e6*time.Hour), 0) || forever.Expired(start.Add(1e6*time.Hour)) {
		t.Error("a token without an expiry ages")
	}
}

func TestAssertionIsRedeemedWithoutAClient(t *testing.T) {
	as, c := newServer(t, func(*oauthtest.Knobs) {})
	as.AddAssertion("jwt-0451")
	f := find(t, c)
	want := Wanted{Scopes: []string{"tools"}, Resource: f.Resource.ID}
	if k, err := c.RedeemAssertion(t.Context(), f.Server, Credentials{}, "jwt-0451", want); err != nil || k.Scope != "tools" {
		t.Errorf("got %#v, %v", k, err)
	}
	_, err := c.RedeemAssertion(t.Context(), f.Server, Credentials{}, "another-0451", want)
	if err == nil || strings.Contains(err.Error(), "0451") {
		t.Errorf("got %v", err)
	}
}

func TestIDTokenIsExchangedForAnAssertion(t *testing.T) {
	as, c := newServer(t, func(*oauthtest.Knobs) {})
	as.AddAssertion("id-token-0451")
	c.ExtraParams = map[string]string{"tenant": "7"} // they are the authorization server's alone
	want := Wanted{Scopes: []string{"tools"}, Resource: testUpstream, Audience: testIssuer}
	idp := Server{Issuer: testIssuer, TokenEndpoint: testIssuer + "/token"}
	assertion, err := c.ExchangeIDToken(t.Context(), idp, Credentials{ID: "agent"}, "id-token-0451", want)
	if err != nil || assertion == "" {
		t.Fatalf("got %q, %v", assertion, err)
	}
	q := as.Exchanged()
	for name, want := range map[string]string{"audience": testIssuer, "resource": testUpstream, "scope": "tools", "client_id": "agent", "tenant": ""} {
		if got := q.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	_, err = c.ExchangeIDToken(t.Context(), idp, Credentials{ID: "agent"}, "another-0451", want)
	if e, ok := errors.AsType[*SignInError](err); !ok || e.Stage != StageExchange || !e.Refused || strings.Contains(err.Error(), "0451") {
		t.Errorf("got %v", err)
	}
}

func TestRevocation(t *testing.T) {
	as, c := newServer(t, func(*oauthtest.Knobs) {})
	f := find(t, c)
	who := register(t, c, f)
	k := login(t, c, f, who)
	if err := c.Revoke(t.Context(), f.Server, who, k); err != nil || as.Refreshable(k.Refresh) {
		t.Errorf("refreshable %t, %v", as.Refreshable(k.Refresh), err)
	}
	as.ForgetClients()
	err := c.Revoke(t.Context(), f.Server, who, k)
	if e, ok := errors.AsType[*SignInError](err); !ok || e.Stage != StageRevoke || e.Code != "invalid_client" {
		t.Errorf("got %v", err)
	}
	for _, tt := range []struct {
		status int
		body   string
		ok     bool
	}{{404, "", true}, {405, "", true}, {501, "", true}, {400, `{"error":"unsupported_token_type"}`, true}, {503, "", false}} {
		as.Play(oauthtest.Rule{At: oauthtest.Revoke, Status: tt.status, Body: tt.body})
		if err := c.Revoke(t.Context(), f.Server, who, k); err == nil != tt.ok {
			t.Errorf("status %d %s: %v", tt.status, tt.body, err)
		}
	}
	as.Play()
	before := as.Stats().Revocations
	if err := c.Revoke(t.Context(), f.Server, who, Token{}); err != nil {
		t.Errorf("no token: %v", err)
	}
	f.Server.RevocationEndpoint = ""
	if err := c.Revoke(t.Context(), f.Server, who, k); err != nil {
		t.Errorf("no endpoint: %v", err)
	}
	if got := as.Stats().Revocations; got != before {
		t.Errorf("%d requests that were not needed", got-before)
	}
}

// Whatever an ID token holds, the name that is shown fits on a line.
func FuzzAccountOf(f *testing.F) {
	f.Add(`{"sub":"1","email":"ada@example.org"}`)
	f.Add(`{"sub":"\u001b[31m"}`)
	f.Fuzz(func(t *testing.T, claims string) {
		got := accountOf(quoted("x." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".y"))
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) || len(got) > maxPeerText+len("...") {
			t.Errorf("got %q", got)
		}
	})
}

// idToken makes an unsigned JWT with the claims.
func idToken(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestIDTokenStandsForTheAccessToken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, idToken string
		want          time.Duration // of its life, 0 if unknown
		refused       bool
	}{
		{"with a lifetime", idToken(`{"sub":"ada","iat":1000,"exp":1600}`), 10 * time.Minute, false},
		{"without iat", idToken(`{"sub":"ada","exp":1600}`), 0, false},
		{"it expires before it is issued", idToken(`{"sub":"ada","iat":1600,"exp":1000}`), 0, false},
		{"times that are no numbers", idToken(`{"sub":"ada","iat":"x"}`), 0, false},
		{"no JWT", "opaque", 0, false},
		{"none", "", 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				json.NewEncoder(w).Encode(map[string]any{"access_token": "opaque-at", "token_type": "DPoP-like", "expires_in": 60,
					"refresh_token": "rt", "id_token": tt.idToken})
			}))
			defer server.Close()
			now := time.Unix(1e9, 0)
			u, _ := url.Parse(server.URL)
			c := &Client{Upstream: u, BearerID: true, Now: func() time.Time { return now }}
			k, err := c.RedeemCode(t.Context(), Server{TokenEndpoint: server.URL}, Credentials{ID: "us"}, Code{Code: "c"})
			if e, ok := errors.AsType[*SignInError](err); tt.refused {
				if !ok || e.Code != CodeBadReply || !e.Refused {
					t.Errorf("got %v, want %s", err, CodeBadReply)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := time.Time{}
			if tt.want > 0 {
				want = now.Add(tt.want)
			}
			if k.Access != tt.idToken || k.Type != "" || k.Refresh != "rt" || !k.Expiry.Equal(want) {
				t.Errorf("got token %q, type %q, expiry %v; want token %q, expiry %v", k.Access, k.Type, k.Expiry, tt.idToken, want)
			}
		})
	}
}
