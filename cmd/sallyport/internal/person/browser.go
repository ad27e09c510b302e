package person

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/environment"

	"github.com/anmitsu/go-shlex"
)

// errNoDisplay says that no window can appear on this machine.
var errNoDisplay = errors.New("no display here")

// openBrowser starts a browser at link, without a shell. command is the browser, with %s in place
// of the link, which otherwise comes last. If it is empty, the system's browser is used.
// Of several commands, one that fails is followed by the next. openBrowser returns as soon as the
// browser was started, and the browser outlives ctx.
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
		if err = startBrowser(ctx, env, words, link); err == nil {
			return nil
		}
	}
	return err
}

// BrowserPrograms returns the programs of a value of --browser or BROWSER.
func BrowserPrograms(command string) []string {
	var programs []string
	for _, one := range splitBrowsers(command) {
		if words, err := shlex.Split(one, true); err == nil && len(words) > 0 {
			programs = append(programs, words[0])
		}
	}
	return programs
}

// IsBrowserChosen reports whether a value of --browser is the person's choice for sallyport. The
// variable BROWSER, which many have set for all programs, is a preference.
func IsBrowserChosen(env environment.Environment, command string) bool {
	return command != "" && command != env.Getenv("BROWSER")
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
	if isWSL(env) {
		// The browser is that of Windows. The program of wslu comes first, because a person who
		// has installed it may have set it up.
		start := []string{"-NoProfile", "-NonInteractive", "-Command", "Start-Process $env:" + linkVariable}
		return [][]string{{"wslview"}, append([]string{"powershell.exe"}, start...),
			append([]string{"/mnt/c/Windows/System32/WindowsPowerShell/v1.0/powershell.exe"}, start...), {"xdg-open"}}
	}
	if env.Getenv("DISPLAY") == "" && env.Getenv("WAYLAND_DISPLAY") == "" {
		return nil
	}
	return [][]string{{"xdg-open"}, {"x-www-browser"}}
}

// linkVariable is the variable that brings the link to PowerShell, which would take a part of it
// for commands if it stood among the arguments.
const linkVariable = "SALLYPORT_LINK"

// isWSL reports whether this is the Windows Subsystem for Linux. An MCP host may have dropped its
// variables.
func isWSL(env environment.Environment) bool {
	if env.Getenv("WSL_DISTRO_NAME") != "" || env.Getenv("WSL_INTEROP") != "" {
		return true
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	return err == nil && bytes.Contains(bytes.ToLower(release), []byte("microsoft"))
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

// browserFails is how soon a command ends that opens no browser. One that runs on is a browser.
const browserFails = 2 * time.Second

// startBrowser starts one command. The error says that it could not be started, or that it failed
// at once, as the helper of an editor does whose window is closed.
func startBrowser(ctx context.Context, env environment.Environment, words []string, link string) error {
	// A login that was withdrawn in the meantime opens no page.
	if err := ctx.Err(); err != nil {
		return err
	}
	var cmd *exec.Cmd // not of CommandContext: the browser outlives the login that it was started for
	if strings.HasSuffix(words[len(words)-1], "$env:"+linkVariable) {
		cmd = exec.Command(words[0], words[1:]...)
		// A program of Windows gets the variables that WSLENV names.
		cmd.Env = append(cmd.Environ(), linkVariable+"="+link, "WSLENV="+linkVariable+"/w:"+env.Getenv("WSLENV"))
	} else {
		words = withLink(words, link)
		cmd = exec.Command(words[0], words[1:]...)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the browser, and reaps it
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("%s: %w", words[0], err)
		}
	case <-time.After(browserFails):
	case <-ctx.Done():
	}
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
