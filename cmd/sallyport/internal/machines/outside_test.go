//go:build linux

package machines

import (
	"os"
	"strings"
	"testing"
)

// TestOutside shows that a build sees the real machine's network, and the tests another one.
func TestOutside(t *testing.T) {
	NeedMachine(t)
	cmd, err := outside("/", "readlink", "/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if there := strings.TrimSpace(string(out)); there == here || !strings.HasPrefix(there, "net:") {
		t.Errorf("outside the network is %q, here it is %q", there, here)
	}
}
