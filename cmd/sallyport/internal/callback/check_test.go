package callback

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
)

const (
	testState    = "s-0123456789abcdefghijklmn"
	testRedirect = "http://127.0.0.1:53682/callback/x"
	testQuery    = "response_type=code&client_id=c&code_challenge=ch&code_challenge_method=S256&state=" + testState +
		"&redirect_uri=http%3A%2F%2F127.0.0.1%3A53682%2Fcallback%2Fx"
	testLink = "https://login.example/authorize?" + testQuery
)

func testMessage() helper.Message {
	return helper.Message{Type: helper.TypeLogin, AuthorizeURL: testLink, RedirectURI: testRedirect, State: testState,
		Issuer: "https://login.example", Expires: time.Now().Add(time.Minute)}
}

// What a HOST may ask for, and in which words the rest is refused.
func TestCheckLogin(t *testing.T) {
	link := func(old, new string) func(*helper.Message) {
		return func(m *helper.Message) {
			changed := strings.Replace(m.AuthorizeURL, old, new, 1)
			if changed == m.AuthorizeURL {
				t.Fatalf("%q is not in the link", old)
			}
			m.AuthorizeURL = changed
		}
	}
	pushed := func(m *helper.Message) {
		m.AuthorizeURL = "https://login.example/authorize?client_id=c&request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Ax"
	}
	for _, row := range []struct {
		name   string
		change func(*helper.Message)
		refuse string // empty if the link is good
	}{
		{"as it should be", func(*helper.Message) {}, ""},
		{"pushed", pushed, ""},
		{"pushed, with another redirect_uri", func(m *helper.Message) { pushed(m); m.AuthorizeURL += "&redirect_uri=https://evil.example" }, "another redirect URI"},
		{"pushed, without a state", func(m *helper.Message) { pushed(m); m.State = "" }, "no state"},
		{"http to loopback", link("https://login.example", "http://127.0.0.1:9000"), ""},
		{"the state is in the link alone", func(m *helper.Message) { m.State = "" }, ""},
		{"javascript", link("https://login.example/authorize", "javascript:alert(1)//"), "no http or https URL"},
		{"file", link("https://login.example", "file://"), "no http or https URL"},
		{"data", link("https://login.example/authorize", "data:text/html,x"), "no http or https URL"},
		{"a program's own scheme", link("https://", "vscode://"), "no http or https URL"},
		{"no host", link("https://login.example", "https://"), "no http or https URL"},
		{"http elsewhere", link("https://", "http://"), "it must be https"},
		{"http to a name like loopback", link("https://login.example", "http://127.0.0.1.evil.example"), "it must be https"},
		{"userinfo", link("https://", "https://bank.example@"), "user name"},
		{"a backslash in the host", link("login.example", `login.example\@evil.example`), "no URL"},
		{"control characters", link("login.example", "login.exa\nmple"), "no URL"},
		{"too long", func(m *helper.Message) { m.AuthorizeURL += "&x=" + strings.Repeat("x", maxLink) }, "longer than"},
		{"token instead of code", link("response_type=code", "response_type=token"), "response_type=code"},
		{"code and token", link("response_type=code", "response_type=code+token"), "response_type=code"},
		{"twice", func(m *helper.Message) { m.AuthorizeURL += "&redirect_uri=https%3A%2F%2Fevil.example" }, "redirect_uri twice"},
		{"request object", func(m *helper.Message) { m.AuthorizeURL += "&request=e30.e30." }, "request object"},
		{"form_post", func(m *helper.Message) { m.AuthorizeURL += "&response_mode=form_post" }, "response_mode"},
		{"plain PKCE", link("=S256", "=plain"), "PKCE"},
		{"no PKCE", link("code_challenge=ch&", ""), "PKCE"},
		{"no client", link("client_id=c&", ""), "client_id"},
		{"semicolons", func(m *helper.Message) { m.AuthorizeURL += ";x=1" }, "cannot be parsed"},
		{"redirect_uri elsewhere", link("redirect_uri=http%3A%2F%2F127.0.0.1%3A53682", "redirect_uri=https%3A%2F%2Fevil.example"), "another redirect URI"},
		{"both redirect URIs elsewhere", func(m *helper.Message) {
			m.RedirectURI = "http://evil.example:53682/callback/x"
			m.AuthorizeURL = strings.Replace(m.AuthorizeURL, "127.0.0.1%3A53682", "evil.example%3A53682", 1)
		}, "not on loopback"},
		{"another port", func(m *helper.Message) {
			m.RedirectURI = "http://127.0.0.1:53683/callback/x"
			m.AuthorizeURL = strings.Replace(m.AuthorizeURL, "53682", "53683", 1)
		}, "not the one that is held"},
		{"another state in the link", link(testState, "t"+testState), "not that of the login"},
		{"a short state", func(m *helper.Message) { link(testState, "short")(m); m.State = "short" }, "state must have"},
		{"no state", func(m *helper.Message) { link(testState, "")(m); m.State = "" }, "no state"},
		{"expired", func(m *helper.Message) { m.Expires = time.Now().Add(-time.Second) }, "expired"},
		{"expires by a clock that is an hour late", func(m *helper.Message) {
			m.Now, m.Expires = time.Now().Add(-time.Hour), time.Now().Add(-59*time.Minute)
		}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := testMessage()
			row.change(&m)
			heldURI, _ := url.Parse("http://127.0.0.1:53682/")
			r, err := checkLogin(m, heldURI, time.Now())
			switch {
			case row.refuse == "" && err != nil:
				t.Errorf("refused: %v", err)
			case row.refuse != "" && (err == nil || !strings.Contains(err.Error(), row.refuse)):
				t.Errorf("got %+v, %v, want a refusal with %q", r, err, row.refuse)
			case err == nil && (!strings.HasPrefix(r.link, r.origin+"/") || strings.ContainsAny(r.link, "\\\" <>\n")):
				t.Errorf("the link is %q of %q", r.link, r.origin)
			}
		})
	}
}

// The browser goes where the page says that it goes.
func TestOriginIsWhereTheBrowserGoes(t *testing.T) {
	for link, want := range map[string]string{
		"https://LOGIN.example:443/a":       "https://login.example",
		"https://login.example:8443/a":      "https://login.example:8443",
		"https://bücher.example/a":          "https://xn--bcher-kva.example",
		"https://login.example/a\"b c<d>é":  "https://login.example",
		"https://login.example/%2f..\\x?y|": "https://login.example",
		"http://[::1]:8080/a":               "http://[::1]:8080",
	} {
		u, err := checkLink(link)
		if err != nil {
			t.Errorf("%s: %v", link, err)
			continue
		}
		if got := u.Scheme + "://" + u.Host; got != want {
			t.Errorf("%s: origin %s, want %s", link, got, want)
		}
		if text := u.String(); strings.ContainsAny(text, "\"\\ <>|é") {
			t.Errorf("%s became %s", link, text)
		}
	}
	for _, link := range []string{"https://login.example%2f@evil.example/", `https://login.example\.evil.example/`, "https://a b/", "https://[::1%25eth0]/", "//login.example/", "login.example"} {
		if u, err := checkLink(link); err == nil {
			t.Errorf("%s became %s", link, u)
		}
	}
}

func TestCheckRedirect(t *testing.T) {
	for text, good := range map[string]bool{
		"http://127.0.0.1:53682/": true, "http://localhost:53682/callback": true, "http://[::1]:53682": true, "http://127.0.0.1:0/": true,
		"https://127.0.0.1:53682/": false, "http://127.0.0.2:53682/": false, "http://0.0.0.0:53682/": false, "http://evil.example:53682/": false,
		"http://127.0.0.1/": false, "http://127.0.0.1:99999/": false, "http://u@127.0.0.1:53682/": false, "http://127.0.0.1:53682/#f": false,
		"http://127.0.0.1:53682/?q=1": false, "": false, "file:///etc/passwd": false,
	} {
		if u, err := checkRedirect(text); (err == nil) != good {
			t.Errorf("%q: got %v, %v, want good: %t", text, u, err, good)
		}
	}
}

func TestOwnHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:53682": true, "localhost:53682": true, "[::1]:53682": true,
		"127.0.0.1": false, "127.0.0.1:53683": false, "evil.example:53682": false, "127.0.0.1.evil.example:53682": false, "": false,
	} {
		if got := isOwnHost(host, 53682); got != want {
			t.Errorf("%q: got %t, want %t", host, got, want)
		}
	}
}
