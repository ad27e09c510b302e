package asclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// requester sends a Client's requests, under the rules on where they may go.
type requester struct{ c *Client }

// RoundTrip chooses the RoundTripper anew for each request, so also for each redirect.
func (w requester) RoundTrip(req *http.Request) (*http.Response, error) {
	rt := w.c.Other
	if SameOrigin(req.URL, w.c.Upstream) {
		rt = w.c.Base
	}
	if rt == nil {
		rt = http.DefaultTransport
	}
	if _, marked := req.Context().Value(destinationKey{}).(destination); !marked {
		req = req.WithContext(context.WithValue(req.Context(), destinationKey{}, destination{namedBy: w.c.Upstream}))
	}
	return rt.RoundTrip(req)
}

// allow reports why a URL that a peer named is not requested. Metadata must not make us send
// cleartext, not even on this machine unless the upstream is on this machine too. It may name https
// services of this machine.
func (w requester) allow(u *url.URL) error {
	upstream := w.c.Upstream
	cleartext := w.c.AllowHTTP || IsLoopback(upstream.Hostname()) && IsLoopback(u.Hostname()) || w.isVouched(u)
	scheme := u.Scheme == "https" || u.Scheme == "http" && cleartext
	if u.Host != "" && u.User == nil && (scheme || SameOrigin(u, upstream)) {
		return nil
	}
	switch name := Quote(WithoutQuery(u)); {
	case u.Host == "":
		return fmt.Errorf("%s is no absolute URL", name)
	case u.User != nil:
		return fmt.Errorf("%s has a user in it", name)
	default:
		return fmt.Errorf("%s is not an https URL", name)
	}
}

// isVouched reports whether u is at the origin of the issuer that the person vouches for. That is
// checked before, and is cleartext on loopback alone.
func (w requester) isVouched(u *url.URL) bool {
	issuer, err := url.Parse(w.c.Issuer)
	return err == nil && w.c.Issuer != "" && SameOrigin(u, issuer) && Secure(issuer, w.c.AllowHTTP)
}

// forBrowser returns a URL that s names for the person's browser, or what is wrong with it. A
// service of this machine is not to be asked on behalf of an upstream elsewhere, by a browser as
// little as by ourselves.
func (w requester) forBrowser(s Server, rawURL string) (u *url.URL, problem string) {
	const noHTTPS = "is no https URL"
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || !Secure(u, w.c.AllowHTTP) {
		return nil, noHTTPS
	}
	if s.Source == FromConfig || w.c.Upstream == nil {
		return u, ""
	}
	if w.allow(u) != nil {
		return nil, noHTTPS
	}
	if by := w.namerOf(s, rawURL); by != nil && w.c.MayOpen != nil && !w.c.MayOpen(by, u) {
		return nil, "is at " + cut(u.Host) + ", and " + cut(by.Host) + " is not known to be in the same network"
	}
	return u, ""
}

// allowText is allow for an endpoint that metadata names.
func (w requester) allowText(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return errMalformed(endpoint)
	}
	return w.allow(u)
}

// usable refuses an endpoint of s that metadata names and that is not to be requested. Only an
// endpoint that is needed is checked: the others may be what they like.
func (w requester) usable(stage string, s Server, endpoint string) error {
	if err := w.allowText(endpoint); err != nil {
		return &SignInError{Stage: stage, Server: s.Name(), Code: CodeInsecureURL, Refused: true,
			Cleartext: isCleartext(endpoint), Err: fmt.Errorf("metadata: %w", err)}
	}
	return nil
}

// getDocument fetches a metadata document. The answer has no status if none came. The error says
// why no answer came, or why an answer of success is of no use.
func (w requester) getDocument(ctx context.Context, rawURL string) (d document, a answer, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return d, a, errors.New("malformed URL")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return d, a, errors.New("malformed URL")
	}
	req.Header.Set("Accept", "application/json")
	client := http.Client{Transport: w, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		keepTLS(req.URL, via[len(via)-1].URL)
		return w.allow(req.URL)
	}}
	resp, err := client.Do(req)
	if err != nil {
		if uerr, ok := errors.AsType[*url.Error](err); ok {
			err = uerr.Err // url.Error names the URL with its query
		}
		return d, a, fmt.Errorf("GET %s: %w", WithoutQuery(u), err)
	}
	defer resp.Body.Close()
	a.header = resp.Header
	a.body, err = readReply(resp)
	if resp.StatusCode/100 != 2 {
		a.status = resp.StatusCode
		a.retryAfter, a.busy = a.asksToWait(w.c.now())
		return d, a, nil
	}
	if err != nil {
		return d, a, fmt.Errorf("GET %s: %w", WithoutQuery(u), err)
	}
	a.status = resp.StatusCode
	d, ok := readDocument(a.body)
	if !ok {
		err = errors.New("not such a JSON document")
	}
	return d, a, err
}

// keepTLS changes the target of a redirect to https if it is the place that redirects, but for the
// scheme. A server behind a TLS proxy redirects to http URLs of itself.
func keepTLS(to, from *url.URL) {
	if to.Scheme == "http" && from.Scheme == "https" && strings.EqualFold(to.Hostname(), from.Hostname()) &&
		(to.Port() == from.Port() || to.Port() == "80" && from.Port() == "") {
		to.Scheme, to.Host = from.Scheme, from.Host
	}
}

// answer is what an authorization server answered.
type answer struct {
	// status is 0 if no answer came.
	status int
	header http.Header
	body   []byte
	// secrets are what the request held that the answer may echo.
	secrets []string
	// other is the way to show the client that may be right where this answer refuses it.
	other string
	// busy says that the server is, and asks us to wait for retryAfter.
	busy       bool
	retryAfter time.Duration
}

// grants returns the document of an answer that is a success: an object, a list of one, or
// form-encoded.
func (a answer) grants() (document, bool) {
	if a.status/100 != 2 {
		return document{}, false
	}
	if one := elements(a.body, 2); len(one) == 1 {
		return readDocument(one[0])
	}
	if d, ok := readDocument(a.body); ok {
		return d, true
	}
	return readForm(a.body)
}

func errMalformed(endpoint string) error {
	return fmt.Errorf("malformed endpoint URL %s", Quote(endpoint))
}

// post sends a body to an endpoint of s and returns the answer. It follows no redirect.
func (w requester) post(ctx context.Context, s Server, rawURL string, h http.Header, body string) (a answer, err error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return a, errMalformed(rawURL)
	}
	ctx, cancel := context.WithTimeout(toServer(ctx, u, w.namerOf(s, rawURL)), replyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(body))
	if err != nil {
		return a, errMalformed(WithoutQuery(u))
	}
	req.Header = h
	req.Header.Set("Accept", "application/json")
	resp, err := w.RoundTrip(req)
	if err != nil {
		return a, fmt.Errorf("POST %s: %w", WithoutQuery(u), err)
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	if a.body, err = readReply(resp); err != nil {
		return a, fmt.Errorf("POST %s: %w", WithoutQuery(u), err)
	}
	a.retryAfter, a.busy = a.asksToWait(w.c.now())
	return a, nil
}

// movedTo returns where the request to rawURL is to be sent instead. That is a redirect which keeps
// the method (307 and 308, or one of also), to another path of the same origin, as from /token to
// /token/. No other redirect is followed: what is for one origin goes to no other.
func (a answer) movedTo(rawURL string, also ...int) (to string, ok bool) {
	if a.status != http.StatusTemporaryRedirect && a.status != http.StatusPermanentRedirect && !slices.Contains(also, a.status) {
		return "", false
	}
	from, err1 := url.Parse(rawURL)
	u, err2 := url.Parse(a.header.Get("Location"))
	if err1 != nil || err2 != nil || u.String() == "" {
		return "", false
	}
	u = from.ResolveReference(u)
	keepTLS(u, from)
	return u.String(), SameOrigin(from, u) && u.User == nil
}

// redirect says where a redirect leads that is not followed. It is empty for other answers.
func (a answer) redirect(rawURL string) string {
	from, err1 := url.Parse(rawURL)
	to, err2 := url.Parse(a.header.Get("Location"))
	if a.status/100 != 3 || err1 != nil || err2 != nil || to.String() == "" {
		return ""
	}
	if to = from.ResolveReference(to); SameOrigin(from, to) {
		return "the endpoint redirects to " + to.EscapedPath()
	}
	return "the endpoint redirects to " + WithoutQuery(to)
}

func readReply(resp *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err == nil && len(b) > maxReply {
		err = fmt.Errorf("answer of more than %d bytes", maxReply)
	}
	return b, err
}
