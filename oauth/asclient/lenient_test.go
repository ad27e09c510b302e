package asclient

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// world answers GET requests by URL: with a document, with a status such as "503", or with "down"
// for an error of the network. What it does not know is 404.
type world map[string]string

func (w world) RoundTrip(r *http.Request) (*http.Response, error) {
	body, ok := w[r.URL.String()]
	resp := &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Request: r, Body: io.NopCloser(strings.NewReader(body))}
	switch {
	case body == "down":
		return nil, io.ErrUnexpectedEOF
	case !ok:
		resp.StatusCode = http.StatusNotFound
	case strings.HasPrefix(body, "to "):
		resp.StatusCode, resp.Header = http.StatusFound, http.Header{"Location": {body[3:]}}
	case len(body) == 3:
		resp.StatusCode = http.StatusServiceUnavailable
	}
	return resp, nil
}

const (
	wkResource = "https://h/.well-known/oauth-protected-resource"
	wkServer   = "/.well-known/oauth-authorization-server"
	wkOpenID   = "/.well-known/openid-configuration"
	goodNames  = `{"resource":"https://h/mcp","authorization_servers":["https://as.example"]}`
)

// metadataOf is a document of an issuer whose endpoints are at the URL at.
func metadataOf(issuer, at string) string {
	return `{"issuer":"` + issuer + `","token_endpoint":"` + at + `/t","authorization_endpoint":"` + at + `/a","registration_endpoint":"` + at + `/r"}`
}

func TestDiscoveryGoesOn(t *testing.T) {
	t.Parallel()
	const as, two, other = "https://as.example", "https://two.example", "https://other.example"
	tenants := "https://login.example/{tenantid}/v2.0"
	for _, tt := range []struct {
		name   string
		web    world
		change func(*Client)
		// issuer and id are those of the server that is found. An empty issuer wants the error.
		issuer, id, err string
	}{
		{"hint is down", world{"https://h/prm": "down", wkResource + "/mcp": goodNames, as + wkServer: metadataOf(as, as)}, nil, as, as, ""},
		{"hint is a page", world{"https://h/prm": "<html>", wkResource + "/mcp": goodNames, as + wkServer: metadataOf(as, as)}, nil, as, as, ""},
		{"hint is of another resource", world{"https://h/prm": `{"resource":"https://x/"}`, wkResource + "/mcp": goodNames, as + wkServer: metadataOf(as, as)}, nil, as, as, ""},
		{"hint redirects to cleartext", world{"https://h/prm": "to http://x/", wkResource + "/mcp": goodNames, as + wkServer: metadataOf(as, as)}, nil, as, as, ""},
		{"all is {}", world{wkResource + "/mcp": `{}`, wkResource: `{}`, "https://h" + wkServer: `{}`, "https://h" + wkOpenID: `{}`}, nil, "https://h", "https://h", ""},
		{"all is down", world{"https://h/prm": "down", wkResource + "/mcp": "down", wkResource: "down"}, nil, "", "", "network"},
		{"metadata without a resource", world{wkResource + "/mcp": `{"authorization_servers":"` + as + `"}`, as + wkServer: metadataOf(as, as)}, nil, as, as, ""},
		{"first server is down", world{wkResource + "/mcp": `{"resource":"https://h","authorization_servers":"` + two + ` ` + as + `"}`,
			two + wkServer: "down", two + wkOpenID: "down", as + wkServer: metadataOf(as, as)}, nil, as, as, ""},
		{"first server has cleartext endpoints", world{wkResource + "/mcp": `{"resource":"https://h","authorization_servers":["` + two + `","` + as + `"]}`,
			two + wkServer: metadataOf(two, "http://two.example"), as + wkServer: metadataOf(as, as)}, nil, as, as, ""},
		{"first place is broken", world{wkResource + "/mcp": goodNames, as + wkServer: "down", as + wkOpenID: metadataOf(as, as)}, nil, as, as, ""},
		{"first place has no token endpoint", world{wkResource + "/mcp": goodNames, as + wkServer: `{"issuer":"` + as + `"}`, as + wkOpenID: metadataOf(as, as)}, nil, as, as, ""},
		{"only servers that are down", world{wkResource + "/mcp": goodNames, as + wkServer: "down"}, nil, "", "", "network"},
		{"path is appended", world{wkResource + "/mcp": `{"resource":"https://h","authorization_servers":["` + as + `/x"]}`, as + "/x" + wkServer: metadataOf(as+"/x", as)}, nil, as + "/x", as + "/x", ""},
		{"a slash", world{wkResource + "/mcp": goodNames, as + wkServer: metadataOf(as+"/", as)}, nil, as + "/", as, ""},

		{"nobody names an issuer", world{"https://h" + wkServer: metadataOf(other, other)}, nil, other, "https://h", ""},
		{"nobody, and the code goes to the upstream", world{"https://h" + wkServer: `{"issuer":"` + other + `","token_endpoint":"https://h/t","authorization_endpoint":"` + other + `/a"}`}, nil, "", "", CodeIssuerMismatch},
		{"nobody, and a template", world{"https://h" + wkServer: metadataOf(tenants, "https://login.example")}, nil, "", "", CodeIssuerMismatch},
		{"the upstream names itself", world{wkResource + "/mcp": `{"resource":"https://h/mcp","authorization_servers":["https://h/mcp"]}`, "https://h" + wkServer + "/mcp": metadataOf(other, other)}, nil, "", "", CodeIssuerMismatch},
		{"another issuer", world{wkResource + "/mcp": goodNames, as + wkServer: metadataOf(other, other)}, nil, "", "", CodeIssuerMismatch},
		{"a template", world{wkResource + "/mcp": `{"resource":"https://h","authorization_servers":["https://login.example/all/v2.0"]}`,
			"https://login.example/all/v2.0" + wkOpenID: metadataOf(tenants, "https://login.example")}, nil, "", "", CodeIssuerMismatch},
		{"another resource", world{wkResource + "/mcp": `{"resource":"urn:x","authorization_servers":["` + as + `"]}`, as + wkServer: metadataOf(as, as)}, nil, "", "", CodeResourceMismatch},

		{"another resource, and the person knows", world{wkResource + "/mcp": `{"resource":"urn:x","authorization_servers":["` + as + `"]}`, as + wkServer: metadataOf(as, as)},
			func(c *Client) { c.ResourceGiven = true }, as, as, ""},
		{"vouched, no resource metadata", world{other + wkServer: metadataOf(other, other)}, func(c *Client) { c.Issuer = other }, other, other, ""},
		{"vouched, resource metadata is down", world{wkResource + "/mcp": "down", other + wkServer: metadataOf(other, other)}, func(c *Client) { c.Issuer = other }, other, other, ""},
		{"vouched, of another resource", world{wkResource + "/mcp": `{"resource":"urn:x"}`, other + wkServer: metadataOf(other, other)}, func(c *Client) { c.Issuer = other }, other, other, ""},
		{"vouched, the upstream names another", world{wkResource + "/mcp": goodNames, as + wkServer: metadataOf(as, as), other + wkServer: metadataOf(other+"/", other)}, func(c *Client) { c.Issuer = other }, other + "/", other, ""},
		{"vouched, a template", world{"https://login.example/all/v2.0" + wkOpenID: metadataOf(tenants, "https://login.example")},
			func(c *Client) { c.Issuer = "https://login.example/all/v2.0" }, tenants, "https://login.example/all/v2.0", ""},
		{"vouched, its metadata names another", world{other + wkServer: metadataOf(two, two)}, func(c *Client) { c.Issuer = other }, two, other, ""},
		{"vouched, and only another place is exact", world{other + wkServer: metadataOf(two, two), other + wkOpenID: metadataOf(other, other)}, func(c *Client) { c.Issuer = other }, other, other, ""},
		{"vouched, without metadata", world{wkResource + "/mcp": goodNames, as + wkServer: metadataOf(as, as)}, func(c *Client) { c.Issuer = other }, "", "", "missing"},
		{"vouched, cleartext endpoints", world{other + wkServer: metadataOf(other, "http://other.example")}, func(c *Client) { c.Issuer = other }, "", "", CodeInsecureURL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := testClient(t, tt.web.RoundTrip)
			if tt.change != nil {
				tt.change(c)
			}
			f, err := c.FindResource(t.Context(), "https://h/prm")
			if err == nil {
				f, err = c.FindServer(t.Context(), f)
			}
			got := ""
			if e, ok := errors.AsType[*SignInError](err); ok {
				got = e.Code
			} else if errors.Is(err, io.ErrUnexpectedEOF) {
				got = "network"
			} else if err != nil {
				got = "missing"
			}
			if got != tt.err || f.Server.Issuer != tt.issuer || tt.id != "" && f.Server.ID() != tt.id {
				t.Errorf("got issuer %q, ID %q, %v\ntried %v", f.Server.Issuer, f.Server.ID(), err, f.Tried)
			}
		})
	}
}

// Thousands of servers are not all asked for.
func TestFewServersAreLookedUp(t *testing.T) {
	t.Parallel()
	names := `{"resource":"https://h/mcp","authorization_servers":[` + strings.Repeat(`"https://as.example","https://`+"x.example"+`",`, 20_000) +
		`"https://a.example","https://b.example","https://c.example","https://d.example"]}`
	c := testClient(t, world{wkResource + "/mcp": names}.RoundTrip)
	f, err := c.FindResource(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if f, err = c.FindServer(t.Context(), f); err == nil || len(f.Tried) > 1+2*maxIssuers {
		t.Errorf("%d places were asked, %v", len(f.Tried), err)
	}
}

// The parameter iss (RFC 9207) proves something only if the issuer is named by somebody else than
// the metadata itself.
func TestIssIsAProof(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		s    Server
		want bool
	}{
		{Server{Issuer: testIssuer, SendsIss: true}, true},
		{Server{Issuer: testIssuer}, false},
		{Server{Issuer: testIssuer, SendsIss: true, FoundAt: "https://h"}, false},
		{Server{Issuer: testIssuer, SendsIss: true, Source: FromDefaults}, false},
		{Server{SendsIss: true, Source: FromConfig}, false},
	} {
		if got := tt.s.IssIsProof(); got != tt.want {
			t.Errorf("%+v: got %t", tt.s, got)
		}
	}
	if a := (Server{Issuer: testIssuer, FoundAt: "https://h"}).Audience(); a != "https://h" {
		t.Errorf("an assertion would be for %s, which the metadata alone names", a)
	}
}

func TestEndpointsForCertificates(t *testing.T) {
	t.Parallel()
	const doc = `{"issuer":"https://as.example","token_endpoint":"https://as.example/t","revocation_endpoint":"https://as.example/r",
		"token_endpoint_auth_methods_supported":["self_signed_tls_client_auth"],
		"mtls_endpoint_aliases":{"token_endpoint":"https://mtls.example/t","revocation_endpoint":"http://mtls.example/r"}}`
	var forms, authorizations []string
	for _, certificate := range []bool{false, true} {
		c := testClient(t, func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodGet {
				return world{wkResource + "/mcp": goodNames, testIssuer + wkServer: doc}.RoundTrip(r)
			}
			b, _ := io.ReadAll(r.Body)
			forms, authorizations = append(forms, r.URL.Host+" "+string(b)), append(authorizations, r.Header.Get("Authorization"))
			return reply(`{"access_token":"at"}`), nil
		})
		c.Certificate = certificate
		f := find(t, c)
		if _, err := c.ClientCredentials(t.Context(), f.Server, Credentials{ID: "me", Secret: "s3cret"}, Wanted{}); err != nil {
			t.Fatal(err)
		}
		if certificate && f.Server.RevocationEndpoint != "" {
			t.Errorf("revocation goes to %s", f.Server.RevocationEndpoint)
		}
	}
	if want := []string{"as.example grant_type=client_credentials", "mtls.example client_id=me&grant_type=client_credentials"}; !slices.Equal(forms, want) ||
		authorizations[0] == "" || authorizations[1] != "" {
		t.Errorf("got %q, %q", forms, authorizations)
	}
}

// If only the metadata names the issuer, the client's JWT is of no use to anybody but the endpoint
// that it is sent to.
func TestAudienceOfTheClientsJWT(t *testing.T) {
	t.Parallel()
	key, _ := newKey([]string{"ES256"})
	for _, tt := range []struct {
		s    Server
		want string
	}{
		{Server{Issuer: testIssuer, TokenEndpoint: "https://as.example/t"}, testIssuer},
		{Server{Issuer: testIssuer, FoundAt: "https://h", TokenEndpoint: "https://as.example/t"}, "https://h/par"},
		{Server{Source: FromConfig, TokenEndpoint: "https://as.example/t"}, "https://as.example/t"},
	} {
		jwt, err := call{server: tt.s, endpoint: "https://h/par", who: Credentials{ID: "me", Key: key}}.assertion(start)
		if got := claimsOf(jwt).text("aud"); got != tt.want || err != nil {
			t.Errorf("%+v: got %q, %v", tt.s, got, err)
		}
	}
}

// An issuer on this machine that the person vouches for is asked in cleartext. No other server on
// this machine is.
func TestVouchedIssuerOnLoopback(t *testing.T) {
	t.Parallel()
	const here, there = "http://127.0.0.1:9", "http://127.0.0.1:10"
	for at, want := range map[string]string{here: "", there: CodeInsecureURL} {
		c := testClient(t, world{here + wkServer: metadataOf(here, at)}.RoundTrip)
		c.Issuer = here
		f, err := c.FindServer(t.Context(), Finding{})
		e, _ := errors.AsType[*SignInError](err)
		if (e != nil) != (want != "") || e != nil && e.Code != want || want == "" && f.Server.TokenEndpoint != at+"/t" {
			t.Errorf("endpoints at %s: got %+v, %v", at, f.Server, err)
		}
	}
}

// A host that never answers is asked at each place, one after another begins, and no longer than
// one place takes.
func TestSilentHostIsNotWaitedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testClient(t, func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		begin := time.Now()
		f, err := c.FindServer(t.Context(), Finding{Resource: Resource{ID: testUpstream, Servers: []string{testIssuer + "/x"}}})
		if took, want := time.Since(begin), replyTimeout+4*stallTime; err == nil || len(f.Tried) != 5 || took != want {
			t.Errorf("%d places in %v, want %v; %v", len(f.Tried), took, want, err)
		}
	})
}

// HTTP libraries quote an answer that is not HTTP, and it may be an echo of a secret.
func TestErrorOfTheNetworkHoldsNoSecret(t *testing.T) {
	t.Parallel()
	c := testClient(t, func(*http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("malformed HTTP response %q: %w", "rt-0451", io.ErrUnexpectedEOF)
	})
	_, err := c.Refresh(t.Context(), Server{TokenEndpoint: "https://as.example/t"}, Credentials{ID: "me"}, Token{Refresh: "rt-0451"}, "")
	if !errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "0451") {
		t.Errorf("got %v", err)
	}
}
