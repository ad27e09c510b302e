package asclient

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMembersInAnyShape(t *testing.T) {
	t.Parallel()
	lists := map[string][]string{
		`["a","b"]`: {"a", "b"}, `"a b"`: {"a", "b"}, `"a,b"`: {"a", "b"}, `"a, b"`: {"a", "b"}, `" a\tb\n"`: {"a", "b"},
		`["a b","c"]`: {"a", "b", "c"}, `["a",1,{"x":1},null,"b"]`: {"a", "1", "b"}, `["a","a"]`: {"a"}, `""`: {}, `[]`: {},
		`7`: {"7"}, `null`: nil, `{"a":true}`: nil, `true`: nil,
	}
	for value, want := range lists {
		d, ok := readDocument([]byte(`{"x":` + value + `}`))
		if got := d.list("x"); !ok || !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("list %s: got %q, want %q", value, got, want)
		}
	}
	texts := map[string]string{
		`"a"`: "a", `12345678901234567890`: "12345678901234567890", `3600.0`: "3600.0", `["a"]`: "a", `["a","b"]`: "", `{}`: "", `null`: "", `true`: "",
	}
	for value, want := range texts {
		if d, ok := readDocument([]byte(`{"x":` + value + `}`)); !ok || d.text("x") != want {
			t.Errorf("text %s: got %q, want %q", value, d.text("x"), want)
		}
	}
	flags := map[string]bool{`true`: true, `"true"`: true, `"True"`: true, `1`: true, `"1"`: true, `false`: false, `"false"`: false, `0`: false, `[]`: false, `null`: false}
	for value, want := range flags {
		if d, _ := readDocument([]byte(`{"x":` + value + `}`)); d.flag("x") != want {
			t.Errorf("flag %s: got %t", value, !want)
		}
	}
	moments := map[string]int64{
		`0`: 0, `"0"`: 0, `0.0`: 0, `null`: 0, `""`: 0, `"never"`: 0, `-1`: 0, `1790000000`: 1790000000, `"1790000000"`: 1790000000, `1790000000.5`: 1790000000,
		`1790000000000`: 1790000000, `"2026-11-22T12:00:00Z"`: start.Unix(), `"2026-11-22 12:00:00"`: start.Unix(), `"Sun, 22 Nov 2026 12:00:00 GMT"`: start.Unix(), `1e300`: 0,
	}
	for value, want := range moments {
		if d, _ := readDocument([]byte(`{"x":` + value + `}`)); d.moment("x") != want {
			t.Errorf("moment %s: got %d, want %d", value, d.moment("x"), want)
		}
	}
}

func TestDocumentsInAnyEncoding(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`{"x":"y"}`:                 true,
		" \r\n{\"x\":\"y\"} \n":     true,
		"\xef\xbb\xbf{\"x\":\"y\"}": true,
		"\xfe\xff\x00{\x00\"\x00x\x00\"\x00:\x00\"\x00y\x00\"\x00}": true,
		`{"X":"y"}`:                          true,
		`{"x":"y"}<!-- served by node 7 -->`: true,
		`{"x":"y"`:                           false,
		`[{"x":"y"}]`:                        false,
		`"{\"x\":\"y\"}"`:                    true,
		`"x"`:                                false,
		`<html>`:                             false,
		``:                                   false,
		`null`:                               false,
	} {
		if d, ok := readDocument([]byte(body)); ok != want || ok && d.text("x") != "y" {
			t.Errorf("%q: got %t, %q", body, ok, d.text("x"))
		}
	}
}

// Large documents are read with bounded work, and what is read of them is bounded.
func TestLargeDocumentsAreBounded(t *testing.T) {
	t.Parallel()
	many := strings.Repeat(`"x",`, 200_000)
	d, ok := readDocument([]byte(`{"list":[` + many + `"y"],"deep":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"words":"` +
		strings.Repeat("word"+strings.Repeat("w", 100)+" ", 5000) + `"}`))
	if !ok || len(d.list("list")) != 1 || d.text("deep") != "" || len(strings.Join(d.list("words"), " ")) > maxWords+maxList {
		t.Errorf("got %t, %d elements", ok, len(d.list("list")))
	}
	var b strings.Builder
	for i := range 20_000 {
		b.WriteString(`"m` + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + time.Duration(i).String() + `":1,`)
	}
	if d, ok := readDocument([]byte(`{` + b.String() + `"z":1}`)); !ok || len(d.members) > maxMembers {
		t.Errorf("got %t, %d members", ok, len(d.members))
	}
}

func TestTokenAnswersInAnyShape(t *testing.T) {
	t.Parallel()
	full := Token{Access: "at", Refresh: "rt", Scope: "a b", Obtained: start, Expiry: start.Add(time.Hour)}
	plain := Token{Access: "at", Obtained: start}
	for _, tt := range []struct {
		status int
		body   string
		want   Token
	}{
		{200, `{"access_token":"at","refresh_token":"rt","scope":["a","b"],"expires_in":"3600"}`, full},
		{201, `{"access_token":"at","refresh_token":"rt","scope":"a,b","expires_in":3600.0,"id_token":{"x":1}}`, full},
		{200, `access_token=at&refresh_token=rt&scope=a%2Cb&expires_in=3600&token_type=bearer`, full},
		{200, "\xef\xbb\xbf" + `{"data":{"access_token":"at","refresh_token":"rt","scope":"a b","expires_in":" 3600 "}}`, full},
		{200, `{"access_token":"at","token_type":"bearer","expires_in":""}`, plain},
		{200, `{"access_token":"at","token_type":["Bearer"],"expires_in":null}`, plain},
		{200, `{"access_token":"at","token_type":"BearerToken","expires_in":{}}`, plain},
		{200, `{"access_token":"at","token_type":"jwt-bearer","expires_in":0}`, plain},
		{200, `{"access_token":"at","token_type":"User Access Token","expires_in":-1}`, plain},
		{200, `{"access_token":"at","token_type":"urn:ietf:params:oauth:token-type:access_token"}`, plain},
		{200, `{"access_token":"at","token_type":{},"refresh_token":[],"scope":7e2}`, Token{Access: "at", Scope: "7e2", Obtained: start}},
		{200, `{"access_token":"at","id_token":{"email":"ada@example.org"}}`, Token{Access: "at", Account: "ada@example.org", Obtained: start}},
		{200, `{"ok":true,"authed_user":{"access_token":"at","token_type":"user"}}`, plain},
		{200, `{"access_token":"at","error":""}`, plain},

		{200, `{"access_token":"at","token_type":"mac"}`, Token{}},
		{200, `{"access_token":"at","token_type":"DPoP"}`, Token{}},
		{200, `{"access_token":"at","token_type":"pop"}`, Token{}},
		{200, `{"access_token":{"x":1}}`, Token{}},
		{200, `{"access_token":""}`, Token{}},
		{200, `{"access_token":"at\r\nX: y"}`, Token{}},
		{200, `<html>access_token=at</html>`, Token{}},
		{400, `{"access_token":"at"}`, Token{}},
		{302, `{"access_token":"at"}`, Token{}},
	} {
		c := testClient(t, func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: tt.status, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader(tt.body))}, nil
		})
		got, err := c.ClientCredentials(t.Context(), Server{TokenEndpoint: "https://as.example/t"}, Credentials{ID: "me"}, Wanted{})
		if got != tt.want || (err == nil) != (tt.want.Access != "") {
			t.Errorf("%d %s: got %#v, %v", tt.status, tt.body, got, err)
		}
		if _, ok := errors.AsType[*SignInError](err); err != nil && !ok {
			t.Errorf("%s: got %T", tt.body, err)
		}
	}
}

func TestDeviceAnswersInAnyShape(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"device_code":"d","user_code":"WDJB","verification_uri":"https://as.example/d","expires_in":"600","interval":"7"}`,
		`{"device_code":"d","user_code":"WDJB","verification_url":" https://as.example/d ","expires_in":600.0,"interval":7.0}`,
		`{"data":{"device_code":"d","user_code":"WDJB","verification_uri":"https://as.example/d","expires_in":600,"interval":7,"verification_uri_complete":null}}`,
		`device_code=d&user_code=WDJB&verification_uri=https%3A%2F%2Fas.example%2Fd&expires_in=600&interval=7`,
	} {
		c := testClient(t, func(*http.Request) (*http.Response, error) { return reply(body), nil })
		got, err := c.StartDevice(t.Context(), Server{DeviceEndpoint: "https://as.example/device"}, Credentials{ID: "me"}, Wanted{})
		want := Device{Code: "d", UserCode: "WDJB", URI: "https://as.example/d", CompleteURI: "https://as.example/d",
			Expires: start.Add(10 * time.Minute), Interval: 7 * time.Second}
		if got != want || err != nil {
			t.Errorf("%s: got %+v, %v", body, got, err)
		}
	}
}
