package person

import (
	"runtime"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
)

// The browser of this machine opens beside a lent one only where the person can see it.
func TestIsHere(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems always have a display")
	}
	for _, row := range []struct {
		name, browser string
		variables     map[string]string
		want          bool
	}{
		{"a desktop", "", map[string]string{"DISPLAY": ":0"}, true},
		{"a desktop with BROWSER", "firefox", map[string]string{"WAYLAND_DISPLAY": "wayland-0"}, true},
		{"no display", "", nil, false},
		{"a session of SSH with X11", "", map[string]string{"DISPLAY": "localhost:10", "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, false},
		{"an editor's helper", "/vscode/bin/helpers/browser.sh", map[string]string{"DISPLAY": ":0"}, false},
	} {
		if got := IsHere(environment.Fixed(row.variables, "/home/person"), row.browser); got != row.want {
			t.Errorf("%s: got %v, want %v", row.name, got, row.want)
		}
	}
}
