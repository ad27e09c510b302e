package asclient

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// busyServer answers the first requests with status and one header field, and then grants a token.
func busyServer(t *testing.T, times, status int, name, value string) (c *Client, asked *int) {
	asked = new(int)
	return testClient(t, func(*http.Request) (*http.Response, error) {
		if *asked++; *asked > times {
			return reply(`{"access_token":"a","refresh_token":"r2"}`), nil
		}
		resp := reply(`{}`)
		resp.StatusCode, resp.Header = status, http.Header{name: {value}, "Date": {"Sat, 01 Jan 2000 00:00:00 GMT"}}
		return resp, nil
	}), asked
}

func TestBusyServerIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		name, field, value string
		status, times      int
		want               time.Duration // all pauses; 0: the refresh fails at once
		requests           int
	}{
		{"seconds", "Retry-After", "7", 429, 1, 7 * time.Second, 2},
		{"each time longer", "Retry-After", "1", 503, 3, 7 * time.Second, 4},
		{"zero", "Retry-After", "0", 425, 1, time.Second, 2},
		{"negative", "Retry-After", "-60", 429, 1, time.Second, 2},
		{"fraction", "Retry-After", " 2.5 ", 429, 1, 2500 * time.Millisecond, 2},
		{"date by the server's clock", "Retry-After", "Sat, 01 Jan 2000 00:00:09 GMT", 503, 1, 9 * time.Second, 2},
		{"date in the past", "Retry-After", "Fri, 31 Dec 1999 23:00:00 GMT", 503, 1, time.Second, 2},
		{"milliseconds", "Retry-After-Ms", "1500", 429, 1, 1500 * time.Millisecond, 2},
		{"reset in seconds", "Ratelimit-Reset", "12", 429, 1, 12 * time.Second, 2},
		{"reset after", "X-Ratelimit-Reset-After", "1.25", 429, 1, 1250 * time.Millisecond, 2},
		{"reset at a time", "X-Ratelimit-Reset", "946684805", 429, 1, 5 * time.Second, 2},
		{"reset at a time in milliseconds", "X-Rate-Limit-Reset", "946684805000", 429, 1, 5 * time.Second, 2},
		{"gateway", "Retry-After", "3", 502, 1, 3 * time.Second, 2},
		{"as long as is allowed", "Retry-After", "45", 429, 1, 45 * time.Second, 2},

		{"too long", "Retry-After", "46", 429, 1, 0, 1},
		{"absurd", "Retry-After", "1e300", 429, 1, 0, 1},
		{"more than a number", "Retry-After", "1e999", 429, 1, 0, 1},
		{"no number", "Retry-After", "soon", 429, 1, 0, 1},
		{"NaN", "Retry-After", "NaN", 429, 1, 0, 1},
		{"nothing", "X-Other", "", 429, 1, 0, 1},
		{"reset of another status", "Ratelimit-Reset", "5", 503, 1, 0, 1},
		{"a refusal", "Retry-After", "5", 401, 1, 0, 1},
		{"firewall", "Retry-After", "5", 403, 1, 5 * time.Second, 2},
		{"overloaded", "Retry-After", "5", 529, 1, 5 * time.Second, 2},
		{"for ever", "Retry-After", "1", 429, 99, 31 * time.Second, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, asked := busyServer(t, tt.times, tt.status, tt.field, tt.value)
				c.Now = time.Now
				begin := time.Now()
				_, err := c.Refresh(t.Context(), Server{TokenEndpoint: "https://as.example/t"}, Credentials{ID: "me"}, Token{Refresh: "r"}, "")
				served := tt.times < tt.requests
				if took := time.Since(begin); took != tt.want || *asked != tt.requests || (err == nil) != served {
					t.Errorf("got %v and %d requests, %v, want %v and %d", took, *asked, err, tt.want, tt.requests)
				}
			})
		})
	}
}

// Whoever waits for a busy server can give up, and a deadline that comes first is not waited for.
func TestWaitForABusyServerCanBeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, asked := busyServer(t, 9, 429, "Retry-After", "20")
		s, who := Server{TokenEndpoint: "https://as.example/t"}, Credentials{ID: "me"}
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(2*time.Second, func() { cancel(enough) })
		begin := time.Now()
		_, err := c.Refresh(ctx, s, who, Token{Refresh: "r"}, "")
		if took := time.Since(begin); !errors.Is(err, enough) || took != 2*time.Second || *asked != 1 {
			t.Errorf("cancelled: got %v after %v and %d requests", err, took, *asked)
		}
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		begin = time.Now()
		_, err = c.Refresh(ctx, s, who, Token{Refresh: "r"}, "")
		e, _ := errors.AsType[*SignInError](err)
		if took := time.Since(begin); took != 0 || e == nil || e.Status != 429 || e.RetryAfter != 20*time.Second || e.EndsRefreshToken() {
			t.Errorf("deadline: got %v after %v", err, took)
		}
	})
}

// A code is sent again, because it costs the person a login page. The answer that counts is the
// one which says the cause.
func TestCodeIsSentAgain(t *testing.T) {
	const granted = `200 {"access_token":"a"}`
	for _, tt := range []struct {
		name     string
		answers  []string // status and body; the last one is repeated
		resource string
		want     string // the code of the error
		requests int
	}{
		{"busy", []string{`429 {}`, granted}, "", "", 2},
		{"away", []string{`503 `, granted}, "", "", 2},
		{"page", []string{`403 <!doctype html>`, granted}, "", "", 2},
		{"closed", []string{"down", granted}, "", "", 2},
		{"slow down", []string{`400 {"error":"slow_down"}`, granted}, "", "", 2},
		{"rate limit with status 200", []string{`200 {"error":"rate_limited"}`, granted}, "", "", 2},
		{"busy for ever", []string{`429 {}`}, "", CodeBadReply, 2},
		{"away, and the code is spent", []string{`502 `, `400 {"error":"invalid_grant"}`}, "", CodeBadReply, 2},
		{"busy, then a refusal", []string{`429 {}`, `400 {"error":"invalid_scope"}`}, "", "invalid_scope", 2},
		{"refused", []string{`400 {"error":"invalid_grant"}`}, "", "invalid_grant", 1},
		{"login wall", []string{`302 `}, "", CodeBadReply, 1},
		{"resource", []string{`400 {"error":"invalid_request","error_description":"Unknown parameter: resource"}`, granted}, testUpstream, "", 2},
		{"resource, and the code is spent", []string{`400 {"error":"invalid_target"}`, `400 {"error":"invalid_grant"}`}, testUpstream, "invalid_target", 2},
		{"resource was not sent", []string{`400 {"error":"invalid_target"}`}, "", "invalid_target", 1},
		{"client", []string{`401 {"error":"invalid_client"}`, `401 {"error":"invalid_client"}`, granted}, "", "", 3},
		{"client for ever", []string{`401 {"error":"invalid_client"}`}, "", "invalid_client", 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			c := testClient(t, func(r *http.Request) (*http.Response, error) {
				answer := tt.answers[min(asked, len(tt.answers)-1)]
				if asked++; answer == "down" {
					return nil, errors.New("connection reset")
				}
				resp := reply(answer[4:])
				resp.StatusCode = map[string]int{"200": 200, "302": 302, "400": 400, "401": 401, "403": 403, "429": 429, "502": 502, "503": 503}[answer[:3]]
				return resp, nil
			})
			c.Now = time.Now
			c.memory.registered.Store("me", c.now())
			_, err := c.RedeemCode(t.Context(), Server{TokenEndpoint: "https://as.example/t"}, Credentials{ID: "me"}, Code{Code: "code", Resource: tt.resource})
			e, _ := errors.AsType[*SignInError](err)
			if asked != tt.requests || (e == nil) != (tt.want == "") || e != nil && e.Code != tt.want {
				t.Errorf("%s: got %v after %d requests, want code %q after %d", tt.name, err, asked, tt.want, tt.requests)
			}
		})
	}
}

// The person's own word for the resource is never left out, and an older client that is refused is
// not shown again.
func TestWhatIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, refusal := 0, `{"error":"invalid_target"}`
		c := testClient(t, func(*http.Request) (*http.Response, error) {
			asked++
			resp := reply(refusal)
			resp.StatusCode = http.StatusBadRequest
			return resp, nil
		})
		c.Now, c.ResourceGiven = time.Now, true
		s, who := Server{TokenEndpoint: "https://as.example/t"}, Credentials{ID: "me"}
		c.RedeemCode(t.Context(), s, who, Code{Code: "code", Resource: testUpstream})
		c.memory.registered.Store("me", c.now())
		time.Sleep(freshFor)
		refusal = `{"error":"invalid_client"}`
		c.RedeemCode(t.Context(), s, who, Code{Code: "code"})
		c.ResourceGiven, refusal = false, `{"error":"invalid_request"}` // which need not be about the resource
		c.ClientCredentials(t.Context(), s, who, Wanted{Resource: testUpstream})
		if asked != 3 {
			t.Errorf("%d requests, want 3", asked)
		}
	})
}

// A place that never answers holds up no other place, and one that is slow is waited for.
func TestPlacesAreRaced(t *testing.T) {
	const path = "https://as.example/.well-known/"
	for name, tt := range map[string]struct {
		delays map[string]time.Duration
		want   time.Duration
	}{
		"first never answers": {map[string]time.Duration{path + "oauth-authorization-server": time.Hour}, stallTime},
		"all are slow": {map[string]time.Duration{path + "oauth-authorization-server": 20 * time.Second,
			path + "openid-configuration": 25 * time.Second}, 20 * time.Second},
		"hint never answers": {map[string]time.Duration{"https://h/hint": time.Hour}, stallTime},
	} {
		synctest.Test(t, func(t *testing.T) {
			documents := world{wkResource + "/mcp": goodNames, "https://as.example" + wkServer: metadataOf(testIssuer, testIssuer),
				"https://as.example" + wkOpenID: metadataOf(testIssuer, testIssuer)}
			c := testClient(t, func(r *http.Request) (*http.Response, error) {
				select {
				case <-time.After(tt.delays[r.URL.String()]):
					return documents.RoundTrip(r)
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			})
			begin := time.Now()
			f, err := c.FindResource(t.Context(), "https://h/hint")
			if err == nil {
				f, err = c.FindServer(t.Context(), f)
			}
			took := time.Since(begin)
			if err != nil || f.Server.TokenEndpoint == "" || took > tt.want+stallTime || took < tt.want {
				t.Errorf("%s: found %q after %v, want %v; %v", name, f.Server.TokenEndpoint, took, tt.want, err)
			}
		})
	}
}

// What the metadata of RFC 8414 lacks may be in the OpenID document, if that is of the same server.
func TestMetadataIsCompleted(t *testing.T) {
	const rest = `"token_endpoint":"https://as.example/t","authorization_endpoint":"https://as.example/a"`
	const more = `,"registration_endpoint":"https://as.example/r","code_challenge_methods_supported":["S256"]`
	first := `{"issuer":"` + testIssuer + `",` + rest + `}`
	for _, tt := range []struct {
		name, openID string
		want         bool
	}{
		{"same server", `{"issuer":"` + testIssuer + `",` + rest + more + `}`, true},
		{"another issuer", `{"issuer":"https://b.example",` + rest + more + `}`, false},
		{"another token endpoint", strings.Replace(`{"issuer":"`+testIssuer+`",`+rest+more+`}`, "/t", "/t2", 1), false},
		{"registration elsewhere", strings.Replace(`{"issuer":"`+testIssuer+`",`+rest+more+`}`, "as.example/r", "b.example/r", 1), false},
		{"down", "down", false},
	} {
		c := testClient(t, world{testIssuer + wkServer: first, testIssuer + wkOpenID: tt.openID}.RoundTrip)
		f, err := c.FindServer(t.Context(), Finding{Resource: Resource{ID: testUpstream, Servers: []string{testIssuer}}})
		if got := f.Server.RegistrationEndpoint != ""; err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v", tt.name, f.Server, err)
		}
	}
}

// Unusable names among the authorization servers do not count, and are told if there is no other.
func TestUnusableServersAreSkipped(t *testing.T) {
	c := testClient(t, world{testIssuer + wkServer: metadataOf(testIssuer, testIssuer)}.RoundTrip)
	names := []string{"javascript:x", "ftp://a", "http://b.example", "urn:c", "https://u:p@d.example", testIssuer}
	if f, err := c.FindServer(t.Context(), Finding{Resource: Resource{Servers: names}}); err != nil || f.Server.Issuer != testIssuer {
		t.Errorf("got %+v, %v", f.Server, err)
	}
	for name, cleartext := range map[string]bool{"javascript:x": false, "http://b.example": true, "https://u:p@d.example": false} {
		_, err := c.FindServer(t.Context(), Finding{Resource: Resource{Servers: []string{name}}})
		if e, _ := errors.AsType[*SignInError](err); e == nil || e.Code != CodeInsecureURL || e.Cleartext != cleartext {
			t.Errorf("%s: got %#v", name, err)
		}
	}
}

// A redirect to nowhere is told as what it is.
func TestRegistrationThatHasMoved(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307} {
		c := testClient(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/login" {
				return &http.Response{StatusCode: http.StatusMethodNotAllowed, Header: http.Header{}, Body: http.NoBody}, nil
			}
			return &http.Response{StatusCode: status, Header: http.Header{"Location": {"/login"}}, Body: http.NoBody}, nil
		})
		_, err := c.Register(t.Context(), Finding{Server: Server{RegistrationEndpoint: "https://as.example/r"}}, Application{Name: "test"})
		e, _ := errors.AsType[*SignInError](err)
		if e == nil || e.Code != CodeNoClient || !e.Refused || !strings.Contains(e.Description, "redirects to /login") {
			t.Errorf("%d: got %v", status, err)
		}
	}
}

// The words of a redirect name the resource, too.
func TestRedirectNamesTheResource(t *testing.T) {
	for text, want := range map[string]bool{
		"error=invalid_request&error_description=Unknown+parameter:+resource": true,
		"error=invalid_target":                                                                 true,
		"error=invalid_request&error_description=redirect_uri":                                 false,
		"error=access_denied&error_description=the+resource+owner+said+no":                     false,
		"error=invalid_resource&error_description=AADSTS500011":                                true,
		"error=temporarily_unavailable&error_description=the+resource+server+is+not+available": false,
	} {
		q, _ := url.ParseQuery(text)
		if e, _ := errors.AsType[*SignInError](CheckRedirect(Server{Issuer: testIssuer}, q)); e == nil || e.Names("resource") != want {
			t.Errorf("%s: got %v", text, e)
		}
	}
}
