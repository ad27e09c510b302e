//go:build linux

package machines

import (
	"os/exec"
	"testing"
)

// StartDisplay starts an X server without a screen, for browsers with real windows. It returns the
// value of DISPLAY. It ends with the test.
func StartDisplay(t testing.TB) string {
	t.Helper()
	path := NeedProgram(t, "Xvfb", "xvfb")
	return ":" + StartProcess(t, exec.Command(path, "-displayfd", "1", "-screen", "0", "1200x900x24", "-nolisten", "tcp")).Out.FirstLine(t)
}
