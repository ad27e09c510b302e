package oauth

import (
	"fmt"
	"log/slog"
	"strconv"

	"sallyport/oauth/asclient"
)

// Secret is text that must not be shown. Whatever prints or encodes it gets "[hidden]". A caller
// that uses the secret converts it to a string.
type Secret string

// String returns "[hidden]", or "" for no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return asclient.Hidden
}

// GoString is like String, for %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// Format writes what String returns, for every verb: %x and %d would show the bytes.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue is like String, for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is like String, for encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Mask replaces the secrets in text by "[hidden]": as they are, and in the forms in which peers
// echo them, such as percent-encoded or in base64. It passes over secrets of less than four bytes.
// To mask those would shred the text, and the gaps would spell them.
func Mask(text string, secrets []string) string { return asclient.Mask(text, secrets) }
