package relay

import (
	"slices"
	"testing"
	"testing/synctest"

	. "sallyport/relay/relaytest"
)

// What one call alone has met is told to the host and to nobody else. What every call meets is
// told.
func TestFailureOfOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := Exchange{Call: "tools/call", Reply: callAnswer}, Exchange{Call: "tools/call", Status: 500}
		page := Exchange{Call: "tools/call", Type: "text/html", Reply: "<html>"}
		script := append(Opening(version), bad, good, page, good, bad, bad, good, bad, bad, bad, good, Exchange{Method: "DELETE"})
		var told []string
		h := start(t, Config{Send: New(t, script...).Transport(), Answered: func(e *Explanation) {
			if e != nil {
				told = append(told, e.Text)
			}
		}})
		h.open()
		for range 11 {
			h.send(callLine)
			h.recv()
		}
		h.close()
		if want := []string{"upstream answered with status 500 Internal Server Error"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}
