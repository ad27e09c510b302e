package asclient

import (
	"bytes"
	"cmp"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

const (
	maxFault      = 64 << 10 // bytes of an error answer that are read
	maxFaultWords = 2 << 10  // bytes of its words that are judged
	maxFaultDepth = 4        // of objects in objects
)

// fault is what an answer says is wrong. The standard shape is that of RFC 6749 section 5.2 and RFC
// 7591 section 3.2.2: an object with error and error_description. Servers have many other shapes.
type fault struct {
	// code is the error code. It is empty if the answer names none.
	code string
	// words is everything else that was said.
	words string
	// standard says that the answer is about an error and nothing else: it has a member for an
	// error, or one that says that it is no success.
	standard bool
}

// fault reads what is wrong from an answer in any shape: an object, an array, form-encoded or plain
// text. An answer of success that names no error has none.
func (a answer) fault() fault {
	body := bytes.TrimSpace(withoutMark(a.body))
	success := a.status/100 == 2
	if len(body) == 0 || len(body) > maxFault || a.isPage() {
		return fault{}
	}
	if form, ok := readForm(body); ok && form.text("error") != "" {
		return fault{form.text("error"), form.text("error_description"), true}
	}
	switch body[0] {
	case '{', '[':
		f := faultOf(body, 0)
		if success && !f.standard {
			return fault{}
		}
		return f
	}
	if success {
		return fault{}
	}
	if s, ok := textOf(body); ok {
		body = []byte(s)
	}
	return faultOfText(string(body))
}

// isPage reports whether the answer is an HTML page. Its content type alone says little: some
// servers send JSON as text/html.
func (a answer) isPage() bool {
	body := bytes.ToLower(bytes.TrimSpace(withoutMark(a.body[:min(len(a.body), maxFault)])))
	if !bytes.HasPrefix(body, []byte("<")) {
		return false
	}
	kind, _, _ := mime.ParseMediaType(http.Header(a.header).Get("Content-Type"))
	return strings.Contains(kind, "html") || bytes.HasPrefix(body, []byte("<!doctype html")) || bytes.Contains(body, []byte("<html"))
}

// faultOf reads a JSON value. Of several errors it takes the first.
func faultOf(value json.RawMessage, depth int) (f fault) {
	if s, ok := textOf(value); ok {
		return faultOfText(s)
	}
	if depth > maxFaultDepth {
		return f
	}
	if value[0] == '[' {
		for _, one := range elements(value, 8) {
			inner := faultOf(one, depth+1)
			if f.code == "" {
				f.code, f.standard = inner.code, inner.standard
			}
			f.words = join(f.words, inner.words)
		}
		return f
	}
	d, ok := readDocument(value)
	if !ok {
		return f
	}
	for _, name := range []string{"error", "errors", "err"} { // text, an object, or an array
		if inner := d.member(name); inner != nil && f.code == "" {
			one := faultOf(inner, depth+1)
			if s, isText := textOf(inner); isText && !number(s) {
				one = fault{code: s}
			}
			f.code, f.words, f.standard = one.code, join(f.words, one.words), one.code != "" || one.words != ""
		}
	}
	for _, name := range []string{"ok", "success"} {
		f.standard = f.standard || string(d.member(name)) == "false"
	}
	for _, name := range []string{"error_code", "errorCode", "code", "type", "status", "reason", "title"} {
		if s, isText := textOf(d.member(name)); isText && f.code == "" && isCode(s) {
			f.code = s
		}
	}
	for _, name := range []string{"error_description", "errorDescription", "errorMessage", "errorSummary", "message", "msg",
		"detail", "details", "description", "reason", "title", "loc", "param", "parameter", "error_codes", "errorCauses"} {
		inner := d.member(name)
		if inner == nil {
			continue
		}
		if s, isText := textOf(inner); isText {
			f.words = join(f.words, s)
			continue
		}
		one := faultOf(inner, depth+1)
		if one.code != f.code {
			f.words = join(f.words, one.code)
		}
		f.words = join(f.words, one.words)
	}
	if f.code == "" && isCode(f.words) {
		f.code = f.words
	}
	return f
}

// faultOfText takes text for a code if it looks like one.
func faultOfText(s string) fault {
	s = strings.TrimSpace(s)
	if s == "null" {
		return fault{}
	}
	if isCode(s) {
		return fault{code: s}
	}
	return fault{words: s}
}

// isCode reports whether text is a word such as "invalid_grant", "BAD_REFRESH_TOKEN" or
// "TokenExpired", and no number or URL.
func isCode(s string) bool {
	if s == "" || len(s) > 80 || number(s) {
		return false
	}
	letters := strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789_-.")
	switch strings.ToLower(s) {
	case "error", "errors", "fail", "failed", "failure", "false", "true", "body":
		return false // these say nothing
	}
	return letters == ""
}

// canonical returns an error code as the specifications write it. A code may differ from that in
// case and in what separates its words: "InvalidClient" is invalid_client.
func canonical(code string) string {
	plain := func(s string) string {
		return strings.Map(func(r rune) rune {
			if strings.ContainsRune("_- ", r) {
				return -1
			}
			return unicode.ToLower(r)
		}, s)
	}
	words := plain(code)
	for _, known := range []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
		"invalid_scope", "access_denied", "server_error", "temporarily_unavailable", "authorization_pending", "slow_down",
		"expired_token", "invalid_target", "invalid_token", CodeRedirectURI, "invalid_client_metadata", "insufficient_scope",
		"login_required", "consent_required", "interaction_required"} {
		if words == plain(known) {
			return known
		}
	}
	return code
}

func number(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// join adds to the words of a fault, unless they are known.
func join(words, more string) string {
	switch {
	case more == "" || len(words) > maxFaultWords || strings.Contains(words, more):
		return words
	case words == "":
		return more
	}
	return words + ": " + more
}

// refusal makes the error of an answer that grants nothing. What the request held is masked in the
// server's words.
func refusal(stage, endpoint string, a answer) *SignInError {
	e := &SignInError{Stage: stage, Status: a.status, Server: endpoint, Page: a.isPage(), OtherMethod: a.other, RetryAfter: a.retryAfter}
	if u, err := url.Parse(endpoint); err == nil {
		e.Server = cut(WithoutQuery(u))
	}
	f := a.fault()
	f.code = canonical(f.code)
	f.words = cmp.Or(f.words, a.redirect(endpoint))
	if f.code != "" || f.words != "" { // an answer that grants something has neither
		m := newMask(a.secrets)
		e.Code, e.Description = cut(m.hide(f.code)), cut(m.hide(f.words))
		e.allWords = m.hide(f.words)
		e.allWords = e.allWords[:min(len(e.allWords), maxFaultWords)]
	}
	proxys := a.status == http.StatusProxyAuthRequired // a proxy's answer, and not the server's
	later := proxys || a.status == http.StatusRequestTimeout || a.status == http.StatusTooEarly || a.status == http.StatusTooManyRequests ||
		momentary(f.code) || a.busy || saysTooOften(f.words)
	e.Refused = !e.Page && !later && (a.status/100 == 4 || (f.code != "" || f.standard) && a.status < 500)
	if f.code == "" {
		e.Code = CodeBadReply
	}
	e.standard = f.standard
	if stage == StageRefresh && e.Nowhere() {
		e.Refused = false
	}
	return e
}
