package callback

import (
	"context"
	"html"
	"os/exec"
	"runtime"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
)

// notifyTime bounds the program that shows a notification.
const notifyTime = 10 * time.Second

// Notification returns a Config.Notify that shows a notification of the desktop, or nil if this
// system has none. The text holds the HOST that the person typed, and no word of HOST itself.
func Notification(env environment.Environment, look func(program string) (string, error)) func(host string) {
	var command func(text string) []string
	switch {
	case runtime.GOOS == "darwin":
		// The text is an argument of the script, and no part of it.
		command = func(text string) []string {
			return []string{"osascript", "-e", "on run argv", "-e", `display notification (item 1 of argv) with title "sallyport"`, "-e", "end run", text}
		}
	case runtime.GOOS == "windows" || env.Getenv("DISPLAY") == "" && env.Getenv("WAYLAND_DISPLAY") == "" || env.SessionBus() == "":
		return nil
	default:
		command = func(text string) []string {
			return []string{"notify-send", "--app-name=sallyport", "--", "sallyport", html.EscapeString(text)}
		}
	}
	if _, err := look(command("")[0]); err != nil {
		return nil
	}
	return func(host string) {
		words := command(shown(host) + " wants to sign in: look at your browser")
		ctx, cancel := context.WithTimeout(context.Background(), notifyTime)
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		if cmd.Start() != nil {
			cancel()
			return
		}
		go func() { // ends with the program, within notifyTime
			defer cancel()
			cmd.Wait()
		}()
	}
}
