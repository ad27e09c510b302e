package person

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/environment"

	"github.com/anmitsu/go-shlex"
)

// errNoDisplay says that no window can appear on this machine.
var errNoDisplay = errors.New("no display here")

// openBrowser starts a browser at link, without a shell. command is the browser, with %s in place
// of the link, which otherwise comes last. If it is empty, the system's browser is used.
// openBrowser returns as soon as the browser was started, and the browser outlives ctx.
func openBrowser(ctx context.Context, env environment.Environment, command, link string) error {
	link, err := linkForBrowser(ctx, link)
	if err != nil {
		return err
	}
	candidates := systemBrowsers(env)
	if command != "" {
		candidates = nil
		for _, one := range splitBrowsers(command) {
			words, err := shlex.Split(one, true)
			if err != nil || len(words) == 0 {
				return fmt.Errorf("browser command %q: cannot be split into words", one)
			}
			candidates = append(candidates, words)
		}
	}
	err = errNoDisplay
	for _, words := range candidates {
		if err = startBrowser(ctx, withLink(words, link)); err == nil {
			return nil
		}
	}
	return err
}

// splitBrowsers cuts the value of BROWSER into the commands to try in order. They are separated by
// colons, as for xdg-open, but not within a URL scheme or after a Windows drive.
func splitBrowsers(command string) []string {
	if runtime.GOOS == "windows" || strings.Contains(command, "://") {
		return []string{command}
	}
	return slices.DeleteFunc(strings.Split(command, ":"), func(s string) bool { return strings.TrimSpace(s) == "" })
}

// systemBrowsers lists the commands of this system that open a URL. It returns none if no window
// could appear.
func systemBrowsers(env environment.Environment) [][]string {
	switch runtime.GOOS {
	case "darwin":
		return [][]string{{"open"}}
	case "windows":
		// The command start needs cmd.exe, which gives a meaning to the & in a URL.
		return [][]string{{"rundll32", "url.dll,FileProtocolHandler"}}
	}
	if env.Getenv("WSL_DISTRO_NAME") != "" {
		// Inside WSL, wslview opens the browser of Windows.
		return [][]string{{"wslview"}, {"xdg-open"}}
	}
	if env.Getenv("DISPLAY") == "" && env.Getenv("WAYLAND_DISPLAY") == "" {
		return nil
	}
	return [][]string{{"xdg-open"}, {"x-www-browser"}}
}

// withLink returns the words of a command with the link in place of each %s, or else at the end.
func withLink(words []string, link string) []string {
	words = slices.Clone(words)
	placed := false
	for i, word := range words[1:] {
		if strings.Contains(word, "%s") {
			words[i+1], placed = strings.ReplaceAll(word, "%s", link), true
		}
	}
	if !placed {
		words = append(words, link)
	}
	return words
}

// startBrowser starts one command. It does not wait for the browser.
func startBrowser(ctx context.Context, words []string) error {
	// A login that was withdrawn in the meantime opens no page.
	if err := ctx.Err(); err != nil {
		return err
	}
	// Not CommandContext: the browser outlives the login that it was started for.
	cmd := exec.Command(words[0], words[1:]...)
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() // ends with the browser, and reaps it
	return nil
}

// FindBrowser returns the program that would open a link: that of command, or the system's if it is
// empty. The error says why none would.
func FindBrowser(env environment.Environment, command string) (string, error) {
	candidates := systemBrowsers(env)
	if command != "" {
		candidates = nil
		for _, one := range splitBrowsers(command) {
			if words, err := shlex.Split(one, true); err == nil && len(words) > 0 {
				candidates = append(candidates, words)
			}
		}
	}
	err := errNoDisplay
	for _, words := range candidates {
		var path string
		if path, err = exec.LookPath(words[0]); err == nil {
			return path, nil
		}
	}
	return "", err
}
