package session

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
)

// Endpoint returns the upstream's URL, checked. The argument counts more than the variable and the
// file. The error is a *cli.UsageError. It quotes no query, because some servers take a secret
// there.
func Endpoint(settings cli.Upstream) (*url.URL, error) {
	text := cmp.Or(settings.URL, settings.UpstreamURL)
	hint := "sallyport [flags] https://HOST/PATH"
	if text == "" {
		return nil, &cli.UsageError{
			Text:  "no upstream URL",
			Hints: []string{hint, "or set UPSTREAM_URL, or upstream.url in the settings file"},
		}
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &cli.UsageError{
			Text:  fmt.Sprintf("upstream %q is not an http or https URL", BeforeQuery(text)),
			Hints: append(withScheme(text), hint),
		}
	}
	// A resource indicator has no fragment (RFC 8707 section 2), and a password in the URL would
	// become a second credential.
	if u.User != nil || u.Fragment != "" {
		return nil, &cli.UsageError{
			Text:  fmt.Sprintf("upstream %s: a user name, password or #fragment in the URL is not allowed", PlainURL(u)),
			Hints: []string{hint},
		}
	}
	// A bearer token must travel by TLS (RFC 6750 section 5.3). Only loopback is excepted.
	if u.Scheme == "http" && !IsLoopback(u.Hostname()) && !settings.AllowInsecureHTTP {
		return nil, &cli.UsageError{
			Text:  fmt.Sprintf("upstream %s is cleartext http to a host that is not loopback", PlainURL(u)),
			Hints: []string{"use https", "or accept that others can read the token: --allow-insecure-http"},
		}
	}
	return u, nil
}

// withScheme returns a hint if text would be a URL with https:// in front of it.
func withScheme(text string) []string {
	u, err := url.Parse("https://" + text)
	if err != nil || strings.Contains(text, "://") || !strings.ContainsAny(u.Host, ".:") {
		return nil
	}
	return []string{"did you mean https://" + BeforeQuery(text)}
}

// IsLoopback reports whether host names the machine itself: this one or, behind a tunnel, the last
// hop. It takes names and addresses without brackets.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// PlainURL prints u without its query and user, which may hold a secret.
func PlainURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// BeforeQuery cuts the query, which may hold a secret, from the text of a URL.
func BeforeQuery(text string) string {
	before, _, _ := strings.Cut(text, "?")
	return before
}
