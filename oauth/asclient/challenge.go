package asclient

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"strings"
)

// Challenge is what an upstream's 401 or 403 asks for (RFC 6750 section 3, RFC 9449 section 7.1,
// RFC 9728 section 5.1).
type Challenge struct {
	// Metadata is the URL of the resource metadata. It may be empty.
	Metadata string
	// Scope lists the scopes that are wanted, separated by spaces. It may be empty.
	Scope string
	// Error and Description say what is wrong with the token that was sent. They are the upstream's
	// words, neither masked nor cut.
	Error, Description string
	// Bearer and DPoP say which kinds of token are asked for.
	Bearer, DPoP bool
}

const (
	maxChallenge  = 16 << 10 // bytes of the WWW-Authenticate fields that are read
	maxChallenges = 32       // in them, and parameters of one
)

// ReadChallenge reads the WWW-Authenticate fields of an answer, up to 16 KiB of them. Of several
// challenges it takes the parameters of the first that names resource metadata, else those of the
// first. It returns the zero Challenge if none asks for a Bearer or DPoP token.
func ReadChallenge(h http.Header) Challenge {
	var found map[string]string
	var c Challenge
	for _, one := range parseChallenges(h.Values("WWW-Authenticate")) {
		switch one.scheme {
		case "bearer":
			c.Bearer = true
		case "dpop":
			c.DPoP = true
		default:
			continue
		}
		if found == nil || found["resource_metadata"] == "" && one.params["resource_metadata"] != "" {
			found = one.params
		}
	}
	c.Metadata, c.Scope = found["resource_metadata"], strings.Join(words(found["scope"]), " ")
	c.Error, c.Description = found["error"], found["error_description"]
	return c
}

// AskUpstream asks the upstream for its challenge, without a token: by GET, then by a ping, because
// some upstreams ask for a token only then. A challenge counts with every status of the 4xx class,
// and 401 counts without one. It returns nil if the upstream asks for none. The error is that of
// Base.
func (c *Client) AskUpstream(ctx context.Context) (*Challenge, []Attempt, error) {
	const ping = `{"jsonrpc":"2.0","id":"sallyport-probe","method":"ping"}`
	var tried []Attempt
	var failure error
	for _, body := range []string{"", ping} {
		resp, err := c.askUpstream(ctx, body)
		a := Attempt{Step: StepChallenge, URL: cut(WithoutQuery(c.Upstream))}
		if err != nil {
			a.Reason = err.Error()
			tried = append(tried, a)
			if failure = cmp.Or(failure, err); ctx.Err() != nil || body != "" || isTimeout(err) || isDial(err) {
				return nil, tried, failure
			}
			continue // some close the connection of a GET
		}
		failure = nil
		resp.Body.Close() // a stream that opened is not ours to read
		a.Status = resp.StatusCode
		tried = append(tried, a)
		ch := ReadChallenge(resp.Header)
		if asksToken := ch.Bearer || ch.DPoP; resp.StatusCode == http.StatusUnauthorized || asksToken && resp.StatusCode/100 == 4 {
			return &ch, tried, nil
		}
	}
	return nil, tried, failure
}

// askUpstream sends a GET, or posts the body if there is one. The caller closes the answer's body,
// and does not read it.
func (c *Client) askUpstream(ctx context.Context, body string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	req := &http.Request{Method: http.MethodGet, URL: c.Upstream, Host: c.Upstream.Host, Header: make(http.Header)}
	req.Header.Set("Accept", "application/json, text/event-stream")
	if body != "" {
		req.Method = http.MethodPost
		req.Header.Set("Content-Type", "application/json")
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	return requester{c}.RoundTrip(req.WithContext(ctx))
}

// challenge is one challenge of a WWW-Authenticate field (RFC 9110 section 11.6.1).
type challenge struct {
	// scheme is in lower case.
	scheme string
	// params has names in lower case, and the first value of a repeated parameter.
	params map[string]string
}

// parseChallenges reads WWW-Authenticate values. It takes what it understands and passes over the
// rest, because a malformed challenge beside ours must not hide ours.
func parseChallenges(values []string) []challenge {
	var all []challenge
	left := maxChallenge
	for _, v := range values {
		var cur *challenge
		v = v[:min(len(v), left)]
		left -= len(v)
		for {
			v = strings.TrimLeft(v, " \t,;:")
			if v == "" {
				break
			}
			name, rest := cutToken(v)
			if name == "" { // not a token: skip to the next element
				_, v, _ = strings.Cut(v, ",")
				continue
			}
			after := strings.TrimLeft(rest, " \t")
			if cur == nil && strings.EqualFold(name, "resource_metadata") && strings.HasPrefix(after, "=") { // the scheme was forgotten
				all = append(all, challenge{"bearer", make(map[string]string)})
				cur = &all[len(all)-1]
			}
			if cur != nil && strings.HasPrefix(after, "=") {
				var value string
				value, v = cutValue(strings.TrimLeft(after[1:], " \t"))
				name = strings.ToLower(name)
				if _, repeated := cur.params[name]; !repeated && len(cur.params) < maxChallenges {
					cur.params[name] = value
				}
				continue
			}
			if len(all) == maxChallenges {
				return all
			}
			all = append(all, challenge{strings.ToLower(name), make(map[string]string)})
			cur = &all[len(all)-1]
			v = skipToken68(rest)
		}
	}
	return all
}

// cutToken cuts a token (RFC 9110 section 5.6.2) off the front.
func cutToken(s string) (token, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// cutValue cuts a quoted string off the front or, generously, one in single quotes, or everything
// up to a comma or space.
func cutValue(s string) (value, rest string) {
	if quoted, ok := strings.CutPrefix(s, "'"); ok {
		if value, rest, ok := strings.Cut(quoted, "'"); ok {
			return value, rest
		}
	}
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexAny(s, ", \t"); i >= 0 {
			return s[:i], s[i:]
		}
		return s, ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// skipToken68 passes over the token68 that may follow a scheme, as in "Negotiate YWJj==".
func skipToken68(s string) string {
	t := strings.TrimLeft(s, " \t")
	end := strings.IndexAny(t, ", \t")
	if end < 0 {
		end = len(t)
	}
	if strings.Contains(strings.TrimRight(t[:end], "="), "=") || strings.Contains(t[:end], `"`) {
		return s // name=value
	}
	if next := strings.TrimLeft(t[end:], " \t"); next != "" && next[0] != ',' {
		return s // name = value
	}
	return t[end:]
}
