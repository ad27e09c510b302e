package asclient

import (
	"strconv"
	"unicode/utf8"
)

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
