package callback

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"

	"golang.org/x/net/idna"
)

// Limits of what HOST hands over.
const (
	// minState is the fewest characters of a state. Whoever guesses it can end a login.
	minState = 22
	// maxLink is the most bytes of a link, and maxState those of a state.
	maxLink, maxState = 16 << 10, 512
	// maxShown is the most bytes of a name that our pages show.
	maxShown = 200
	// maxLife is how long a login may last, and defaultLife how long one lasts that does not say. A
	// person may close the lid over night with a login open.
	maxLife, defaultLife = 24 * time.Hour, 10 * time.Minute
)

// request is a login page that may be opened.
type request struct {
	// link is the URL of the login page, in ASCII.
	link string
	// path is that of the redirect URI. startPath is that of HOST's own link to the login, which
	// our page answers. It may be empty.
	path, startPath string
	// origin is where the link leads, as https://login.example.
	origin string
	// issuer is what HOST calls the login server. It is empty if HOST does not say.
	issuer string
	// client is the client ID of the link.
	client string
	// state is the state of the authorization request.
	state string
	// expires is when the login ends.
	expires time.Time
	// unseen says that the login server is asked to show the person nothing (prompt=none of OpenID
	// Connect Core, section 3.1.2.1).
	unseen bool
	// once says that the link works once, and until linkExpires.
	once        bool
	linkExpires time.Time
}

// asks reports whether two login pages ask the person for the same: the same client at the same
// login server.
func (r request) asks(other request) bool {
	return r.origin == other.origin && r.issuer == other.issuer && r.client == other.client
}

// checkRedirect returns the redirect URI of a message, if it is one that a desk can hold: http to a
// port of this machine.
func checkRedirect(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "":
		return nil, errors.New("the redirect URI is no URL")
	case u.Scheme != "http":
		return nil, errors.New("the redirect URI is not http")
	case u.User != nil:
		return nil, errors.New("the redirect URI has a user name")
	case !slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, strings.ToLower(u.Hostname())):
		return nil, errors.New("the redirect URI is not on loopback")
	case u.Fragment != "" || u.RawQuery != "":
		return nil, errors.New("the redirect URI has a query or a fragment")
	}
	if _, err := strconv.ParseUint(u.Port(), 10, 16); err != nil {
		return nil, errors.New("the redirect URI has no port")
	}
	if u.Path == "" {
		u.Path = "/" // as the browser asks for it
	}
	return u, nil
}

// checkLogin returns the login page of a message, if it may be opened: it is an authorization
// request by which the browser comes back to the redirect URI held, with a code that is of use to
// nobody without the verifier of PKCE (RFC 7636). The error is for people, on both machines.
//
// The port of held is the one that is held here. The path is known only now.
func checkLogin(m helper.Message, held *url.URL, now time.Time) (request, error) {
	u, err := checkLink(m.AuthorizeURL)
	if err != nil {
		return request{}, err
	}
	r := request{link: u.String(), origin: u.Scheme + "://" + u.Host, issuer: cleanIssuer(m.Issuer)}
	redirect, err := checkRedirect(m.RedirectURI)
	if err != nil {
		return request{}, err
	}
	if !strings.EqualFold(redirect.Host, held.Host) {
		return request{}, errors.New("the redirect URI is not the one that is held for this login")
	}
	r.path, r.startPath = redirect.Path, startPathOf(m.StartURL, redirect)
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return request{}, errors.New("the link has a query that cannot be parsed")
	}
	if err := checkQuery(q, m.State, m.RedirectURI); err != nil {
		return request{}, err
	}
	r.once, r.client = q.Has("request_uri"), q.Get("client_id")
	r.unseen = slices.Contains(strings.Fields(q.Get("prompt")), "none")
	r.state = m.State
	if r.state == "" {
		r.state = q.Get("state")
	}
	if len(r.state) < minState || len(r.state) > maxState {
		return request{}, fmt.Errorf("the state must have between %d and %d characters", minState, maxState)
	}
	r.setTimes(m, now)
	if !r.expires.After(now) {
		return request{}, errors.New("the login has expired")
	}
	return r, nil
}

// minStart is the fewest characters of the path of a login's own link.
const minStart = 20

// startPathOf returns the path of a login's own link, if it leads to the port that is held.
func startPathOf(link string, redirect *url.URL) string {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "http" || !session.IsLoopback(u.Hostname()) || u.Port() != redirect.Port() || len(u.Path) < minStart || u.Path == redirect.Path {
		return ""
	}
	return u.Path
}

// setTimes takes the times of a message, in the time of our own clock.
func (r *request) setTimes(m helper.Message, now time.Time) {
	differ := time.Duration(0)
	if !m.Now.IsZero() {
		differ = now.Sub(m.Now)
	}
	r.expires = now.Add(defaultLife)
	if !m.Expires.IsZero() {
		r.expires = m.Expires.Add(differ)
	}
	if r.expires.After(now.Add(maxLife)) {
		r.expires = now.Add(maxLife)
	}
	if !m.LinkExpires.IsZero() {
		r.linkExpires = m.LinkExpires.Add(differ)
	}
}

// checkLink parses the link and makes it ASCII.
func checkLink(text string) (*url.URL, error) {
	if len(text) > maxLink {
		return nil, fmt.Errorf("the link is longer than %d bytes", maxLink)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("the link is no URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("the link is no http or https URL")
	case u.User != nil: // it makes https://bank.example@evil.example look like the bank's
		return nil, errors.New("the link has a user name in front of its host")
	case u.Scheme == "http" && !session.IsLoopback(u.Hostname()):
		return nil, errors.New("the link is http, which is allowed to loopback only; it must be https")
	}
	name, err := asciiHost(u.Hostname())
	if err != nil {
		return nil, errors.New("the host of the link is no name of a host")
	}
	port := u.Port()
	if defaults := map[string]string{"http": "80", "https": "443"}; port == defaults[u.Scheme] {
		port = ""
	}
	u.Host = name
	if strings.Contains(name, ":") {
		u.Host = "[" + name + "]"
	}
	if port != "" {
		u.Host = net.JoinHostPort(name, port)
	}
	// What a browser takes for another character than we do is percent-encoded.
	u.RawPath, u.Path = "", escapeOthers(u.EscapedPath())
	u.RawQuery, u.Fragment, u.RawFragment = escapeOthers(u.RawQuery), "", ""
	path := u.Path
	if u.Path, err = url.PathUnescape(path); err != nil {
		return nil, errors.New("the path of the link cannot be parsed")
	}
	u.RawPath = path
	return u, nil
}

// asciiHost returns the name of a host as a browser looks it up.
func asciiHost(name string) (string, error) {
	if strings.Contains(name, ":") { // an address of IPv6, perhaps with a zone, which no browser takes
		if ip := net.ParseIP(name); ip == nil {
			return "", errors.New("no address")
		}
		return name, nil
	}
	name, err := idna.Lookup.ToASCII(name)
	if err != nil || name == "" {
		return "", errors.New("no name")
	}
	return name, nil
}

// escapeOthers percent-encodes what is no character of a URL (RFC 3986).
func escapeOthers(text string) string {
	const allowed = "-._~:/?#[]@!$&'()*+,;=%"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if letter := 'a' <= c|0x20 && c|0x20 <= 'z'; letter || '0' <= c && c <= '9' || strings.IndexByte(allowed, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// single are the parameters that a request has at most once. A server may take the first of two, or
// the last.
var single = []string{
	"response_type", "response_mode", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method", "request", "request_uri",
}

// checkQuery checks the parameters of an authorization request. A pushed one (RFC 9126) shows none
// of them: its parameters are at the login server, and request_uri refers to them.
func checkQuery(q url.Values, state, held string) error {
	for _, name := range single {
		if len(q[name]) > 1 {
			return fmt.Errorf("the link has the parameter %s twice", name)
		}
	}
	pushed := q.Get("request_uri") != ""
	// is reports whether a parameter has the value. One that was pushed is not in the link.
	is := func(name, want string) bool { return q.Get(name) == want || pushed && !q.Has(name) }
	switch {
	case q.Has("request"):
		return errors.New("the link has a request object, whose parameters cannot be checked here")
	case q.Get("client_id") == "":
		return errors.New("the link has no client_id")
	case !is("response_type", "code"):
		return errors.New("the link does not ask for a code (response_type=code)")
	case q.Has("response_mode") && q.Get("response_mode") != "query":
		return errors.New("the link asks for another response_mode than query")
	case !is("code_challenge_method", "S256") || q.Get("code_challenge") == "" && !pushed:
		return errors.New("the link has no PKCE challenge by S256 (code_challenge, code_challenge_method)")
	case !is("redirect_uri", held):
		return errors.New("the link leads back to another redirect URI than the one that is held for this login")
	case state == "" && q.Get("state") == "":
		return errors.New("the login has no state")
	case q.Has("state") && state != "" && q.Get("state") != state:
		return errors.New("the state of the link is not that of the login")
	}
	return nil
}

// cleanIssuer returns the issuer as it is shown and remembered, or nothing if it is no URL.
func cleanIssuer(text string) string {
	if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || len(text) > maxShown {
		return ""
	}
	return shown(text)
}

// originOf returns the origin of an issuer that cleanIssuer returned.
func originOf(issuer string) string {
	u, err := checkLink(issuer)
	if err != nil {
		return issuer
	}
	return u.Scheme + "://" + u.Host
}

// shown returns HOST's text as one short line of printable characters.
func shown(text string) string {
	const more = "..."
	if text = person.OneLine(text); len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + more
	}
	return text
}

// shownLong returns HOST's text as one line of printable characters, of at most 600 bytes.
func shownLong(text string) string { return person.OneLine(text) }
