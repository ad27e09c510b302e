package asclient

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
)

func TestAuthMethod(t *testing.T) {
	secret, key := Credentials{ID: "c", Secret: "s"}, new(Key)
	for _, tt := range []struct {
		name   string
		method string // Client.SecretMethod
		server Server
		who    Credentials
		want   string
	}{
		{"no secret", AuthBasic, Server{}, Credentials{ID: "c"}, AuthNone},
		{"style header", AuthBasic, Server{AuthMethods: []string{AuthPost}}, secret, AuthBasic},
		{"style body", AuthPost, Server{AuthMethods: []string{AuthBasic}}, secret, AuthPost},
		{"as registered", "", Server{AuthMethods: []string{AuthBasic, AuthPost}}, Credentials{Secret: "s", Method: AuthPost}, AuthPost},
		{"given endpoints", "", Server{Source: FromConfig}, secret, AuthPost},
		{"nothing advertised", "", Server{}, secret, AuthBasic},
		{"both advertised", "", Server{AuthMethods: []string{AuthPost, AuthBasic}}, secret, AuthBasic},
		{"only none advertised", "", Server{AuthMethods: []string{AuthNone}}, secret, AuthNone},
		{"key, nothing advertised", "", Server{}, Credentials{ID: "c", Key: key}, AuthPrivateKey},
		{"key before a secret", "", Server{AuthMethods: []string{AuthPost, AuthPrivateKey}}, Credentials{ID: "c", Secret: "s", Key: key}, AuthPrivateKey},
		{"secret where the key is not taken", "", Server{AuthMethods: []string{AuthPost}}, Credentials{ID: "c", Secret: "s", Key: key}, AuthPost},
		{"as registered, an unknown method", "", Server{AuthMethods: []string{AuthPost}}, Credentials{Secret: "s", Method: "client_secret_jwt"}, AuthPost},
		{"post advertised", "", Server{AuthMethods: []string{AuthNone, AuthPost}}, secret, AuthPost},
	} {
		if got := tt.who.method(tt.server, &Client{SecretMethod: tt.method}); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// wayOf names how a request shows its client.
func wayOf(r *http.Request) string {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	_, secret, basic := r.BasicAuth()
	switch {
	case basic && secret == url.QueryEscape("s/%+"):
		return "basic"
	case basic && secret == "s/%+":
		return "raw"
	case form.Get("client_secret") != "":
		return "post"
	case form.Get("client_assertion") != "":
		return claimsOf(form.Get("client_assertion")).text("aud")
	}
	return "none" + secret
}

// A server that refuses the client is asked once more, with the client shown in another way.
func TestClientThatIsRefusedIsShownInAnotherWay(t *testing.T) {
	synctest.Test(t, testOtherWays)
}

func testOtherWays(t *testing.T) {
	key, ok := newKey([]string{"ES256"})
	if !ok {
		t.Fatal("no key")
	}
	const endpoint, refusal = "https://as.example/t", `401 {"error":"invalid_client"}`
	secret := Credentials{ID: "me", Secret: "s/%+"}
	for _, tt := range []struct {
		name    string
		who     Credentials
		methods string
		style   string // Client.SecretMethod
		refusal string
		takes   string // the way that is right
		want    string // the ways of a code and two refreshes
		code    string
	}{
		{"first way", secret, "", "", refusal, "basic", "basic basic basic", ""},
		{"body only, nothing listed", secret, "", "", refusal, "post", "basic post post post", ""},
		{"body only, both listed", secret, AuthBasic + " " + AuthPost, "", refusal, "post", "basic post post post", ""},
		{"header only, registered for the body", Credentials{ID: "me", Secret: "s/%+", Method: AuthPost}, "", "", refusal, "basic", "post basic basic basic", ""},
		{"secret needed, registered for none", Credentials{ID: "me", Secret: "s/%+", Method: AuthNone}, "", "", refusal, "post", "none post post post", ""},
		{"not decoded, header listed", secret, AuthBasic, "", refusal, "raw", "basic post raw raw raw", ""},
		{"not decoded, both listed", secret, AuthBasic + " " + AuthPost, "", refusal, "raw", "basic post raw raw raw", ""},
		{"nothing to encode", Credentials{ID: "me", Secret: "secret"}, "", "", refusal, "", "nonesecret post", "invalid_client"},
		{"without a word", secret, "", "", "401 ", "post", "basic post post post", ""},
		{"with a page", secret, "", "", "401 <!doctype html><title>401 Unauthorized</title>", "post", "basic post post post", ""},
		{"page of a firewall", secret, "", "", "403 <!doctype html><title>Just a moment...</title>", "post", "basic basic", CodeBadReply},
		{"a parameter is missing", secret, "", "", `400 {"error":"invalid_request","error_description":"client_secret is required"}`, "post", "basic post post post", ""},
		{"the key's audience", Credentials{ID: "me", Key: key}, "", "", refusal, endpoint, testIssuer + " " + endpoint + " " + endpoint + " " + endpoint, ""},
		{"given by a person", secret, "", AuthBasic, refusal, "post", "basic", "invalid_client"},
		{"no secret", Credentials{ID: "me"}, "", "", refusal, "post", "none", "invalid_client"},
		{"none of them", secret, "", "", refusal, "", "basic post raw", "invalid_client"},
		{"another cause", secret, "", "", `400 {"error":"invalid_grant"}`, "post", "basic", "invalid_grant"},
		{"another cause with 401", secret, "", "", `401 {"error":"invalid_grant","error_description":"client_id"}`, "post", "basic", "invalid_grant"},
		{"for a moment", secret, "", "", `503 {"error":"invalid_client"}`, "post", "basic basic", "invalid_client"},
	} {
		var ways []string
		c := testClient(t, func(r *http.Request) (*http.Response, error) {
			way := wayOf(r)
			if ways = append(ways, way); way == tt.takes {
				return reply(`{"access_token":"a","refresh_token":"r"}`), nil
			}
			resp := reply(tt.refusal[4:])
			fmt.Sscan(tt.refusal[:3], &resp.StatusCode)
			return resp, nil
		})
		c.SecretMethod = tt.style
		s := Server{Issuer: testIssuer, TokenEndpoint: endpoint, AuthMethods: strings.Fields(tt.methods)}
		k, err := c.RedeemCode(t.Context(), s, tt.who, Code{Code: "code"})
		if err == nil {
			if k, err = c.Refresh(t.Context(), s, tt.who, k, ""); err == nil {
				c.memory.ways.Clear() // as in another process
				_, err = c.Refresh(t.Context(), s, tt.who, k, "")
			}
		}
		e, _ := errors.AsType[*SignInError](err)
		if got := strings.Join(ways, " "); got != tt.want || (e == nil) != (tt.code == "") || e != nil && e.Code != tt.code {
			t.Errorf("%s: got %s, %v, want %s, code %q", tt.name, got, err, tt.want, tt.code)
		}
	}
}

// A server may spend the code before it refuses the client. Then the first cause is told, and the
// next code is shown in the other way at once.
func TestCodeThatIsSpentByTheRefusalOfTheClient(t *testing.T) {
	t.Parallel()
	var ways []string
	spent := make(map[string]bool)
	c := testClient(t, func(r *http.Request) (*http.Response, error) {
		way := wayOf(r)
		ways = append(ways, way)
		resp := reply(`{"access_token":"a"}`)
		if way != "post" {
			resp = reply(`{"error":"invalid_client"}`)
			resp.StatusCode = http.StatusUnauthorized
		} else if spent["code 1"] && len(ways) < 3 {
			resp = reply(`{"error":"invalid_grant"}`)
			resp.StatusCode = http.StatusBadRequest
		}
		spent["code 1"] = true
		return resp, nil
	})
	s, who := Server{Issuer: testIssuer, TokenEndpoint: "https://as.example/t"}, Credentials{ID: "me", Secret: "s/%+"}
	_, err := c.RedeemCode(t.Context(), s, who, Code{Code: "code 1"})
	if e, ok := errors.AsType[*SignInError](err); !ok || e.Code != "invalid_client" || e.OtherMethod != AuthPost {
		t.Errorf("got %v, want invalid_client with the other method", err)
	}
	k, err := c.RedeemCode(t.Context(), s, who, Code{Code: "code 2"})
	if got := strings.Join(ways, " "); got != "basic post post" || err != nil || k.Way != AuthPost {
		t.Errorf("got %s, way %q, %v", got, k.Way, err)
	}
}

// Requests with a secret follow redirects that keep the method, within their origin.
func TestRedirectOfARequestWithASecret(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		to     string
		asked  int
		words  string
	}{
		{307, "/t/", 2, ""},
		{308, "https://as.example/t/", 2, ""},
		{307, "http://as.example/t/", 2, ""}, // behind a TLS proxy
		{307, "https://evil.example/t/", 1, "redirects to https://evil.example/t/"},
		{307, "https://as.example:8443/t/", 1, "redirects to https://as.example:8443/t/"},
		{307, "https://u:p@as.example/t/", 1, "redirects to /t/"},
		{302, "/t/?code=code-1", 1, "redirects to /t/"},
		{301, "https://as.example/login", 1, "redirects to /login"},
		{303, "", 1, "303"},
		{307, "/t", 3, "redirects to /t"},
	} {
		asked := 0
		c := testClient(t, func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			form, _ := url.ParseQuery(string(body))
			if asked++; r.Method != http.MethodPost || form.Get("code") != "code-1" || r.URL.Scheme != "https" || r.URL.Host != "as.example" {
				t.Errorf("%d to %q: got %s %s with %v", tt.status, tt.to, r.Method, r.URL, form)
			}
			if r.URL.Path == "/t/" {
				return reply(`{"access_token":"a"}`), nil
			}
			return &http.Response{StatusCode: tt.status, Header: http.Header{"Location": {tt.to}}, Body: http.NoBody}, nil
		})
		who := Credentials{ID: "me", Secret: "secret"}
		_, err := c.RedeemCode(t.Context(), Server{Issuer: testIssuer, TokenEndpoint: "https://as.example/t"}, who, Code{Code: "code-1"})
		if (err == nil) != (tt.words == "") || err != nil && !strings.Contains(err.Error(), tt.words) || asked != tt.asked {
			t.Errorf("%d to %q: got %v after %d requests", tt.status, tt.to, err, asked)
		}
	}
}
