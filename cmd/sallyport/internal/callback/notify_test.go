//go:build linux

package callback

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/machines"
)

// A notification names HOST alone, and nothing in it is markup or a flag.
func TestNotification(t *testing.T) {
	dir := machines.OpenDir(t)
	shown := filepath.Join(dir, "shown")
	program := machines.WriteFile(t, dir, "notify-send", "#!/bin/sh\nprintf '%s|' \"$@\" > "+shown+".new && mv "+shown+".new "+shown+"\n", 0o755)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	env := environment.Fixed(map[string]string{"DISPLAY": ":9", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}, dir)
	notify := Notification(env, func(string) (string, error) { return program, nil })
	notify("-x<b>&\x1b")
	machines.Poll(t, func() bool { _, err := os.Stat(shown); return err == nil }, "the notification")
	got := machines.ReadFile(t, shown)
	if want := "--app-name=sallyport|--|sallyport|-x&lt;b&gt;&amp;  wants to sign in: look at your browser|"; strings.ReplaceAll(got, "  ", " ") != strings.ReplaceAll(want, "  ", " ") {
		t.Errorf("got %q, want %q", got, want)
	}
	missing := func(string) (string, error) { return "", errors.New("not found") }
	if Notification(env, missing) != nil || Notification(environment.Fixed(nil, dir), func(string) (string, error) { return program, nil }) != nil {
		t.Error("without the program, or without a display, there is a notification")
	}
}
