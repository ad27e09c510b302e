package asclient

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Hidden stands where a secret was.
const Hidden = "[hidden]"

// minPart is how many bytes of a secret's beginning are masked even if the rest is missing, because
// the peer has cut it.
const minPart = 12

// minSecret is how many bytes a secret must have to be masked. A shorter one would spoil words that
// hold it by chance.
const minSecret = 4

// mask hides secrets in the words of a peer, which may echo what it was sent.
type mask struct {
	// forms are the secrets as they are and as they may be encoded, the longest first.
	forms []string
}

func newMask(secrets []string) mask {
	var m mask
	for _, s := range secrets {
		if len(s) < minSecret {
			continue
		}
		m.forms = append(m.forms, s)
		m.forms = append(m.forms, encodings(s)...)
	}
	slices.SortFunc(m.forms, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	m.forms = slices.Compact(m.forms)
	return m
}

// encodings returns the forms in which a peer may echo a secret: percent-encoded, base64 with and
// without padding, hexadecimal, and escaped for JSON, Go and HTML.
func encodings(s string) []string {
	b := []byte(s)
	query, path := url.QueryEscape(s), url.PathEscape(s)
	all := []string{query, path, strings.ReplaceAll(query, "+", "%20"), lowerPercent(query), lowerPercent(path),
		base64.StdEncoding.EncodeToString(b), base64.RawStdEncoding.EncodeToString(b),
		base64.URLEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
		hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
		html.EscapeString(s), namedEntities.Replace(s),
		strings.Trim(strconv.Quote(s), `"`), strings.ReplaceAll(s, "/", `\/`),
	}
	if j, err := json.Marshal(s); err == nil {
		all = append(all, strings.TrimSuffix(strings.TrimPrefix(string(j), `"`), `"`))
	}
	return append(all, url.QueryEscape(all[5]), url.QueryEscape(query))
}

// namedEntities escapes for HTML as most template languages do, other than html.EscapeString.
var namedEntities = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#x27;")

// lowerPercent writes percent-encodings with small letters, as in "%2b".
func lowerPercent(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] == '%' && i+2 < len(b) {
			copy(b[i+1:], strings.ToLower(string(b[i+1:i+3])))
		}
	}
	return string(b)
}

// hideWhole replaces the secrets in text.
func (m mask) hideWhole(text string) string {
	for _, form := range m.forms {
		text = strings.ReplaceAll(text, form, Hidden)
	}
	return text
}

// hide replaces the secrets in text, and the beginnings of those that are long.
func (m mask) hide(text string) string {
	text = m.hideWhole(text)
	for _, form := range m.forms {
		if len(form) > minPart {
			text = hidePart(text, form)
		}
	}
	return text
}

// hidePart replaces each place where text has a beginning of form that is long enough.
func hidePart(text, form string) string {
	if !strings.Contains(text, form[:minPart]) {
		return text
	}
	var b strings.Builder
	for {
		i := strings.Index(text, form[:minPart])
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		n := minPart
		for n < len(form) && i+n < len(text) && text[i+n] == form[n] {
			n++
		}
		b.WriteString(text[:i] + Hidden)
		text = text[i+n:]
	}
}

// maskedError is an error whose own text holds a secret. The text comes from an HTTP library, which
// quotes an answer that is not HTTP.
type maskedError struct {
	text  string
	under error
}

func (e *maskedError) Error() string { return e.text }
func (e *maskedError) Unwrap() error { return e.under }

// maskError hides the secrets in err's text. What is beneath err is found as before.
func maskError(err error, secrets []string) error {
	text := err.Error()
	if hidden := newMask(secrets).hide(text); hidden != text {
		return &maskedError{hidden, err}
	}
	return err
}

// maxPeerText is the number of bytes of a peer's text that an error shows.
const maxPeerText = 200

// PeerText prepares the words of a peer for an error: it masks the secrets in every form that peers
// echo them in, and cuts what is longer than 200 bytes.
func PeerText(text string, secrets []string) string { return cut(newMask(secrets).hide(text)) }

// Mask replaces the secrets in text, in every form that peers echo them in. It cuts nothing.
func Mask(text string, secrets []string) string { return newMask(secrets).hideWhole(text) }

// cut limits text to maxPeerText bytes, and does not split a rune.
func cut(text string) string {
	if len(text) <= maxPeerText {
		return text
	}
	n := maxPeerText
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "..."
}

// Quote cuts text to 200 bytes and quotes it as Go does, so that it stays on one line and cannot
// harm a terminal.
func Quote(text string) string { return strconv.Quote(cut(text)) }

// QuoteCode returns a well-formed error code (RFC 6749 section 5.2) as it is, and quotes any other.
func QuoteCode(code string) string {
	for _, r := range code {
		if r <= ' ' || r > '~' || r == '"' || r == '\\' {
			return Quote(code)
		}
	}
	return cut(code)
}
