package session

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxCookies is how many cookies are kept. maxCookieSize is how many bytes the name, value and
	// path of one may have. RFC 6265 section 6.1 asks a browser for as much.
	maxCookies, maxCookieSize = 50, 4096
	// minSecretCookie is the length from which the value of a cookie may be a secret, in bytes. A
	// shorter one, such as "node1", is likely to be a word of the upstream's text too.
	minSecretCookie = 16
)

// cookieJar keeps the cookies of the upstream in memory, because a load balancer may tell by a
// cookie which machine has the session. They go to the upstream's origin alone, whatever their
// Domain says. A cookieJar may be used concurrently.
type cookieJar struct {
	// upstream decides which origin the cookies belong to.
	upstream *url.URL
	// jar knows the rules of RFC 6265 on paths and expiry.
	jar *cookiejar.Jar

	// mu guards kept.
	mu sync.Mutex
	// kept lists what jar holds, the cookie that was set last at the end.
	kept []*http.Cookie
}

// newCookieJar returns an empty jar for the upstream's origin.
func newCookieJar(upstream *url.URL) *cookieJar {
	jar, _ := cookiejar.New(nil) // it never fails
	return &cookieJar{upstream: upstream, jar: jar}
}

// add adds the cookies to a request. A cookie that the request has already, from the person's
// --header, replaces the one of the same name in the jar. The URL's origin must be the upstream's.
func (j *cookieJar) add(req *http.Request) {
	pairs := req.Header["Cookie"]
	for _, c := range j.jar.Cookies(req.URL) {
		if len(req.CookiesNamed(c.Name)) == 0 {
			pairs = append(pairs, c.String())
		}
	}
	if len(pairs) > 0 {
		req.Header.Set("Cookie", strings.Join(pairs, "; ")) // one line, as RFC 6265 section 5.4 has it
	}
}

// store keeps the cookies of the answer to a request for u. If there are too many, the cookie that
// was set longest ago is dropped. A cookie that is too large is not kept.
func (j *cookieJar) store(u *url.URL, resp *http.Response) {
	if len(resp.Header["Set-Cookie"]) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range resp.Cookies() {
		if len(c.Name)+len(c.Value)+len(c.Path) > maxCookieSize {
			continue
		}
		// The jar belongs to one origin, which gets its cookies back without a Domain. Secure
		// protects a cookie from another scheme, and that is another origin.
		c.Domain, c.Secure = "", false
		if !strings.HasPrefix(c.Path, "/") {
			c.Path = defaultPath(u.Path)
		}
		j.jar.SetCookies(j.upstream, []*http.Cookie{c})
		j.kept = slices.DeleteFunc(j.kept, func(k *http.Cookie) bool { return k.Name == c.Name && k.Path == c.Path })
		if c.MaxAge > 0 || c.MaxAge == 0 && (c.Expires.IsZero() || c.Expires.After(time.Now())) {
			j.kept = append(j.kept, c)
		}
		if len(j.kept) > maxCookies {
			expired := *j.kept[0]
			expired.MaxAge = -1
			j.jar.SetCookies(j.upstream, []*http.Cookie{&expired})
			j.kept = slices.Delete(j.kept, 0, 1)
		}
	}
}

// defaultPath is the path of a cookie that names none (RFC 6265 section 5.1.4).
func defaultPath(requested string) string {
	if last := strings.LastIndexByte(requested, '/'); last > 0 {
		return requested[:last]
	}
	return "/"
}

// secrets returns the values that may be secrets.
func (j *cookieJar) secrets() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var values []string
	for _, k := range j.kept {
		if len(k.Value) >= minSecretCookie {
			values = append(values, k.Value)
		}
	}
	return values
}
