package asclient

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// registry is a registration endpoint that refuses requests with a member, and says so in words.
func registry(t *testing.T, words string, refuses func(m map[string]any) bool) (*Client, *[]map[string]any) {
	got := new([]map[string]any)
	return testClient(t, func(r *http.Request) (*http.Response, error) {
		var m map[string]any
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		*got = append(*got, m)
		resp := reply(`{"client_id":4711,"client_secret":"","client_secret_expires_at":"0","scope":["x"]}`)
		resp.StatusCode = http.StatusCreated
		if refuses(m) {
			resp.StatusCode, resp.Body = http.StatusBadRequest, io.NopCloser(strings.NewReader(words))
		}
		return resp, nil
	}), got
}

func TestRefusedRegistrationIsTriedWithLess(t *testing.T) {
	t.Parallel()
	has := func(names ...string) func(map[string]any) bool {
		return func(m map[string]any) bool {
			return slices.ContainsFunc(names, func(name string) bool { _, ok := m[name]; return ok })
		}
	}
	refresh := func(m map[string]any) bool {
		grants, _ := m["grant_types"].([]any)
		return slices.Contains(grants, any("refresh_token"))
	}
	several := func(m map[string]any) bool { return len(m["redirect_uris"].([]any)) > 1 }
	all := []string{testRedirect, "http://127.0.0.1:2/callback"}
	for _, tt := range []struct {
		name, words string
		refuses     func(map[string]any) bool
		requests    int    // in all
		keeps       string // a member that stays
	}{
		{"nothing", ``, func(map[string]any) bool { return false }, 1, "application_type"},
		{"application_type, named", `{"error":"invalid_client_metadata","error_description":"unknown field application_type"}`, has("application_type"), 2, "scope"},
		{"refresh_token", `{"error":"invalid_client_metadata","error_description":"grant_types: refresh_token is not allowed"}`, refresh, 2, "scope"},
		{"scope", `{"error":"invalid_scope"}`, has("scope"), 2, "application_type"},
		{"response_types in an array of errors", `{"errors":[{"field":"x","message":"response_types is not known"}]}`, has("response_types"), 2, "scope"},
		{"scope in FastAPI's words", `{"detail":[{"loc":["body","scope"],"msg":"extra fields not permitted"}]}`, has("scope"), 2, "application_type"},
		{"auth method", `{"error":"invalid_client_metadata","error_description":"token_endpoint_auth_method none is not supported"}`, has("token_endpoint_auth_method"), 2, "scope"},
		{"several redirects", `{"error":"invalid_redirect_uri"}`, several, 2, "scope"},
		{"without words", `{"error":"invalid_client_metadata"}`, has("application_type", "scope"), 2, "client_name"},
		{"without an error", ``, has("application_type", "scope"), 2, "client_name"},
		{"name and redirect URI only", `{"error":"invalid_request"}`, has("scope", "application_type", "token_endpoint_auth_method"), 3, "client_name"},
		{"name and redirect URI only, all named", `{"message":["property scope should not exist","property grant_types should not exist"]}`,
			has("scope", "grant_types", "response_types", "token_endpoint_auth_method"), 3, "client_name"},
		{"name and redirect URI only, one named", `{"error":"invalid_client_metadata","error_description":"unknown field scope"}`,
			has("scope", "token_endpoint_auth_method"), 3, "client_name"},
		{"one after the other", `{"error":"invalid_client_metadata","error_description":"scope, at first"}`, has("scope", "application_type"), 3, "client_name"},
	} {
		c, got := registry(t, tt.words, tt.refuses)
		r, err := c.Register(t.Context(), Finding{Server: Server{RegistrationEndpoint: "https://as.example/r"}}, Application{Name: "test", Redirects: all, Scopes: []string{"a", "b"}})
		if err != nil || r.ID != "4711" || r.Expires != 0 || len(*got) != tt.requests {
			t.Errorf("%s: got %+v, %v after %d requests", tt.name, r, err, len(*got))
			continue
		}
		last := (*got)[len(*got)-1]
		if _, ok := last[tt.keeps]; !ok {
			t.Errorf("%s: %s is gone from %v", tt.name, tt.keeps, last)
		}
		if (*got)[0]["scope"] != "a b" || len(last["redirect_uris"].([]any)) != len(r.RedirectURIs) {
			t.Errorf("%s: first %v, last %v, kept %q", tt.name, (*got)[0], last, r.RedirectURIs)
		}
		if wantCovers := last["scope"] == nil; r.Covers([]string{"a", "c"}) != wantCovers || !r.Covers([]string{"b"}) {
			t.Errorf("%s: scopes %q", tt.name, r.Scopes)
		}
	}
}

func TestRegistrationThatIsRefusedForGood(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status   int
		body     string
		want     string // code
		requests int
	}{
		{401, ``, CodeNoClient, 1},
		{403, `{"message":"Forbidden"}`, CodeNoClient, 1},
		{404, ``, CodeNoClient, 1},
		{400, `{"error":"invalid_software_statement"}`, CodeNoClient, 1},
		{400, `{"error":"invalid_request","error_description":"an initial access token is needed"}`, CodeNoClient, 1},
		{400, `{"error":"invalid_redirect_uri"}`, CodeRedirectURI, 2},
		{400, `{"error":"invalid_client_metadata","error_description":"use localhost, not an IP address"}`, CodeRedirectURI, 2},
		{400, `{"error":"invalid_request","error_description":"Redirect URI must use HTTPS: http://127.0.0.1:1"}`, CodeRedirectURI, 2},
		{400, `{"error":"invalid_client_metadata","error_description":"no"}`, "invalid_client_metadata", 3},
		{500, `{"message":"Internal Server Error"}`, CodeBadReply, 3},
		{502, `{"message":"Internal server error"}`, CodeBadReply, 3},
		{502, `<html>Bad Gateway</html>`, CodeBadReply, 1},
		{501, `{"message":"not implemented"}`, CodeBadReply, 1},
		{403, `<html>blocked</html>`, CodeBadReply, 1},
		{429, `{"error":"invalid_client_metadata"}`, "invalid_client_metadata", 1},
		{503, ``, CodeBadReply, 1},
	} {
		requests := 0
		c := testClient(t, func(*http.Request) (*http.Response, error) {
			requests++
			return &http.Response{StatusCode: tt.status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(tt.body))}, nil
		})
		_, err := c.Register(t.Context(), Finding{Server: Server{RegistrationEndpoint: "https://as.example/r"}}, Application{Name: "test", Redirects: []string{testRedirect}, Scopes: []string{"a"}})
		e, ok := errors.AsType[*SignInError](err)
		if !ok || e.Code != tt.want || requests != tt.requests || e.Stage != StageRegister {
			t.Errorf("%d %s: got %v after %d requests", tt.status, tt.body, err, requests)
		}
	}
}

func TestRegistrationIsRedirectedWithinTheOrigin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		to     string
		want   string // the last URL that was posted to
	}{
		{307, "/r/", "https://as.example/r/"},
		{308, "https://as.example/r/", "https://as.example/r/"},
		{307, "http://as.example/r/", "https://as.example/r/"}, // behind a TLS proxy
		{307, "https://evil.example/r", "https://as.example/r"},
		{307, "https://as.example:8443/r", "https://as.example/r"},
		{307, "https://u:p@as.example/r/", "https://as.example/r"},
		{301, "/r/", "https://as.example/r/"},
		{302, "/r/", "https://as.example/r/"},
		{303, "/r/", "https://as.example/r"},
		{302, "https://evil.example/r/", "https://as.example/r"},
		{307, "", "https://as.example/r"},
		{307, "/r", "https://as.example/r"},
	} {
		last, asked := "", 0
		c := testClient(t, func(r *http.Request) (*http.Response, error) {
			asked++
			if last = r.URL.String(); strings.HasSuffix(last, "/r/") {
				return reply(`{"client_id":"me"}`), nil
			}
			return &http.Response{StatusCode: tt.status, Header: http.Header{"Location": {tt.to}}, Body: http.NoBody}, nil
		})
		r, err := c.Register(t.Context(), Finding{Server: Server{RegistrationEndpoint: "https://as.example/r"}}, Application{Name: "test"})
		if last != tt.want || (err == nil) != (r.ID == "me") || asked > (maxMoves+1)*maxRegistrations {
			t.Errorf("%d to %q: ended at %s after %d requests, %v", tt.status, tt.to, last, asked, err)
		}
	}
}

// A server that takes certificates only is registered at for one, in the way that it lists.
func TestRegistrationForACertificate(t *testing.T) {
	t.Parallel()
	for listed, want := range map[string]string{
		AuthTLS:                           AuthTLS,
		AuthSelfSignedTLS:                 AuthSelfSignedTLS,
		AuthSelfSignedTLS + " " + AuthTLS: AuthTLS,
		AuthTLS + " " + AuthBasic:         AuthBasic,
		AuthTLS + " " + AuthNone:          AuthNone,
	} {
		c, got := registry(t, "", func(map[string]any) bool { return false })
		c.Certificate = true
		s := Server{RegistrationEndpoint: "https://as.example/r", AuthMethods: strings.Fields(listed)}
		r, err := c.Register(t.Context(), Finding{Server: s}, Application{Name: "test", Redirects: []string{testRedirect}})
		if err != nil || (*got)[0]["token_endpoint_auth_method"] != want {
			t.Errorf("%s: got %v, %v, want %s", listed, (*got)[0], err, want)
		}
		if q := (call{server: s, who: r.Credentials}); q.who.method(s, c) != AuthNone { // the ID alone, beside the certificate
			t.Errorf("%s: the client is shown by %s", listed, q.who.method(s, c))
		}
	}
}
