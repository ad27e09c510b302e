package asclient

import (
	"encoding/base64"
	"strconv"
	"testing"
)

func TestLifetime(t *testing.T) {
	for in, want := range map[string]float64{"": 0, "null": 0, "0": 0, "-5": 0, `"60"`: 60, `" 60 "`: 60, "60": 60, "1.5": 1.5, `"x"`: 0, "{}": 0, "1e300": 100 * 365 * 24 * 3600, "NaN": 0} {
		if got := lifetime([]byte(in)).Seconds(); got != want {
			t.Errorf("expires_in %s: got %v, want %v", strconv.Quote(in), got, want)
		}
	}
}

func TestAccountOf(t *testing.T) {
	for claims, want := range map[string]string{
		`{"sub":"1","preferred_username":"ada"}`: "ada",
		`{"sub":"1"}`:                            "1",
		`{"sub":"1","email":"a\u001b[31m"}`:      "1",
		`{"sub":1}`:                              "",
		`[]`:                                     "",
	} {
		if got := accountOf("x." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".y"); got != want {
			t.Errorf("%s: got %q, want %q", claims, got, want)
		}
	}
	for _, token := range []string{"", "a.b", "a.!.c", "..", "a.e30.c"} {
		if got := accountOf(token); got != "" {
			t.Errorf("%q: got %q", token, got)
		}
	}
}
