package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"github.com/anmitsu/go-shlex"
)

// openBrowser starts a browser at link: command where it is not "" (%s stands for the link, which
// otherwise comes last), else the system's. No shell is involved. It returns once the browser was started; a child that lives on is not ours to end.
func openBrowser(ctx context.Context, env environment, command, link string) error {
	var candidates [][]string
	if command != "" {
		// As xdg-open reads BROWSER: colon-separated commands, tried in order.
		for _, one := range splitBrowsers(command) {
			words, err := shlex.Split(one, true)
			if err != nil || len(words) == 0 {
				return fmt.Errorf("browser command %q: cannot be split into words", one)
			}
			candidates = append(candidates, words)
		}
	} else {
		candidates = systemBrowsers(env)
	}
	if len(candidates) == 0 {
		return errNoDisplay
	}
	var err error
	for _, words := range candidates {
		if err = startBrowser(ctx, words, link); err == nil {
			return nil
		}
	}
	return err
}

var errNoDisplay = fmt.Errorf("no display here")

// splitBrowsers cuts BROWSER at colons, but not within a URL scheme or a Windows drive.
func splitBrowsers(command string) []string {
	if runtime.GOOS == "windows" || strings.Contains(command, "://") {
		return []string{command}
	}
	return slices.DeleteFunc(strings.Split(command, ":"), func(s string) bool { return strings.TrimSpace(s) == "" })
}

// systemBrowsers lists the openers of this system; none where a window could not appear.
func systemBrowsers(env environment) [][]string {
	switch runtime.GOOS {
	case "darwin":
		return [][]string{{"open"}}
	case "windows":
		return [][]string{{"rundll32", "url.dll,FileProtocolHandler"}}
	}
	if env.Getenv("WSL_DISTRO_NAME") != "" {
		return [][]string{{"wslview"}, {"xdg-open"}}
	}
	if env.Getenv("DISPLAY") == "" && env.Getenv("WAYLAND_DISPLAY") == "" {
		return nil
	}
	return [][]string{{"xdg-open"}, {"x-www-browser"}}
}

func startBrowser(ctx context.Context, words []string, link string) error {
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
	if err := ctx.Err(); err != nil {
		return err
	}
	// Not CommandContext: the browser outlives the login that it was started for.
	cmd := exec.Command(words[0], words[1:]...)
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() // ends with the browser; reaps it
	return nil
}
