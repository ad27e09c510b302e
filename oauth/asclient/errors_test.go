package asclient

import (
	"strings"
	"testing"
)

func TestErrorsAreOneLineAndShort(t *testing.T) {
	long := strings.Repeat("ä", 500)
	for _, err := range []error{
		&SignInError{Stage: StageToken, Server: "https://as.example/" + long, Code: "a\nb", Description: "x\ny" + long, Status: 400, Refused: true},
		&DiscoveryError{What: "metadata", Tried: []Attempt{{URL: "https://h/x", Status: 404}, {URL: "https://h/y", Reason: "no JSON"}}},
	} {
		if s := err.Error(); strings.ContainsAny(s, "\n\r") || len(s) > 1000 {
			t.Errorf("%T: %q", err, s)
		}
	}
}

func TestPeerTextIsMaskedAndCut(t *testing.T) {
	if got := PeerText("you sent 0451 and 0451", []string{"", "0451"}); got != "you sent [hidden] and [hidden]" {
		t.Errorf("got %q", got)
	}
	got := PeerText(strings.Repeat("ä", 150), nil)
	if want := strings.Repeat("ä", 100) + "..."; got != want {
		t.Errorf("got %q", got)
	}
	if got := PeerText("x"+strings.Repeat("ä", 150), nil); got != "x"+strings.Repeat("ä", 99)+"..." {
		t.Errorf("a rune is split: %q", got)
	}
	if got := QuoteCode("invalid_grant"); got != "invalid_grant" {
		t.Errorf("got %s", got)
	}
}
