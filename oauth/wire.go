package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxReply     = 1 << 20          // bytes of one answer of an authorization server
	replyTimeout = 30 * time.Second // for one request to it
	maxHops      = 5                // redirects of one metadata request
)

// wire sends the requests of the sign-in itself.
type wire struct {
	upstream    *url.URL
	base, other http.RoundTripper
	insecure    bool
}

// RoundTrip chooses the way by origin, for each hop of a redirect anew.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if sameOrigin(req.URL, w.upstream) {
		return w.base.RoundTrip(req)
	}
	return w.other.RoundTrip(req)
}

// allow reports why a URL that a peer named is not requested. A metadata document
// must not turn us to cleartext, not even of this machine unless the upstream is there
// too. It may name https services of this machine.
func (w *wire) allow(u *url.URL) error {
	if u.Host != "" && u.User == nil && (sameOrigin(u, w.upstream) || safe(u, isLoopback(w.upstream.Hostname()), w.insecure)) {
		return nil
	}
	return fmt.Errorf("%s is not an https URL", quote(withoutQuery(u)))
}

// getJSON fetches a metadata document into v. The status is 0 if there was no answer;
// the error says why an answer of status 200 does not do, or why there was none.
func (w *wire) getJSON(ctx context.Context, link string, v any) (status int, err error) {
	u, err := url.Parse(link)
	if err != nil {
		return 0, errors.New("malformed URL")
	}
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, errors.New("malformed URL")
	}
	req.Header.Set("Accept", "application/json")
	c := http.Client{Transport: w, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxHops {
			return errors.New("too many redirects")
		}
		return w.allow(req.URL)
	}}
	resp, err := c.Do(req)
	if err != nil {
		if uerr := (*url.Error)(nil); errors.As(err, &uerr) {
			err = uerr.Err // it names the URL with its query
		}
		return 0, fmt.Errorf("GET %s: %w", withoutQuery(u), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, nil
	}
	body, err := readReply(resp)
	if err != nil {
		return 0, fmt.Errorf("GET %s: %w", withoutQuery(u), err)
	}
	if json.Unmarshal(body, v) != nil {
		return resp.StatusCode, errors.New("not such a JSON document")
	}
	return resp.StatusCode, nil
}

// answer is an authorization server's.
type answer struct {
	status int // 0: none came
	header http.Header
	body   []byte
}

// oauthError is zero for an answer that is no error of OAuth's.
func (a answer) oauthError() (e oauthError) {
	if a.status/100 != 2 && json.Unmarshal(a.body, &e) != nil {
		return oauthError{}
	}
	return e
}

func errMalformed(endpoint string) error {
	return fmt.Errorf("malformed endpoint URL %s", quote(endpoint))
}

// post sends a body and returns the answer. It never follows a redirect: a
// secret goes to the endpoint or nowhere.
func (w *wire) post(ctx context.Context, link string, h http.Header, contentType, body string) (a answer, err error) {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" {
		return a, errMalformed(link)
	}
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(body))
	if err != nil {
		return a, errMalformed(withoutQuery(u))
	}
	for k, v := range h {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	resp, err := w.RoundTrip(req)
	if err != nil {
		return a, fmt.Errorf("POST %s: %w", withoutQuery(u), err)
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	if a.body, err = readReply(resp); err != nil {
		return a, fmt.Errorf("POST %s: %w", withoutQuery(u), err)
	}
	return a, nil
}

func readReply(resp *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err == nil && len(b) > maxReply {
		err = fmt.Errorf("answer of more than %d bytes", maxReply)
	}
	return b, err
}

// oauthError is the error answer of RFC 6749 section 5.2 and RFC 7591 section 3.2.2.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// momentary reports codes that say "later", not "no".
func momentary(code string) bool {
	switch code {
	case "temporarily_unavailable", "server_error", "slow_down":
		return true
	}
	return false
}

// replyError makes the SignInError of an answer that grants nothing. The secrets that
// the request held are masked in the server's words.
func replyError(stage, endpoint string, status int, body []byte, secrets []string) *SignInError {
	e := &SignInError{Stage: stage, Status: status, Server: endpoint}
	if u, err := url.Parse(endpoint); err == nil {
		e.Server = cut(withoutQuery(u))
	}
	var oe oauthError
	if json.Unmarshal(body, &oe) != nil || oe.Code == "" {
		e.Code = CodeBadReply
		return e
	}
	e.Code = cut(mask(oe.Code, secrets))
	e.Description = cut(mask(oe.Description, secrets))
	e.Refused = status < 500 && status != http.StatusTooManyRequests && !momentary(oe.Code)
	return e
}
