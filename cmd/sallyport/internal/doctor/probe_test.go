package doctor

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/relay"
)

// A redirect that is not followed is a status, and what to do about it is the relay's to say.
func TestProbeWords(t *testing.T) {
	t.Parallel()
	w := accountRows{newWalk(Config{Command: &cli.DoctorCommand{}})}
	for _, test := range []struct {
		err  relay.ProbeError
		want []string
	}{
		{relay.ProbeError{Kind: "redirect", Text: "x", Status: 301, Hints: []string{"configure its URL"}}, []string{"configure its URL", "sallyport help status"}},
		{relay.ProbeError{Kind: "status", Text: "x", Status: 429, Hints: []string{"the upstream is busy: ask again in 30 s", "sallyport help status"}},
			[]string{"the upstream is busy: ask again in 30 s", "sallyport help status"}},
	} {
		got := w.probeWords(&test.err)
		if !slices.Equal(got.Hints, test.want) || got.Kind != explain.KindStatus || got.Text != "x" {
			t.Errorf("%s: got %+v, want the hints %q", test.err.Kind, got, test.want)
		}
	}
}

// No row fails without a next step.
func TestHTTPRowOfAnotherProtocol(t *testing.T) {
	t.Parallel()
	walk := newWalk(Config{Command: &cli.DoctorCommand{}})
	walk.ok(idTCP, "connected")
	walk.met = &meeting{err: errors.New(`malformed HTTP response "SSH-2.0-x"`)}
	upstreamRows{walk}.tellHTTP()
	last := walk.report.Checks[len(walk.report.Checks)-1]
	if last.Result != Fail || len(last.Next) == 0 || !strings.Contains(last.Next[0], "port") {
		t.Errorf("got %+v", last)
	}
}
