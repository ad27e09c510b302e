package control

import (
	"errors"
	"strings"
	"testing"
)

func TestParseCallback(t *testing.T) {
	for text, want := range map[string]string{
		"http://127.0.0.1:53682/callback/00ff?code=a&state=b":              "http://127.0.0.1:53682/callback/00ff?code=a&state=b",
		"  'http://127.0.0.1:1/callback?code=a%2Fb&state=b&iss=c#_=_'\r\n": "http://127.0.0.1:1/callback?code=a%2Fb&state=b&iss=c",
		"<http://[::1]:1/callback?state=b&code=a>":                         "http://[::1]:1/callback?state=b&code=a",
		"localhost:53682/callback?code=a&state=b":                          "http://localhost:53682/callback?code=a&state=b",
		"127.0.0.1:53682/callback?code=a&state=b":                          "http://127.0.0.1:53682/callback?code=a&state=b",
		"/callback?code=a&state=b":                                         "/callback?code=a&state=b",
		"?code=a&state=b":                                                  "?code=a&state=b",
		"code=a&state=b":                                                   "?code=a&state=b",
		"code=a state=b":                                                   "?code=a&state=b",
		"a b":                                                              "?code=a&state=b",
		"a/+= b":                                                           "?code=a%2F%2B%3D&state=b",
		"http://127.0.0.1:1/callback?error=access_denied&state=b":          "http://127.0.0.1:1/callback?error=access_denied&state=b",
		"http://127.0.0.1:1/callback?code=abc\ndef&state=b":                "http://127.0.0.1:1/callback?code=abcdef&state=b",
		"https://me:pw@workstation.example/back?code=a&state=b":            "https://workstation.example/back?code=a&state=b",
	} {
		if got, err := ParseCallback(text); err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v, want %s", text, got, err, want)
		}
	}
}

func TestParseCallbackRefuses(t *testing.T) {
	for text, want := range map[string]NoCallbackError{
		"":              {},
		" \n":           {},
		"''":            {},
		"yes":           {},
		"one two three": {},
		"?state=b&code=" + strings.Repeat("x", maxCallback):                   {},
		"http://127.0.0.1:1/%zz?code=":                                        {},
		"http://127.0.0.1:1/callback":                                         {Lacks: "code"},
		"http://127.0.0.1:1/callback?code=hush":                               {Lacks: "state"},
		"http://127.0.0.1:1/callback?code=&state=b":                           {Lacks: "code"},
		"https://as.example/authorize?response_type=code&client_id=x&state=b": {IsLoginPage: true},
		"https://as.example/authorize?request_uri=urn:x&client_id=x":          {IsLoginPage: true},
		"https://as.example/signin?next=%2Fauthorize%3Fclient_id%3Dx":         {Lacks: "code"},
	} {
		_, err := ParseCallback(text)
		e, ok := errors.AsType[*NoCallbackError](err)
		if !ok || *e != want {
			t.Errorf("%q: got %+v, want %+v", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("the error repeats the text: %v", err)
		}
	}
}
