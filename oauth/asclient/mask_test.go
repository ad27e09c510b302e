package asclient

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// A server echoes what it was sent in many forms. None of them is shown.
func TestEchoedSecretsAreMasked(t *testing.T) {
	t.Parallel()
	const id, secret, code = "me@x", `s3cr+t/"0451"&<zÄ>=`, "code-0451-0451-0451"
	pair := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
	j, _ := json.Marshal(secret)
	for name, echo := range map[string]string{
		"as it is":                secret,
		"percent-encoded":         url.QueryEscape(secret),
		"percent, small letters":  strings.ToLower(url.QueryEscape(secret)),
		"as a path":               url.PathEscape(secret),
		"base64":                  base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64url":               base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"the header":              "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)),
		"the header, not encoded": base64.RawStdEncoding.EncodeToString([]byte(id + ":" + secret)),
		"hexadecimal":             hex.EncodeToString([]byte(secret)),
		"HEXADECIMAL":             strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"JSON":                    string(j),
		"HTML":                    html.EscapeString(secret),
		"its beginning":           code[:14],
	} {
		body, _ := json.Marshal(map[string]string{"error": "invalid_client", "error_description": "you sent " + echo})
		c := testClient(t, func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 400, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(string(body)))}, nil
		})
		_, err := c.RedeemCode(t.Context(), Server{TokenEndpoint: "https://as.example/t"}, Credentials{ID: id, Secret: secret}, Code{Code: code})
		e, ok := errors.AsType[*SignInError](err)
		if !ok || !strings.Contains(e.Description, Hidden) || strings.Contains(e.Description, echo) || strings.Contains(e.allWords, echo) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Text is masked before it is cut, so no part of a secret stands before the cut.
func TestCutShowsNoPartOfASecret(t *testing.T) {
	t.Parallel()
	const secret = "a-secret-of-some-length-0451"
	for before := range maxPeerText + 10 {
		got := PeerText(strings.Repeat("x", before)+secret, []string{secret})
		if strings.Contains(got, secret[:8]) {
			t.Fatalf("after %d bytes: %q", before, got)
		}
	}
}
