package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The demo is the first thing that a newcomer sees.
func TestDemo(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "run", "sallyport/cmd/demo").CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, want := range []string{`greet(Ada) = "Hello Ada, from behind two bastions"`, "no browser, no registration, no code"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}
