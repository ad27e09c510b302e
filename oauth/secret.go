package oauth

import (
	"fmt"
	"log/slog"
	"strconv"

	"sallyport/oauth/asclient"
)

// Secret is text that must not be shown: String, GoString, Format, LogValue and
// MarshalText give "[hidden]". Convert to string to use it.
type Secret string

// String returns "[hidden]", or "" for no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return asclient.Hidden
}

// GoString is String for %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// Format writes String for every verb, %x and %d too.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue is String for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String for encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
